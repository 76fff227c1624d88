"""Fit results to write, film and report on, made without fitting: smooth random motion of the embedded body."""

import math

import torch

from fitting.data import Motion
from fitting.result import FitResult
from models.body import BodyModel


def smooth_fit(
    frames: int = 12, seed: int = 0, text: str = "a person turns", name: str = "sample00_rep00"
) -> FitResult:
    """A walk of some metres with a full turn about y (the angle passes pi), all joints swinging, betas ~ N(0, 0.8)."""
    random = torch.Generator().manual_seed(seed)
    body = BodyModel.load()
    time = torch.linspace(0, 1, frames)
    phases, sizes = torch.rand(2, 24, 3, generator=random)
    thetas = sizes * torch.sin(2 * math.pi * (time[:, None, None] + phases))
    thetas[:, 0] = torch.stack([0.1 * time, 2 * math.pi * time, 0 * time], -1)
    transl = torch.stack([4 * time, 1 + 0.1 * torch.sin(9 * time), -2 * time], -1)
    betas = 0.8 * torch.randn(body.num_betas, generator=random)
    joints = body.joints(betas, thetas, transl)[:, :22].numpy()
    motion = Motion(
        name=name, source=f"{name}.npy", folder="", joints=joints, thetas=None, root=None,
        fps=20.0, text=text, sample=0, repetition=0,
    )  # fmt: skip
    return FitResult(thetas, betas, transl, body, motion, status="converged", message="made by the test")
