"""NAME_hik.json: Euler angles under HumanIK's names for Maya and MotionBuilder, in the shape of MDM's motions2hik."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fitting.export.bones import HUMANIK
from models.rotations import axis_angle_to_matrix, matrix_to_euler

if TYPE_CHECKING:
    from fitting.result import FitResult


def hik(result: "FitResult") -> dict[str, list]:
    """The dict of the file, for one repetition of L frames.

    joint_map: names of the first 22 joints of thetas; thetas (1, L, 24, 3): degrees of R = Rx Ry Rz, each joint against
    its parent in SMPL's rest pose, whose axes are the world's; root_translation (1, L, 3): the pelvis, metres, y up.
    """
    degrees = matrix_to_euler(axis_angle_to_matrix(result.smpl_thetas)).rad2deg()
    return {
        "joint_map": list(HUMANIK),
        "thetas": [degrees.tolist()],
        "root_translation": [result.joints()[:, 0].tolist()],
    }


def write_hik(result: "FitResult", path: Path) -> None:
    """The dict of `hik` as JSON."""
    path.write_text(json.dumps(hik(result)), encoding="utf-8")
