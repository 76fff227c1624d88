"""Derivatives of rotation vectors: the Jacobians of SO(3) that the solver needs.

With E = exp(v): exp(v + dv) = exp(J_l(v) dv) exp(v) = exp(v) exp(J_r(v) dv) to first order, and J_r(v) = J_l(v)^T.
Source: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", equations 143 to 146.
"""

import torch
from torch import Tensor

from models.rotations import skew

SMALL = 1e-6  # squared angle below which the series replaces the closed form


def left_jacobian(v: Tensor) -> Tensor:
    """J_l of rotation vectors (..., 3) in radians -> (..., 3, 3)."""
    square = v.square().sum(-1)[..., None, None]
    small = square < SMALL
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    c = torch.where(small, 1 / 6 - square / 120, (angle - angle.sin()) / (safe * angle))
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    # skew(v)^2 = v v^T - |v|^2 I
    return eye + b * skew(v) + c * (v[..., :, None] * v[..., None, :] - square * eye)


def left_jacobian_inverse(v: Tensor) -> Tensor:
    """Inverse of J_l for rotation vectors (..., 3) shorter than 2 pi -> (..., 3, 3)."""
    square = v.square().sum(-1)[..., None, None]
    small = square < SMALL
    safe = torch.where(small, torch.ones_like(square), square)
    half = safe.sqrt() / 2
    c = torch.where(small, 1 / 12 + square / 720, (1 - half * half.cos() / half.sin()) / safe)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye - 0.5 * skew(v) + c * (v[..., :, None] * v[..., None, :] - square * eye)


def exp(v: Tensor, jacobian: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of v (..., 3), from J_l(v) that is known already: exp(v) = I + skew(v) J_l(v)."""
    return torch.eye(3, dtype=v.dtype, device=v.device) + skew(v) @ jacobian
