"""What the denoiser is trained on: parts of motions, made more various than they are, under noise."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fitting.denoiser import OBSERVED, Denoiser, Shown
from fitting.gaps import bridge
from fitting.known_motion import KnownMotion, chances
from fitting.noise import noise_level
from fitting.truth import mirrored_motion
from models.body import BodyModel, forward_kinematics
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rot6d, rot6d_to_matrix

ARMS, LEGS = (13, 14, 16, 17, 18, 19, 20, 21), (1, 2, 4, 5, 7, 8, 10, 11)
OTHERS = ((ARMS, 0.4), (LEGS, 0.25))  # how often limbs do what those of another motion do
WIDER, WIDTH = 0.4, (0.6, 1.6)  # how often all move by more or less than they do, and how much
FARTHER, WAY = 0.5, (0.7, 1.4)  # the same of the way that the pelvis goes
PACE = (0.6, 2.0)  # of the speed that a motion has at 20 frames a second
LEVELS = (0.005, 0.05)  # metres
FLOOR = 0.01  # metres: beside the noise, what an error is measured by


@dataclass
class NoisyBatch:
    """Noisy clips and where their joints (clips, frames, 22, 3) are."""

    shown: Shown
    joints: Tensor

    def loss(self, denoiser: Denoiser, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Mean distance of seen joints to where they are, as a share of the noise and in metres."""
        error = (denoiser(self.shown, rest) - self.joints).square().sum(-1).add(1e-6).sqrt()
        share = error / (self.shown.level + FLOOR)[:, None, None]
        return share[self.shown.seen].mean(), error[self.shown.seen].mean()


@dataclass
class Part:
    """Rotations (frames, 24, 3, 3), path (frames, 3) and betas (B,) of a person; noise (frames, 22, 3) in metres; which
    joints are seen (frames, 22)."""

    rotations: Tensor
    path: Tensor
    betas: Tensor
    noise: Tensor
    seen: Tensor


class Variations(Dataset):
    """Parts of motions, drawn by `chances`, varied and disturbed. What item i is depends on (seed, i) alone."""

    def __init__(self, kinds: Sequence[Sequence[KnownMotion]], count: int, frames: int, seed: int, betas: int = 10):
        self.count, self.frames, self.seed, self.betas = count, frames, seed, betas
        self.motions = [motion for kind in kinds for motion in kind]
        self.chances = chances(kinds)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Part:
        random = np.random.default_rng((self.seed, index))
        rotations, path = self._cut(random)
        for joints, chance in OTHERS:
            if random.random() < chance:
                rotations[:, joints] = self._cut(random)[0][:, joints]
        if random.random() < WIDER:
            rotations[:, 1:] = widened(rotations[:, 1:], random.uniform(*WIDTH))
        path = path * (random.uniform(*WAY) if random.random() < FARTHER else 1.0)
        betas = torch.as_tensor(random.normal(0, 1, self.betas)).float()
        noise = random.uniform(*LEVELS) * random.standard_normal((self.frames, OBSERVED, 3))
        seen = unseen_for_a_while(self.frames, random)
        return Part(rotations, path, betas, torch.as_tensor(noise).float(), torch.as_tensor(seen))

    def _cut(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A part of a motion at another pace, or in a mirror."""
        motion = self.motions[random.choice(len(self.motions), p=self.chances)]
        path, step = motion.path, motion.fps / 20 * np.exp(random.uniform(*np.log(PACE)))
        start = random.uniform(0, max(len(path) - 1 - step * (self.frames - 1), 0))
        time = torch.as_tensor(start + step * np.arange(self.frames)).clamp_max(len(path) - 1)
        low = time.long()
        high, share = (low + 1).clamp_max(len(path) - 1), (time - low).float()
        first = int(low[0])
        seen = matrix_to_rot6d(axis_angle_to_matrix(motion.taken(slice(first, int(high[-1]) + 1))))
        turned = rot6d_to_matrix(seen[low - first].lerp(seen[high - first], share[:, None, None]))
        path = path[low].lerp(path[high], share[:, None])
        if random.random() < 0.5:
            return turned, path
        thetas, path = mirrored_motion(matrix_to_axis_angle(turned), path)
        return axis_angle_to_matrix(thetas), path


def widened(rotations: Tensor, factor: float) -> Tensor:
    """Rotations (frames, J, 3, 3), each turned `factor` times as far from the clip's mean."""
    mean = rot6d_to_matrix(matrix_to_rot6d(rotations.mean(0)))
    return mean @ axis_angle_to_matrix(factor * matrix_to_axis_angle(mean.mT @ rotations))


def disturbed(parts: Sequence[Part], body: BodyModel) -> NoisyBatch:
    """Parts of equal length to a batch: the joints of their people, with noise, and with gaps bridged as a fit does."""
    rotations, path, betas, noise, seen = (
        torch.stack([getattr(part, field.name) for part in parts]) for field in fields(Part)
    )
    _, joints = forward_kinematics(rotations, body.rest_joints(betas[:, None]), body.parents)
    joints = joints[:, :, :OBSERVED] + path[:, :, None]
    level = noise_level(torch.where(seen[..., None], joints + noise, torch.nan))
    return NoisyBatch(Shown(bridge(joints + noise, seen)[0], seen, seen.any(2), level), joints)


def unseen_for_a_while(frames: int, random: np.random.Generator) -> np.ndarray:
    """Which joints are seen (frames, 22): in a third of all clips some but the pelvis are not, between two frames."""
    seen = np.ones((frames, OBSERVED), bool)
    if random.random() < 1 / 3:
        start, end = np.sort(random.integers(0, frames + 1, 2))
        seen[start:end, random.choice(np.arange(1, OBSERVED), random.integers(1, 7), replace=False)] = False
    return seen
