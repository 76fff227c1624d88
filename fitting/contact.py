"""Where feet stand: soft contacts from the input's joints, the place where each planted foot stays, and the floor."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.body import BodyModel
from models.skeleton import SMPL_PARENTS

FEET = ((7, 10), (8, 11))  # ankle and foot joint, left and right
HEIGHT = (0.04, 0.06)  # metres of a foot joint over the floor: surely planted below, surely not above
SPEED = (0.4, 0.6)  # metres a second, likewise
HOLD = 60.0  # how much more a planted foot wants to stay than to follow the input
ROUNDS = 60  # of averaging along a contact: reaches some 6 frames to each side
STEADY_BONES = 0.002  # metres: deviation of bone lengths at which a clip is half taken for generated
SOLE = 0.015  # metres over the lowest point of a foot at rest that belong to its sole
PARTS = ((0.0, 0.2), (0.4, 0.6), (0.9, 1.0))  # of the sole from back to front: heel, ball, toes


@dataclass
class Contact:
    """By frame of the batch, N = clips x frames; metres.

    weight (N, 2): 0 in the air to 1 planted, left and right; anchors (N, 2, 3): where the foot joints stay; floor (N,):
    its height. sole (2, 3, 3), sole_dirs (2, 3, 3, betas): heel, ball and toes of each foot at rest from its ankle, and
    how betas move them.
    """

    weight: Tensor
    anchors: Tensor
    floor: Tensor
    sole: Tensor
    sole_dirs: Tensor

    def rows(self, rows: Tensor) -> "Contact":
        """The contacts of some frames."""
        by_frame = {f.name: getattr(self, f.name)[rows] for f in fields(self)[:3]}
        return Contact(**by_frame, sole=self.sole, sole_dirs=self.sole_dirs)


def find_contacts(joints: Tensor, seen: Tensor, fps: Tensor, body: BodyModel) -> Contact:
    """Contacts of joints (clips, frames, 22, 3), y up, of which seen (clips, frames, 22) were seen; fps (clips,).

    The floor is the 1st percentile of the foot joints' heights. A clip whose bones keep their lengths was captured, not
    generated: what slides in it slid, and its contacts count less and less the steadier its bones.
    """
    foot = [pair[1] for pair in FEET]
    free, joints = (
        joints[:, :, foot],
        joints.detach(),
    )  # only where feet stand follows a derivative, not whether they do
    points, known = joints[:, :, foot], seen[:, :, foot]
    heights = torch.where(known, points[..., 1], torch.nan)
    floor = torch.nan_to_num(heights.flatten(1).nanquantile(0.01, dim=1))
    step = points.diff(dim=1).norm(dim=-1) * fps[:, None, None]
    step = torch.where(known[:, 1:] & known[:, :-1], step, torch.inf)
    alone = torch.full_like(points[:, :1, :, 0], torch.inf)
    speed = torch.minimum(torch.cat((step, alone), 1), torch.cat((alone, step), 1))
    speed = torch.where(speed.isinf(), 0, speed)  # nothing tells that it moves
    weight = known * _below(points[..., 1] - floor[:, None, None], HEIGHT) * _below(speed, SPEED)
    anchors = _still(free, weight)
    weight = weight * _doubt(joints, seen)[:, None, None]
    sole, sole_dirs = _sole(body)
    spread = floor[:, None].expand(joints.shape[:2]).flatten()
    return Contact(weight.flatten(0, 1), anchors.flatten(0, 1), spread, sole, sole_dirs)


def _doubt(joints: Tensor, seen: Tensor) -> Tensor:
    """From 0 for a clip with bones of constant length to 1 (clips,), by the deviation of their lengths over time."""
    known = torch.where(seen[..., None], joints, torch.nan)
    bones = (known[:, :, 1:] - known[:, :, list(SMPL_PARENTS[1 : joints.shape[2]])]).norm(dim=-1)
    change = (bones - bones.nanmean(1, keepdim=True)).square().flatten(1).nanmean(1)
    doubt = torch.nan_to_num(change / (change + STEADY_BONES**2))
    return torch.where(doubt > 0.02, doubt, 0)


def _below(value: Tensor, gate: tuple[float, float]) -> Tensor:
    """1 below the gate, 0 above it, linear between."""
    return ((gate[1] - value) / (gate[1] - gate[0])).clamp(0, 1)


def _still(points: Tensor, weight: Tensor) -> Tensor:
    """points (clips, frames, 2, 3) evened out along each contact: neighbours pull as far as both are planted."""
    link = HOLD * weight[:, 1:] * weight[:, :-1]
    zero = torch.zeros_like(weight[:, :1])
    before, after = torch.cat((zero, link), 1)[..., None], torch.cat((link, zero), 1)[..., None]
    out = points
    for _ in range(ROUNDS):
        previous, following = torch.cat((out[:, :1], out[:, :-1]), 1), torch.cat((out[:, 1:], out[:, -1:]), 1)
        out = (points + before * previous + after * following) / (1 + before + after)
    return out


def _sole(body: BodyModel) -> tuple[Tensor, Tensor]:
    """Heel, ball and toes of both feet from their ankles: (2, 3, 3), and (2, 3, 3, betas)."""
    owner = body.weights.argmax(1)
    points, dirs = [], []
    for ankle, foot in FEET:
        mine = ((owner == ankle) | (owner == foot)).nonzero()[:, 0]
        low = mine[body.v_template[mine, 1] < body.v_template[mine, 1].min() + SOLE]
        along = body.v_template[low, 2]
        for first, last in PARTS:
            part = low[(along >= along.quantile(first)) & (along <= along.quantile(last))]
            centre = body.v_template[part].mean(0)
            centre[1] = body.v_template[part, 1].min()
            points.append(centre - body.rest_template[ankle])
            dirs.append(body.shapedirs[part].mean(0) - body.rest_dirs[ankle])
    return torch.stack(points).unflatten(0, (2, -1)), torch.stack(dirs).unflatten(0, (2, -1))
