"""Levenberg-Marquardt over a batch: each clip accepts its own steps and stops by itself, each frame has its damping.

One frame in a bad place must not hold up its clip: where a step raises a frame's energy only that frame is damped more.
Where time ties no frames, a frame's energy is its own, and its damping follows how much of the fall that the quadratic
model promised was kept: light from the start, almost none where the model is exact, more as soon as it is poor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.energy import Energy
from fitting.rig import Posed, State
from fitting.solver.arrow import solve_step
from fitting.solver.solution import Solution, Status
from fitting.terms import Normal

DAMPING, LIGHT = 1e-3, 1e-4  # at the start; the second where time ties no frames
EASE, STIFFEN = 0.2, 6.0  # factor for a frame whose energy fell, and for one whose energy rose
EXACT, POOR, SURE = 0.9, 0.5, 0.005  # shares of the promised fall from and under which the model is so; factor if exact
SETTLED = 1e-3  # of a frame's energy: a promise under it is not judged, as rounding would decide
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
        self._damp(step, betas_step, values.sum(0))
        before, after = self.values.sum((0, 2)), values.sum((0, 2))
        better = after < before
        if better.all():
            self.state, self.posed, self.values, self.moved = moved, posed, values, True
        elif better.any():
            self.state = moved.where(better, self.state)
            self.posed, self.values = energy.evaluate(self.state)
            self.moved = True
        return better, (before - after) / before.abs().clamp_min(1e-9)

    def _damp(self, step: Tensor, betas_step: Tensor, after: Tensor) -> None:
        """Damping of each frame for the next step: its energy after this one is `after` (clips, frames)."""
        before = self.values.sum(0)
        factor = torch.where(after < before, EASE, STIFFEN)  # stiffer for NaN
        if self.energy.ties == [0]:
            gradient = self.normal.gradient.unflatten(0, before.shape)
            whole = torch.cat((step, betas_step[:, None].expand(-1, step.shape[1], -1)), 2)
            promised = -(gradient * whole).sum(2)
            kept = (before - after) / promised
            factor = torch.where((kept < POOR) & (promised > SETTLED * before), STIFFEN, factor)
            factor = torch.where(kept > EXACT, SURE, factor)
        self.damping = (self.damping * factor).clamp_min(SOFTEST)


def levenberg_marquardt(energy: Energy, state: State, iterations: int, tolerance: float) -> Solution:
    """Lower the energy of every clip until its relative decrease is below tolerance.

    The start is `state`; the answer holds the parameters, and for each clip how it ended and its curve of every term.
    """
    posed, values = energy.evaluate(state)
    index = torch.arange(values.shape[1], device=values.device)
    damping = torch.full_like(values[0], LIGHT if energy.ties == [0] else DAMPING)
    active = _Active(index, energy, state, posed, values, damping)
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
