"""The fit as a function on arrays, for notebooks."""

import numpy as np
import torch

from fitting.checks import check_joints
from fitting.data import Motion, collate
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from fitting.solver import SolverName
from models.body import BodyModel
from models.errors import InputError

FRAMES_AT_ONCE = 1024  # enough that Python between operations costs little; a GPU takes more


def fit(
    joints: np.ndarray | torch.Tensor,
    fps: float = 20.0,
    body: str | BodyModel | None = None,
    preset: str = "careful",
    prior: str | None = None,
    mean_params: str | None = None,
    solver: SolverName = "lm",
    text: str = "",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> FitResult | list[FitResult]:
    """Fit a body to joints (frames, 22, 3), or clips of equal length (clips, frames, 22, 3), in metres, y up.

    Joint 0 to 21 in SMPL's order, as HumanML3D and MDM have them. Returns one FitResult, or a list for clips.
    Raises InputError for another shape, unit or up axis, and numbers that are not finite.
    """
    array = np.asarray(joints.detach().cpu() if isinstance(joints, torch.Tensor) else joints)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or array.shape[-2] < 22 or not array.size:
        expected = "(frames, 22, 3) or (clips, frames, 22, 3), joints in SMPL's order"
        raise InputError(f"joints has shape {array.shape}; expected {expected}.")
    clips = [check_joints(clip)[0] for clip in array.reshape(-1, *array.shape[-3:])]
    module = SMPLify3D(None if isinstance(body, BodyModel) else body, preset, prior, mean_params, solver)
    if isinstance(body, BodyModel):
        module.body = body
    module.to(device=device, dtype=dtype)
    motions = [Motion(f"clip{i:04d}", "array", joints=clip, fps=fps, text=text) for i, clip in enumerate(clips)]
    size = max(1, FRAMES_AT_ONCE // array.shape[-3]) if torch.device(device).type == "cpu" else len(motions)
    results = [r for i in range(0, len(motions), size) for r in module.predict_step(collate(motions[i : i + size]))]
    return results[0] if array.ndim == 3 else results
