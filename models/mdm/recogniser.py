"""The project's own judge of motion: which actions of models/keyed_takes.py a clip shows, and features for FID.

It looks at root and joint positions alone, the channels that joints are recovered from: what one sees is judged.
"""

import zlib
from importlib.resources import files
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import InputError
from models.keyed_takes import ACTIONS

CHANNELS = 67  # of HumanML3D's 263: the root's four, then 21 joints
NAMES = tuple(ACTIONS)
SHORTEST = 4  # frames of a step inside the network


class Block(nn.Module):
    """Residual: channels normalised at every step, then a convolution over steps `dilation` apart."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        """x (batch, steps, width), zero where shown (batch, steps, 1) is 0 -> the same."""
        return x + shown * self.conv((shown * self.norm(x)).mT).mT.relu()


class Recogniser(nn.Module):
    """Motion to a vector that tells motions apart, and to a logit for each of NAMES."""

    def __init__(self, width: int = 128, dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4), embedding: int = 64):
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("std", torch.ones(CHANNELS))
        self.first = nn.Conv1d(CHANNELS, width, 4, stride=2, padding=1)
        self.second = nn.Conv1d(width, width, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width, dilation) for dilation in dilations)
        self.embed = nn.Linear(2 * width, embedding)
        self.name = nn.Linear(embedding, len(NAMES))

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Recogniser":
        """Trained weights in eval mode: a file that RecogniserTraining wrote, by default the one that comes along.

        Raises InputError for a file that is missing or not one, or that knows other actions.
        """
        path = Path(path) if path else Path(str(files("models") / "assets" / "recogniser.npz"))
        network = cls()
        try:
            with np.load(path, allow_pickle=False) as file:
                state = {name: torch.from_numpy(file[name].astype(np.float32)) for name in network.state_dict()}
                names = tuple(file["names"].tolist())
            network.load_state_dict(state)
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
            raise InputError(
                f"{path}: no recogniser ({error}). `python train.py fit -c experiments/mdm/recogniser.yaml` makes one"
            ) from None
        if names != NAMES:
            raise InputError(f"{path}: knows other actions than models/keyed_takes.py has now; train it again")
        return network.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the weights in half precision, and the names of the actions."""
        state = {name: value.cpu().half().numpy() for name, value in self.state_dict().items()}
        np.savez_compressed(path, names=np.array(NAMES), **state)

    def features(self, motion: Tensor, mask: Tensor) -> Tensor:
        """motion (batch, T, 263) not normalised, mask (batch, T), True for at least four frames -> (batch, 64).

        What is masked changes nothing, and up to three frames that fill no step of four are not seen.
        """
        shown = mask[..., None].to(motion)
        x = shown * (motion[..., :CHANNELS] - self.mean) / self.std
        for halve in (self.first, self.second):
            shown = shown[:, 1::2]
            x = shown * halve(x.mT).mT.relu()
        for block in self.blocks:
            x = block(x, shown)
        mean = x.sum(1) / shown.sum(1)
        most = x.masked_fill(shown == 0, -torch.inf).amax(1)
        return self.embed(torch.cat((mean, most), -1))

    def forward(self, motion: Tensor, mask: Tensor) -> Tensor:
        """As `features`, to a logit for each of NAMES (batch, 56): positive says that the clip shows the action."""
        return self.name(self.features(motion, mask).relu())


def labels(actions: str) -> Tensor:
    """1 for each of NAMES that stands in actions, names joined by |, else 0: (56,)."""
    return torch.tensor([float(name in actions.split("|")) for name in NAMES])


def named(logits: Tensor) -> list[tuple[str, ...]]:
    """The actions of positive logits (batch, 56), the surest first; where none is positive, the surest alone."""
    found = []
    for row in logits:
        order = row.argsort(descending=True)[: max(int((row > 0).sum()), 1)]
        found.append(tuple(NAMES[i] for i in order))
    return found
