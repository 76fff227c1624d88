"""The project's own judge of motion: which actions of models/keyed_takes.py a clip shows, and features for FID.

It looks at root and joint positions alone, the channels that joints are recovered from: what one sees is what is judged.
"""

import torch
from torch import Tensor, nn

from models.keyed_takes import ACTIONS

CHANNELS = 67  # of HumanML3D's 263: the root's four, then 21 joints
STRIDE = 4  # frames a step inside the network


class Block(nn.Module):
    """Residual: channels normalised at every step, then a convolution over steps `dilation` apart."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (batch, steps, width), zero where mask (batch, steps, 1) is False -> the same."""
        return x + mask * self.conv((mask * self.norm(x)).mT).mT.relu()


class Recogniser(nn.Module):
    """Features of a clip -> a vector of 64 numbers that tells motions apart -> a logit for each of ACTIONS."""

    def __init__(self, width: int = 144, dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4), embedding: int = 64):
        super().__init__()
        self.actions = tuple(ACTIONS)
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("std", torch.ones(CHANNELS))
        self.first = nn.Conv1d(CHANNELS, width, 4, stride=2, padding=1)
        self.second = nn.Conv1d(width, width, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width, dilation) for dilation in dilations)
        self.embed = nn.Linear(2 * width, embedding)
        self.name = nn.Linear(embedding, len(self.actions))

    def features(self, motion: Tensor, mask: Tensor) -> Tensor:
        """motion (batch, T, 263) not normalised, mask (batch, T) -> (batch, 64)."""
        shown = mask[..., None].to(motion)
        x = shown * (motion[..., :CHANNELS] - self.mean) / self.std
        for halve in (self.first, self.second):
            shown = shown[:, 1::2]
            x = shown * halve(x.mT).mT.relu()
        for block in self.blocks:
            x = block(x, shown)
        mean = x.sum(1) / shown.sum(1).clamp(min=1)
        most = x.masked_fill(shown == 0, -torch.inf).amax(1)
        return self.embed(torch.cat((mean, most), -1))

    def forward(self, motion: Tensor, mask: Tensor) -> Tensor:
        """As `features`, but a logit for each of `actions`: (batch, 56)."""
        return self.name(self.features(motion, mask).relu())
