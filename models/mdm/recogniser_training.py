"""Training of the recogniser on the project's own takes, whose actions are known: the LightningModule and its data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from models.errors import InputError
from models.mdm.data import FRAMES, ResumableLoader
from models.mdm.normalization import Statistics
from models.mdm.recogniser import CHANNELS, Recogniser, labels
from models.mdm.takes import HELD_OUT, SimilarLengths, Takes, held, load_takes
from models.optimizer import adamw

CROP = 8  # frames that a clip loses at most at either end
WOBBLE, JITTER, LIFT = 0.02, 0.005, 0.02  # metres: of slow noise and of quick noise at most, of the floor's height
SLOW = 10  # frames between the knots of slow noise
SURE = 0.98  # the labels' certainty; without it training drives logits apart for ever

Batch = tuple[Tensor, Tensor, Tensor]  # motion (B, T, 263), mask (B, T), labels (B, 56)


def disturbed(clip: Tensor, draws: torch.Generator) -> Tensor:
    """What a generated motion may look like that shows the same as clip (T, 263): noisy, cut a little, held at its end.

    The root's velocities, metres a frame, get a twentieth of the noise.
    """
    room = min(CROP, len(clip) // 8)
    first, last = torch.randint(0, room + 1, (2,), generator=draws).tolist()
    clip = clip[first : len(clip) - last]
    stays, share = torch.rand(2, generator=draws).tolist()
    if stays < 1 / 3:
        clip = held(clip, len(clip) + int((FRAMES - len(clip)) * share**2))
    wobble, jitter, lift = torch.rand(3, generator=draws).tolist()
    knots = torch.randn(1, CHANNELS, len(clip) // SLOW + 2, generator=draws)
    slow = interpolate(knots, len(clip), mode="linear", align_corners=True)[0].T
    noise = wobble * WOBBLE * slow + jitter * JITTER * torch.randn(len(clip), CHANNELS, generator=draws)
    noise[:, :3] /= 20
    noise[:, 3] += (lift - 0.5) * 2 * LIFT
    noise[:, 5::3] += (lift - 0.5) * 2 * LIFT
    return torch.cat((clip[:, :CHANNELS] + noise, clip[:, CHANNELS:]), 1)


class NamedTakes(Dataset):
    """Takes with the labels of their actions. How one is disturbed depends on (seed, epoch, index) alone."""

    def __init__(self, takes: Takes, disturb: bool, seed: int = 0):
        self.takes, self.disturb, self.seed = takes, disturb, seed
        self.ends = takes.lengths.cumsum()

    def __len__(self) -> int:
        return len(self.takes)

    def clips(self) -> Iterator[Tensor]:
        """Features (frames, 263) of every take as it is."""
        for start, length in zip(self.ends - self.takes.lengths, self.takes.lengths, strict=True):
            yield torch.from_numpy(self.takes.features[start : start + length].astype(np.float32))

    def lengths(self, epoch: int) -> np.ndarray:
        """Frames of every clip, (clips,)."""
        return np.minimum(self.takes.lengths, FRAMES)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Features (T, 263) and labels (56,). key: (epoch, index, frames)."""
        epoch, index, frames = key
        start = self.ends[index] - self.takes.lengths[index]
        clip = torch.from_numpy(self.takes.features[start : start + frames].astype(np.float32))
        if self.disturb:
            seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1)[0]
            clip = disturbed(clip, torch.Generator().manual_seed(int(seed)))
        return clip, labels(str(self.takes.actions[index]))


def collate(clips: list[tuple[Tensor, Tensor]]) -> Batch:
    """Clips padded to the longest of them."""
    lengths = torch.tensor([len(clip) for clip, _ in clips])
    motion = pad_sequence([clip for clip, _ in clips], batch_first=True)
    return motion, torch.arange(motion.shape[1]) < lengths[:, None], torch.stack([label for _, label in clips])


class NamedTakesData(LightningDataModule):
    """Batches of takes and labels; the takes are those of models.mdm.takes.TakesData, made once."""

    def __init__(self, count: int = 20_000, held_out: int = 512, batch_size: int = 64, seed: int = 0):
        """count: takes to train on; held_out: others to validate on; seed: of order and disturbances."""
        super().__init__()
        if min(count, held_out) < batch_size or batch_size < 1:
            raise InputError(f"count {count} and held_out {held_out} must be at least batch_size {batch_size}, that 1")
        self.count, self.held_out, self.batch_size, self.seed = count, held_out, batch_size, seed

    def setup(self, stage: str | None = None) -> None:
        """Read the takes, or make them."""
        self.train = NamedTakes(load_takes(0, self.count), disturb=True, seed=self.seed)
        self.val = NamedTakes(load_takes(HELD_OUT, self.held_out), disturb=False)

    def train_dataloader(self) -> DataLoader:
        """Shuffled; batches of similar lengths."""
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader:
        """The held-out takes as they are."""
        return self._loader(self.val)

    def _loader(self, clips: NamedTakes) -> DataLoader:
        sampler = SimilarLengths(clips, 1, 0, self.batch_size)
        return ResumableLoader(clips, batch_size=self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate)


class RecogniserTraining(LightningModule):
    """Training of models.mdm.recogniser.Recogniser."""

    def __init__(self, lr: float = 2e-3, weight_decay: float = 0.02, warmup: int = 100):
        """Of AdamW, with a cosine decay to 0."""
        super().__init__()
        self.save_hyperparameters()
        self.network = Recogniser()

    def on_fit_start(self) -> None:
        """The network's statistics are those of the takes."""
        found = Statistics.of(self.trainer.datamodule.train.clips())
        self.network.mean.copy_(found.mean[:CHANNELS])
        self.network.std.copy_(found.std[:CHANNELS])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        motion, mask, wanted = batch
        smoothed = wanted * SURE + (1 - wanted) * (1 - SURE) / 16
        loss = binary_cross_entropy_with_logits(self.network(motion, mask), smoothed)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """val/exact: share of clips of which exactly their actions are named, no other one."""
        motion, mask, wanted = batch
        exact = ((self.network(motion, mask) > 0) == (wanted > 0)).all(1).float().mean()
        self.log("val/exact", exact, prog_bar=True, batch_size=len(motion))

    def configure_optimizers(self) -> dict[str, Any]:
        given, total = self.hparams, int(self.trainer.estimated_stepping_batches)
        return adamw(self.network.parameters(), total, given.lr, given.weight_decay, given.warmup)

    def on_fit_end(self) -> None:
        """Write the weights, recogniser.npz in the run's folder."""
        if self.global_rank == 0:
            self.network.save(Path(self.trainer.default_root_dir) / "recogniser.npz")
