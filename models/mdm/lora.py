"""Low-rank adapters (LoRA): a frozen weight W acts as W + alpha / rank B A, and B and A alone are trained.

Merging leaves a network with its usual names and shapes, so that what was trained this way loads anywhere.
Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.errors import InputError
from models.mdm.finetune import matching

# Projections of attention into and out of its heads, and the two layers behind it.
LAYERS = ("seqTrans*attn.in_proj_weight", "seqTrans*attn.out_proj.weight", "seqTrans*.linear?.weight")
Network = TypeVar("Network", bound=nn.Module)


class LowRank(nn.Module):
    """What a weight (rows, columns) becomes. up = B (rows, rank) starts at 0, down = A (rank, columns) at random."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_adapters(network: nn.Module, rank: int, alpha: float, layers: Sequence[str] = LAYERS) -> None:
    """Freezes the network and puts an adapter on every weight whose name matches one of the patterns `layers`.

    Raises InputError for a pattern that matches nothing, and for weights that are no matrix or smaller than the rank.
    """
    weights = dict(network.named_parameters())
    chosen = matching(weights, layers)
    for name in chosen:
        if weights[name].ndim != 2 or min(weights[name].shape) < rank or name.startswith("gru."):
            shape = tuple(weights[name].shape)
            raise InputError(f"{name} {shape} cannot have an adapter of rank {rank}; matrices of transformers can")
    network.requires_grad_(False)
    for name in chosen:
        place, _, attribute = name.rpartition(".")
        adapter = LowRank(weights[name], rank, alpha)
        parametrize.register_parametrization(network.get_submodule(place), attribute, adapter)


def merged(network: Network) -> Network:
    """A copy of the network in which every adapter has become part of its weight."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name in list(module.parametrizations) if parametrize.is_parametrized(module) else ():
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return network
