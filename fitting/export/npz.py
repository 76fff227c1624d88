"""NAME.npz: the fit as AMASS stores motion, with the joints it was fitted to beside it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from fitting.result import FitResult


def amass(result: "FitResult") -> dict[str, np.ndarray]:
    """The arrays of the file: L frames, metres, radians, y up (AMASS' own recordings are z up), world of the input.

    poses (L, 72): axis-angle of the 24 joints, root first, or (L, 156) of SMPL-H's 52 joints and (L, 165) of SMPL-X's
    55 where fingers were fitted; trans (L, 3): SMPL's transl, so that the pelvis is the rest
    pelvis of betas + trans; betas (B,), or (L, B) for one shape a frame; gender; mocap_framerate and mocap_frame_rate:
    both spellings are in use; joints (L, 22, 3) of the fit; text; body: name of the body that betas belong to. What it
    was fitted to, absent when the input was rotations: joints_input (L, J, 3), NaN where nothing was given; filled
    (L, J): true where the fit did not see the joint and filled it in; shows (J,): what of the body each joint shows;
    skeleton: their name. Of an adapted skeleton also joint_offsets (22, 3): metres from what betas alone give;
    bone_factors (21,) and bone_names (21,). float32, but float64 for places far from the origin. No object arrays.
    """
    place = np.float64 if result.transl.dtype == torch.float64 else np.float32
    arrays = {
        "poses": result.thetas.flatten(-2).numpy(force=True).astype(np.float32),
        "trans": result.transl.numpy(force=True).astype(place),
        "betas": result.betas.numpy(force=True).astype(np.float32),
        "joints": result.joints().numpy(force=True).astype(place),
    }
    motion = result.motion
    if motion.joints is not None:
        arrays |= {"joints_input": motion.joints.astype(place), "filled": ~motion.seen}
        arrays |= {"shows": np.array(motion.skeleton.shows), "skeleton": np.array(motion.skeleton.name)}
    rates = dict.fromkeys(("mocap_framerate", "mocap_frame_rate"), np.array(float(result.fps)))
    words = {"gender": "neutral", "text": motion.text, "body": result.body.name}
    return arrays | rates | {name: np.array(word) for name, word in words.items()} | _bones(result)


def _bones(result: "FitResult") -> dict[str, np.ndarray]:
    factors = result.bone_factors
    if factors is None:
        return {}
    lengths = np.array(list(factors.values()), dtype=np.float32)
    offsets = result.body.joint_offsets.numpy(force=True).astype(np.float32)
    return {"joint_offsets": offsets, "bone_factors": lengths, "bone_names": np.array(list(factors))}


def write_npz(result: "FitResult", path: Path) -> None:
    """The arrays of `amass` in one compressed file that np.load reads without allow_pickle."""
    np.savez_compressed(path, **amass(result))
