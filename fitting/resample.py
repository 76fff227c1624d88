"""Another frame rate for a finished fit: rotations along the shortest arc between frames, positions along the line."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fitting.result import FitResult
from models.errors import InputError
from models.rotations import (
    axis_angle_to_quaternion,
    quaternion_conjugate,
    quaternion_multiply,
    quaternion_to_axis_angle,
)

ON_A_FRAME = 1e-6  # of a frame; what is nearer to one is that frame


def resample(result: FitResult, fps: float) -> FitResult:
    """The same motion at `fps` frames a second.

    Frame k stands at k / fps seconds: the first frame is kept, and so is every frame that falls on the new grid, the
    last one included; nothing is made up after it. Joint rotations are interpolated spherically (constant angular
    velocity between frames), transl, a shape for each frame and the joints of the input linearly. Nothing is filtered:
    at a lower rate frames are left out. Raises InputError for a rate that is none.
    """
    check_rate(fps)
    if fps == result.fps:
        return result
    left, part = grid(result.length, result.fps, fps)
    motion = replace(result.motion, fps=float(fps))
    if motion.joints is not None:
        seen = np.where(motion.seen[..., None], motion.joints, motion.joints.dtype.type(np.nan))
        motion.joints = lerp(torch.as_tensor(seen), left, part).numpy()
    if motion.confidence is not None:
        motion.confidence = lerp(torch.as_tensor(motion.confidence), left, part).numpy()
    if motion.thetas is not None:
        motion.thetas = slerp(torch.as_tensor(motion.thetas), left, part).numpy()
    if motion.root is not None:
        motion.root = lerp(torch.as_tensor(motion.root), left, part).numpy()
    thetas, transl = slerp(result.thetas, left, part), lerp(result.transl, left, part)
    betas = result.betas if result.betas.ndim == 1 else lerp(result.betas, left, part)
    return replace(result, thetas=thetas, transl=transl, betas=betas, motion=motion)


def check_rate(fps: float) -> None:
    """Raises InputError for a number of frames a second that is none."""
    if not 0 < fps < math.inf:
        raise InputError(
            f"the output rate {fps} is no frame rate; --out-fps takes frames a second, such as 30 or 12.5."
        )


def resampled_length(frames: int, fps: float, out_fps: float) -> int:
    """How many frames at out_fps lie within the duration of `frames` frames at fps."""
    return math.floor((frames - 1) * out_fps / fps + ON_A_FRAME) + 1


def grid(frames: int, fps: float, out_fps: float) -> tuple[Tensor, Tensor]:
    """For each new frame the frame at or before it (K,), and which part of the way to the next one it stands (K,)."""
    places = np.arange(resampled_length(frames, fps, out_fps)) * (fps / out_fps)
    nearest = places.round()
    places = np.where(np.abs(places - nearest) < ON_A_FRAME, nearest, places)
    left = np.floor(places)
    return torch.from_numpy(left.astype(np.int64)), torch.from_numpy(places - left)


def lerp(values: Tensor, left: Tensor, part: Tensor) -> Tensor:
    """(L, ...) at the places of `grid` -> (K, ...). Between an unseen (NaN) frame and another nothing is seen."""
    return _between(values, left, part, lambda a, b, t: a + t * (b - a))


def slerp(thetas: Tensor, left: Tensor, part: Tensor) -> Tensor:
    """(L, ..., 3) axis-angle at the places of `grid` -> (K, ..., 3), angle within [0, pi] between frames.

    q(t) = q0 exp(t log(q0^-1 q1)), the logarithm of the shorter arc (Shoemake, SIGGRAPH 1985).
    """
    return _between(thetas, left, part, _along_the_arc)


def _along_the_arc(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    start, end = axis_angle_to_quaternion(a), axis_angle_to_quaternion(b)
    arc = quaternion_to_axis_angle(quaternion_multiply(quaternion_conjugate(start), end))
    return quaternion_to_axis_angle(quaternion_multiply(start, axis_angle_to_quaternion(t * arc)))


def _between(values: Tensor, left: Tensor, part: Tensor, blend) -> Tensor:
    """Frames that fall on the grid as they are, the others blended in float64."""
    right = (left + 1).clamp(max=len(values) - 1)
    t = part.reshape(-1, *[1] * (values.ndim - 1))
    blended = blend(values[left].double(), values[right].double(), t).to(values.dtype)
    return torch.where(t == 0, values[left], blended)
