"""From the joints of a file to the points that a fit observes: SMPL's 22 joints in their order, then landmarks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fitting.gaps import seen_joints
from fitting.rig import Rig
from fitting.start import TRUNK, kabsch
from models.skeleton import BODY, SMPL_PARENTS, Skeleton

if TYPE_CHECKING:
    from fitting.data import Batch

ANCHORS = 3  # joints of the trunk that must be seen in a frame to tell where the rest of it is


def arrange(values: Tensor, skeleton: Skeleton, points: Sequence[str], absent: float) -> Tensor:
    """values (..., J, D) of a skeleton's joints -> (..., points, D), `absent` where no joint shows the point."""
    index = [skeleton.shows.index(point) if point in skeleton.shows else -1 for point in points]
    out = values[..., index, :]
    missing = [i for i, place in enumerate(index) if place < 0]
    if missing:
        out[..., missing, :] = absent
    return out


def as_smpl(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """An input's joints (L, J, 3) in the order of a fit's 22, (L, 22, 3) float64; NaN for joints that it lacks."""
    return arrange(torch.from_numpy(joints.astype(np.float64)), skeleton, BODY, torch.nan).numpy()


def observe(batch: "Batch", rig: Rig, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The observed points of a batch (clips, frames, P, 3), which of them were seen, and the confidence in them."""
    points = (*BODY, *rig.points)
    joints = arrange(batch.joints.to(rig.rest_template), batch.skeleton, points, torch.nan)
    seen = seen_joints(joints, mask)
    if batch.confidence is None:
        return joints, seen, seen.to(joints)
    confidence = arrange(batch.confidence[..., None].to(joints), batch.skeleton, points, 0.0)[..., 0]
    return joints, seen & (confidence > 0), confidence


def place_unseen(points: Tensor, seen: Tensor, rig: Rig) -> tuple[Tensor, Tensor]:
    """Points (clips, frames, P, 3) with those that a clip never sees put where the body at rest would have them.

    The trunk at rest is laid on what is seen of it (Kabsch), in every frame with ANCHORS of its joints; limbs hang on
    it. Returns the points, and which of them are seen or placed so (clips, frames, P).
    """
    never = ~seen.any(1, keepdim=True)
    if not never.any():
        return points, seen
    rest, carriers = rig.rest_template[rig.observed], rig.carriers
    anchors = [*TRUNK, *(22 + i for i, carrier in enumerate(carriers) if carrier == 0)]
    known = seen[:, :, anchors, None]
    model = rest[anchors].expand(*seen.shape[:2], -1, 3)
    middle, target_middle = (_mean(x, known) for x in (model, points[:, :, anchors]))
    turn = kabsch(torch.where(known, model, middle), torch.where(known, points[:, :, anchors], target_middle))
    laid = (rest - middle) @ turn.mT + target_middle
    enough = (known.sum(2) >= ANCHORS).expand_as(seen)
    columns = list(torch.where(seen[..., None], points, laid).unbind(2))
    for point, parent in enumerate((*SMPL_PARENTS[:22], *carriers)):
        if point not in anchors:
            hung = columns[parent] + (turn @ (rest[point] - rest[parent])[:, None])[..., 0]
            columns[point] = torch.where(seen[:, :, point, None], points[:, :, point], hung)
    placed = never & enough & torch.stack(columns, 2).isfinite().all(-1)
    return torch.where(placed[..., None], torch.stack(columns, 2), points), seen | placed


def _mean(points: Tensor, known: Tensor) -> Tensor:
    """Mean (..., 1, 3) of the known of points (..., P, 3)."""
    return torch.where(known, points, 0).sum(-2, keepdim=True) / known.sum(-2, keepdim=True).clamp_min(1)
