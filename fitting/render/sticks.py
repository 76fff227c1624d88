"""Stick figures: a skeleton's joints and bones as a moving mesh of balls and tubes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.skeleton import FINGERS, Skeleton

COLOUR = (0.80, 0.30, 0.06)  # the reference draws what was generated in orange
BALL, TUBE = 0.032, 0.020  # radii in metres
FINE = 0.25  # of them, for fingers
SIDES = 8  # of a tube
GOLDEN = (1 + 5**0.5) / 2
_CORNERS = [(0, a, b * GOLDEN) for a in (-1, 1) for b in (-1, 1)]
ICOSAHEDRON = torch.tensor([corner[-k:] + corner[:-k] for k in range(3) for corner in _CORNERS])


class StickFigure:
    """Joints (L, J, 3) in metres, y up, of a skeleton, as a moving mesh.

    A joint that is NaN is not drawn, nor are its bones.
    """

    def __init__(
        self,
        joints: Tensor,
        skeleton: Skeleton,
        fps: float = 20.0,
        text: str = "",
        colour: tuple[float, float, float] = COLOUR,
    ) -> None:
        self.skeleton, self.fps, self.text, self.colour = skeleton, fps, text, colour
        self.device = joints.device
        self.seen = joints.isfinite().all(-1)
        somewhere = joints[self.seen].mean(0) if self.seen.any() else joints.new_zeros(3)
        self.joints = torch.where(self.seen[..., None], joints, somewhere)
        self.bones = [(joint, parent) for joint, parent in enumerate(skeleton.parents) if parent >= 0]
        self.thick = torch.tensor([FINE if point in FINGERS else 1.0 for point in skeleton.shows])[:, None]
        self._ball, faces = _ball()
        balls = _repeated(faces, len(self._ball), len(skeleton.joints))
        tubes = _repeated(_tube_faces(), 2 * SIDES, len(self.bones)) + len(self._ball) * len(skeleton.joints)
        self.faces = torch.cat((balls, tubes)).to(self.device)

    def __len__(self) -> int:
        return len(self.joints)

    def vertices(self, frames: slice | Tensor) -> Tensor:
        """(frames, V, 3) metres; of what is not seen all in one point."""
        joints, seen = self.joints[frames], self.seen[frames, :, None]
        thick = self.thick.to(joints)
        balls = joints[:, :, None] + BALL * (thick * seen)[..., None] * self._ball.to(joints)
        child, parent = zip(*self.bones, strict=True)
        both = seen[:, child] & seen[:, parent]
        ends, starts = torch.where(both, joints[:, child], joints[:, parent]), joints[:, parent]
        tubes = _tubes(ends, starts, TUBE * both * thick[list(child)])
        return torch.cat((balls.flatten(1, 2), tubes.flatten(1, 2)), 1)

    def across(self) -> Tensor:
        """(L, 3): from the right hip to the left."""
        left, right = (self.skeleton.joints.index(f"{side}_hip") for side in ("left", "right"))
        return self.joints[:, left] - self.joints[:, right]


def _ball() -> tuple[Tensor, Tensor]:
    """A unit ball: an icosahedron with every face cut into four; (42, 3) points, (80, 3) faces."""
    corners = F.normalize(ICOSAHEDRON, dim=1)
    faces = _hull(ICOSAHEDRON)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    edges, number = edges.unique(dim=0, return_inverse=True)
    a, b, c = faces.T
    ab, bc, ca = (number + len(corners)).chunk(3)
    cut = [torch.stack(each, 1) for each in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
    return torch.cat([corners, F.normalize(corners[edges].mean(1), dim=1)]), torch.cat(cut)


def _tubes(ends: Tensor, starts: Tensor, radii: Tensor) -> Tensor:
    """(frames, bones, 2 SIDES, 3): a ring around the start of each bone, then one around its end; radii (..., 1)."""
    along = F.normalize(ends - starts, dim=-1)
    least = F.one_hot(along.abs().argmin(-1), 3).to(along)  # the axis that the bone is farthest from
    side = F.normalize(torch.linalg.cross(along, least), dim=-1)
    other = torch.linalg.cross(along, side)
    angles = torch.arange(SIDES).to(along) * (2 * torch.pi / SIDES)
    ring = radii[..., None] * (side[..., None, :] * angles.cos()[:, None] + other[..., None, :] * angles.sin()[:, None])
    return torch.cat((starts[..., None, :] + ring, ends[..., None, :] + ring), -2)


def _tube_faces() -> Tensor:
    """(2 SIDES, 3), seen anticlockwise from outside; the ends stay open inside the balls."""
    here, after = torch.arange(SIDES), (torch.arange(SIDES) + 1) % SIDES
    lower = torch.stack((here, after, here + SIDES), 1)
    upper = torch.stack((after, after + SIDES, here + SIDES), 1)
    return torch.cat((lower, upper))


def _hull(points: Tensor) -> Tensor:
    """(20, 3) faces of the icosahedron, seen anticlockwise from outside: triples of neighbours, edges 2 long."""
    near = (torch.cdist(points, points) - 2).abs() < 1e-3
    corners = torch.combinations(torch.arange(len(points)), 3)
    faces = corners[
        near[corners[:, 0], corners[:, 1]] & near[corners[:, 1], corners[:, 2]] & near[corners[:, 0], corners[:, 2]]
    ]
    outward = torch.linalg.det(points[faces]) > 0
    return torch.where(outward[:, None], faces, faces.flip(1))


def _repeated(faces: Tensor, vertices: int, times: int) -> Tensor:
    """The faces of `times` copies of a mesh that has so many vertices, one after another."""
    return (faces + vertices * torch.arange(times)[:, None, None]).flatten(0, 1)
