"""Where feet stand: soft contacts from the input's joints, the place where each planted foot stays, and the floor."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.body import BodyModel
from models.skeleton import SMPL_PARENTS

FEET = ((7, 10), (8, 11))  # ankle and foot joint, left and right
ANKLES, BALLS = [7, 8], [10, 11]
NEAR = 0.05  # metres over the floor below which a foot joint is near it
HEIGHT = (0.04, 0.06)  # the same, softly: surely near below, surely not above
SPEED = (0.4, 0.6)  # metres a second: surely planted below, surely not above
HOLD = 21.0  # how much more a planted foot wants to stay than to follow the input
ROUNDS = 60  # of averaging along a contact: reaches some 4 frames to each side
SINK = 0.009  # metres by which a planted foot joint may lie lower than over a flat sole on the floor
STEADY_BONES = 0.002  # metres: deviation of bone lengths at which a clip is half taken for generated
TILTS, TILT = 8, 0.2  # directions in which a foot is tilted to find where its sole touches, and by which slope


@dataclass
class Contact:
    """By frame of the batch, N = clips x frames; metres.

    weight (N, 2): 0 in the air to 1 planted, left and right; anchors (N, 2, 3): where the foot joints stay; near
    (N, 2): as weight, of feet near the floor, planted or not; floor (N,): its height. sole (2, TILTS, 3), sole_dirs
    (2, TILTS, 3, betas): what of each foot at rest touches the ground first when it is tilted, from its ankle, and how
    betas move it.
    """

    weight: Tensor
    anchors: Tensor
    near: Tensor
    floor: Tensor
    sole: Tensor
    sole_dirs: Tensor

    def rows(self, rows: Tensor) -> "Contact":
        """The contacts of some frames."""
        by_frame = {f.name: getattr(self, f.name)[rows] for f in fields(self)[:4]}
        return Contact(**by_frame, sole=self.sole, sole_dirs=self.sole_dirs)


def find_contacts(joints: Tensor, seen: Tensor, fps: Tensor, body: BodyModel, floor: Tensor | None = None) -> Contact:
    """Contacts of joints (clips, frames, 22, 3), y up, of which seen (clips, frames, 22) were seen; fps (clips,).

    floor (clips,): its height, by default the 1st percentile of the foot joints' heights. A planted foot stays near the
    floor from one frame to the next, and is slow; its place is the input's path, evened out, no lower than its sole
    allows. A clip whose bones keep their lengths was captured, not generated: what slides in it slid, and its contacts
    count less and less the steadier its bones.
    """
    feet = joints[:, :, BALLS]  # where feet stand and the floor is follows a derivative, not whether they stand
    points, known = feet.detach(), seen[:, :, BALLS]
    floor = floor_under(feet, known) if floor is None else floor
    over = points[..., 1] - floor.detach()[:, None, None]
    stays = standing(points, known, fps, floor.detach())
    none = torch.zeros_like(over[:, :1])
    before, after = torch.cat((none, stays), 1), torch.cat((stays, none), 1)
    doubt = _doubt(joints, seen)[:, None, None]
    weight, near = doubt * torch.maximum(before, after), doubt * known * (over < NEAR)
    sole, sole_dirs = _sole(body)
    flat = body.rest_template[BALLS, 1] - body.rest_template[ANKLES, 1] - sole[..., 1].amin(1)
    x, y, z = _still(feet, before, after).unbind(-1)
    anchors = torch.stack((x, torch.maximum(y, floor[:, None, None] + flat - SINK), z), -1)
    by_frame = [value.flatten(0, 1) for value in (weight, anchors, near, floor[:, None].expand(joints.shape[:2]))]
    return Contact(*by_frame, sole, sole_dirs)


def floor_under(feet: Tensor, known: Tensor) -> Tensor:
    """Height (clips,) of the floor: the 1st percentile of the known (clips, frames, 2) foot joints' heights, else 0."""
    heights = torch.where(known, feet[..., 1], torch.nan)
    return torch.nan_to_num(heights.flatten(1).nanquantile(0.01, dim=1))


def standing(feet: Tensor, known: Tensor, fps: Tensor, floor: Tensor) -> Tensor:
    """How surely each foot joint stays from a frame to the next: near the floor in both, and slow.

    feet (clips, frames, 2, 3), known (clips, frames, 2), fps and floor (clips,) -> (clips, frames - 1, 2), 0 to 1.
    """
    low = known * _below(feet[..., 1] - floor[:, None, None], HEIGHT)
    speed = feet.diff(dim=1).norm(dim=-1) * fps[:, None, None]
    return _below(speed, SPEED) * low[:, 1:] * low[:, :-1]


def _doubt(joints: Tensor, seen: Tensor) -> Tensor:
    """From 0 for a clip with bones of constant length to 1 (clips,), by the deviation of their lengths over time."""
    parents = list(SMPL_PARENTS[1 : joints.shape[2]])
    known = seen[:, :, 1:] & seen[:, :, parents]
    bones = torch.where(known[..., None], joints[:, :, 1:] - joints[:, :, parents], 1.0).norm(dim=-1)
    usual = (bones * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)
    change = ((bones - usual) * known).square().sum((1, 2)) / known.sum((1, 2)).clamp_min(1)
    doubt = change / (change + STEADY_BONES**2)
    return torch.where(doubt > 0.02, doubt, 0)


def _below(value: Tensor, gate: tuple[float, float]) -> Tensor:
    """1 below the gate, 0 above it, linear between."""
    return ((gate[1] - value) / (gate[1] - gate[0])).clamp(0, 1)


def _still(points: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """points (clips, frames, 2, 3) evened out along each contact.

    before, after (clips, frames, 2): how far the foot stands from the frame before, and to the one after.
    """
    before, after = HOLD * before[..., None], HOLD * after[..., None]
    out = points
    for _ in range(ROUNDS):
        previous, following = torch.cat((out[:, :1], out[:, :-1]), 1), torch.cat((out[:, 1:], out[:, -1:]), 1)
        out = (points + before * previous + after * following) / (1 + before + after)
    return out


def _sole(body: BodyModel) -> tuple[Tensor, Tensor]:
    """Where each foot touches first when it is tilted, from its ankle: (2, TILTS, 3), and (2, TILTS, 3, betas)."""
    owner = body.weights.argmax(1)
    angle = 2 * torch.pi * torch.arange(TILTS, device=owner.device) / TILTS
    up = torch.stack((TILT * angle.sin(), torch.ones_like(angle), TILT * angle.cos()), 1).to(body.v_template)
    points, dirs = [], []
    for ankle, foot in FEET:
        mine = ((owner == ankle) | (owner == foot)).nonzero()[:, 0]
        touch = mine[(body.v_template[mine] @ up.T).argmin(0)]
        points.append(body.v_template[touch] - body.rest_template[ankle])
        dirs.append(body.shapedirs[touch] - body.rest_dirs[ankle])
    return torch.stack(points), torch.stack(dirs)
