"""Pose correctives (posedirs) of a clip as few morph targets, with weights between 0 and 1."""

from bisect import bisect_left

import torch
from torch import Tensor

from models.body import BodyModel

TOLERANCE = 1e-4  # metres by which a coordinate may be off
FRAMES_AT_ONCE = 64


def correctives(body: BodyModel, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (K, V, 3) in metres and weights (L, K) in [0, 1] whose product is the clip's correctives.

    rotations (L, J, 3, 3): local ones of all joints. The field (R - I).posedirs has low rank over a clip: its leading
    singular vectors give it within TOLERANCE. They have both signs, and Blender holds shape keys within [0, 1]: each is
    shifted and scaled to that range, and what the shifts amount to is one more target, always on.
    K is 0 for a body without posedirs.
    """
    if body.posedirs is None:
        return body.v_template.new_zeros(0, *body.v_template.shape), rotations.new_zeros(len(rotations), 0)
    dirs = body.posedirs.double()
    bend = (rotations[:, 1:].double() - torch.eye(3, dtype=torch.float64)).flatten(1)
    basis = _left_singular_vectors(bend, dirs)
    count = bisect_left(range(basis.shape[1]), True, key=lambda k: _worst(bend, dirs, basis[:, :k]) <= TOLERANCE)
    weights, targets = basis[:, :count], basis[:, :count].mT @ bend @ dirs
    low, high = weights.amin(0), weights.amax(0)
    moving = high > low
    span = (high - low)[moving]
    weights = torch.cat((torch.ones(len(bend), 1), (weights - low)[:, moving] / span), 1).clamp(0, 1)
    targets = torch.cat((low[None] @ targets, span[:, None] * targets[moving]))
    return targets.unflatten(1, (-1, 3)), weights


def _left_singular_vectors(bend: Tensor, dirs: Tensor) -> Tensor:
    """Those of bend @ dirs (L, P) @ (P, 3 V), largest first, through the small matrix dirs dirs^T not 3 V columns."""
    values, vectors = torch.linalg.eigh(dirs @ dirs.mT)
    return torch.linalg.svd(bend @ (vectors * values.clamp(min=0).sqrt()), full_matrices=False)[0]


def _worst(bend: Tensor, dirs: Tensor, basis: Tensor) -> float:
    """The largest coordinate (metres) of what `basis` (L, K) leaves of bend @ dirs."""
    left = bend - basis @ (basis.mT @ bend)
    return max((part @ dirs).abs().max().item() for part in left.split(FRAMES_AT_ONCE))
