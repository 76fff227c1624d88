"""Levenberg-Marquardt over a batch: each clip accepts its own steps and stops by itself, each frame has its damping.

One frame in a bad place must not hold up its clip: where a step raises a frame's energy only that frame is damped more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.energy import Energy
from fitting.rig import Posed, State
from fitting.solver.arrow import solve_step
from fitting.solver.solution import Solution, Status
from fitting.terms import Normal

DAMPING = 1e-3  # at the start
EASE, STIFFEN = 0.2, 6.0  # factor for a frame whose energy fell, and for one whose energy rose
SOFTEST, STIFFEST = 1e-7, 1e6


@dataclass
class _Active:
    """The clips that still move: their place in the batch, energy, state and damping."""

    index: Tensor
    energy: Energy
    state: State
    posed: Posed
    values: Tensor  # (terms, clips, frames)
    damping: Tensor  # (clips, frames)
    normal: Normal | None = None
    moved: bool = True  # since `normal` was worked out

    def keep(self, rows: Tensor) -> "_Active":
        energy, state = self.energy.clips(rows), self.state.map(lambda x: x[rows])
        posed, values = energy.evaluate(state)
        return _Active(self.index[rows], energy, state, posed, values, self.damping[rows])

    def try_step(self) -> tuple[Tensor, Tensor]:
        """Move the clips whose energy falls; returns which (clips,) and their relative decrease (clips,)."""
        energy, rig = self.energy, self.posed.rig
        if self.moved or self.normal.spare is not None:  # the factors took its memory
            self.normal, self.moved = energy.normal(self.posed, self.normal), False
        num_betas = 0 if energy.unknowns == "rigid" else rig.num_betas
        step, betas_step = solve_step(self.normal, len(self.index), num_betas, self.damping)
        moved = self.state.moved(step, betas_step if num_betas else 0)
        posed, values = energy.evaluate(moved)
        frame_better = values.sum(0) < self.values.sum(0)  # false for NaN
        self.damping = (self.damping * torch.where(frame_better, EASE, STIFFEN)).clamp_min(SOFTEST)
        before, after = self.values.sum((0, 2)), values.sum((0, 2))
        better = after < before
        if better.all():
            self.state, self.posed, self.values, self.moved = moved, posed, values, True
        elif better.any():
            self.state = moved.where(better, self.state)
            self.posed, self.values = energy.evaluate(self.state)
            self.moved = True
        return better, (before - after) / before.abs().clamp_min(1e-9)


def levenberg_marquardt(energy: Energy, state: State, iterations: int, tolerance: float) -> Solution:
    """Lower the energy of every clip until its relative decrease is below tolerance.

    The start is `state`; the answer holds the parameters, and for each clip how it ended and its curve of every term.
    """
    posed, values = energy.evaluate(state)
    index = torch.arange(values.shape[1], device=values.device)
    active = _Active(index, energy, state, posed, values, torch.full_like(values[0], DAMPING))
    solution = Solution.start(state.map(torch.clone), values.sum(2), list(energy.terms))
    for iteration in range(1, iterations + 1):
        better, decrease = active.try_step()
        stuck = ~better & (active.damping.amin(1) > STIFFEST)
        done = stuck | (decrease.abs() < tolerance)  # a rise as small as that is rounding at the bottom
        solution.record(active.index, iteration, active.values.sum(2), active.state)
        if done.any():
            solution.finish(active.index[done], Status.CONVERGED)
            if done.all():
                break
            active = active.keep((~done).nonzero()[:, 0])
    solution.check_finite()
    return solution
