"""A small random CLIP in the form in which OpenAI publishes its own."""

from pathlib import Path

import pytest
import torch
from torch import nn

WIDTH, LAYERS, OUT, TOKENS = 128, 2, 512, 49408


def tower() -> dict[str, torch.Tensor]:
    """Random weights of CLIP's text half under OpenAI's names; linear layers in half precision, as in its file."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, size: float = 0.1) -> torch.Tensor:
        return size * torch.randn(shape, generator=generator)

    weights = {"token_embedding.weight": random(TOKENS, WIDTH, size=1), "positional_embedding": random(77, WIDTH)}
    weights |= {"text_projection": random(WIDTH, OUT).half(), "ln_final.weight": 1 + random(WIDTH)}
    weights |= {"ln_final.bias": random(WIDTH)}
    for i in range(LAYERS):
        block = {}
        layers = {"attn.out_proj": (WIDTH, WIDTH), "mlp.c_fc": (4 * WIDTH, WIDTH), "mlp.c_proj": (WIDTH, 4 * WIDTH)}
        for name, (rows, columns) in layers.items():
            block |= {f"{name}.weight": random(rows, columns).half(), f"{name}.bias": random(rows).half()}
        block |= {"attn.in_proj_weight": random(3 * WIDTH, WIDTH).half()}
        block |= {"attn.in_proj_bias": random(3 * WIDTH).half()}
        for name in ("ln_1", "ln_2"):
            block |= {f"{name}.weight": 1 + random(WIDTH), f"{name}.bias": random(WIDTH)}
        weights |= {f"transformer.resblocks.{i}.{name}": value for name, value in block.items()}
    return weights


class Node(nn.Module):
    """A module that holds parameters under dotted names."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        for name in dict.fromkeys(name.partition(".")[0] for name in weights):
            inner = {key.partition(".")[2]: value for key, value in weights.items() if key.partition(".")[0] == name}
            if "" in inner:
                self.register_parameter(name, nn.Parameter(inner[""]))
            else:
                self.add_module(name, Node(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_archive(path: Path) -> Path:
    """The random tower as a TorchScript archive with an image half and some numbers."""
    weights = tower() | {"visual.conv1.weight": torch.ones(3, 3).half(), "logit_scale": torch.tensor(4.6)}
    with pytest.warns():  # PyTorch is about to retire TorchScript; OpenAI's file stays what it is
        torch.jit.save(torch.jit.script(Node(weights)), path)
    return path
