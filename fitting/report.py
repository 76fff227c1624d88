"""The metrics of a fitted clip, its entry in report.json, and the report of a run."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fitting.metrics import (
    FEET,
    LOW_GATE,
    Underside,
    acceleration,
    bone_length_change_percent,
    float_mm,
    floor_height,
    foot_skate_ratio,
    jerk,
    joint_errors_mm,
    lifted_share,
    limit_excess_degrees,
    mean,
    pa_errors_mm,
    penetration_mm,
    planted,
    planted_speed,
    rotation_jitter_degrees,
    slip_mm,
    sole_height_mm,
    underside,
)
from fitting.observed import arrange, as_smpl
from fitting.version import __version__
from models.body import BodyModel
from models.prior import PosePrior
from models.skeleton import FINGERS, SMPL_JOINTS, SMPL_PARENTS, Skeleton

if TYPE_CHECKING:
    from fitting.data import Motion
    from fitting.result import FitResult

LIMIT_DEGREES = 1.0  # a frame counts as beyond the limits when some joint is by more than this
# degrees and share of the frames from which a joint beyond its limits is worth a word: to be seen, and no slip
FAR, OFTEN = 15.0, 0.05
# Every number of a clip that compares it with its input, in the order they are written; docs/metrics.md defines them.
# fmt: off
METRIC_KEYS = (
    "mpjpe_mm", "max_joint_error_mm", "pa_mpjpe_mm", "bone_length_change_percent", "jerk_in", "jerk_out",
    "acceleration_in", "acceleration_out", "rotation_jitter_degrees", "foot_skate_ratio_in", "foot_skate_ratio_out",
    "foot_skate_ratio_25mm_in", "foot_skate_ratio_25mm_out", "planted_share", "planted_speed_in", "planted_speed_out",
    "lifted_share", "foot_jerk_in", "foot_jerk_out", "penetration_mm", "float_mm", "slip_mm", "sole_height_mm",
    "limit_excess_degrees", "limit_share",
)
# Every key of a clip's entry, in the order they are written. What cannot be computed stays null.
CLIP_KEYS = (
    "name", "source", "sample", "repetition", "text", "frames", "fps", "status", "message", "iterations", "energy",
    *METRIC_KEYS, "finger_error_mm", "beyond_limits", "betas", "bone_factors", "files", "unseen_joints",
    "longest_gap_seconds", "gaps",
)
# fmt: on


def clip_report(result: "FitResult", files: list[str]) -> dict:
    """The entry of one fitted clip: exactly CLIP_KEYS. files: what was written, by path from the output folder."""
    motion = result.motion
    joints, thetas = result.joints().numpy(force=True), result.thetas.numpy(force=True)
    described = _described(motion, result.status, result.message) | {
        "frames": result.length,
        "iterations": result.iterations,
        "energy": _finite(result.energy),
        "beyond_limits": beyond_limits(thetas),
        "betas": result.betas.tolist(),
        "bone_factors": result.bone_factors,
        "files": files,
    }
    if motion.joints is None:
        return described | own_metrics(joints, thetas, result.fps)

    def mesh() -> Underside:
        return underside(result.body, result.betas, result.thetas, result.transl)

    given = np.where(motion.seen[..., None], motion.joints, np.nan)
    metrics = all_metrics(joints, thetas, given, motion.skeleton, result.fps, mesh)
    parameters = result.betas, result.thetas, result.transl
    fingers = finger_error_mm(result.body, parameters, given, motion.skeleton)
    return described | gaps(motion) | metrics | {"finger_error_mm": fingers}


def gaps(motion: "Motion") -> dict:
    """What of a motion's joints was not seen: how many joints, over all frames, the longest time, a line a joint."""
    unseen = ~motion.seen
    wild = unseen & np.isfinite(motion.joints).all(-1)
    if motion.confidence is not None:
        wild &= motion.confidence > 0
    longest, lines = 0, []
    for joint in np.flatnonzero(unseen.any(0)):
        frames = np.flatnonzero(unseen[:, joint])
        run = max(np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1), key=len)
        longest = max(longest, len(run))
        words = f"{motion.skeleton.joints[joint]}: {len(frames)} of {len(unseen)} frames"
        words += f", {wild[:, joint].sum()} of them metres off" if wild[:, joint].any() else ""
        lines.append(f"{words}; the longest gap {len(run) / motion.fps:.2f} s (frames {run[0]}-{run[-1]})")
    return {"unseen_joints": int(unseen.sum()), "longest_gap_seconds": longest / motion.fps, "gaps": lines}


def own_metrics(joints: np.ndarray, thetas: np.ndarray, fps: float) -> dict:
    """The metrics of METRIC_KEYS that need no input. joints (L, 22, 3) metres, thetas (L, J, 3) axis-angle."""
    excess = limit_excess_degrees(thetas, _limits()).max(1)
    return {
        "jerk_out": jerk(joints, fps),
        "acceleration_out": acceleration(joints, fps),
        "rotation_jitter_degrees": rotation_jitter_degrees(thetas),
        "limit_excess_degrees": mean(excess),
        "limit_share": mean(excess > LIMIT_DEGREES),
    }


def beyond_limits(thetas: np.ndarray) -> list[dict]:
    """The body's joints of thetas (L, J, 3) that pass their limits by more than LIMIT_DEGREES, the farthest first.

    Of each its name, by how many degrees at most, and in which share of the frames.
    """
    excess = limit_excess_degrees(thetas, _limits())
    farthest, share = excess.max(0), (excess > LIMIT_DEGREES).mean(0)
    return [
        {"joint": SMPL_JOINTS[1 + joint], "degrees": float(farthest[joint]), "share": float(share[joint])}
        for joint in np.argsort(-farthest)
        if share[joint]
    ]


def limit_words(clip: dict) -> str | None:
    """The joint of a clip's entry that is farthest beyond its limits, in words; None unless it is far and often."""
    for found in clip["beyond_limits"] or []:
        if found["degrees"] >= FAR and found["share"] >= OFTEN:
            return f"{found['joint']} {found['degrees']:.0f} degrees beyond its limits ({found['share']:.0%} of frames)"
    return None


def all_metrics(
    joints: np.ndarray,
    thetas: np.ndarray,
    given: np.ndarray,
    skeleton: Skeleton,
    fps: float,
    mesh: Callable[[], Underside] | None,
) -> dict:
    """All of METRIC_KEYS for a fit, joints (L, 22, 3) and thetas (L, J, 3), to the joints given (L, J, 3).

    mesh: makes the underside of the fit's mesh; without it the numbers of the mesh are null.
    """
    target = as_smpl(given, skeleton)
    errors = joint_errors_mm(joints, target)
    seen = ~np.isnan(target).all((0, 2))
    metrics = own_metrics(joints, thetas, fps) | {
        "mpjpe_mm": mean(errors),
        "max_joint_error_mm": _finite(np.nanmax(errors, initial=-np.inf)),
        "pa_mpjpe_mm": mean(pa_errors_mm(joints, target)),
        "bone_length_change_percent": bone_length_change_percent(given, skeleton.parents),
        "jerk_in": jerk(target, fps),
        "jerk_out": jerk(joints[:, seen], fps),
        "acceleration_in": acceleration(target, fps),
        "acceleration_out": acceleration(joints[:, seen], fps),
    }
    floor = floor_height(target)
    if floor is not None:
        metrics |= _feet(joints, target, fps, floor, mesh)
    return dict.fromkeys(METRIC_KEYS) | {name: _finite(value) for name, value in metrics.items()}


def finger_error_mm(
    body: BodyModel, parameters: tuple[Tensor, Tensor, Tensor], given: np.ndarray, skeleton: Skeleton
) -> float | None:
    """Mean distance in mm of the fit's fingers from those given (L, J, 3); None where none were fitted or seen.

    parameters: betas, thetas and transl.
    """
    if parameters[1].shape[-2] == len(SMPL_PARENTS):
        return None
    fitted = body.joints(*parameters)[:, -len(FINGERS) :]
    return mean(joint_errors_mm(fitted, arrange(torch.from_numpy(given), skeleton, FINGERS, torch.nan)))


def _feet(joints: np.ndarray, given: np.ndarray, fps: float, floor: float, mesh: Callable | None) -> dict:
    """The metrics of feet and floor. Contact and floor come from the input, so that seeing none never looks good."""
    contact = planted(given, fps, floor)
    metrics = {"planted_share": mean(contact), "lifted_share": lifted_share(joints, given, floor)}
    for end, motion in (("in", given), ("out", joints)):
        metrics |= {
            f"foot_skate_ratio_{end}": foot_skate_ratio(motion, fps, floor),
            f"foot_skate_ratio_25mm_{end}": foot_skate_ratio(motion, fps, floor, LOW_GATE),
            f"planted_speed_{end}": planted_speed(motion, fps, contact),
            f"foot_jerk_{end}": jerk(motion[:, FEET], fps),
        }
    if mesh is None:
        return metrics
    under = mesh()
    return metrics | {
        "penetration_mm": penetration_mm(under, floor),
        "float_mm": float_mm(under, floor, contact),
        "slip_mm": slip_mm(under, contact),
        "sole_height_mm": sole_height_mm(under, floor, contact),
    }


@cache
def _limits() -> np.ndarray:
    return PosePrior.load().limits.numpy()


def failure_report(source: str, message: str) -> dict:
    """The entry of a source that could not be read: named, with the reason, everything else null."""
    return _empty() | {"name": Path(source).stem, "source": str(source), "status": "not read", "message": message}


def unfitted_report(motion: "Motion", status: str, message: str) -> dict:
    """The entry of a clip that was read and could not be fitted."""
    return _described(motion, status, message) | {"frames": _frames(motion)}


def run_report(clips: list[dict], seconds: float, device: str, preset: str | None, body: str) -> dict:
    """report.json: the clips' entries, and what made them. `seconds` is the time spent on fitting and writing."""
    frames = sum(clip["frames"] or 0 for clip in clips if clip["files"])
    return {
        "clips": clips,
        "seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 1) if seconds > 0 else None,
        "device": device,
        "preset": preset,
        "body": body,
        "version": __version__,
    }


def _empty() -> dict:
    return dict.fromkeys(CLIP_KEYS) | {"files": []}


def _described(motion: "Motion", status: str, message: str) -> dict:
    names = ("name", "source", "sample", "repetition", "text")
    about = {name: getattr(motion, name) for name in names} | {"source": str(motion.source), "fps": float(motion.fps)}
    return _empty() | about | {"status": status, "message": " ".join((message, *motion.notes))}


def _frames(motion: "Motion") -> int:
    return len(motion.joints if motion.joints is not None else motion.thetas)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
