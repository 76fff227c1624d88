"""Low-rank adapters (LoRA): a frozen weight W acts as W + alpha / rank B A, and B and A alone are trained.

Merging leaves a network with its usual names and shapes, so that what was trained this way loads anywhere.
Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.errors import InputError
from models.mdm.denoiser import Denoiser
from models.mdm.finetune import matching

# Projections of attention into and out of its heads, and the two layers behind it.
LAYERS = ("seqTrans*attn.in_proj_weight", "seqTrans*attn.out_proj.weight", "seqTrans*.linear?.weight")


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


def merged(network: Denoiser) -> Denoiser:
    """The network without adapters: each has become part of its weight. Tensors are shared where nothing changed.

    Built anew, because PyTorch takes a parametrization off every copy of a module at once.
    """
    state = {name: value for name, value in network.state_dict().items() if ".parametrizations." not in name}
    for place, module in network.named_modules():
        for attribute in module.parametrizations if parametrize.is_parametrized(module) else ():
            state[f"{place}.{attribute}"] = getattr(module, attribute).detach()
    with torch.device("meta"):
        plain = Denoiser(network.config)
    plain.load_state_dict(state, assign=True)
    return plain.train(network.training)
