"""Samplers over a `denoise(x, t)` closure, and what such closures are made of: guidance, inpainting, correction.

    denoise = guided(denoiser, Condition(text=embeddings), scale=2.5)
    noise = seeded_noise([0, 1, 2])
    motion = ancestral(denoise, noise(torch.empty(3, 196, 263)), schedule, noise)

Motion is (batch, frames, features), normalised. To start from a motion instead of noise, diffuse it to a level and
sample with the levels up to there: `schedule.keep(range(level + 1))`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.errors import InputError
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.diffusion import Schedule, ancestral_step, ddim_step, dpm_step, half_log_snr

Denoise = Callable[[Tensor, int], Tensor]  # (x_t, t) -> predicted x_0
Noise = Callable[[Tensor], Tensor]  # standard normal, shaped as its argument
Correct = Callable[[Tensor], Tensor]  # predicted x_0 -> a better one


def seeded_noise(seeds: Sequence[int]) -> Noise:
    """Noise with a seed for each sample: a sample is the same in any batch and on any device."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda like: torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)


def conditioned(denoiser: Denoiser, condition: Condition) -> Denoise:
    """The network under one condition, without gradients."""

    @torch.no_grad()
    def denoise(x: Tensor, timestep: int) -> Tensor:
        return denoiser(x, torch.full((len(x),), timestep, device=x.device), condition)

    return denoise


def guided(
    denoiser: Denoiser, condition: Condition, scale: float | Tensor, interval: tuple[int, int] | None = None
) -> Denoise:
    """Classifier-free guidance, unconditional + scale (conditional - unconditional), in one call on a doubled batch.

    scale: a number or (batch,). interval: first and last timestep that are guided; the network is called without
    doubling at all others. Raises InputError for a network that never learned to go without its condition.
    Sources: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022; Kynkaanniemi et al., Applying Guidance in a
    Limited Interval, 2024.
    """
    if denoiser.config.condition == "none" or denoiser.config.condition_drop == 0:
        raise InputError("guidance needs a network trained with and without its condition; this one: use `conditioned`")
    plain, doubled = conditioned(denoiser, condition), condition.twice()

    @torch.no_grad()
    def denoise(x: Tensor, timestep: int) -> Tensor:
        if interval is not None and not interval[0] <= timestep <= interval[1]:
            return plain(x, timestep)
        timesteps = torch.full((len(x),), timestep, device=x.device)
        keep = torch.cat((x.new_ones(len(x)), x.new_zeros(len(x))))
        if denoiser.config.gru_over_batch:  # it would carry the one half over into the other
            halves = [denoiser.rough(x, timesteps, condition, part) for part in keep.chunk(2)]
        else:
            halves = denoiser.rough(torch.cat((x, x)), timesteps.repeat(2), doubled, keep).chunk(2)
        conditional, unconditional = halves
        weight = scale[:, None, None] if isinstance(scale, Tensor) else scale
        return denoiser.refined(unconditional + weight * (conditional - unconditional), timesteps, condition)

    return denoise


def inpainted(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Every predicted x_0 holds the `known` motion where mask is True (both broadcast to (batch, frames, features))."""
    return lambda x, timestep: torch.where(mask, known, denoise(x, timestep))


def corrected(denoise: Denoise, correct: Correct, last: int) -> Denoise:
    """Guidance by any loss: every x_0 predicted at timestep `last` or a cleaner one goes through `correct`."""
    return lambda x, timestep: correct(denoise(x, timestep)) if timestep <= last else denoise(x, timestep)


def ancestral(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise = torch.randn_like) -> Tensor:
    """Motion from noise x by sampling every posterior in turn (DDPM)."""
    for level in reversed(range(len(schedule))):
        clean = denoise(x, int(schedule.timesteps[level]))
        x = ancestral_step(schedule, clean, x, level, noise(x))
    return x


def ddim(denoise: Denoise, x: Tensor, schedule: Schedule, eta: float = 0.0, noise: Noise = torch.randn_like) -> Tensor:
    """Motion from noise x by DDIM; eta 0 draws no further noise, eta 1 as much as ancestral sampling."""
    for level in reversed(range(len(schedule))):
        clean = denoise(x, int(schedule.timesteps[level]))
        fresh = noise(x) if eta else 0.0
        x = ddim_step(clean, x, schedule.alpha_bar[level], schedule.alpha_bar_before[level], fresh, eta)
    return x


def dpm_solver(denoise: Denoise, x: Tensor, schedule: Schedule) -> Tensor:
    """Motion from noise x by DPM-Solver++(2M): x_0 is extrapolated along lambda from the last two predictions."""
    before, step_before = None, 1.0
    for level in reversed(range(1, len(schedule))):
        signal, target = schedule.alpha_bar[level], schedule.alpha_bar[level - 1]
        clean = denoise(x, int(schedule.timesteps[level]))
        step = half_log_snr(target) - half_log_snr(signal)
        ahead = clean if before is None else clean + step / (2 * step_before) * (clean - before)
        x = dpm_step(ahead, x, signal, target)
        before, step_before = clean, step
    return denoise(x, int(schedule.timesteps[0]))


def autoregressive(predict: Callable[[Tensor, int], Tensor], prefix: Tensor, frames: int) -> Tensor:
    """A motion (batch, frames, features) of any length from a network that continues a prefix (DiP).

    predict: (prefix (batch, context, features), number of the call) -> (batch, pred_len, features). Each call continues
    the last frames of the one before; the first `prefix` is not part of the result, what is too long is cut.
    """
    context, parts, made = prefix.shape[1], [], 0
    while made < frames:
        part = predict(prefix, len(parts))
        prefix = torch.cat((prefix, part), 1)[:, -context:]
        parts.append(part)
        made += part.shape[1]
    return torch.cat(parts, 1)[:, :frames]
