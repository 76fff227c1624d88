"""From MakeHuman's open quads to a closed triangle mesh without inner cavities, exactly left/right symmetric."""

from dataclasses import dataclass

import numpy as np

from models.tools.body_builder.makehuman import MakeHuman

NIPPLES = (*range(1778, 1794), *range(8450, 8466))  # 6 mm across: finer than the decimated mesh can show
EYE_LOOP = 28  # vertices around each eye socket
EYE_BULGE = np.array([0, 0, 0.006])  # a cap over the socket stands out a little, like a closed lid


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh over the skin's vertices and one more for each hole, its cap's centre.

    used: (U,) indices into skin then caps; triangles: (F, 3) into used; mirror: (U,) left/right partners;
    loops: the vertices around each hole.
    """

    used: np.ndarray
    triangles: np.ndarray
    mirror: np.ndarray
    loops: list[list[int]]

    def points(self, skin: np.ndarray) -> np.ndarray:
        """Positions (U, 3) of the mesh from those of the skin (n, 3)."""
        return capped(skin, self.loops)[self.used]

    def weights(self, skin: np.ndarray) -> np.ndarray:
        """Skinning weights (U, bones) from those of the skin (n, bones); a cap takes the mean of its rim."""
        return np.concatenate([skin, *(skin[loop].mean(0, keepdims=True) for loop in self.loops)])[self.used]


def close(source: MakeHuman, skin: np.ndarray) -> Surface:
    """Cut the cavities and nipples out of the body, cap the holes and split the quads along their shorter diagonal."""
    inside = source.cavities[source.faces].all(1)
    nipples = np.isin(source.faces, NIPPLES).any(1)
    quads = source.faces[~inside & ~nipples]
    loops = hole_loops(quads)
    caps = [
        (a, b, len(skin) + i) for i, loop in enumerate(loops) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)
    ]
    triangles = np.concatenate([split(quads, skin), np.array(caps)])
    used, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    rank = np.full(len(skin) + len(loops), -1)
    rank[used] = np.arange(len(used))
    mirror = rank[mirror_with_caps(source.mirror[: len(skin)], loops)[used]]
    return Surface(used, triangles, mirror, loops)


def hole_loops(faces: np.ndarray) -> list[list[int]]:
    """Vertices around each hole of a mesh, in the direction in which a cap's triangles go round."""
    edges = {(a, b): None for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    following = {b: a for a, b in edges if (b, a) not in edges}
    loops = []
    while following:
        loop = [next(iter(following))]
        while (vertex := following.pop(loop[-1])) != loop[0]:
            loop.append(vertex)
        loops.append(loop)
    return loops


def capped(skin: np.ndarray, loops: list[list[int]]) -> np.ndarray:
    """The skin's positions (n, 3) followed by the centre of each hole."""
    bulges = [EYE_BULGE if len(loop) == EYE_LOOP else 0 for loop in loops]
    return np.concatenate([skin, *(skin[loop].mean(0)[None] + out for loop, out in zip(loops, bulges, strict=True))])


def split(quads: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Triangles (2F, 3) of quads (F, 4). The first diagonal wins ties: round-off must not part left from right."""
    corners = points[quads]
    first = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1)
    second = np.linalg.norm(corners[:, 1] - corners[:, 3], axis=1)
    short = first <= second + 1e-9
    one, other = quads[short], quads[~short]
    return np.concatenate([one[:, [0, 1, 2]], one[:, [0, 2, 3]], other[:, [0, 1, 3]], other[:, [1, 2, 3]]])


def mirror_with_caps(mirror: np.ndarray, loops: list[list[int]]) -> np.ndarray:
    """Partners of skin vertices and of caps: a cap's partner is the one whose rim is the mirrored rim."""
    rims = {frozenset(loop): len(mirror) + i for i, loop in enumerate(loops)}
    return np.concatenate([mirror, [rims[frozenset(mirror[loop].tolist())] for loop in loops]])
