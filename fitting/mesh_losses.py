"""Losses on a fitted body that a gradient can follow: one number a clip, over its real frames.

mask (clips, frames) is True where a frame is real, the first of each clip. Lengths are metres, y up. The numbers of a
report on whole files are in fitting/metrics.py; these are smooth where those count, so that they can be lowered.
"""

import torch
from torch import Tensor

from models.skeleton import SMPL_PARENTS

CREEP = 0.001  # m/s, so that the root of a mean square has no kink where feet are at rest
CRAWL = 0.01  # m/s, as CREEP for the mean of speeds, whose every kink would be felt
STEPS_OFF = 0.25  # m/s; slower feet slip, faster ones are about to step
BEARING = 0.005  # metres: the lowest part of a sole bears, one that is so much higher a third of it
STEADY = 1e-4  # metres, as CREEP for the lengths of bones


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean (clips,) over all axes but the first of values (clips, ...), weight broadcast to them; 0 for no weight."""
    weight = weight.to(values).expand_as(values)
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)


@torch.no_grad()
def bearing(soles: Tensor, standing: Tensor, fps: float) -> Tensor:
    """How much each part of a sole bears from a frame to the next, (clips, frames - 1, 2, parts); no gradient.

    soles (clips, frames, 2, parts, 3): heel, ball, toe of both feet; standing (clips, frames - 1, 2), 0 to 1, 0 where a
    frame is not real. A part bears by exp(-height / BEARING), so a foot may roll on it, and what moves at v counts
    1 / (1 + (v / STEPS_OFF)^2): a foot that lands or leaves shall not be slowed down.
    """
    share = torch.softmax(-soles[..., 1] / BEARING, -1)[:, :-1]
    squared = (fps * soles.diff(dim=1)).square().sum(-1)
    return standing[..., None] * share / (1 + squared / STEPS_OFF**2)


def foot_slip(soles: Tensor, weight: Tensor, fps: float) -> Tensor:
    """Speed in m/s at which the bearing part of a standing foot moves: the root of its mean square.

    soles (clips, frames, 2, parts, 3), weight (clips, frames - 1, 2, parts) as `bearing` gives it.
    """
    squared = (fps * soles.diff(dim=1)).square().sum(-1)
    return (weighted_mean(squared, weight) + CREEP**2).sqrt() - CREEP


def skate(feet: Tensor, standing: Tensor, fps: float) -> Tensor:
    """Mean speed in m/s at which standing foot joints move, of the motion as it was given to the fit.

    feet (clips, frames, 2, 3), standing (clips, frames - 1, 2), 0 to 1: how surely each stands to the next frame.
    """
    speed = ((fps * feet.diff(dim=1)).square().sum(-1) + CRAWL**2).sqrt() - CRAWL
    return weighted_mean(speed, standing)


def penetration(heights: Tensor, mask: Tensor) -> Tensor:
    """How deep the lowest point lies under the floor, mean over frames, metres. heights (clips, frames, points)."""
    return weighted_mean((-heights.amin(-1)).relu(), mask)


def bone_length_change(joints: Tensor, mask: Tensor) -> Tensor:
    """Deviation of the bones' lengths in time as a share of their mean: the root of its mean square over bones.

    joints (clips, frames, 22, 3) as they were given to the fit, in SMPL's order.
    """
    bones = joints[:, :, 1:] - joints[:, :, list(SMPL_PARENTS[1 : joints.shape[2]])]
    lengths, real = (bones.square().sum(-1) + 1e-12).sqrt(), mask[..., None].to(joints)
    frames = real.sum(1, keepdim=True).clamp_min(1)
    usual = (lengths * real).sum(1, keepdim=True) / frames
    variance = ((lengths - usual).square() * real).sum(1, keepdim=True) / frames
    return ((variance + STEADY**2) / usual.square()).mean((1, 2)).sqrt()


def limit_excess(thetas: Tensor, limits: Tensor, mask: Tensor) -> Tensor:
    """Squared radians by which components of rotation vectors pass their limits, summed over joints, mean over frames.

    thetas (clips, frames, 24, 3), limits (23, 3, 2) lowest and highest, as PosePrior.limits.
    """
    pose, (low, high) = thetas[:, :, 1:], limits.unbind(-1)
    return weighted_mean(((pose - high).relu() + (low - pose).relu()).square().sum((2, 3)), mask)


def self_penetration(centres: Tensor, radii: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
    """How deep spheres lie in one another, metres, summed over pairs, mean over frames.

    centres (clips, frames, spheres, 3), radii (spheres,), pairs (P, 2) of spheres that should be apart.
    """
    one, other = pairs.unbind(1)
    distance = ((centres[:, :, one] - centres[:, :, other]).square().sum(-1) + 1e-12).sqrt()
    return weighted_mean((radii[one] + radii[other] - distance).relu().sum(-1), mask)


def jerk(joints: Tensor, mask: Tensor, fps: float) -> Tensor:
    """Mean norm of the third difference of joints (clips, frames, J, 3) times fps^3: m/s^3; 0 below four frames."""
    if joints.shape[1] < 4:
        return joints.new_zeros(len(joints))
    change = (joints.diff(n=3, dim=1).square().sum(-1) + 1e-12).sqrt() * fps**3
    return weighted_mean(change, mask[:, 3:, None])
