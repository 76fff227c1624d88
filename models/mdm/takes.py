"""Training data that needs no file: the project's own performed sentences (models/keyed_takes.py) as features.

They are made once, 20 ms each, and kept in the user's cache folder; a change of the scripts makes them anew.
"""

import hashlib
import inspect
import logging
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from models import keyed_actions, keyed_poses, keyed_rig, keyed_script, keyed_sentences, keyed_takes
from models.body import BodyModel
from models.errors import InputError
from models.keyed_takes import take
from models.mdm.cache import cache_folder, keep
from models.mdm.clips import entries, read_clips, read_names, usable
from models.mdm.data import FRAMES, EpochSampler, ResumableLoader, TextMotionBatch
from models.mdm.features import joints_to_features
from models.mdm.normalization import Statistics

log = logging.getLogger("thetafit")
UNIT = 4  # lengths are multiples of it
MINIMUM = 20  # frames of a clip of one's own
HELD_OUT = 1_000_000  # the first seed of takes that are not trained on
# How much a channel counts, by dividing its standard deviation: joints are recovered from path and positions alone, and
# errors of the path add up along a clip.
WEIGHTS = ((slice(0, 4), 3.0), (slice(67, 193), 0.25), (slice(193, 259), 0.33), (slice(259, 263), 0.5))
ROOT, MOVES, CONTACTS = slice(0, 3), slice(193, 259), slice(259, 263)  # channels of velocities and of feet that stand
SCRIPTS = (keyed_takes, keyed_actions, keyed_sentences, keyed_script, keyed_poses, keyed_rig)


@dataclass(frozen=True)
class Takes:
    """Features of takes one after another, (frames, 263) float16 as they are; their lengths, sentences and actions."""

    features: np.ndarray
    lengths: np.ndarray
    texts: np.ndarray
    actions: np.ndarray  # names of a take, joined by |

    def __len__(self) -> int:
        return len(self.lengths)


def load_takes(first: int, count: int) -> Takes:
    """The takes of seeds first, first + 1, ...: from the cache, or made now."""
    code = "".join(inspect.getsource(module) for module in SCRIPTS)
    name = f"{first}-{count}-{hashlib.sha256(code.encode()).hexdigest()[:16]}.npz"
    path = cache_folder() / "thetafit" / "takes" / name
    try:
        with np.load(path, allow_pickle=False) as file:
            return Takes(**file)
    except (OSError, ValueError, EOFError, TypeError):  # absent, or not whole
        made = make_takes(first, count)
        keep(path, partial(np.savez, **vars(made)))
        return made


def make_takes(first: int, count: int) -> Takes:
    """See load_takes."""
    body, rows = BodyModel.load(), []
    seeds = range(first, first + count)
    for seed in tqdm(seeds, "performing sentences", disable=not sys.stderr.isatty()):
        made = take(seed)
        motion = made.motion
        joints = body.joints(motion.betas, motion.thetas, motion.transl)[:, :22]
        features = joints_to_features(joints)[: (len(joints) - 1) // UNIT * UNIT]
        rows.append((features.half().numpy(), motion.text, "|".join(made.actions)))
    features, texts, actions = zip(*rows, strict=True)
    lengths = np.array([len(clip) for clip in features])
    return Takes(np.concatenate(features), lengths, np.array(texts), np.array(actions))


def read_takes(folder: str | Path, times: int) -> Takes:
    """The training clips of a folder in HumanML3D's layout, each as often as `times`. Raises InputError for no clip."""
    clips = usable(read_clips(folder, read_names(folder, "train")), 263)
    features, texts = [], []
    for entry in entries(clips, (MINIMUM, FRAMES + UNIT)):
        whole = np.load(Path(folder) / "new_joint_vecs" / f"{entry.clip}.npy", allow_pickle=False)
        part = whole[entry.first : entry.first + entry.length // UNIT * UNIT].astype(np.float16)
        features += [part] * len(entry.captions)
        texts += [caption.text for caption in entry.captions]
    if not features:
        raise InputError(f"{folder}: no clip of {MINIMUM} to {FRAMES} frames with a caption in train.txt")
    lengths = np.array([len(clip) for clip in features] * times)
    return Takes(np.concatenate(features * times), lengths, np.array(texts * times), np.array([""] * len(lengths)))


def joined(first: Takes, second: Takes) -> Takes:
    """All takes of both."""
    return Takes(*(np.concatenate((one, other)) for one, other in zip(astuple(first), astuple(second), strict=True)))


def statistics(takes: Takes) -> Statistics:
    """Mean and standard deviation of the features, the latter divided by WEIGHTS."""
    parts = np.array_split(takes.features, len(takes))
    found = Statistics.of(torch.from_numpy(part.astype(np.float32)) for part in parts)
    for channels, weight in WEIGHTS:
        found.std[channels] /= weight
    return found


def held(clip: Tensor, frames: int) -> Tensor:
    """Features (length, 263), not normalised, held still at their end until they are `frames` long."""
    last = clip[-1:].clone()
    last[:, ROOT], last[:, MOVES], last[:, CONTACTS] = 0.0, 0.0, 1.0
    return torch.cat((clip, last.expand(frames - len(clip), -1)))


class TakeCrops(Dataset):
    """Normalised takes; in training every third one is held still at its end for some time."""

    def __init__(self, takes: Takes, norm: Statistics, hold: bool, seed: int = 0):
        self.takes, self.norm, self.hold, self.seed = takes, norm, hold, seed
        self.ends = takes.lengths.cumsum()

    def __len__(self) -> int:
        return len(self.takes)

    def lengths(self, epoch: int) -> np.ndarray:
        """Frames of every clip in an epoch, (clips,): up to 196, short holds more often than long ones."""
        own = np.minimum(self.takes.lengths, FRAMES)
        if not self.hold:
            return own
        random = np.random.default_rng((self.seed, epoch))
        share = random.random(len(own)) ** 2 * (random.random(len(own)) < 1 / 3)
        return own + ((FRAMES - own) * share).astype(int) // UNIT * UNIT

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, str]:
        """Motion (frames, 263), normalised, and its sentence. key: (epoch, index, frames)."""
        _, index, frames = key
        end = self.ends[index]
        features = torch.from_numpy(self.takes.features[end - self.takes.lengths[index] : end].astype(np.float32))
        return self.norm.normalize(held(features[:frames], frames)), str(self.takes.texts[index])


def collate(clips: list[tuple[Tensor, str]]) -> TextMotionBatch:
    """Clips padded to the longest of them."""
    lengths = torch.tensor([len(motion) for motion, _ in clips])
    motion = torch.nn.utils.rnn.pad_sequence([motion for motion, _ in clips], batch_first=True)
    mask = torch.arange(motion.shape[1]) < lengths[:, None]
    return TextMotionBatch(motion, mask, lengths, [text for _, text in clips], [()] * len(clips), [""] * len(clips))


class SimilarLengths(EpochSampler):
    """(epoch, clip, frames), shuffled so that `batch` neighbours are of similar length: less of a batch is padding."""

    def __init__(self, crops: TakeCrops, ranks: int, rank: int, batch: int):
        super().__init__(crops, ranks, rank, shuffle=False, seed=crops.seed, drop_last=True)
        self.batch = batch * ranks

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        random = np.random.default_rng((self.seed, self.epoch, 1))
        lengths = self.dataset.lengths(self.epoch)
        order = random.permutation(len(lengths))
        pools = np.array_split(order, max(len(order) // (16 * self.batch), 1))
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = order[: len(order) // self.batch * self.batch].reshape(-1, self.batch)
        skip, self.skip = self.skip, 0
        mine = random.permutation(batches).reshape(-1)[self.rank :: self.num_replicas][skip:]
        return ((self.epoch, int(clip), int(lengths[clip])) for clip in mine)


class TakesData(LightningDataModule):
    """Batches of the project's own performed sentences, and clips of one's own among them."""

    def __init__(
        self,
        count: int = 20_000,
        held_out: int = 512,
        batch_size: int = 64,
        seed: int = 0,
        own: str | None = None,
        times: int = 1,
        stats: str | None = None,
    ):
        """count: takes to train on; held_out: others to validate on; seed: of order and holds.

        own: a folder that `thetafit prepare` made, whose training clips are seen `times` as often as a take; stats:
        folder of the Mean.npy and Std.npy to normalise by, the takes' own by default. A fine-tuning needs those of
        before.
        """
        super().__init__()
        self.own, self.times, self.stats = own, times, stats
        if min(count, held_out) < batch_size or batch_size < 1:
            raise InputError(f"count {count} and held_out {held_out} must be at least batch_size {batch_size}, that 1")
        self.count, self.held_out, self.batch_size, self.seed = count, held_out, batch_size, seed

    def prepare_data(self) -> None:
        """Make the takes, in one process."""
        for first, count in ((0, self.count), (HELD_OUT, self.held_out)):
            load_takes(first, count)

    def setup(self, stage: str | None = None) -> None:
        """Read them."""
        takes, others = load_takes(0, self.count), load_takes(HELD_OUT, self.held_out)
        self.statistics = statistics(takes) if self.stats is None else Statistics.load(self.stats)
        if self.own is not None:
            takes = joined(takes, read_takes(self.own, self.times))
        self.train = TakeCrops(takes, self.statistics, hold=True, seed=self.seed)
        self.val = TakeCrops(others, self.statistics, hold=False)

    @property
    def captions(self) -> list[str]:
        """Everything that is said of the training clips."""
        return self.train.takes.texts.tolist()

    def train_dataloader(self) -> DataLoader:
        """Shuffled; batches of similar lengths."""
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader:
        """The held-out takes."""
        return self._loader(self.val)

    def _loader(self, crops: TakeCrops) -> DataLoader:
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = SimilarLengths(crops, ranks, rank, self.batch_size)
        return ResumableLoader(crops, batch_size=self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate)
