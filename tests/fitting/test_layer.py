"""The fit as a layer: its derivative against finite differences, batches and padding, clips that fail, a use of it."""

import time

import pytest
import torch

from fitting.data import Batch
from fitting.energy import Energy
from fitting.layer import EPS, Minimum, fit_layer
from fitting.smplify3d import SMPLify3D
from fitting.solver import solve
from fitting.solver.arrow import Arrow, solve_step
from fitting.terms import residual_term
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from tests.fits import smooth_fit


def clip(frames: int, seed: int = 0, noise: float = 0.01) -> torch.Tensor:
    """Joints (frames, 22, 3) of a moving body, float64, with noise in metres so that residuals bend the Hessian."""
    joints = torch.from_numpy(smooth_fit(24, seed).motion.joints[:frames]).double()
    return joints + noise * torch.randn(joints.shape, generator=torch.Generator().manual_seed(seed)).double()


def planted(frames: int, lift: float = 0.03) -> torch.Tensor:
    """Joints (frames, 22, 3), float64, of standing feet with bones that change length; the left foot is held up."""
    motion = walk_and_pick_up()
    thetas, transl = (torch.as_tensor(x).double()[:frames] for x in (motion.thetas, motion.transl))
    joints = BodyModel.load(dtype=torch.float64).joints(torch.zeros(10).double(), thetas, transl)[:, :22]
    joints = joints + 0.01 * torch.randn(joints.shape, generator=torch.Generator().manual_seed(0)).double()
    joints[:, [7, 10], 1] += lift
    return joints


def module(preset: str) -> SMPLify3D:
    return SMPLify3D(preset=preset).double()


def minimum(preset: str, joints: torch.Tensor) -> Minimum:
    mask = joints.new_ones(joints.shape[:2], dtype=torch.bool)
    return Minimum(module(preset), joints, mask, joints.new_full((len(joints),), 20.0))


def mesh_loss(joints: torch.Tensor, fitter: SMPLify3D) -> torch.Tensor:
    """Mean squared height of the mesh's lowest vertex in each frame of joints (clips, frames, 22, 3)."""
    thetas, betas, transl = fit_layer(joints, module=fitter)
    return fitter.body.vertices(betas, thetas, transl)[..., 1].amin(-1).square().mean()


@pytest.mark.parametrize("preset, made", [("quick", clip), ("careful", clip), ("careful", planted)])
def test_factor_is_of_the_true_hessian(preset, made):
    """The hand-written curvature equals second derivatives by autograd, so conjugate gradients have nothing to do."""
    solved = minimum(preset, made(5)[None])
    if made == planted:  # else the soles' terms would not be put to the test
        problem = solved.energy.problem
        height = solved.energy.terms["floor"].residual(problem.rig.posed(solved.state), problem)
        assert (height * problem.contact.weight > 1e-3).any() and (height * problem.contact.weight < -1e-3).any()
    directions = torch.eye(solved.unknowns.shape[1]).double()[::7]
    for direction in directions:
        bent = torch.autograd.grad(solved.gradient, solved.unknowns, direction[None], retain_graph=True)[0]
        torch.testing.assert_close(solved.arrow.solve(bent / 2)[0], direction, rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset, frames", [("careful", 5), ("careful", 6), ("quick", 3)])
def test_factor_solves_as_the_solver_does(preset, frames):
    fitter, joints = module(preset), torch.stack([clip(frames, seed) for seed in range(2)])
    batch = Batch(joints, joints.new_ones(joints.shape[:2], dtype=torch.bool), [], joints.new_full((2,), 20.0))
    _, problem = fitter.problem(batch)
    state = fitter.run_stages(problem)["pose"].state
    energy = Energy(fitter.preset.stages["pose"].terms, problem)
    normal = energy.normal(problem.rig.posed(state))
    step, betas_step = solve_step(normal, 2, 10, joints.new_zeros(2, frames))
    gradient = normal.gradient.unflatten(0, (2, frames))
    right = -torch.cat((gradient[..., :-10].flatten(1), gradient[..., -10:].sum(1)), 1)
    expected = torch.cat((step.flatten(1), betas_step), 1)
    torch.testing.assert_close(Arrow(normal, 2, 10).solve(right), expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("preset", ["quick", "careful", "reference"])
def test_gradcheck(preset):
    fitter, joints = module(preset), clip(4)[None].requires_grad_()
    torch.autograd.gradcheck(lambda x: fit_layer(x, module=fitter), joints, eps=1e-5, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("preset", ["quick", "careful"])
def test_mesh_loss_against_finite_differences(preset):
    fitter, joints = module(preset), clip(3)[None].requires_grad_()
    slope = torch.autograd.grad(mesh_loss(joints, fitter), joints)[0]
    for seed in range(2):
        direction = torch.randn(joints.shape, generator=torch.Generator().manual_seed(seed)).double()
        with torch.no_grad():
            ahead, behind = (mesh_loss(joints + h * direction, fitter) for h in (1e-5, -1e-5))
        expected = float(ahead - behind) / 2e-5
        assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_moving_the_joints_moves_the_body():
    """Translation equivariance: d(transl)/d(joints) summed over joints is the identity."""
    joints = (clip(3) + torch.tensor([100.0, 0, -40.0]))[None].requires_grad_()
    _, _, transl = fit_layer(joints, module=module("careful"))
    for axis in range(3):
        slope = torch.autograd.grad(transl[0, :, axis].sum(), joints, retain_graph=True)[0].sum((1, 2))[0]
        torch.testing.assert_close(slope, 3 * torch.eye(3).double()[axis], rtol=0, atol=1e-6)


@pytest.mark.parametrize("preset", ["quick", "careful", "reference"])
def test_batch_equals_one_by_one(preset):
    """Padding, whatever stands there, changes nothing, gives zeros and gets a zero gradient."""
    fitter, lengths = module(preset), (3, 5, 4)
    clips = [clip(frames, seed) for seed, frames in enumerate(lengths)]
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=7.0).requires_grad_()
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    outputs = fit_layer(padded, mask, module=fitter)
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double() for x in outputs]
    together = torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, outputs, strict=True)), padded)[0]
    assert not together[~mask].any() and not outputs[0][~mask].any() and not outputs[2][~mask].any()
    for i, (joints, frames) in enumerate(zip(clips, lengths, strict=True)):
        single = joints[None].requires_grad_()
        alone = fit_layer(single, module=fitter)
        parts = [w[i : i + 1] if x.dim() == 2 else w[i : i + 1, :frames] for w, x in zip(weights, alone, strict=True)]
        slope = torch.autograd.grad(sum((w * x).sum() for w, x in zip(parts, alone, strict=True)), single)[0][0]
        torch.testing.assert_close(outputs[0][i, :frames], alone[0][0], rtol=0, atol=1e-7)
        torch.testing.assert_close(together[i, :frames], slope, rtol=1e-5, atol=1e-5)


def test_float32():
    joints = clip(4)[None]
    slopes = {}
    for dtype in (torch.float32, torch.float64):
        x = joints.to(dtype).requires_grad_()
        thetas, betas, transl = fit_layer(x, module="quick")
        assert thetas.dtype == betas.dtype == transl.dtype == dtype
        (thetas.square().sum() + betas.square().sum()).backward()
        slopes[dtype] = x.grad.double()
    torch.testing.assert_close(slopes[torch.float32], slopes[torch.float64], rtol=1e-3, atol=1e-3)


def test_a_failed_clip_gets_a_zero_gradient_and_a_warning():
    """The energy of one clip is not finite; the other's gradient is what it is alone."""
    fitter = module("quick")
    fitter.preset.stages["pose"].terms["wall"] = residual_term(
        lambda posed, problem: posed.transl / (problem.targets[..., 1].amax(1, keepdim=True) < 0.9), weight=1e-3
    )
    good = clip(3)
    joints = torch.stack((good, good * 2)).requires_grad_()  # twice as tall
    with pytest.warns(UserWarning, match=r"clips \[1\]"):
        outputs = fit_layer(joints, module=fitter)
    slope = torch.autograd.grad(sum(x.square().sum() for x in outputs), joints)[0]
    assert slope.isfinite().all() and not slope[1].any()
    alone = good[None].requires_grad_()
    expected = torch.autograd.grad(sum(x.square().sum() for x in fit_layer(alone, module=fitter)), alone)[0]
    torch.testing.assert_close(slope[:1], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("preset", ["quick", "careful"])
def test_parts_of_a_large_batch_keep_their_gradient(preset, monkeypatch):
    """Frames are worked out some hundreds at a time; here four at a time."""
    fitter, slopes = module(preset), []
    for part in (512, 4):
        monkeypatch.setattr("fitting.rig.PART", part)
        joints = clip(6)[None].requires_grad_()
        slopes.append(torch.autograd.grad(mesh_loss(joints, fitter), joints)[0])
    assert slopes[0].any()
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-5, atol=1e-8)


def test_lowest_vertex_finds_the_floor():
    fitter, joints = module("quick"), clip(2)[None]
    offset = torch.zeros_like(joints, requires_grad=True)
    optimiser = torch.optim.LBFGS([offset], max_iter=8, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = 100 * mesh_loss(joints + offset, fitter)
        loss.backward()
        return loss

    before = float(mesh_loss(joints, fitter).detach()) ** 0.5
    optimiser.step(closure)
    after = float(mesh_loss(joints + offset, fitter).detach()) ** 0.5
    assert before > 0.05 and after < 1e-4


def test_backward_costs_at_most_two_solver_iterations():
    """1.4 to 1.8 of them measured; a shared machine gets one more here."""
    solved = minimum("careful", planted(100, 0.0)[None])
    slope, centre_slope = torch.ones_like(solved.gradient), torch.ones_like(solved.centre)

    def seconds(call) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    backward = seconds(lambda: solved.pull_back(slope, centre_slope))
    energy = Energy(solved.energy.terms, solved.energy.problem)
    with torch.no_grad():
        iteration = seconds(lambda: solve(energy, solved.state.map(torch.clone), 1, EPS))
    assert backward < 3 * iteration


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"\(clips, frames, 22, 3\)"):
        fit_layer(torch.zeros(4, 22, 3))
    with pytest.raises(InputError, match="no valid frame"):
        fit_layer(torch.zeros(1, 4, 22, 3), torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="adam"):
        fit_layer(torch.zeros(1, 4, 22, 3), module=SMPLify3D(solver="adam"))
