"""Every term against the reference's numbers, and its derivatives against automatic differentiation."""

import numpy as np
import pytest
import torch

from fitting.contact import find_contacts
from fitting.energy import Energy
from fitting.mixture import Mixture, complete_pose
from fitting.problem import TORSO, Problem, fitted_dims
from fitting.rig import Rig, State
from fitting.terms import TERMS, Term, residual_term
from fitting.terms.base import Normal
from fitting.terms.joints import gmof
from fitting.terms.pose import angle_prior
from models.body import BodyModel
from models.prior import PosePrior
from models.rotations import axis_angle_to_matrix

DOUBLE = torch.float64
OPTIONS = {"joints": {"sigma": 0.2}, "smoothness": {"transl": 2.0, "root": 3.0}}
PRIOR_CHOICES = ["hard", "soft"]


def make(
    fitted: str, clips: int = 2, frames: int = 5, seed: int = 0, spread: float = 0.4, points: tuple[str, ...] = ()
) -> tuple[Problem, State]:
    """A random problem and state on the embedded body in float64."""
    torch.manual_seed(seed)
    body = BodyModel.load(dtype=DOUBLE)
    rig = Rig(body, tuple(range(22)), fitted, points)
    prior = PosePrior.load(dtype=DOUBLE)
    dims = fitted_dims(rig)
    state = State(
        torch.randn(clips, frames, 3, dtype=DOUBLE),
        axis_angle_to_matrix(torch.randn(clips, frames, 3, dtype=DOUBLE)),
        spread * torch.randn(clips, frames, len(rig.fitted), 3, dtype=DOUBLE),
        torch.randn(clips, rig.num_betas, dtype=DOUBLE),
    )
    count, observed = clips * frames, len(rig.observed)
    problem = Problem(
        rig,
        rig.posed(state).joints + 0.1 * torch.randn(count, observed, 3, dtype=DOUBLE),
        torch.rand(count, observed, dtype=DOUBLE),
        torch.ones(clips, frames, dtype=torch.bool),
        torch.tensor([20.0, 30.0], dtype=DOUBLE)[:clips],
        Mixture(prior, dims, DOUBLE),
        prior.limits.flatten(0, 1)[dims] if prior.limits is not None else None,
        prior.mean_pose,
        torch.randn(count, 3, dtype=DOUBLE),
    )
    joints = problem.targets[:, :22].unflatten(0, (clips, frames))
    problem.contact = find_contacts(joints, problem.mask[..., None].expand(-1, -1, 22), problem.fps, body)
    problem.contact.weight = torch.rand(count, 2, dtype=DOUBLE)
    problem.contact.near = torch.rand(count, 2, dtype=DOUBLE)
    return problem, state


def gradients(
    term: Term, problem: Problem, state: State, unknowns: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient of the energy by (frames' unknowns, betas) from autograd, and the term's own."""
    rig = problem.rig
    size = 6 + (0 if unknowns == "rigid" else 3 * len(rig.fitted))
    step = torch.zeros(*problem.mask.shape, size, dtype=DOUBLE, requires_grad=True)
    betas_step = torch.zeros_like(state.betas, requires_grad=True)
    total = term.energy(rig.posed(state.moved(step, betas_step)), problem).sum()
    by_frame, by_betas = torch.autograd.grad(total, (step, betas_step), allow_unused=True, materialize_grads=True)
    normal = Energy({"term": term}, problem, unknowns).normal(rig.posed(state))
    own = 2 * normal.gradient.view(*problem.mask.shape, -1)
    if unknowns == "all":
        by_frame = torch.cat((by_frame, by_betas[:, None].expand(-1, step.shape[1], -1)), -1)
        own = torch.cat((own[..., :size], own[..., size:].sum(1, keepdim=True).expand(-1, step.shape[1], -1)), -1)
    return by_frame, own, normal


@pytest.mark.parametrize("unknowns", ["rigid", "all"])
@pytest.mark.parametrize("name", ["joints", "torso", "smoothness", "contact", "near", "floor"])
def test_gradient_of_rigid_terms(name, unknowns):
    problem, state = make("visible")
    expected, own, _ = gradients(TERMS[name](2.0, **OPTIONS.get(name, {})), problem, state, unknowns)
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("fitted", ["visible", "all"])
def test_gradient_with_landmarks(fitted):
    """Points of the skin are observed as joints are, and turn the head and the toes that carry them."""
    problem, state = make(fitted, points=("nose", "mid_hip", "left_big_toe", "right_hand"))
    assert {15, 10, 21} <= set(problem.rig.fitted)
    for unknowns in ("rigid", "all"):
        expected, own, _ = gradients(TERMS["joints"](2.0, sigma=0.2), problem, state, unknowns)
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["pose_prior", "angle", "limits", "preserve", "shape"])
def test_gradient_of_pose_terms(name):
    problem, state = make("all", spread=0.8)
    for options in [{"components": c} for c in PRIOR_CHOICES] if name == "pose_prior" else [{}]:
        expected, own, _ = gradients(TERMS[name](2.0, **options), problem, state, "all")
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_placement_gradient():
    problem, state = make("visible")
    expected, own, _ = gradients(TERMS["placement"](2.0), problem, state, "rigid")
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("unknowns", ["rigid", "all"])
@pytest.mark.parametrize("name", ["joints", "torso"])
def test_analytic_blocks_equal_forward_mode(name, unknowns):
    """The hand-written Jacobian of the joints gives the same normal equations as exact forward-mode derivatives."""
    problem, state = make("visible")
    problem.confidence = torch.ones_like(problem.confidence)
    own = TERMS[name](2.0)
    plain = residual_term(lambda posed, problem: own.residual(posed, problem).flatten(1), 2.0)
    posed = problem.rig.posed(state)
    mine = Energy({"term": own}, problem, unknowns).normal(posed)
    generic = Energy({"term": plain}, problem, unknowns).normal(posed)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-4} if name == "joints" else {"rtol": 1e-9, "atol": 1e-9}
    )  # gmof at 100 m is not quite x^2
    torch.testing.assert_close(mine.matrix, generic.matrix, **tolerance)
    torch.testing.assert_close(mine.gradient, generic.gradient, **tolerance)


def test_smoothness_matrix_is_the_squared_jacobian():
    """Diagonal blocks and couplings of the smoothness term equal J^T W J with J from automatic differentiation."""
    problem, state = make("visible", clips=1, frames=5, spread=0.3)
    term = TERMS["smoothness"](1.0, transl=2.0, root=3.0)
    rig, frames = problem.rig, 5
    size = 6 + 3 * len(rig.fitted)

    def weighted_residual(flat):
        posed = rig.posed(state.moved(flat.view(1, frames, size), 0))
        steps, _ = term._steps(posed)
        return (term._weights(posed, problem).sqrt()[..., None] * steps.diff(dim=1)).flatten()

    jacobian = torch.autograd.functional.jacobian(weighted_residual, torch.zeros(frames * size, dtype=DOUBLE))
    expected = (jacobian.T @ jacobian).view(frames, size, frames, size)
    posed = rig.posed(state)
    normal = Normal(torch.zeros(frames, size, size, dtype=DOUBLE), torch.zeros(frames, size, dtype=DOUBLE))
    term.add_to(normal, posed, problem, "all")
    scale = float(expected.abs().max())
    for t in range(frames):
        torch.testing.assert_close(normal.matrix[t], expected[t, :, t], rtol=0, atol=1e-9 * scale)
    for gap, coupling in ((1, normal.next1), (2, normal.next2)):
        for t in range(frames - gap):
            dense = torch.block_diag(*coupling[0, t])
            torch.testing.assert_close(dense, expected[t, :, t + gap], rtol=0, atol=1e-9 * scale)


def test_smoothness_counts_no_energy_for_steady_turns():
    """Three full turns at constant speed have no acceleration, wherever the rotation vector wraps."""
    problem, state = make("visible", clips=1, frames=60)
    problem.mask = torch.ones(1, 60, dtype=torch.bool)
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, -0.5], dtype=DOUBLE), dim=0)
    turns = axis * torch.linspace(0, 6 * torch.pi, 60, dtype=DOUBLE)[:, None]
    state = State(
        0.1 * turns[None], axis_angle_to_matrix(turns)[None], state.pose[:, :1].expand(-1, 60, -1, -1), state.betas
    )
    energy = TERMS["smoothness"](1.0).energy(problem.rig.posed(state), problem)
    assert float(energy.max()) < 1e-15


def test_conditional_mean_fills_what_is_not_seen():
    """complete_pose keeps the fitted numbers and maximises the prior over the rest (single component: exactly)."""
    prior = PosePrior.load(dtype=DOUBLE)
    dims = fitted_dims(Rig(BodyModel.load(dtype=DOUBLE), tuple(range(22))))
    seen = prior.means[:1, dims] + 0.3
    full = complete_pose(prior, dims, seen[None], torch.ones(1, 1, dtype=torch.bool), torch.tensor([20.0]))[0]
    torch.testing.assert_close(full[:, dims], seen)
    hidden = torch.ones(69, dtype=torch.bool)
    hidden[dims] = False
    share = Mixture(prior, dims, DOUBLE).shares(seen)
    k = int(share.argmax())
    if float(share.max()) > 1 - 1e-9:
        slope = prior.precisions[k] @ (full[0] - prior.means[k])
        assert float(slope[hidden].abs().max()) < 1e-6


@pytest.fixture(scope="module")
def golden(reference):
    with np.load(reference / "golden" / "smplify_losses.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def close(actual, expected):
    torch.testing.assert_close(actual, expected.to(actual), rtol=1e-5, atol=0)


def reference_prior(golden, name="gmm") -> PosePrior:
    if name == "uf":
        covariances = golden["uf_covars_f64"]
        precisions, means, weights = (
            torch.linalg.inv(covariances),
            golden["uf_means_f64"],
            golden["uf_weights_f64"].log(),
        )
    return PosePrior("golden", means, covariances, precisions, weights, means[0], None)


def test_reference_joint_and_pose_terms(golden, reference):
    """The terms of preset `reference` on the reference's inputs: values frame by frame, and the camera loss."""
    conf, pose = golden["conf_ones"], golden["body_pose"].double()
    error = golden["model_joints45"][:, :22] + golden["camera_t"] - golden["j3d"]
    close(600**2 * (conf[:, None] ** 2 * gmof(error.double(), 100)).sum((-1, -2)), golden["joint_term_per_frame"])
    close(gmof(golden["gmof_x"].double(), 100), golden["gmof_sigma100"])
    close(gmof(golden["gmof_x"].double() / 100, 2), golden["gmof_sigma2"])
    close(angle_prior(pose), golden["angle_prior"])
    close(15.2**2 * angle_prior(pose).sum(-1), golden["angle_term_per_frame"])
    close(5**2 * golden["betas"].double().square().sum(-1), golden["shape_term_per_frame"])
    close(5**2 * (pose - golden["preserve_pose"]).square().sum(-1), golden["preserve_term_per_frame"])
    torso = error[:, TORSO].double().square().sum()
    placement = 40000 * (golden["camera_t"] - golden["camera_t_est"]).double().square().sum()
    close(torso + placement, golden["camera_loss"])


def test_reference_mixture(golden, reference):
    """Log-domain mixture: the shipped synthetic file's energies, and the component that underflows in float32 kept."""
    prior = PosePrior.load(reference / "golden" / "synthetic_gmm_08.pkl", dtype=DOUBLE)
    mixture = Mixture(prior, torch.arange(69), DOUBLE)
    energies = mixture.whitened(golden["body_pose"].double())[1]
    close(energies, golden["gmm_component_energy"])
    close(energies.amin(-1), golden["gmm_energy_merged"])
    weight = (4.78 * 1.5) ** 2
    close(weight * energies.amin(-1), golden["pose_prior_term_per_frame"])
    underflown = Mixture(reference_prior(golden, "uf"), torch.arange(69), DOUBLE).whitened(
        golden["body_pose"].double()
    )[1]
    assert torch.isfinite(underflown).all()
    assert (underflown.amin(-1) <= golden["uf_energy"].double() * (1 + 1e-5)).all()
    close(underflown[:, 1:].amin(-1), golden["uf_energy"])
