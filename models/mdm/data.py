"""Training data for MDM: crops of captioned clips, normalised, in batches. For the folder's layout see clips.py."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from models.errors import InputError
from models.mdm.clips import LIMITS, Caption, Entry, entries, read_clips, read_names, usable
from models.mdm.normalization import Statistics

log = logging.getLogger("thetafit")
FRAMES = 196  # of every batch; shorter crops are padded
UNIT = 4  # lengths of crops are multiples of it


@dataclass
class TextMotion:
    """One crop: motion (length, F) normalised features, its caption, and the clip it is from."""

    motion: Tensor
    caption: Caption
    clip: str


@dataclass
class TextMotionBatch:
    """B crops. motion (B, T, F) normalised, zero where mask (B, T) is False; lengths (B,) valid frames.

    texts: a caption each; tokens: its tagged words, for the evaluators; clips: names. prefix (B, context, F): the
    frames before, for a model that continues motion, else None.
    """

    motion: Tensor
    mask: Tensor
    lengths: Tensor
    texts: list[str]
    tokens: list[tuple[str, ...]]
    clips: list[str]
    prefix: Tensor | None = None


class TextMotionCrops(Dataset):
    """Crops of one split's entries. What is drawn for an entry depends on (seed, epoch, entry) alone."""

    def __init__(self, folder: Path, found: Sequence[Entry], statistics: Statistics, window: int = 0, seed: int = 0):
        """window: frames of every crop; 0: as the reference draws them, up to 196."""
        self.folder, self.statistics, self.window, self.seed = folder, statistics, window, seed
        self.entries = found

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: tuple[int, int]) -> TextMotion:
        """key: (epoch, entry)."""
        epoch, i = key
        entry, random = self.entries[i], np.random.default_rng((self.seed, epoch, i))
        caption = entry.captions[random.integers(len(entry.captions))]
        length = self.window or crop_length(entry.length, random)
        first = entry.first + random.integers(entry.length - length + 1)
        frames = np.load(self.folder / "new_joint_vecs" / f"{entry.clip}.npy", mmap_mode="r", allow_pickle=False)
        motion = torch.from_numpy(frames[first : first + length].astype(np.float32))
        return TextMotion(self.statistics.normalize(motion), caption, entry.clip)


def crop_length(frames: int, random: np.random.Generator) -> int:
    """The entry's length in whole units of four frames, one time in three a unit less."""
    return (frames // UNIT - int(random.random() < 1 / 3)) * UNIT


def collate(crops: Sequence[TextMotion], context: int = 0) -> TextMotionBatch:
    """Pad crops to 196 frames; or, of crops of one length, split the first `context` frames off as the prefix."""
    prefix = torch.stack([crop.motion[:context] for crop in crops]) if context else None
    motions = [crop.motion[context:] for crop in crops]
    lengths = torch.tensor([len(motion) for motion in motions])
    batch = torch.zeros(len(crops), lengths[0] if context else FRAMES, motions[0].shape[1])
    for row, motion in zip(batch, motions, strict=True):
        row[: len(motion)] = motion
    mask = torch.arange(batch.shape[1]) < lengths[:, None]
    texts, tokens = [crop.caption.text for crop in crops], [crop.caption.tokens for crop in crops]
    return TextMotionBatch(batch, mask, lengths, texts, tokens, [crop.clip for crop in crops], prefix)


class EpochSampler(DistributedSampler):
    """(epoch, entry) pairs; Lightning tells it the epoch. `skip`: how many of the next pass are left out."""

    skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        skip, self.skip = self.skip, 0
        return ((self.epoch, entry) for entry in islice(super().__iter__(), skip, None))


class ResumableLoader(DataLoader):
    """A loader whose place in the epoch is part of Lightning's checkpoints, so that no batch is seen twice."""

    done, resumed = 0, None

    def __iter__(self) -> Iterator[TextMotionBatch]:
        epoch, done = self.resumed or (0, 0)
        self.done = done if epoch == self.sampler.epoch else 0
        self.resumed, self.sampler.skip = None, self.done * self.batch_size
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self.sampler.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there, if the next pass is of that epoch."""
        self.resumed = state["epoch"], state["done"]


class TextMotionData(LightningDataModule):
    """Batches of a folder in HumanML3D's or KIT-ML's layout."""

    def __init__(
        self,
        folder: str,
        batch_size: int = 64,
        context_len: int = 0,
        pred_len: int = 0,
        workers: int = 0,
        seed: int = 0,
        stats: str | None = None,
    ):
        """batch_size: of one process, less where a split is smaller.

        context_len and pred_len: frames given and predicted, of prefix models; seed: of order and crops;
        stats: folder of the Mean.npy and Std.npy to normalise by, the data's own by default. A fine-tuning needs those
        of the training before.
        """
        super().__init__()
        if batch_size < 1 or min(context_len, pred_len, workers) < 0:
            raise InputError(f"batch_size {batch_size} must be at least 1; lengths and workers {workers} at least 0")
        if bool(context_len) != bool(pred_len):
            raise InputError("context_len and pred_len go together: frames given, frames predicted")
        self.folder, self.batch_size, self.workers, self.seed = Path(folder), batch_size, workers, seed
        self.context, self.window = context_len, context_len + pred_len
        self.stats = Path(stats or folder)
        self.crops: dict[str, TextMotionCrops] = {}

    def prepare_data(self) -> None:
        """Look at all clips once, in one process, so that what is wrong with them is known before training starts."""
        for split in ("train", "val", "test"):
            if (self.folder / f"{split}.txt").is_file():
                read_clips(self.folder, read_names(self.folder, split))

    def setup(self, stage: str | None = None) -> None:
        """Find the entries of the splits that the stage reads. Raises InputError when one has nothing to read."""
        self.statistics = Statistics.load(self.stats)
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage or "fit", ("test",)):
            if split not in self.crops:
                self.crops[split] = self._crops(split)

    @property
    def captions(self) -> list[str]:
        """Everything that is said of the training clips."""
        return [caption.text for entry in self.crops["train"].entries for caption in entry.captions]

    def _crops(self, split: str) -> TextMotionCrops:
        width = len(self.statistics.mean)
        names = read_names(self.folder, split)
        shortest, end = LIMITS[width]
        found = entries(usable(read_clips(self.folder, names), width), (max(shortest, self.window), end))
        if not found:
            raise InputError(
                f"{self.folder}: {len(names)} clips in {split}.txt, none with a caption for at least "
                f"{max(shortest, self.window)} and below {end} frames"
            )
        log.info("%s: %d stretches of %d clips", split, len(found), len({entry.clip for entry in found}))
        return TextMotionCrops(self.folder, found, self.statistics, self.window, self.seed)

    def train_dataloader(self) -> DataLoader:
        """Shuffled; what does not fill a batch is left out of the epoch."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        """In order, the shortest first."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """In order, the shortest first."""
        return self._loader("test")

    def _loader(self, split: str, training: bool = False) -> DataLoader:
        crops = self.crops[split]
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = EpochSampler(crops, ranks, rank, shuffle=training, seed=self.seed)
        size = min(self.batch_size, len(sampler))
        return ResumableLoader(
            crops,
            batch_size=size,
            sampler=sampler,
            drop_last=training,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=partial(collate, context=self.context),
        )
