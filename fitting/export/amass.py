"""NAME_amass.npz: the fit as AMASS' own recordings are, for programs that read those and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.body import EMBEDDED
from models.rotations import matrix_to_axis_angle
from models.skeleton import SMPL_JOINTS

if TYPE_CHECKING:
    from fitting.result import FitResult

Z_UP = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))  # y up -> z up: a quarter turn about x
BODY = 22  # joints that SMPL, SMPL-H and SMPL-X share
JOINTS = 55  # of SMPL-X
BETAS = 16


def as_amass(result: "FitResult") -> dict[str, np.ndarray]:
    """The arrays of the file: L frames, metres, radians, z up.

    poses: axis-angle, root first, (L, 156) of a body with SMPL-H's joints and (L, 165) of all others, which readers of
    SMPL-X and of SMPL-H take alike, for of SMPL's joints only the 22 of the body are in it and face and fingers are
    zeros; trans (L, 3): SMPL's transl in the turned world; betas (16,): of a licensed body, the mean where each frame
    has its own, and zeros of the embedded body, whose shapes are not SMPL's; gender; both spellings of the rate;
    mocap_time_length in seconds.
    """
    turn = torch.tensor(Z_UP, dtype=result.transl.dtype)
    rest_pelvis = result.body.rest_joints(result.betas)[..., 0, :].to(turn)
    trans = (rest_pelvis + result.transl) @ turn.T - rest_pelvis  # it is the pelvis that is turned
    return {
        "poses": _poses(result, turn),
        "trans": trans.numpy(force=True),
        "betas": _betas(result),
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(float(result.fps)),
        "mocap_frame_rate": np.array(float(result.fps)),
        "mocap_time_length": np.array(result.length / result.fps),
    }


def _poses(result: "FitResult", turn: torch.Tensor) -> np.ndarray:
    rotations = result.body.full_rotations(result.thetas)
    rotations[:, 0] = turn.to(rotations) @ rotations[:, 0]
    poses = matrix_to_axis_angle(rotations).flatten(1).numpy(force=True)
    if result.body.num_joints > len(SMPL_JOINTS):
        return poses
    return np.pad(poses[:, : 3 * BODY], ((0, 0), (0, 3 * (JOINTS - BODY))))


def _betas(result: "FitResult") -> np.ndarray:
    betas = np.zeros(BETAS, np.float32)
    if result.body.name != EMBEDDED.stem:
        known = result.betas.reshape(-1, result.betas.shape[-1]).mean(0)[:BETAS].numpy(force=True)
        betas[: len(known)] = known
    return betas


def write_amass(result: "FitResult", path: Path) -> None:
    """The arrays of `as_amass` in one compressed file that np.load reads without allow_pickle."""
    np.savez_compressed(path, **as_amass(result))
