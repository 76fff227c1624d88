"""NAME_joints.npy: the joints alone, as text-to-motion models and `thetafit fit` take them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fitting.result import FitResult


def write_joints(result: "FitResult", path: Path) -> None:
    """One array (L, 22, 3), float32, metres, y up, world of the input, in SMPL's order."""
    with path.open("wb") as file:
        np.save(file, result.joints().numpy(force=True).astype(np.float32))
