"""Motion with known parameters that the learned start is trained on: performed, read from files, and fits."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitting.recordings import find_recordings, stands_along_z
from fitting.truth import of_parameters, wrong_up
from models.body import BodyModel
from models.errors import InputError
from models.keyed import MOTIONS, sample
from models.keyed_takes import take
from models.parameters import read_parameters

log = logging.getLogger("thetafit")
FASTEST = 30.0  # frames a second that are kept of a file
SUFFIXES = (".npz", ".pkl")
NAMED = 5  # files that a line of the log names
HANDS, UNSEEN = (20, 21, 22, 23), (10, 11, 15, 20, 21, 22, 23)  # what was written by hand; what 22 joints do not show


@dataclass
class KnownMotion:
    """thetas (L, 24, 3) axis-angle; path of the pelvis (L, 3) metres, y up; fps, at most about FASTEST.

    unknown: joints whose rotation is nobody's: hands that were written once for all, hands, feet and head that a
    prior completed. They are taken as unturned, for want of anything better.
    """

    thetas: Tensor
    path: Tensor
    fps: float
    unknown: tuple[int, ...] = ()

    def taken(self, rows: slice) -> Tensor:
        """thetas (frames, 24, 3) of some frames, those of joints that nobody knows zero."""
        thetas = self.thetas[rows].clone()
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


def read_motions(
    sources: Sequence[str], body: BodyModel, up: str = "y", unknown: tuple[int, ...] = ()
) -> list[KnownMotion]:
    """Motion of files of SMPL parameters, at FASTEST frames a second at most. up: the files' axis, "y" or "z".

    Of folders and globs what holds no parameters, or somebody along z, is left out and named in the log. Raises
    InputError for such a file given by its name, for a source that holds nothing else, and where most stand along z.
    """
    return [motion for source in sources for motion in _of_source(source, body, up, unknown)]


def _of_source(source: str, body: BodyModel, up: str, unknown: tuple[int, ...]) -> list[KnownMotion]:
    """The motion of one source; what is left out of it is named in the log."""
    found, left_out, paths = {}, {}, find_recordings([source])
    if not Path(source).is_file():
        paths = [path for path in paths if path.suffix.lower() in SUFFIXES]
    for path in paths:
        try:
            found[path] = _read(path, body, up, unknown)
        except InputError as error:
            left_out[path] = str(error)
    lying = [path for path, motion in found.items() if _lies(motion, body)]
    if 2 * len(lying) > len(found):
        raise InputError(wrong_up(source, up))
    left_out |= {path: wrong_up(path, up) for path in lying}
    if len(left_out) == len(paths):
        raise InputError(next(iter(left_out.values()), f"{source}: no {' or '.join(SUFFIXES)} is in it"))
    if left_out:
        _say(source, len(paths), left_out)
    return [motion for path, motion in found.items() if path not in left_out]


def _read(path: Path, body: BodyModel, up: str, unknown: tuple[int, ...]) -> KnownMotion:
    parameters = read_parameters(path).every(FASTEST)
    clip = of_parameters(parameters, body, up)
    return KnownMotion(clip.thetas[0].float(), clip.transl[0].float(), parameters.fps, unknown)


def _lies(motion: KnownMotion, body: BodyModel) -> bool:
    """Whether somebody stands along z, by one frame a second."""
    some = slice(None, None, max(round(motion.fps), 1))
    return stands_along_z(body.joints(torch.zeros(body.num_betas), motion.thetas[some], motion.path[some]))


def _say(source: str, files: int, left_out: dict[Path, str]) -> None:
    """Log which files are left out, and why the first is."""
    names = ", ".join(map(str, [*left_out][:NAMED])) + (", ..." if len(left_out) > NAMED else "")
    reason = next(iter(left_out.values()))
    log.warning("%s: %d of %d files are left out: %s. The first: %s", source, len(left_out), files, names, reason)
