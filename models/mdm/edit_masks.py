"""Which part of a motion an edit keeps: boolean masks over frames and feature channels, True = known, kept as it is.

Combine them with ~, & and |: `~joint_channels(("left_elbow", "left_wrist")) | frames_between(0, 20, frames=100)` makes
the left arm anew after the first 20 frames.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from models.errors import InputError
from models.skeleton import SKELETONS

LOWER_BODY = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_foot", "right_foot"
)  # fmt: skip
# width of the features -> skeleton, joints of the four contact channels in order
_LAYOUTS = {263: ("humanml3d", (7, 10, 8, 11)), 251: ("kit", (19, 20, 14, 15))}


def joint_channels(names: Iterable[str], width: int = 263) -> Tensor:
    """Mask (width,) of all channels of the named joints: position, rotation, velocity, contact; of the root its path.

    width: 263 (humanml3d) or 251 (kit). Raises InputError for another width or a name that the skeleton lacks.
    """
    if width not in _LAYOUTS:
        raise InputError(f"features are {width} wide; masks exist for 263 (humanml) and 251 (kit)")
    skeleton = _LAYOUTS[width][0]
    joints = SKELETONS[skeleton].joints
    if unknown := sorted(set(names) - set(joints)):
        raise InputError(f"{skeleton} has no joint {', '.join(unknown)}; it has {', '.join(joints)}")
    return channels(torch.tensor([name in set(names) for name in joints]), width)


def channels(joints: Tensor, width: int = 263) -> Tensor:
    """Mask (..., width) of the channels of joints (..., J), True = chosen; see joint_channels."""
    bones, feet = joints[..., 1:], list(_LAYOUTS[width][1])
    parts = ((bones, 3), (bones, 6), (joints, 3))
    positions, rotations, velocities = (part.repeat_interleave(n, -1) for part, n in parts)
    root = joints[..., :1].expand(*joints.shape[:-1], 4)
    return torch.cat((root, positions, rotations, velocities, joints[..., feet]), -1)


def frames_between(first: int, last: int, frames: int) -> Tensor:
    """Mask (frames, 1) of frames first .. last - 1."""
    index = torch.arange(frames)[:, None]
    return (index >= first) & (index < last)


def in_between(lengths: Tensor, frames: int, start: float = 0.25, end: float = 0.75) -> Tensor:
    """Mask (batch, frames, 1) of all but the middle: frames from start to end, as shares of lengths (batch,), are free.

    Frames after a motion's length count as known.
    """
    index = torch.arange(frames)
    free = (index >= (start * lengths[:, None]).long()) & (index < (end * lengths[:, None]).long())
    return ~free[..., None]


def upper_body(width: int = 263) -> Tensor:
    """Mask (width,) for an edit of the upper body: root, legs and feet are known (HumanML3D's joints)."""
    return joint_channels(LOWER_BODY, width)
