"""The energy of a long clip, worked out part by part, is the energy of the whole: no seams."""

import pytest
import torch

import fitting.energy
from fitting import rig
from fitting.data import Motion, collate
from fitting.energy import Energy
from fitting.smplify3d import SMPLify3D
from fitting.solver import solve
from fitting.start import mean_start
from models.body import BodyModel
from models.keyed import walk_and_pick_up


@pytest.fixture(scope="module")
def start():
    """Two clips of different length, every term of `careful`, away from any minimum."""
    body, motion = BodyModel.load(), walk_and_pick_up()
    joints = body.joints(torch.zeros(body.num_betas), motion.thetas.float(), motion.transl.float())[:70, :22]
    joints = joints + 0.02 * torch.randn(joints.shape, generator=torch.Generator().manual_seed(0))
    module = SMPLify3D().double()
    motions = [Motion("long", joints=joints.numpy()), Motion("short", joints=joints[10:60].numpy())]
    with torch.no_grad():
        _, problem = module.problem(collate(motions))
        state = mean_start(problem, *(x.to(problem.targets) for x in (module.mean_pose[:3], module.mean_betas)))
        random = torch.Generator().manual_seed(1)
        state = state.moved(0.1 * torch.randn(2, 70, 54, generator=random, dtype=torch.float64), 0.5)
    return module.preset.stages["pose"].terms, problem, state


@pytest.mark.parametrize("frames", [1, 5, 34, 69, 100])
@torch.no_grad()
def test_parts_make_the_whole(start, frames, monkeypatch):
    terms, problem, state = start
    posed, values = Energy(terms, problem).evaluate(state)
    normal = Energy(terms, problem).normal(posed)
    monkeypatch.setattr(rig, "PART", frames)
    energy = Energy(terms, problem)
    posed, values_of_parts = energy.evaluate(state)
    torch.testing.assert_close(values_of_parts, values, rtol=1e-12, atol=0)
    used = type(normal)(torch.full_like(normal.matrix, torch.nan), torch.full_like(normal.gradient, torch.nan))
    of_parts = energy.normal(posed, used)
    assert of_parts.matrix.data_ptr() == used.matrix.data_ptr()
    assert normal.spare is None
    for name in ("matrix", "gradient", "next1", "next2"):
        whole = getattr(normal, name)
        torch.testing.assert_close(getattr(of_parts, name), whole, rtol=1e-12, atol=1e-12 * whole.abs().max().item())


@torch.no_grad()
def test_many_frames_share_their_memory_with_the_factors(start, monkeypatch):
    """Fits in less memory, through rejected steps too, are the same; and where the memory went nobody reads."""
    terms, problem, state = start
    plain = solve(Energy(terms, problem), state, 12, 0)
    monkeypatch.setattr(fitting.energy, "MANY", 2)
    shared = solve(Energy(terms, problem), state, 12, 0)
    assert torch.equal(shared.energy, plain.energy) and torch.equal(shared.state.pose, plain.state.pose)
