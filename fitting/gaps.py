"""What was not seen: joints that are missing (NaN) or impossibly far off, and how gaps are bridged for the fit."""

from collections.abc import Sequence

import torch
from torch import Tensor

REACH = 1.5  # metres: no joint of a person is farther from the middle of the others
CLOSE = 1 / 600  # metres: the deviation that full confidence stands for


def seen_joints(joints: Tensor, mask: Tensor, body: Sequence[int] | slice = slice(None)) -> Tensor:
    """Which of joints (clips, frames, J, 3) were seen, within REACH of their frame's middle: (clips, frames, J).

    body: those whose middle it is; thirty fingers would draw it to the hands.
    """
    finite = joints.isfinite().all(-1) & mask[..., None]
    known = torch.where(finite[..., None], joints, torch.nan)
    middle = known[:, :, body].nanmedian(2, keepdim=True).values
    return finite & ((known - middle).norm(dim=-1) < REACH)


def bridge(joints: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Joints (clips, frames, J, 3) with straight lines across gaps, relative to the pelvis; and the confidence of all.

    A joint before its first or after its last sight keeps its place beside the pelvis. Confidence (clips, frames, J) is
    1 where a joint was seen, falls with the time to the nearest sight times the joint's usual speed, and is 0 for a
    joint never seen.
    """
    if seen.all():
        return joints, seen.to(joints)
    pelvis, _ = _interpolate(joints[:, :, :1], seen[:, :, :1])
    places = torch.cat(
        (joints[:, :, :1], joints[:, :, 1:] - pelvis), 2
    )  # the pelvis in the world, the others beside it
    filled, distance = _interpolate(places, seen)
    step = torch.where(seen[..., None], places, torch.nan).diff(dim=1)
    speed = torch.nan_to_num(step.square().sum(-1).nanmean(1, keepdim=True).sqrt(), 1.0)  # metres a frame
    confidence = torch.where(seen, 1.0, CLOSE / (CLOSE + speed.clamp_min(CLOSE / 10) * distance))
    return torch.cat((pelvis, filled[:, :, 1:] + pelvis), 2), confidence


def _interpolate(points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Linear in time between sights: points (clips, frames, J, 3), frames to the nearest sight (clips, frames, J)."""
    frames = points.shape[1]
    time = torch.arange(frames, device=points.device)[None, :, None].expand(seen.shape)
    before = torch.where(seen, time, -frames).cummax(1).values
    after = torch.where(seen, time, 2 * frames).flip(1).cummin(1).values.flip(1)
    nearest = torch.minimum(time - before, after - time)
    start, end = torch.where(before < 0, after, before), torch.where(after >= frames, before, after)
    share = (time - start) / (end - start).clamp_min(1)
    ends = [x.clamp(0, frames - 1)[..., None].expand(points.shape) for x in (start, end)]
    known = torch.where(seen[..., None], points, 0)
    low, high = (known.gather(1, index) for index in ends)
    return low + share[..., None] * (high - low), torch.where(nearest >= frames, torch.inf, nearest.to(points))
