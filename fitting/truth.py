"""Motion with known parameters, in batches: what a fit is tuned on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fitting.recordings import stands_along_z
from models.anatomy import AXES_FLIPPED_BY_MIRROR, mirrored
from models.body import BodyModel
from models.errors import InputError
from models.keyed_takes import take
from models.parameters import Parameters, read_parameters
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

FPS = 20.0
KEYED_TAKES = 3_000_000  # the first seed, far from those that motion models are trained and measured on
LONGEST_KEYED = 100  # frames of a window: most performances last two to nine seconds
PEOPLE = 0.8  # standard deviation of keyed people's betas


@dataclass
class Truth:
    """Clips of equal length: thetas (clips, frames, 24, 3), betas (clips, B), transl (clips, frames, 3); float64.

    noise (clips, frames, 22, 3): metres that are added to the joints which a fit is given.
    """

    thetas: Tensor
    betas: Tensor
    transl: Tensor
    noise: Tensor

    @property
    def length(self) -> int:
        return self.thetas.shape[1]

    def frames(self, rows: slice) -> "Truth":
        return Truth(self.thetas[:, rows], self.betas, self.transl[:, rows], self.noise[:, rows])

    def joints(self, body: BodyModel) -> Tensor:
        """(clips, frames, 22, 3) metres."""
        return body.joints(*self._to(body))[:, :, :22]

    def observed(self, body: BodyModel) -> Tensor:
        """What a fit is given: the joints with their noise."""
        joints = self.joints(body)
        return joints + self.noise.to(joints)

    def vertices(self, body: BodyModel) -> Tensor:
        """(clips, frames, V, 3) metres."""
        return body.vertices(*self._to(body))

    def _to(self, body: BodyModel) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(x.to(body.v_template) for x in (self.betas[:, None], self.thetas, self.transl))


def clip_of(thetas: Tensor, betas: Tensor, transl: Tensor) -> Truth:
    """One clip from thetas (L, 24, 3), betas (B,), transl (L, 3), as its joints are."""
    thetas, betas, transl = (x.double()[None] for x in (thetas, betas, transl))
    return Truth(thetas, betas, transl, thetas.new_zeros(1, thetas.shape[1], 22, 3))


def as_truth(clips: Sequence[Truth]) -> Truth:
    """Clips of one length in one batch."""
    return Truth(*(torch.cat([getattr(clip, field.name) for clip in clips]) for field in fields(Truth)))


def read_truth(path: str, body: BodyModel, up: str = "y") -> Truth:
    """One clip from a file of models/parameters.py, y up. up: the file's axis, "y" or "z".

    Every n-th frame of it, so that there are about 20 a second, and taken for 20. Raises InputError for a file that
    holds no parameters, and for a person who stands along z then.
    """
    clip = of_parameters(read_parameters(path).every(FPS), body, up)
    if stands_along_z(clip.joints(body)[0]):
        raise InputError(wrong_up(path, up))
    return clip


def wrong_up(name: str | Path, up: str) -> str:
    """What is said of a file whose person stands along z."""
    return (
        f"{name}: the person stands along z, read with {up} up. AMASS' files and NAME_amass.npz of a fit have z up, "
        "AIST++'s and NAME.npz of a fit y; --data.up says which"
    )


def of_parameters(motion: Parameters, body: BodyModel, up: str = "y") -> Truth:
    """The motion as a clip, betas cut or filled with zeros to the body's."""
    betas = np.zeros(body.num_betas)
    betas[: len(motion.betas)] = motion.betas[: len(betas)]
    thetas, betas, transl = (torch.from_numpy(x.copy()) for x in (motion.thetas, betas, motion.transl))
    if up == "z":
        thetas[:, 0], transl = stood_up(thetas[:, 0], transl, body.rest_joints(betas.to(body.v_template))[0].double())
    return clip_of(thetas, betas, transl)


def stood_up(orient: Tensor, transl: Tensor, pelvis: Tensor) -> tuple[Tensor, Tensor]:
    """global_orient (L, 3) and transl (L, 3) with z up -> the same with y up: (x, y, z) -> (x, z, -y).

    pelvis (3,): of the body at rest, about which global_orient turns.
    """
    turn = torch.tensor([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=orient.dtype)
    return matrix_to_axis_angle(turn @ axis_angle_to_matrix(orient)), (transl + pelvis) @ turn.T - pelvis


def keyed_truth(number: int) -> Truth:
    """A performance of the project's own, a person of random shape."""
    motion = take(KEYED_TAKES + number).motion
    betas = PEOPLE * torch.randn(10, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return clip_of(motion.thetas, betas, motion.transl)


def mirrored_motion(thetas: Tensor, transl: Tensor) -> tuple[Tensor, Tensor]:
    """thetas (..., 24, 3) and path (..., 3) of a person who does the same with the other side: a mirror at x = 0."""
    pose = torch.as_tensor(mirrored(thetas[..., 1:, :].flatten(-2).numpy())).unflatten(-1, (23, 3))
    root = thetas[..., :1, :] * torch.as_tensor(AXES_FLIPPED_BY_MIRROR).to(thetas)
    return torch.cat((root, pose.to(root)), -2), transl * transl.new_tensor([-1, 1, 1])


def in_mirror(clip: Truth) -> Truth:
    """A clip of the person who does the same with the other side."""
    thetas, transl = mirrored_motion(clip.thetas, clip.transl)
    return replace(clip, thetas=thetas, transl=transl)


class Windows(Dataset):
    """Random stretches of random clips, half of them in the mirror, half of them noisy.

    noise: the largest deviation, metres. What a number gives depends on (seed, number).
    """

    def __init__(self, clips: Sequence[Truth], frames: int, number: int, noise: float, seed: int):
        self.clips, self.size, self.number, self.noise, self.seed = clips, frames, number, noise, seed

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> Truth:
        """Clips take turns, so that each is seen equally often."""
        random = np.random.default_rng([self.seed, number])
        order = np.random.default_rng([self.seed, number // len(self.clips), 1]).permutation(len(self.clips))
        clip = self.clips[order[number % len(self.clips)]]
        start = random.integers(clip.length - self.size + 1)
        window = clip.frames(slice(start, start + self.size))
        level = self.noise * max(random.uniform(-1, 1), 0)
        window = replace(window, noise=torch.from_numpy(random.normal(0, level, window.noise.shape)))
        return in_mirror(window) if random.random() < 0.5 else window


class TruthData(LightningDataModule):
    """Windows to train on, whole clips to validate on.

    train, val: files of models/parameters.py; keyed, val_keyed: how many of the project's own performances, not
    shorter than a window, besides;
    up: axis of the files that points up, "y" (a fit's npz, AIST++) or "z" (AMASS); frames, clips: of a batch; steps:
    batches of an epoch; noise: metres, the largest deviation of noise on the joints of half the windows. Without val
    files or performances the training's clips are validated on. body: that of the model.
    """

    def __init__(
        self,
        train: Sequence[str] = (),
        val: Sequence[str] = (),
        keyed: int = 0,
        val_keyed: int = 0,
        up: str = "y",
        frames: int = 40,
        clips: int = 4,
        steps: int = 60,
        noise: float = 0.0,
        body: str | None = None,
        seed: int = 0,
    ):
        """Raises InputError where there is nothing to train on, and for numbers that are too small."""
        super().__init__()
        self.save_hyperparameters(logger=False)
        if min(keyed, val_keyed) < 0:
            raise InputError(f"keyed {keyed}, val_keyed {val_keyed}: numbers of performances, at least 0")
        if not train and not keyed:
            raise InputError("nothing to tune on: give files, --data.train '[a.npz, b.npz]', or --data.keyed 40")
        if min(clips, steps) < 1 or frames < 8 or noise < 0 or up not in ("y", "z"):
            sizes = f"clips {clips}, steps {steps}: at least 1; frames {frames}: at least 8; noise {noise}: at least 0"
            raise InputError(f"{sizes}; up {up!r}: y or z")
        if (keyed or val_keyed) and frames > LONGEST_KEYED:
            raise InputError(f"frames {frames}: few of the performances last as long; at most {LONGEST_KEYED}")
        self.files, self.keyed = {"train": train, "val": val}, {"train": keyed, "val": val_keyed}
        self.up, self.frames, self.batch, self.steps = up, frames, clips, steps
        self.noise, self.body, self.seed = noise, body, seed

    def setup(self, stage: str | None = None) -> None:
        """Read the files, perform the takes. Raises InputError for a training clip shorter than a window."""
        body = BodyModel.load(self.body)
        performed = (clip for clip in map(keyed_truth, count()) if clip.length >= self.frames)
        self.clips = {
            use: [read_truth(path, body, self.up) for path in self.files[use]]
            + list(islice(performed, self.keyed[use]))
            for use in ("train", "val")
        }
        shortest = min(clip.length for clip in self.clips["train"])
        if shortest < self.frames:
            raise InputError(
                f"a clip has {shortest} frames at 20 a second, less than a window: --data.frames {shortest}"
            )
        self.clips["val"] = self.clips["val"] or self.clips["train"]

    def sources(self, use: str) -> str:
        """What the clips of a use, "train" or "val", are, in words."""
        names, keyed = [Path(path).name for path in self.files[use]], self.keyed[use]
        said = [f"{len(names)} files ({', '.join(names)})"] if names else []
        return " and ".join(said + ([f"{keyed} performances of the project's own"] if keyed else []))

    def train_dataloader(self) -> DataLoader:
        windows = Windows(self.clips["train"], self.frames, self.steps * self.batch, self.noise, self.seed)
        return DataLoader(windows, batch_size=self.batch, collate_fn=as_truth)

    def val_dataloader(self) -> DataLoader:
        """One batch: the list of all clips."""
        return DataLoader(self.clips["val"], batch_size=len(self.clips["val"]), collate_fn=list)
