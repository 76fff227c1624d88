"""L-BFGS and Adam on the same energy, for comparison: one optimiser for all clips, as the reference runs it."""

from typing import Literal

import torch

from fitting.energy import Energy
from fitting.rig import State
from fitting.solver.solution import Solution, Status


def first_order(energy: Energy, state: State, iterations: int, method: Literal["lbfgs", "adam"]) -> Solution:
    """Run `iterations` optimiser steps; an L-BFGS step is up to 150 line searches (lr 0.01, strong Wolfe)."""
    rig = energy.problem.rig
    rigid = energy.unknowns == "rigid"
    step = state.transl.new_zeros(*state.transl.shape[:2], 6 if rigid else 6 + 3 * len(rig.fitted), requires_grad=True)
    betas_step = torch.zeros_like(state.betas, requires_grad=not rigid)
    parameters = [step] if rigid else [step, betas_step]
    if method == "lbfgs":
        optimiser = torch.optim.LBFGS(parameters, lr=0.01, max_iter=150, line_search_fn="strong_wolfe")
    else:
        optimiser = torch.optim.Adam(parameters, lr=0.01, betas=(0.9, 0.999))
    solution = Solution.start(state.map(torch.clone), energy.evaluate(state)[1].sum(2), list(energy.terms))
    everything = torch.arange(len(state.betas), device=step.device)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total = energy.evaluate(state.moved(step, betas_step))[1].sum()
        total.backward()
        return total

    last = float("inf")
    for iteration in range(1, iterations + 1):
        with torch.enable_grad():
            total = float(optimiser.step(closure).detach())
        with torch.no_grad():
            moved = state.moved(step, betas_step)
            solution.record(everything, iteration, energy.evaluate(moved)[1].sum(2), moved)
        if method == "lbfgs" and abs(last - total) <= 1e-9 * abs(total):
            solution.finish(everything, Status.CONVERGED)
            break
        last = total
    solution.check_finite()
    return solution
