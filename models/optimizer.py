"""The optimizer of every training here: AdamW whose learning rate rises, then decays."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["none", "linear", "cosine"]


def adamw(
    parameters: Iterable[nn.Parameter],
    total: int,
    lr: float,
    weight_decay: float,
    warmup: int,
    beta2: float = 0.999,
    decay: Decay = "cosine",
) -> dict[str, Any]:
    """What LightningModule.configure_optimizers returns; total: steps of the training, where it decays."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, beta2), weight_decay=weight_decay)
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, warmup, total, decay))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate_factor(step: int, warmup: int, total: int, decay: Decay) -> float:
    """Share of the learning rate at a step: a linear rise over `warmup` steps, then the decay to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    return {"none": 1.0, "linear": 1 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}[decay]
