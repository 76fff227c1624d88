"""A checkpoint at work: text, or nothing, to motion features, a seed a sample."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.mdm.checkpoint import Checkpoint
from models.mdm.denoiser import Condition
from models.mdm.diffusion import Schedule, spaced_in_lambda
from models.mdm.sampling import (
    Correct,
    Denoise,
    Noise,
    ancestral,
    autoregressive,
    conditioned,
    corrected,
    dpm_solver,
    guided,
    inpainted,
    seeded_noise,
)
from models.mdm.text import TextEmbedding

FPS = {"humanml": 20.0, "kit": 12.5}
LONGEST = 196  # frames that the networks were trained on
GUIDANCE, PREFIX_GUIDANCE = 2.5, 7.5  # the reference's, for prefix models (DiP) its own
FEW = 10  # noise levels of networks that read words: as good as all (docs/evaluation.md)
BATCH = {"cpu": 4, "cuda": 64}  # samples at once; on a CPU larger batches leave the cache


class Kept(NamedTuple):
    """What an edit keeps of a motion: motion (frames, features) normalised; mask of that shape, True = kept."""

    motion: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Generator:
    """Samples a checkpoint trained on HumanML3D or KIT-ML.

    guidance: scale of the text's effect; None = the reference's, or none where the network never learned to go without
    text. steps: None = every noise level in turn, as the reference does, or FEW; a number = at most so many levels, by
    DPM-Solver++. tick: called before every evaluation of the network. correct: what the motion (batch, frames,
    features), normalised, goes through that is predicted at the last level; at others the network would undo it.
    Raises InputError for checkpoints of actions or with goals, for steps that the schedule lacks, and for guidance
    that the network cannot have.
    """

    checkpoint: Checkpoint
    guidance: float | None = None
    steps: int | None = None
    device: torch.device | str = "cpu"
    tick: Callable[[], None] = lambda: None
    correct: Correct | None = None

    def __post_init__(self) -> None:
        config, dataset = self.checkpoint.denoiser.config, self.checkpoint.args["dataset"]
        if dataset not in FPS:
            raise InputError(
                f"this checkpoint was trained on the actions of {dataset}; motion is generated here by checkpoints of "
                f"{' and '.join(FPS)}. docs/mdm.md shows how such a network is sampled from Python"
            )
        if config.goals:
            raise InputError(
                "this checkpoint wants places to reach (multi_target_cond), which no option gives yet; docs/mdm.md "
                "shows how they are given from Python"
            )
        if self.steps is not None and not 2 <= self.steps <= len(self.checkpoint.schedule):
            raise InputError(f"{self.steps} steps: this checkpoint takes 2 to {len(self.checkpoint.schedule)}")
        if self.guidance not in (None, 1) and not self._guidable:
            raise InputError(
                f"guidance {self.guidance:g}: this network was trained without dropping its condition, so there is "
                "nothing to guide by; leave it out"
            )
        self.checkpoint.denoiser.to(self.device)

    @property
    def levels(self) -> Schedule:
        """The noise levels that a sample goes through."""
        schedule, steps = self.checkpoint.schedule, self._few
        return schedule if steps is None else schedule.keep(spaced_in_lambda(schedule, steps))

    @property
    def _few(self) -> int | None:
        """How many levels DPM-Solver++ goes through; None: every level is sampled in turn."""
        usual = min(FEW, len(self.checkpoint.schedule)) if self._of_words else None
        return usual if self.steps is None else self.steps

    @property
    def _of_words(self) -> bool:
        config = self.checkpoint.denoiser.config
        return config.condition == "text" and config.text_encoder == "words"

    @property
    def batch(self) -> int:
        """Samples at once. A GRU that recurs across the batch gets one, so that no sample depends on another."""
        one = self.checkpoint.denoiser.config.gru_over_batch
        return 1 if one else BATCH.get(torch.device(self.device).type, 1)

    def frames(self, seconds: float) -> int:
        """Frames of so many seconds at the data set's rate. Raises InputError for fewer than one or more than 196."""
        fps = FPS[self.checkpoint.args["dataset"]]
        frames = math.floor(seconds * fps + 1e-6) if math.isfinite(seconds) else 0
        if not 1 <= frames <= LONGEST:
            raise InputError(
                f"{seconds:g} seconds: this checkpoint makes {1 / fps:g} to {LONGEST / fps:g} seconds, {LONGEST} "
                f"frames at {fps:g} a second"
            )
        return frames

    def evaluations(self, samples: int, frames: int) -> int:
        """How often the network will be evaluated; a guided pair counts once."""
        config = self.checkpoint.denoiser.config
        parts = math.ceil(frames / config.pred_len) if config.context_len else 1
        return math.ceil(samples / self.batch) * parts * len(self.levels)

    def __call__(
        self,
        seeds: Sequence[int],
        frames: int,
        text: TextEmbedding | None = None,
        prefix: Tensor | None = None,
        kept: Kept | None = None,
    ) -> Tensor:
        """Motion (samples, frames, features), normalised, on the CPU; a sample for each seed.

        text: an embedding a sample, None for a network without text. prefix: (context, features), normalised, what a
        prefix model continues. kept: what all samples shall hold. Raises InputError where the network wants a text or
        prefix and has none, and for something to keep in a model with a prefix.
        """
        config = self.checkpoint.denoiser.config
        if (text is None) != (config.condition == "none"):
            raise InputError(f"this network's condition is {config.condition!r}: a text is needed there and only there")
        if (prefix is None) != (config.context_len == 0):
            raise InputError(f"this network continues {config.context_len} frames: a prefix is needed of that length")
        if kept is not None and config.context_len:
            raise InputError("this network continues motion (DiP): it cannot keep parts of one; take a model without")
        parts = [slice(i, i + self.batch) for i in range(0, len(seeds), self.batch)]
        token = config.frames_per_token
        whole = math.ceil(frames / token) * token
        made = [self._sample(seeds[p], whole, None if text is None else text.take(p), prefix, kept) for p in parts]
        return torch.cat(made)[:, :frames].cpu()

    @property
    def _guidable(self) -> bool:
        config = self.checkpoint.denoiser.config
        return config.condition != "none" and config.condition_drop > 0

    def _sample(
        self, seeds: Sequence[int], frames: int, text: TextEmbedding | None, prefix: Tensor | None, kept: Kept | None
    ) -> Tensor:
        """One batch."""
        config, noise = self.checkpoint.denoiser.config, seeded_noise(seeds)
        condition = {} if text is None else {"text": text.tensor.to(self.device)}
        if text is not None and text.mask is not None:
            condition["text_padding"] = text.mask.to(self.device)
        shape = (len(seeds), frames if prefix is None else config.pred_len, config.features)

        def predict(before: Tensor | None, call: int) -> Tensor:
            start = noise(torch.empty(shape, device=self.device))
            denoise = self._denoise(Condition(**condition, prefix=before))
            if self.correct is not None:
                denoise = corrected(denoise, self.correct, last=int(self.levels.timesteps[0]))
            if kept is not None:
                denoise = inpainted(denoise, *(pad_frames(part, frames).to(self.device) for part in kept))
            return self._denoised(denoise, start, noise)

        if prefix is None:
            return predict(None, 0)
        return autoregressive(predict, prefix.to(self.device).expand(shape[0], -1, -1), frames)

    def _denoise(self, condition: Condition) -> Denoise:
        usual = PREFIX_GUIDANCE if self.checkpoint.denoiser.config.context_len else GUIDANCE
        scale = usual if self.guidance is None else self.guidance
        plain = scale == 1 or not self._guidable
        network = self.checkpoint.denoiser
        denoise = conditioned(network, condition) if plain else guided(network, condition, scale)

        def counted(x: Tensor, timestep: int) -> Tensor:
            self.tick()
            return denoise(x, timestep)

        return counted

    def _denoised(self, denoise: Denoise, start: Tensor, noise: Noise) -> Tensor:
        if self._few is None:
            return ancestral(denoise, start, self.levels, noise)
        return dpm_solver(denoise, start, self.levels)


def pad_frames(part: Tensor, frames: int) -> Tensor:
    """(T, F) with its last frame repeated up to so many frames."""
    return torch.cat((part, part[-1:].expand(frames - len(part), -1)))


def sample_seeds(seed: int, samples: int, repetitions: int) -> list[int]:
    """A seed for each motion, all samples of repetition 0 first: it follows from seed, sample and repetition alone."""
    places = [(seed, sample, repetition) for repetition in range(repetitions) for sample in range(samples)]
    return [int(np.random.SeedSequence(place).generate_state(1)[0]) for place in places]
