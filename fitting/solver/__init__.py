"""Solvers of the energy: start, step, stop."""

from typing import Literal

from fitting.energy import Energy
from fitting.rig import State
from fitting.solver.first_order import first_order
from fitting.solver.levenberg_marquardt import levenberg_marquardt
from fitting.solver.solution import Solution, Status

SolverName = Literal["lm", "lbfgs", "adam"]


def solve(energy: Energy, state: State, iterations: int, tolerance: float, solver: SolverName = "lm") -> Solution:
    """Lower the energy from `state`. lm: Levenberg-Marquardt, each clip for itself; lbfgs, adam: one for all."""
    if solver == "lm":
        return levenberg_marquardt(energy, state, iterations, tolerance)
    return first_order(energy, state, iterations, solver)


__all__ = ["Solution", "SolverName", "Status", "solve"]
