"""The text-to-motion evaluators of HumanML3D and KIT-ML: motion and sentence to vectors, close where the two match.

Names and shapes of the weights are those of finest.tar. Source: EricGuo5513/text-to-motion, networks/modules.py, as run
by MDM's evaluation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from models.errors import InputError
from models.mdm.normalization import Statistics
from models.mdm.word_vectors import TAGS
from models.safe_pickle import load_npy
from models.torch_files import read_plain

CONTACTS = 4  # channels at the end of the features that the evaluators do not see
UNIT = 4  # frames of a step of the movement encoder
PARTS = ("movement_encoder", "text_encoder", "motion_encoder")
SOURCE = "MDM's prepare/download_t2m_evaluators.sh says where to get it (t2m/text_mot_match/model/finest.tar)"


class MovementEncoder(nn.Module):
    """Frames to steps of four frames."""

    def __init__(self, channels: int, hidden: int, width: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(channels, hidden, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(hidden, width, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(width, width)

    def forward(self, motion: Tensor) -> Tensor:
        """(batch, T, features), contacts and all -> (batch, T // 4, width)."""
        return self.out_net(self.main(motion[..., :-CONTACTS].mT).mT)


class SequenceEncoder(nn.Module):
    """Steps of a sequence to one vector: a GRU in both directions from a learned state, its last states, two layers."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))
        self.input_emb = nn.Linear(width, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, out)
        )

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """steps (batch, S, width), lengths (batch,) of them that count, at least 1 -> (batch, out)."""
        packed = pack_padded_sequence(self.input_emb(steps), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.repeat(1, len(steps), 1))
        return self.output_net(torch.cat((last[0], last[1]), -1))


class WordsEncoder(SequenceEncoder):
    """A SequenceEncoder over words and their tags."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__(width, hidden, out)
        self.pos_emb = nn.Linear(len(TAGS), width)

    def forward(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """words (batch, S, width) vectors, tags (batch, S, 15) one-hot, lengths (batch,) of them that count."""
        return super().forward(words + self.pos_emb(tags), lengths)


@dataclass(frozen=True)
class Evaluators:
    """The three networks in eval mode, float32, on the CPU."""

    movement: MovementEncoder
    motion: SequenceEncoder
    text: WordsEncoder

    @classmethod
    def load(cls, path: str | Path) -> "Evaluators":
        """From finest.tar, a torch file with a state dict a network; sizes are those of its weights.

        Raises InputError for a file that is missing, of another form, wants to run code, or lacks entries, by name.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected is finest.tar of the text-to-motion evaluators. {SOURCE}")
        content = read_plain(path)
        absent = [part for part in PARTS if not isinstance(content, dict) or not isinstance(content.get(part), dict)]
        if absent:
            held = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
            raise InputError(f"{path}: lacks {', '.join(absent)}; it holds {held}. {SOURCE}")
        movement, text, motion = (content[part] for part in PARTS)
        return cls(
            _filled(MovementEncoder, movement, _movement_sizes, path, PARTS[0]),
            _filled(SequenceEncoder, motion, _sequence_sizes, path, PARTS[2]),
            _filled(WordsEncoder, text, _sequence_sizes, path, PARTS[1]),
        )

    @property
    def features(self) -> int:
        """Channels of the motion that they judge, contacts and all: 263 or 251."""
        return self.movement.main[0].in_channels + CONTACTS

    @property
    def word_width(self) -> int:
        """Numbers of a word's vector."""
        return self.text.input_emb.in_features

    @torch.no_grad()
    def embed_motion(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """motion (batch, T, features) normalised by evaluator_statistics, lengths (batch,), from 4 -> (batch, out)."""
        return self.motion(self.movement(motion), lengths // UNIT)

    @torch.no_grad()
    def embed_text(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Sentences as models.mdm.word_vectors.WordVectors gives them -> (batch, out)."""
        return self.text(words, tags, lengths)


def evaluator_statistics(folder: str | Path, features: int) -> Statistics:
    """What the evaluators' motion is normalised by: t2m_mean.npy and t2m_std.npy of a folder, kit_... for 251 channels.

    They are not those of the data set (Mean.npy, Std.npy). Raises InputError where one is missing or has other sizes.
    """
    folder, name = Path(folder), {251: "kit"}.get(features, "t2m")
    paths = [folder / f"{name}_{what}.npy" for what in ("mean", "std")]
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise InputError(f"{' and '.join(absent)}: missing; the evaluators' own statistics lie in MDM's folder dataset")
    mean, std = map(load_npy, paths)
    for path, array in zip(paths, (mean, std), strict=True):
        if getattr(array, "shape", None) != (features,) or not np.isfinite(array).all():
            raise InputError(f"{path}: expected are {features} finite numbers, a channel each")
    if not (std > 0).all():
        raise InputError(f"{paths[1]}: the smallest is {std.min():g}; expected is more than 0 everywhere")
    return Statistics(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def _movement_sizes(state: dict[str, Tensor]) -> tuple[int, int, int]:
    hidden, channels, _ = state["main.0.weight"].shape
    return channels, hidden, len(state["main.3.weight"])


def _sequence_sizes(state: dict[str, Tensor]) -> tuple[int, int, int]:
    hidden, width = state["input_emb.weight"].shape
    return width, hidden, len(state["output_net.3.weight"])


def _filled(kind, state, sizes, path: Path, part: str):
    """A network of the sizes of its weights, with them. Raises InputError that names what does not fit."""
    try:
        network = kind(*sizes(state))
        network.load_state_dict(state)
    except KeyError as error:
        raise InputError(f"{path}: {part} lacks {error.args[0]}") from None
    except RuntimeError as error:  # names of all entries missing, left over or of another shape
        raise InputError(f"{path}: {part} is another network: {' '.join(str(error).split())}") from None
    return network.eval().requires_grad_(False)
