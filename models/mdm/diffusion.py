"""The diffusion process: noise schedules, respacing, and one step of each sampler.

A network predicts x_0 from x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, with a_t the schedule's `alpha_bar`. Tables are
float64 and every coefficient is a number before it meets a tensor. Sources: Ho et al., Denoising Diffusion
Probabilistic Models, 2020; Nichol and Dhariwal, Improved Denoising Diffusion, 2021 (cosine schedule, respacing); Song
et al., Denoising Diffusion Implicit Models, 2021; Lu et al., DPM-Solver++, 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from models.errors import InputError

SCHEDULES = ("cosine", "linear")
MAX_BETA = 0.999


@dataclass(frozen=True)
class Schedule:
    """Noise levels, from nearly clean (index 0) to noise.

    alpha_bar: (steps,) float64, the share of the signal's variance that is left. timesteps: (steps,) int64, the index
    that the network was trained with at each level.
    """

    alpha_bar: np.ndarray
    timesteps: np.ndarray

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def alpha_bar_before(self) -> np.ndarray:
        """alpha_bar one level cleaner; 1 before the first."""
        return np.append(1.0, self.alpha_bar[:-1])

    @cached_property
    def betas(self) -> np.ndarray:
        """Variance that each level adds: 1 - alpha_bar / alpha_bar_before."""
        return 1 - self.alpha_bar / self.alpha_bar_before

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """Variance of x_{t-1} given x_t and x_0; 0 at the first level."""
        return self.betas * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)

    @cached_property
    def posterior_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of x_0 and x_t in the mean of x_{t-1} given both."""
        left = 1 - self.alpha_bar
        clean = self.betas * np.sqrt(self.alpha_bar_before) / left
        return clean, (1 - self.alpha_bar_before) * np.sqrt(1 - self.betas) / left

    def keep(self, indices: Sequence[int]) -> "Schedule":
        """The schedule of a part of the levels (ascending indices); the network is still told the original timestep."""
        return Schedule(self.alpha_bar[list(indices)], self.timesteps[list(indices)])


def noise_schedule(name: str, steps: int) -> Schedule:
    """The named schedule with as many levels as the network was trained on.

    cosine: alpha_bar follows cos^2((u + 0.008) / 1.008 pi / 2), each beta at most 0.999. linear: betas from 1e-4 to
    0.02 at 1000 steps, scaled to keep the same total noise at others. Raises InputError for another name or count.
    """
    if name not in SCHEDULES:
        raise InputError(f"noise schedule {name!r} is unknown; known are {', '.join(SCHEDULES)}")
    if steps < (1 if name == "cosine" else 21):
        raise InputError(f"{steps} diffusion steps are too few for the {name} schedule")
    if name == "linear":
        betas = np.linspace(1e-4, 0.02, steps) * (1000 / steps)
    else:
        signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - signal[1:] / signal[:-1], MAX_BETA)
    return Schedule(np.cumprod(1 - betas), np.arange(steps))


def spaced(steps: int, sections: Sequence[int]) -> list[int]:
    """Indices of the levels that respacing keeps: sections[i] of them, evenly, ends included, from each equal section.

    Raises InputError where a section is asked for more levels than it has.
    """
    sizes = [steps // len(sections) + (i < steps % len(sections)) for i in range(len(sections))]
    kept, start = [], 0
    for size, count in zip(sizes, sections, strict=True):
        if not 1 <= count <= size:
            raise InputError(f"{count} steps were asked of {size}; between 1 and {size} can be kept")
        strides = np.full(count, (size - 1) / max(count - 1, 1))
        strides[0] = 0
        kept += [start + round(position) for position in np.cumsum(strides)]  # summed: halves round as the reference's
        start += size
    return kept


def strided(steps: int, count: int) -> list[int]:
    """Indices from 0 at the whole-number stride that gives exactly `count` levels, as in DDIM; else InputError."""
    for stride in range(1, steps + 1):
        if len(range(0, steps, stride)) == count:
            return list(range(0, steps, stride))
    raise InputError(f"no whole-number stride takes exactly {count} of {steps} steps; use even spacing instead")


def diffuse(schedule: Schedule, clean: Tensor, level: int, noise: Tensor) -> Tensor:
    """x_t of clean motion (q_sample)."""
    signal = float(schedule.alpha_bar[level])
    return math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise


def posterior_mean(schedule: Schedule, clean: Tensor, x: Tensor, level: int) -> Tensor:
    """Mean of x_{t-1} given x_t and (predicted) x_0."""
    of_clean, of_x = schedule.posterior_weights
    return float(of_clean[level]) * clean + float(of_x[level]) * x


def ancestral_step(schedule: Schedule, clean: Tensor, x: Tensor, level: int, noise: Tensor) -> Tensor:
    """A sample of x_{t-1} given x_t and predicted x_0; no noise is added at level 0."""
    deviation = math.sqrt(schedule.posterior_variance[level])
    return posterior_mean(schedule, clean, x, level) + deviation * noise


def ddim_step(clean: Tensor, x: Tensor, signal: float, target: float, noise: Tensor | float = 0.0, eta: float = 0.0):
    """x moved from alpha_bar `signal` to alpha_bar `target` along its own noise.

    eta 0 is deterministic, and with a noisier target it is the inversion of itself; eta 1 adds as much fresh noise as
    ancestral sampling.
    """
    own_noise = (x - math.sqrt(signal) * clean) / math.sqrt(1 - signal)
    fresh = eta * math.sqrt((1 - target) / (1 - signal) * (1 - signal / target)) if eta else 0.0
    return math.sqrt(target) * clean + math.sqrt(1 - target - fresh**2) * own_noise + fresh * noise


def half_log_snr(signal: np.ndarray | float) -> np.ndarray | float:
    """lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), the time of DPM-Solver."""
    return 0.5 * np.log(signal / (1 - signal))


def spaced_in_lambda(schedule: Schedule, count: int) -> list[int]:
    """Indices of at most `count` levels as even in lambda as there are, ends included: the spacing for `dpm_solver`.

    At the clean end the levels may lie further apart than asked; each is then taken once.
    """
    lambdas = half_log_snr(schedule.alpha_bar)
    wanted = np.linspace(lambdas[0], lambdas[-1], count)
    return np.unique(np.abs(lambdas - wanted[:, None]).argmin(1)).tolist()


def dpm_step(clean: Tensor, x: Tensor, signal: float, target: float) -> Tensor:
    """x moved from alpha_bar `signal` to `target` by the exact solution of the ODE for an x_0 that stays constant.

    (sigma' / sigma) x - alpha' (exp(-h) - 1) x_0, h the step in lambda. DPM-Solver++ puts an extrapolated x_0 here.
    """
    step = half_log_snr(target) - half_log_snr(signal)
    return math.sqrt((1 - target) / (1 - signal)) * x - math.sqrt(target) * math.expm1(-step) * clean
