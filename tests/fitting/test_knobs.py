"""What of an energy is learned: its derivative through the fit, and that a module without changes is the same."""

import pytest
import torch

from fitting.knobs import Knobs
from fitting.layer import fit_layer
from fitting.preset import load_preset, save_preset
from fitting.smplify3d import SMPLify3D
from fitting.terms import residual_term
from models.prior import PosePrior
from tests.fitting.test_layer import clip, module, planted


def tuned(fitter: SMPLify3D) -> Knobs:
    """Knobs away from zero, where nothing is special; the joints' width is one at which it matters."""
    fitter.preset.stages["pose"].terms["joints"].sigma = 0.05
    knobs = Knobs(fitter.preset, fitter.prior)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in knobs.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
    return knobs


def height(joints: torch.Tensor, fitter: SMPLify3D, knobs: Knobs) -> torch.Tensor:
    """A loss on every vertex: heights and places, weighted at random."""
    thetas, betas, transl = fit_layer(joints, module=knobs.applied(fitter), tensors=list(knobs.parameters()))
    vertices = fitter.body.vertices(betas[:, None], thetas, transl)
    random = torch.Generator().manual_seed(0)
    return (vertices * torch.randn(vertices.shape, generator=random, dtype=torch.float64)).sum()


@pytest.mark.parametrize("preset", ["quick", "careful"])
def test_derivatives_against_finite_differences_of_whole_fits(preset):
    """By weights and widths, confidences, the prior's means and its deviations, each along a random direction."""
    fitter, joints = module(preset), planted(5)[None]
    knobs = tuned(fitter)
    slopes = torch.autograd.grad(height(joints, fitter, knobs), list(knobs.parameters()))
    for seed, (parameter, slope) in enumerate(zip(knobs.parameters(), slopes, strict=True)):
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values = []
        for step in (1e-4, -2e-4):
            with torch.no_grad():
                parameter.add_(step * direction)
                values.append(height(joints, fitter, knobs))
        with torch.no_grad():
            parameter.add_(1e-4 * direction)
        expected = float(values[0] - values[1]) / 2e-4
        assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_every_weight_of_careful_has_a_slope():
    """But that of limits, within which this clip stays; contacts and soles take part."""
    fitter = module("careful")
    knobs = tuned(fitter)
    slope = torch.autograd.grad(height(planted(5)[None], fitter, knobs), knobs.numbers)[0]
    assert {name for name, x in zip(knobs.names, slope, strict=True) if x == 0} <= {"limits.weight"}


def test_a_term_of_ones_own_may_hold_tensors():
    """d(answer)/d(weight): a clip pulled up by a term follows its weight."""
    fitter, joints = module("quick"), clip(3)[None]
    weight = torch.tensor(1000.0, dtype=torch.float64, requires_grad=True)
    rise = residual_term(lambda posed, problem: posed.transl[:, 1:2] - problem.targets[:, 0, 1:2] - 5, weight)
    fitter.preset.stages["pose"].terms["rise"] = rise
    transl = fit_layer(joints, module=fitter, tensors=[weight])[2]
    slope = torch.autograd.grad(transl[..., 1].mean(), weight)[0]
    with torch.no_grad():
        rise.weight = weight + 0.1
        ahead = fit_layer(joints, module=fitter)[2][..., 1].mean()
        rise.weight = weight - 0.1
        behind = fit_layer(joints, module=fitter)[2][..., 1].mean()
    assert slope > 0 and float(slope) == pytest.approx(float(ahead - behind) / 0.2, rel=1e-4)


def test_without_changes_it_is_the_same_fit():
    fitter, joints = module("careful"), clip(6)[None]
    plain = fit_layer(joints, module=fitter)
    changed = fit_layer(joints, module=Knobs(fitter.preset, fitter.prior).applied(fitter))
    for ours, theirs in zip(changed, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_means_and_deviations_of_the_prior():
    prior = PosePrior.load(dtype=torch.float64)
    knobs = Knobs(load_preset("quick"), prior)
    with torch.no_grad():
        knobs.means[2, 5] = 1.5
        knobs.spread[3] = 0.2  # the left knee's numbers are 9 to 11
        changed = knobs.prior(prior)
    deviation = prior.covariances.diagonal(dim1=1, dim2=2).sqrt()
    moved = changed.means - prior.means
    assert moved[2, 5] == pytest.approx(float(1.5 * deviation[2, 5])) and moved.count_nonzero() == 1
    wider = changed.covariances.diagonal(dim1=1, dim2=2).sqrt() / deviation
    assert wider[:, 9:12] == pytest.approx(torch.e**0.2) and wider[:, :9] == pytest.approx(1)
    torch.testing.assert_close(changed.precisions @ changed.covariances, torch.eye(69).double().expand(8, -1, -1))


def test_a_saved_preset_fits_as_the_one_it_was(tmp_path):
    """YAML and npz: the file carries weights, widths, confidences and the prior."""
    fitter, joints = SMPLify3D().double(), clip(6)[None]
    knobs = tuned(fitter)
    with torch.no_grad():
        expected = fit_layer(joints, module=knobs.applied(fitter))
        preset = knobs.preset(fitter.preset)
        knobs.prior(fitter.prior).save(tmp_path / "mine.npz")
    preset.prior = "mine.npz"
    save_preset(preset, tmp_path / "mine.yaml", ["where it came from"])
    assert (tmp_path / "mine.yaml").read_text().startswith("# where it came from\n")
    loaded = SMPLify3D(preset=str(tmp_path / "mine.yaml")).double()
    assert loaded.prior.name == "mine" and loaded.preset.stages["camera"] == fitter.preset.stages["camera"]
    for ours, theirs in zip(fit_layer(joints, module=loaded), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", ["careful", "quick", "reference"])
def test_shipped_presets_survive_writing(preset, tmp_path):
    given = load_preset(preset)
    save_preset(given, tmp_path / f"{preset}.yaml", [])
    assert load_preset(str(tmp_path / f"{preset}.yaml")) == given
