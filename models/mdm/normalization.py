"""Mean.npy and Std.npy of normalised motion features: found, told from the evaluator's, applied."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.mdm.features import JOINTS_BY_WIDTH, denormalize, local_rotations
from models.safe_pickle import load_npy

EVALUATOR = (
    "these are the evaluator's statistics (t2m_mean.npy, t2m_std.npy): their std of root and foot contacts is 25 times "
    "smaller, so the root would hardly move. The models are trained with Mean.npy and Std.npy of dataset/HumanML3D"
)


def looks_normalized(features: Tensor) -> bool:
    """Whether features (L, 263 or 251) were normalised: are the axes in their rotations far from length one?

    The mean distance from one is 0 for real motion, up to 0.22 for noisy generated motion, and 0.45 or more normalised.
    """
    lengths = local_rotations(features).unflatten(-1, (2, 3)).norm(dim=-1)
    return bool((lengths - 1).abs().mean() > 0.33)


@dataclass
class Statistics:
    """Mean and standard deviation of the training set's features, float32 (263,) or (251,) each."""

    mean: Tensor
    std: Tensor

    @classmethod
    def load(cls, folder: str | Path) -> "Statistics":
        """Mean.npy and Std.npy of a folder; InputError when they are missing, no statistics, or the evaluator's."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; it should hold Mean.npy and Std.npy")
        names = sorted(path.name for path in folder.glob("*.npy"))
        if not {"Mean.npy", "Std.npy"} <= set(names):
            found = f"no Mean.npy and Std.npy in it, but {', '.join(names[:8]) or 'no .npy at all'}"
            why = f"; {EVALUATOR}" if {"t2m_mean.npy", "t2m_std.npy"} & set(names) else ""
            raise InputError(f"{folder}: {found}{why}")
        mean, std = (_read(folder / name) for name in ("Mean.npy", "Std.npy"))
        if mean.shape != std.shape or not (std > 0).all():
            found = f"Mean.npy has {len(mean)} numbers, Std.npy {len(std)}, the smallest {std.min():g}"
            raise InputError(f"{folder}: {found}; expected as many of both, and every Std above 0")
        if std[:3].max() < 0.003 and std[-4:].mean() < 0.1:
            raise InputError(f"{folder}: {EVALUATOR}")
        return cls(torch.from_numpy(mean), torch.from_numpy(std))

    @classmethod
    def of(cls, clips: Iterable[Tensor]) -> "Statistics":
        """Of features (L, 263 or 251) of a training set. As in HumanML3D's, std is averaged over each kind of channel.

        What hardly changes is not magnified: no std is below 0.001, none of the foot contacts below 0.1.
        """
        count, total, squares = 0, 0.0, 0.0
        for clip in clips:
            clip = clip.double()
            count, total, squares = count + len(clip), total + clip.sum(0), squares + clip.square().sum(0)
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        bones = JOINTS_BY_WIDTH[len(mean)] - 1
        kinds = std.split((1, 2, 1, 3 * bones, 6 * bones, 3 * bones + 3, 4))
        floors = (0.001,) * 6 + (0.1,)
        std = torch.cat(
            [kind.mean().clamp(min=floor).expand_as(kind) for kind, floor in zip(kinds, floors, strict=True)]
        )
        return cls(mean.float(), std.float())

    def save(self, folder: Path) -> None:
        """Write Mean.npy and Std.npy."""
        np.save(folder / "Mean.npy", self.mean.numpy())
        np.save(folder / "Std.npy", self.std.numpy())

    def normalize(self, features: Tensor) -> Tensor:
        """Features (..., F) -> (x - mean) / std, what networks are trained on."""
        return (features - self.mean) / self.std

    def denormalize(self, features: Tensor) -> Tensor:
        """(..., F) -> (..., F) features in metres and radians."""
        if features.shape[-1] != len(self.mean):
            raise InputError(f"Mean.npy has {len(self.mean)} numbers a frame, these features {features.shape[-1]}")
        return denormalize(features, self.mean, self.std)


def _read(path: Path) -> np.ndarray:
    array = load_npy(path)
    found = f"{array.shape} {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.shape not in {(263,), (251,)}:
        raise InputError(f"{path}: expected 263 numbers (HumanML3D) or 251 (KIT-ML); found {found}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: NaN or Inf in it")
    return array.astype(np.float32)
