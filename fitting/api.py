"""The fit as a function on arrays, for notebooks."""

import numpy as np
import torch

from fitting.checks import check_fps, check_joints
from fitting.data import Motion, collate
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from fitting.solver import SolverName
from models.body import BodyModel
from models.errors import InputError

FRAMES_AT_ONCE = 2048  # enough that Python between operations costs little; a GPU takes more


def fit(
    joints: np.ndarray | torch.Tensor,
    fps: float = 20.0,
    body: str | BodyModel | None = None,
    preset: str = "careful",
    prior: str | None = None,
    mean_params: str | None = None,
    solver: SolverName = "lm",
    adapt_skeleton: bool = False,
    text: str = "",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    confidence: np.ndarray | torch.Tensor | None = None,
    skeleton: str | None = None,
    up: str | None = None,
    floor: float | None = None,
    start: str = "geometric",
) -> FitResult | list[FitResult]:
    """Fit a body to joints (frames, 22, 3), or clips of equal length (clips, frames, 22, 3), in metres, y up.

    Joint 0 to 21 in SMPL's order, as HumanML3D and MDM have them, or those of another skeleton, by name or YAML file;
    NaN = unseen. confidence: (..., frames, J) from 0, unseen, to 1; up: another axis that points up. adapt_skeleton:
    for people whose bones no betas give, such as raw motion capture; result.body then has the clip's bones. floor: its
    height along the up axis, metres, where the clip's feet do not tell. start: "geometric", "learned" or the file of a
    training (docs/learned-start.md). Returns one FitResult, or a list for clips.
    Raises InputError for another shape, unit or up axis, infinite numbers, a floor with a preset that has no terms on
    feet, and where too little is seen.
    """
    array = _array(joints)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or not array.size or (array.shape[-2] < 22 and not skeleton):
        expected = "(frames, 22, 3) or (clips, frames, 22, 3), joints in SMPL's order"
        raise InputError(f"joints has shape {array.shape}; expected {expected}, or another skeleton by its name.")
    sure = None if confidence is None else _array(confidence)
    if sure is not None and sure.shape != array.shape[:-1]:
        raise InputError(f"confidence has shape {sure.shape}; expected {array.shape[:-1]}, one number a joint.")
    check_fps(fps)
    clips = array.reshape(-1, *array.shape[-3:])
    given = [None] * len(clips) if sure is None else sure.reshape(clips.shape[:-1])
    checked = [check_joints(clip, skeleton, up, own) for clip, own in zip(clips, given, strict=True)]
    module = SMPLify3D(
        None if isinstance(body, BodyModel) else body, preset, prior, mean_params, solver, adapt_skeleton, floor, start
    )
    if isinstance(body, BodyModel):
        module.body = body
    module.to(device=device, dtype=dtype)
    motions = [
        Motion(f"clip{i:04d}", "array", joints=clip.joints, confidence=clip.confidence, fps=fps, text=text,
               skeleton=clip.skeleton, notes=clip.notes)
        for i, clip in enumerate(checked)
    ]  # fmt: skip
    size = max(1, FRAMES_AT_ONCE // array.shape[-3]) if torch.device(device).type == "cpu" else len(motions)
    results = [r for i in range(0, len(motions), size) for r in module.predict_step(collate(motions[i : i + size]))]
    return results[0] if array.ndim == 3 else results


def _array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
