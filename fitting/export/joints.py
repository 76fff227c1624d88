"""NAME_joints.npy and NAME_features.npy: what text-to-motion models learn from and make, and `thetafit fit` takes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import InputError
from models.mdm.features import joints_to_features

if TYPE_CHECKING:
    from fitting.result import FitResult

FEATURES_FPS = 20.0  # of HumanML3D


def write_joints(result: "FitResult", path: Path) -> None:
    """One array (L, 22, 3), float32, metres, y up, world of the input, in SMPL's order."""
    _save(path, result.joints().numpy(force=True))


def write_features(result: "FitResult", path: Path) -> None:
    """One array (L - 1, 263), float32, not normalised, of the joints at HumanML3D's 20 frames a second.

    The person gets HumanML3D's bone lengths and starts on the floor at x = z = 0, facing +z. Raises InputError for a
    clip of one frame.
    """
    from fitting.resample import grid, lerp  # here, because it loads Lightning

    joints = result.joints().double().cpu()
    if result.fps != FEATURES_FPS:
        joints = lerp(joints, *grid(len(joints), result.fps, FEATURES_FPS))
    if len(joints) < 2:
        raise InputError("features hold velocities: they need two frames at 20 frames a second")
    _save(path, joints_to_features(joints).numpy())


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array.astype(np.float32))
