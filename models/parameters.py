"""SMPL parameters from files: AMASS-style npz (a fit's NAME.npz too) and AIST++ pkl."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from models.safe_pickle import load_pickle

NAMES = {"poses": ("poses", "smpl_poses"), "trans": ("trans", "smpl_trans")}
RATES = ("mocap_framerate", "mocap_frame_rate", "fps")
AIST_RATE = 60.0  # its files do not say
SMPL, FINGERED = 72, (156, 165)  # numbers a frame: SMPL; SMPL-H and SMPL-X, whose first 66 are SMPL's
EXPECTED = (
    "Expected an AMASS-style .npz (poses (L, 72), (L, 156) or (L, 165), trans (L, 3), betas, mocap_framerate), the "
    "NAME.npz of a fit, or a .pkl of AIST++ (smpl_poses, smpl_trans, smpl_scaling)."
)


@dataclass(frozen=True)
class Parameters:
    """A motion of L frames, float64, axes as in the file.

    thetas (L, 24, 3) axis-angle in radians, root first; betas (B,); transl (L, 3) metres.
    """

    name: str
    thetas: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    fps: float

    def every(self, fps: float) -> "Parameters":
        """Every n-th frame, so that about `fps` frames a second are left."""
        stride = max(round(self.fps / fps), 1)
        return Parameters(self.name, self.thetas[::stride], self.betas, self.transl[::stride], self.fps / stride)


def read_parameters(path: str | Path) -> Parameters:
    """The motion in a file; nothing in it is executed.

    Hands of SMPL-H and SMPL-X are left flat; betas for each frame are averaged; without betas they are zero. AIST++'s
    translation becomes metres. Raises InputError for a file that is missing or holds something else.
    """
    path = Path(path)
    arrays = _open(path)
    poses, transl = (_floats(path, arrays, _name(arrays, NAMES[kind])) for kind in ("poses", "trans"))
    transl = transl / (_number(path, arrays, "smpl_scaling") if "smpl_scaling" in arrays else 1.0)
    if poses.ndim != 2 or not len(poses) or poses.shape[1] not in (SMPL, *FINGERED) or transl.shape != (len(poses), 3):
        raise InputError(f"{path}: poses are {poses.shape}, translations {transl.shape}. {EXPECTED}")
    thetas = np.zeros((len(poses), 24, 3))
    shared = 24 if poses.shape[1] == SMPL else 22
    thetas[:, :shared] = poses[:, : 3 * shared].reshape(len(poses), shared, 3)
    betas = _floats(path, arrays, "betas") if "betas" in arrays else np.zeros(10)
    if betas.ndim not in (1, 2) or not betas.size:
        raise InputError(f"{path}: betas are {betas.shape}, expected (B,), or (L, B) of each frame. {EXPECTED}")
    return Parameters(path.stem, thetas, betas.reshape(-1, betas.shape[-1]).mean(0), transl, _rate(path, arrays))


def _open(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. {EXPECTED}")
    if path.suffix.lower() == ".pkl":
        content = load_pickle(path)
    else:
        try:
            with path.open("rb") as stream:
                file = np.load(stream, allow_pickle=False)
                names = {*sum(NAMES.values(), ()), *RATES, "betas", "smpl_scaling"}
                content = {name: file[name] for name in names & set(getattr(file, "files", ()))}  # an npy has none
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: cannot be read as an npz of plain arrays ({error}). {EXPECTED}") from None
    if not isinstance(content, Mapping) or not all(any(name in content for name in names) for names in NAMES.values()):
        raise InputError(f"{path}: no SMPL parameters are in it. {EXPECTED}")
    return content


def _name(arrays: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that is there."""
    return next((name for name in names if name in arrays), None)


def _floats(path: Path, arrays: Mapping[str, Any], name: str) -> np.ndarray:
    """The array of that name, any shape, float64."""
    array = np.asarray(arrays[name])
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{path}: `{name}` holds something else than finite numbers. {EXPECTED}")
    return array.astype(np.float64)


def _rate(path: Path, arrays: Mapping[str, Any]) -> float:
    """Frames a second."""
    name = _name(arrays, RATES)
    if name is not None:
        return _number(path, arrays, name)
    if "smpl_scaling" in arrays:
        return AIST_RATE
    raise InputError(f"{path}: does not say its frames a second, mocap_framerate. {EXPECTED}")


def _number(path: Path, arrays: Mapping[str, Any], name: str) -> float:
    """The number above 0 of that name."""
    array = np.asarray(arrays[name])
    if array.size != 1 or array.dtype.kind not in "fiu" or not 0 < array.item() < np.inf:
        raise InputError(f"{path}: `{name}` should be a number above 0; it is {array!r:.80}.")
    return float(array.item())
