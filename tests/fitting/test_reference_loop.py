"""The transcribed reference loop against numbers recorded from the reference itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.benchmarks.reference_loop import (
    Mixture,
    body_terms,
    camera_loss,
    fit_reference,
    gmof,
    guess_translation,
)
from models.safe_pickle import load_pickle


@pytest.fixture(scope="module")
def losses(reference: Path) -> dict[str, torch.Tensor]:
    with np.load(reference / "golden/smplify_losses.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def gmm(reference: Path) -> dict[str, np.ndarray]:
    return load_pickle(reference / "golden/synthetic_gmm_08.pkl")


def terms(losses: dict, mixture: Mixture, confidence: str, **replaced: torch.Tensor) -> dict[str, torch.Tensor]:
    names = ("body_pose", "betas", "model_joints45", "camera_t", "j3d", "preserve_pose")
    inputs = [replaced.get(name, losses[name]) for name in names]
    return body_terms(*inputs, mixture, losses[confidence])


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(terms.values()).sum()


def assert_close(ours: torch.Tensor, golden: torch.Tensor) -> None:
    """1e-5 of the largest number."""
    assert ours.shape == golden.shape
    torch.testing.assert_close(ours, golden, rtol=0, atol=1e-5 * golden.abs().max().item())


def test_gmof(losses):
    assert_close(gmof(losses["gmof_x"]), losses["gmof_sigma100"])
    assert_close(gmof(losses["gmof_x"] / 100, 2.0), losses["gmof_sigma2"])


def test_camera_stage(losses):
    model_joints, translation = (losses[name].clone().requires_grad_() for name in ("model_joints45", "camera_t"))
    loss = camera_loss(model_joints, translation, losses["camera_t_est"], losses["j3d"])
    loss.backward()
    assert_close(loss.detach(), losses["camera_loss"])
    assert_close(model_joints.grad, losses["camera_grad_model_joints"])
    assert_close(translation.grad, losses["camera_grad_t"])
    assert_close(guess_translation(losses["model_joints45"], losses["j3d"])[:, 0], losses["guess_init_t"])


@pytest.mark.parametrize("term", ["joint", "pose_prior", "angle", "shape", "preserve"])
def test_terms(losses, gmm, term):
    ours = terms(losses, Mixture(gmm), "conf_ones")[{"joint": "joints", "pose_prior": "pose"}.get(term, term)]
    torch.testing.assert_close(ours, losses[f"{term}_term_per_frame"], rtol=1e-5, atol=0)


def test_totals_and_gradients(losses, gmm):
    mixture = Mixture(gmm)
    gradients = {"body_pose": "body_pose", "betas": "betas", "model_joints45": "model_joints", "camera_t": "camera_t"}
    inputs = {name: losses[name].clone().requires_grad_() for name in gradients}
    ours = terms(losses, mixture, "conf_ones", **inputs)
    total(ours).backward()
    assert_close(total(ours).detach(), losses["total_loss"])
    assert_close((total(ours) - ours["preserve"].sum()).detach(), losses["total_loss_no_preserve"])
    assert_close(total(terms(losses, mixture, "conf_varied")), losses["total_loss_varied_conf"])
    for name, golden in gradients.items():
        assert_close(inputs[name].grad, losses[f"grad_{golden}"])


def test_a_weight_that_underflows_is_never_chosen(losses):
    mixture = Mixture({name: losses[f"uf_{name}_f64"].numpy() for name in ("means", "covars", "weights")})
    assert mixture.costs[0].isinf()
    assert_close(mixture(losses["body_pose"]), losses["uf_energy"])


def test_one_component_is_its_mahalanobis_distance():
    mean, scale = torch.full((69,), 0.1), torch.linspace(0.5, 2, 69)
    mixture = Mixture({"means": mean[None].numpy(), "covars": np.diag(scale**2)[None], "weights": np.ones(1)})
    pose = torch.randn(4, 69, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * (((pose - mean) / scale) ** 2).sum(1) + 69 / 2 * np.log(2 * np.pi)
    torch.testing.assert_close(mixture(pose), expected)


def test_translation_is_held_four_times():
    """Torso joints that agree leave the broadcast penalty: 4 x 100^2 x |0.01|^2 for each of two frames."""
    joints, guess = torch.zeros(2, 22, 3), torch.tensor([0.01, 0, 0]).expand(2, 1, 3)
    assert camera_loss(joints, torch.zeros(2, 1, 3), guess, joints).item() == pytest.approx(2 * 4 * 100**2 * 0.01**2)


@pytest.fixture(scope="module")
def run(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "golden/smplify_run.npz", allow_pickle=False) as file:
        return dict(file)


def test_run_begins_as_the_reference_and_goes_down(reference, gmm, run):
    joints = run["motion"][run["abs_idx"]].transpose(2, 0, 1)
    body = reference / "golden/small_body_SMPL_NEUTRAL.pkl"
    fit = fit_reference(joints, body, gmm, run["mean_pose"], run["mean_shape"], steps=(10, 2))
    stage1, stage2 = ([loss for stage, _, loss in fit["trace"] if stage == s] for s in (1, 2))
    assert stage1[0] == pytest.approx(run["stage1_first"], rel=1e-3)
    assert stage2[0] == pytest.approx(run["stage2_first"], rel=1e-3)
    assert stage1[-1] == pytest.approx(run["stage1_last"], rel=1e-3)
    assert run["stage2_last"] < fit["energy_preserve"] < 1.15 * run["stage2_last"]
    assert fit["energy_preserve"] == pytest.approx(stage2[-1], rel=1e-3)
    assert not fit["converged"] and fit["joints"].shape == (5, 22, 3)


def test_stops_when_the_time_is_up(reference, gmm, run):
    joints = run["motion"][run["abs_idx"]].transpose(2, 0, 1)[:2]
    body = reference / "golden/small_body_SMPL_NEUTRAL.pkl"
    fit = fit_reference(joints, body, gmm, run["mean_pose"], run["mean_shape"], max_seconds=0.0)
    assert not fit["converged"] and fit["evaluations"] == 0
