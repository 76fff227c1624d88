"""How noisy a clip's joints are and how fast they really accelerate: what smoothing must follow.

Fourth differences of a person's joints are far below a millimetre at 20 frames a second, so their robust spread is
noise: white noise of deviation s has fourth differences of deviation sqrt(70) s. Accelerations are read over a lag of
several frames, where motion weighs lag^4 times more against noise than between neighbours, and the noise's own share is
taken away. Generated bones also stretch and shrink, which makes a skeleton's fit shake where it cannot follow.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.rig import CHILD, Rig
from models.skeleton import SMPL_PARENTS

LAG = 0.25  # seconds
FEWEST = 8  # frames
PLAIN = 0.005  # metres: noise well below it is left to the plain fit
DATA = 1 / 600  # metres: the deviation that the weight of the joints stands for
STEADY = 0.25  # the share of the noise's acceleration below which motion is not told from rest
STRENGTH = {"transl": 0.5, "root": 0.5, "joints": 0.4}  # of 1, which a Gaussian model of accelerations would give
# Smoothing of clips whose bones change length, and the acceleration of lengths, in m/s^2, at which half of it is
# reached: captured bones have 0; most generated ones 0.05 to 0.8, where the root shakes; some 3 to 14, where all does.
GENERATED, GENERATED_HALF = {"transl": 2.0, "root": 0.018, "joints": 0.0}, 0.1
UNEVEN, UNEVEN_HALF = {"transl": 35.0, "root": 1.8, "joints": 0.088}, 2.2
SHOULDERS, SPINE = (16, 17), (0, 12)  # the lines that show how the root turns


@dataclass
class Noise:
    """By clip. level (clips,): metres; trust (clips,): factor of the weight of what was measured, 1 without noise;
    smoothing (clips, 2 + fitted): weights of squared accelerations of transl, root and the fitted joints' rotations."""

    level: Tensor
    trust: Tensor
    smoothing: Tensor

    @property
    def share(self) -> Tensor:
        """How far the clips (clips,) are to be treated as noisy, from 0 to 1."""
        return _share(self.level)

    def clips(self, index: Tensor | slice) -> "Noise":
        return Noise(self.level[index], self.trust[index], self.smoothing[index])


def measure(joints: Tensor, fps: Tensor, rig: Rig) -> Noise:
    """Noise of joints (clips, frames, 22, 3) in metres, NaN where nothing was seen; fps (clips,).

    Clips of at most two lags are taken as they are.
    """
    lags = (LAG * fps).round().clamp_min(1).long()
    out = Noise(torch.zeros_like(fps), torch.ones_like(fps), fps.new_zeros(len(fps), 2 + len(rig.fitted)))
    for lag in lags.unique().tolist():
        rows = (lags == lag) & (joints.isfinite().flatten(2).any(2).sum(1) > 2 * lag)
        if rows.any():
            measured = _measure(joints[rows], fps[rows], lag, rig)
            out.level[rows], out.trust[rows], out.smoothing[rows] = measured.level, measured.trust, measured.smoothing
    return out


def _measure(joints: Tensor, fps: Tensor, lag: int, rig: Rig) -> Noise:
    level = noise_level(joints)
    noisy = _share(level)
    trust = (1 + noisy * level**2 / DATA**2).rsqrt()
    ends = [(j, CHILD[j]) if j in CHILD else (rig.parents[j], j) for j in rig.fitted]  # an end turns as its own bone
    bones = [joints[:, :, end] - joints[:, :, start] for start, end in ends]
    lines = [joints[:, :, end] - joints[:, :, start] for start, end in (SPINE, SHOULDERS)]
    turns = [_turning(line, level, fps, lag) for line in bones + lines]
    transl = _acceleration(joints[:, :, 0], level, fps, lag)
    root = torch.stack(turns[-2:]).square().mean(0).sqrt()
    groups = torch.stack([transl, root, *turns[:-2]], 1)
    strength = [STRENGTH["transl"], STRENGTH["root"]] + [STRENGTH["joints"]] * len(rig.fitted)
    smoothing = (noisy / trust)[:, None] * joints.new_tensor(strength) * 3 / groups.square()
    return Noise(level, trust, torch.nan_to_num(smoothing, 0) + (1 - noisy)[:, None] * _uneven(joints, fps, rig))


def _uneven(joints: Tensor, fps: Tensor, rig: Rig) -> Tensor:
    """Smoothing (clips, 2 + fitted) of clips whose bones change length."""
    stretch = bone_acceleration(joints, fps)[:, None]
    out = 0.0
    for weights, half, power in ((GENERATED, GENERATED_HALF, 2), (UNEVEN, UNEVEN_HALF, 4)):
        share = (stretch / half) ** power
        groups = [weights["transl"], weights["root"]] + [weights["joints"]] * len(rig.fitted)
        out = out + share / (1 + share) * joints.new_tensor(groups)
    return out


def bone_acceleration(joints: Tensor, fps: Tensor) -> Tensor:
    """Root mean square acceleration (clips,) in m/s^2 of bones' lengths: what of a motion no skeleton can follow.

    Less than FEWEST frames tell nothing: 0.
    """
    if joints.shape[1] < FEWEST:
        return joints.new_zeros(len(joints))
    bones = (joints[:, :, 1:] - joints[:, :, list(SMPL_PARENTS[1 : joints.shape[2]])]).norm(dim=-1)
    second = bones.diff(n=2, dim=1)
    return torch.nan_to_num(second.square().flatten(1).nanmean(1).sqrt()) * fps**2


def _share(level: Tensor) -> Tensor:
    return level**2 / (level**2 + PLAIN**2)


def noise_level(joints: Tensor) -> Tensor:
    """Deviation of white noise in metres (clips,), from joints (clips, frames, J, 3) with NaN for the unseen.

    The median keeps jumps and gaps out. Less than FEWEST frames tell nothing: 0.
    """
    if joints.shape[1] < FEWEST:
        return joints.new_zeros(len(joints))
    differences = joints.diff(n=4, dim=1)
    spread = 1.4826 * differences.abs().flatten(1).nanmedian(1).values
    return torch.nan_to_num(spread / 70**0.5, 0)


def _acceleration(points: Tensor, level: Tensor, fps: Tensor, lag: int) -> Tensor:
    """Root mean square acceleration (clips,) in m/s^2 of points (clips, frames, 3) that carry noise of this level."""
    second = points[:, 2 * lag :] - 2 * points[:, lag:-lag] + points[:, : -2 * lag]
    noise = 6 * level**2
    count = (~second.isnan()).flatten(1).sum(1) / (2 * lag)
    signal = second.square().flatten(1).nanmean(1) - noise
    floor = STEADY * noise / count.clamp_min(1).sqrt() + 1e-9
    return (3 * torch.maximum(signal, floor)).sqrt() * (fps / lag) ** 2


def _turning(line: Tensor, level: Tensor, fps: Tensor, lag: int) -> Tensor:
    """Root mean square angular acceleration (clips,) in rad/s^2 of a line between two joints (clips, frames, 3)."""
    return _acceleration(line, 2**0.5 * level, fps, lag) / line.norm(dim=-1).nanmedian(1).values
