"""The metrics of a fitted clip, its entry in report.json, and the report of a run."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitting.version import __version__
from models.skeleton import SKELETONS, Skeleton

if TYPE_CHECKING:
    from fitting.data import Motion
    from fitting.result import FitResult

SHORTEST_BONE = 1e-4  # metres; what is shorter is two joints on one spot, no bone
# Every key of a clip's entry, in the order they are written. What a later release computes stays null.
# fmt: off
CLIP_KEYS = (
    "name", "source", "sample", "repetition", "text", "frames", "fps", "status", "message", "iterations", "energy",
    "mpjpe_mm", "max_joint_error_mm", "bone_length_change_percent", "jerk_in", "jerk_out",
    "foot_skate_ratio_in", "foot_skate_ratio_out", "penetration_mm", "float_mm", "betas", "files",
)
# fmt: on


def joint_errors_mm(joints: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance in millimetres of joints (..., J, 3) from target (..., J, 3), both in metres: (..., J)."""
    return 1000 * np.linalg.norm(np.asarray(joints, np.float64) - target, axis=-1)


def jerk(joints: np.ndarray, fps: float) -> float | None:
    """Mean norm of the third difference of joints (L, J, 3) metres, times fps^3: m/s^3. None below four frames."""
    if len(joints) < 4:
        return None
    return float(np.linalg.norm(np.diff(np.asarray(joints, np.float64), n=3, axis=0), axis=-1).mean() * fps**3)


def bone_length_change_percent(joints: np.ndarray, parents: tuple[int, ...]) -> float:
    """By how much the length of the worst bone changes over joints (L, J, 3): 100 x standard deviation / mean."""
    joints = np.asarray(joints, np.float64)
    children = [joint for joint, parent in enumerate(parents[: joints.shape[1]]) if parent >= 0]
    lengths = np.linalg.norm(joints[:, children] - joints[:, [parents[child] for child in children]], axis=-1)
    mean = lengths.mean(0)
    bones = mean > SHORTEST_BONE
    return float(100 * (lengths.std(0)[bones] / mean[bones]).max(initial=0.0))


def common_joints(skeleton: Skeleton) -> tuple[list[int], list[int]]:
    """Joints that an input skeleton shares with the 22 of a fit: their indices in the input, and in the fit."""
    pairs = [(index, smpl) for index, smpl in enumerate(skeleton.smpl) if smpl < 22]
    return [index for index, _ in pairs], [smpl for _, smpl in pairs]


def clip_report(result: "FitResult", files: list[str]) -> dict:
    """The entry of one fitted clip: exactly CLIP_KEYS. files: what was written, by path from the output folder."""
    joints = result.joints().numpy(force=True)
    entry = _described(result.motion, result.status, result.message) | {
        "frames": result.length,
        "iterations": result.iterations,
        "energy": _finite(result.energy),
        "jerk_out": jerk(joints, result.fps),
        "betas": result.betas.tolist(),
        "files": files,
    }
    if result.motion.joints is not None:
        entry |= _against_input(joints, result.motion)
    return entry


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
    return _empty() | about | {"status": status, "message": message}


def _against_input(joints: np.ndarray, motion: "Motion") -> dict:
    """The numbers that compare a fit's joints (L, 22, 3) with the joints it was fitted to."""
    skeleton = SKELETONS[motion.skeleton]
    given, fitted = common_joints(skeleton)
    errors = joint_errors_mm(joints[:, fitted], motion.joints[:, given])
    return {
        "mpjpe_mm": _finite(errors.mean()),
        "max_joint_error_mm": _finite(errors.max()),
        "bone_length_change_percent": bone_length_change_percent(motion.joints, skeleton.parents),
        "jerk_in": jerk(motion.joints[:, given], motion.fps),
    }


def _frames(motion: "Motion") -> int:
    return len(motion.joints if motion.joints is not None else motion.thetas)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
