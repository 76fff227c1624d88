"""NAME_smpl_params.npy: MDM's dict of rot6d thetas and mesh, consistent with itself and with betas and transl."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.rotations import axis_angle_to_rot6d

if TYPE_CHECKING:
    from fitting.result import FitResult


def smpl_params(result: "FitResult") -> dict[str, object]:
    """The dict of the file, frames last: L frames, V vertices, F faces, metres, y up, world of the input.

    motion (25, 6, L): thetas and, as row 24, the pelvis position and three zeros; thetas (24, 6, L): rot6d rows,
    root first, without fingers, which vertices alone show; root_translation (3, L): the fitted pelvis in the world;
    faces (F, 3) uint32; vertices (V, 3, L); text; length: L; and what MDM's file lacks: betas (B,), or (L, B) for one
    shape a frame; transl (3, L): SMPL's, which is root_translation minus the rest pelvis of betas; fps; body: name of
    the body that betas belong to; joint_offsets (22, 3) of an adapted skeleton, metres. float32 numpy.
    """
    thetas = _frames_last(axis_angle_to_rot6d(result.smpl_thetas))
    pelvis = _frames_last(result.joints()[:, 0])
    row24 = np.concatenate([pelvis, np.zeros_like(pelvis)])[None]
    offsets = result.body.joint_offsets
    bones = {} if offsets is None else {"joint_offsets": offsets.numpy(force=True).astype(np.float32)}
    return {
        "motion": np.concatenate([thetas, row24]),
        "thetas": thetas,
        "root_translation": pelvis,
        "faces": result.body.faces.numpy(force=True).astype(np.uint32),
        "vertices": _frames_last(result.vertices()),
        "text": result.motion.text,
        "length": np.int64(result.length),
        "betas": result.betas.numpy(force=True).astype(np.float32),
        "transl": _frames_last(result.transl),
        "fps": float(result.fps),
        "body": result.body.name,
        **bones,
    }


def write_smpl_params(result: "FitResult", path: Path) -> None:
    """One dict in a .npy, as MDM stores it: a pickle, so that np.load wants allow_pickle=True and then [()] or .item().

    numpy 2 pickles name the module numpy._core, which numpy before 1.26 cannot import; numpy.core works in all of them.
    Protocol 3 has the name as a line of text, which can be replaced.
    """
    content = pickle.dumps(np.array(smpl_params(result), dtype=object), protocol=3)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def _frames_last(values) -> np.ndarray:
    """(L, ...) tensor -> (..., L) float32, or float64 for places far from the origin, contiguous."""
    dtype = np.float64 if values.dtype == torch.float64 else np.float32
    return np.ascontiguousarray(np.moveaxis(values.numpy(force=True), 0, -1), dtype=dtype)
