"""Stick figures: a skeleton's joints and bones as a mesh of balls and tubes, for `film.film_frames`."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from models.skeleton import Skeleton

COLOUR = (0.80, 0.30, 0.06)  # the reference draws what was generated in orange
BALL, TUBE = 0.032, 0.020  # radii in metres
SIDES = 8  # of a tube
BATCH = 8  # frames drawn at a time
GOLDEN = (1 + 5**0.5) / 2
_CORNERS = [(0, a, b * GOLDEN) for a in (-1, 1) for b in (-1, 1)]
ICOSAHEDRON = torch.tensor([corner[-k:] + corner[:-k] for k in range(3) for corner in _CORNERS])


class StickFigure:
    """Joints (L, J, 3) in metres, y up, of a skeleton, as a moving mesh; vertices lie near the origin."""

    colour = COLOUR

    def __init__(self, joints: Tensor, skeleton: Skeleton, fps: float, text: str = "") -> None:
        self.skeleton, self.fps, self.text = skeleton, fps, text
        self._joints = joints - joints[:1, :1] * joints.new_tensor((1, 0, 1))
        self.device = joints.device
        self.bones = [(joint, parent) for joint, parent in enumerate(skeleton.parents) if parent >= 0]
        balls = _repeated(_hull(ICOSAHEDRON), len(ICOSAHEDRON), len(skeleton.joints))
        tubes = _repeated(_tube_faces(), 2 * SIDES, len(self.bones)) + len(ICOSAHEDRON) * len(skeleton.joints)
        self.faces = torch.cat((balls, tubes)).to(self.device)

    def __len__(self) -> int:
        return len(self._joints)

    def vertices(self, frames: slice | Tensor) -> Tensor:
        """(frames, V, 3) metres."""
        joints = self._joints[frames]
        balls = joints[:, :, None] + BALL * F.normalize(ICOSAHEDRON, dim=1).to(joints)
        child, parent = zip(*self.bones, strict=True)
        tubes = _tubes(joints[:, child], joints[:, parent])
        return torch.cat((balls.flatten(1, 2), tubes.flatten(1, 2)), 1)

    def across(self) -> Tensor:
        """(L, 3): from the right hip to the left."""
        left, right = (self.skeleton.joints.index(f"{side}_hip") for side in ("left", "right"))
        return self._joints[:, left] - self._joints[:, right]

    def batches(self) -> Iterator[slice]:
        return (slice(start, start + BATCH) for start in range(0, len(self), BATCH))


def _tubes(ends: Tensor, starts: Tensor) -> Tensor:
    """(frames, bones, 2 SIDES, 3): a ring around the start of each bone, then one around its end."""
    along = F.normalize(ends - starts, dim=-1)
    least = F.one_hot(along.abs().argmin(-1), 3).to(along)  # the axis that the bone is farthest from
    side = F.normalize(torch.linalg.cross(along, least), dim=-1)
    other = torch.linalg.cross(along, side)
    angles = torch.arange(SIDES).to(along) * (2 * torch.pi / SIDES)
    ring = TUBE * (side[..., None, :] * angles.cos()[:, None] + other[..., None, :] * angles.sin()[:, None])
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
