"""Motion as SMPL's 22 joints, for `thetafit prepare`: BVH, SMPL parameters, and what `thetafit fit` reads."""

import glob
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fitting.data import load_motions
from fitting.formats import FPS_KEYS
from fitting.sources import STATISTICS
from models.body import BodyModel
from models.bvh import read_bvh
from models.bvh_joints import body_joints
from models.errors import InputError
from models.safe_pickle import load_pickle

SUFFIXES = (".bvh", ".npy", ".npz", ".pkl")
POSES, PLACES = ("poses", "smpl_poses", "thetas"), ("trans", "smpl_trans", "transl")
BODY = 22
SLOWEST, FASTEST = 1, 1000  # frames a second
SMPL_COUNTS = (22, 24, 52, 55)  # of joints, where the first 22 are SMPL's


@dataclass
class Recording:
    """joints (L, 22, 3) float64, y up, in any unit and place; fps; what the file says of it, or nothing."""

    name: str
    joints: Tensor
    fps: float
    text: str = ""


@dataclass
class Reader:
    """How files are read. fps, up, stats: as for `thetafit fit`; body: what SMPL parameters move."""

    body: BodyModel
    fps: float | None = None
    up: str = "y"
    stats: str | None = None

    def read(self, path: Path) -> tuple[list[Recording], list[str]]:
        """The recordings in a file, and why others in it cannot be used.

        Raises InputError when there is none, or somebody stands along another axis.
        """
        if path.suffix.lower() == ".bvh":
            bvh = read_bvh(path)
            found = [self._recording(path.stem, body_joints(bvh), bvh.fps)]
        elif (arrays := _parameters(path)) is not None:
            found = [self._of_parameters(path, arrays)]
        else:
            return self._of_motions(path)
        for recording in found:
            _check_stands(recording.joints, self.up)
        return found, []

    def _recording(self, name: str, joints: Any, fps: float | None) -> Recording:
        """fps: what the file says."""
        fps = fps if self.fps is None else self.fps
        if not fps or not SLOWEST <= fps <= FASTEST:
            raise InputError(f"{fps or 'no number of'} frames a second; expected {SLOWEST} to {FASTEST}: give --fps")
        joints = torch.as_tensor(joints, dtype=torch.float64)
        if self.up == "z":  # (x, y, z) -> (x, z, -y)
            joints = joints[..., [0, 2, 1]] * joints.new_tensor((1, 1, -1))
        return Recording(name, joints, fps)

    def _of_parameters(self, path: Path, arrays: Mapping[str, Any]) -> Recording:
        """SMPL's, SMPL-H's or SMPL-X's poses and translation: AMASS, AIST++, a fit's NAME.npz."""
        poses = _numbers(arrays, POSES, lambda shape: len(shape) == 2 and shape[1] >= 3 * BODY)
        places = _numbers(arrays, PLACES, lambda shape: shape == (len(poses), 3))
        rate = next((np.asarray(arrays[key]) for key in FPS_KEYS if key in arrays), np.zeros(1))
        fps = rate.item() if rate.size == 1 and rate.dtype.kind in "fiu" else None
        places = places / np.asarray(arrays.get("smpl_scaling", 1.0), np.float64)  # AIST++ has centimetres
        return self._recording(path.stem, self._joints(poses[:, : 3 * BODY].reshape(-1, BODY, 3), places), fps)

    def _joints(self, thetas: np.ndarray, transl: np.ndarray) -> Tensor:
        """(L, 22, 3) of thetas (L, 22, 3) and transl (L, 3) on the body of mean shape; bones are replaced later."""
        thetas = torch.nn.functional.pad(torch.as_tensor(thetas, dtype=torch.float32), (0, 0, 0, 24 - BODY))
        transl = torch.as_tensor(transl, dtype=torch.float32)
        return self.body.joints(torch.zeros(self.body.num_betas), thetas, transl)[:, :BODY]

    def _of_motions(self, path: Path) -> tuple[list[Recording], list[str]]:
        motions, failures = load_motions(path, fps=self.fps, up=self.up, stats=self.stats)
        recordings = []
        for motion in motions:
            joints = motion.joints
            if joints is None:
                pelvis = self.body.rest_joints(torch.zeros(self.body.num_betas))[0].numpy()
                joints = self._joints(motion.thetas[:, :BODY], motion.root - pelvis)
            if joints.shape[1] not in SMPL_COUNTS:
                raise InputError(
                    f"its {joints.shape[1]} joints are not SMPL's: run thetafit fit on it and prepare the NAME.npz"
                )
            joints = torch.as_tensor(joints[:, :BODY], dtype=torch.float64)
            recordings.append(Recording(motion.name, joints, motion.fps, motion.text))
        return recordings, [failure.message for failure in failures]


def find_recordings(sources: Iterable[str]) -> list[Path]:
    """The files that sources, files, folders and globs, stand for. Raises InputError for one that has none."""
    found: dict[Path, None] = {}
    for source in sources:
        paths = [Path(name) for name in sorted(glob.glob(source, recursive=True))] or [Path(source)]
        for path in paths:
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            files = [file for file in inside if file.suffix.lower() in SUFFIXES and file.name.lower() not in STATISTICS]
            if not files or not path.exists():
                what = "no motion in it" if path.is_dir() else "no such file" if not path.exists() else "no motion file"
                raise InputError(f"{source}: {what}; expected are {', '.join(SUFFIXES)} files, or folders of them")
            found |= dict.fromkeys(files)
    return list(found)


def _parameters(path: Path) -> Mapping[str, Any] | None:
    """The arrays of a file that holds SMPL parameters; None for a file of another kind."""
    if path.suffix.lower() == ".pkl":
        content = load_pickle(path)
        return content if isinstance(content, Mapping) and set(POSES) & set(content) else None
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if not (set(POSES) & set(file.files) and set(PLACES) & set(file.files)):
                return None
            return {key: file[key] for key in (*POSES, *PLACES, *FPS_KEYS) if key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot be read as an npz of plain arrays ({error})") from None


def _numbers(arrays: Mapping[str, Any], names: tuple[str, ...], fits: Any) -> np.ndarray:
    """The first array of these names, finite and of a shape that fits."""
    name = next((name for name in names if name in arrays), None)
    if name is None:
        raise InputError(f"none of {', '.join(names)} is in it; it has {', '.join(map(str, arrays))}")
    array = np.asarray(arrays[name])
    if array.dtype.kind != "f" or not fits(array.shape) or not len(array):
        raise InputError(f"`{name}` is {array.shape} {array.dtype}; expected poses (L, >= 66) and translations (L, 3)")
    if not np.isfinite(array).all():
        raise InputError(
            f"`{name}` has numbers that are not finite, first in frame {np.argwhere(~np.isfinite(array))[0][0]}"
        )
    return array.astype(np.float64)


def stands_along_z(joints: Tensor) -> bool:
    """Whether in most frames of joints (L, 22, 3), y up, the back lies along z, as in files with z up."""
    back = torch.nn.functional.normalize(joints[:, 12] - joints[:, 0], dim=-1).median(0).values
    return bool(back[2].abs() > 0.8 and back[1].abs() < 0.4)


def _check_stands(joints: Tensor, up: str) -> None:
    """Raises InputError for somebody who stands along z."""
    if stands_along_z(joints):
        other = "z" if up == "y" else "y"
        raise InputError(
            f"the person stands along z with --up {up}; if that is not how it lies down, give --up {other}"
        )
