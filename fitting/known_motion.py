"""Motion with known parameters that the learned start is trained on: performed, read from files, and fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fitting.recordings import find_recordings
from models.keyed import MOTIONS, sample
from models.keyed_takes import take
from models.parameters import read_parameters

HANDS, UNSEEN = (20, 21, 22, 23), (10, 11, 15, 20, 21, 22, 23)  # what was written by hand; what 22 joints do not show


@dataclass
class KnownMotion:
    """thetas (L, 24, 3) axis-angle; path of the pelvis (L, 3) metres, y up; fps.

    unknown: joints whose rotation is nobody's: hands that were written once for all, hands, feet and head that a
    prior completed. They are taken as unturned, for want of anything better.
    """

    thetas: Tensor
    path: Tensor
    fps: float
    unknown: tuple[int, ...] = ()

    def taken(self) -> Tensor:
        """thetas (L, 24, 3), those that nobody knows zero."""
        thetas = self.thetas.clone()
        thetas[:, list(self.unknown)] = 0
        return thetas


def chances(kinds: Sequence[Sequence[KnownMotion]]) -> np.ndarray:
    """How often each motion is drawn, one kind behind the other: kinds alike, those of one by their length in time."""
    seconds = [np.array([len(motion.thetas) / motion.fps for motion in kind]) for kind in kinds]
    return np.concatenate([part / part.sum() for part in seconds]) / len(kinds)


def keyed_motions(first: int, takes: int, variations: int) -> list[KnownMotion]:
    """Performed sentences of the seeds from `first` on, and so many variations of every keyed motion."""
    motions = [take(first + i).motion for i in range(takes)]
    motions += [sample(name, first + i) for name in MOTIONS for i in range(variations)]
    return [KnownMotion(motion.thetas, motion.transl, motion.fps, HANDS) for motion in motions]


def read_motions(sources: Sequence[str], unknown: tuple[int, ...] = ()) -> list[KnownMotion]:
    """Motion of files of SMPL parameters, y up. Raises InputError for files that hold none, or no frame rate."""
    found = [read_parameters(path) for path in find_recordings(sources)]
    return [
        KnownMotion(torch.as_tensor(m.thetas).float(), torch.as_tensor(m.transl).float(), m.fps, unknown) for m in found
    ]
