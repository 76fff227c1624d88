"""What a solver answers: parameters, how it ended for each clip, and the curves of the energy's terms."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from fitting.rig import State


class Status(StrEnum):
    """How the solve of a clip ended."""

    CONVERGED = "converged"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        return {
            Status.CONVERGED: "The energy no longer falls.",
            Status.STOPPED: "The iteration limit was reached while the energy still fell: check the error before use.",
            Status.FAILED: "The energy is not a finite number; check the input for joints that are far off.",
        }[self]


@dataclass
class Solution:
    """state: best parameters; status, iterations: by clip; curve: a (terms, clips) tensor an iteration, start first."""

    state: State
    terms: list[str]
    curve: list[Tensor]
    status: list[Status]
    iterations: Tensor

    @classmethod
    def start(cls, state: State, values: Tensor, terms: list[str]) -> "Solution":
        clips = values.shape[1]
        iterations = torch.zeros(clips, dtype=torch.long, device=values.device)
        return cls(state, terms, [values.detach().clone()], [Status.STOPPED] * clips, iterations)

    def record(self, index: Tensor, iteration: int, values: Tensor, state: State) -> None:
        """Keep the terms and parameters of the clips at index after an iteration."""
        latest = self.curve[-1].clone()
        latest[:, index] = values.detach()
        self.curve.append(latest)
        self.iterations[index] = iteration
        for mine, theirs in zip(vars(self.state).values(), vars(state).values(), strict=True):
            mine[index] = theirs.detach()

    def finish(self, index: Tensor, status: Status) -> None:
        for clip in index.tolist():
            self.status[clip] = status

    def check_finite(self) -> None:
        """Mark clips whose energy is not finite."""
        self.finish((~self.energy.isfinite()).nonzero()[:, 0], Status.FAILED)

    @property
    def energy(self) -> Tensor:
        """Final energy of each clip (clips,)."""
        return self.curve[-1].sum(0)
