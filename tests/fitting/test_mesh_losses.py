"""Losses on the mesh: what they measure, gradients against differences, also through the fit, padding, their points."""

from functools import partial

import numpy as np
import pytest
import torch

from fitting import mesh_losses, metrics
from fitting.layer import fit_layer
from fitting.mesh_guidance import MeshGuidance, polyak_step
from fitting.mesh_objective import TERMS, MeshLosses
from fitting.probes import probes_of
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.normalization import Statistics
from models.prior import PosePrior
from models.skeleton import SMPL_PARENTS
from tests.bodies import smpl_arrays, smplh_arrays

FPS = 20.0
REAL = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def walk(first: int, frames: int, noise: float = 0.01) -> torch.Tensor:
    """Joints (1, frames, 22, 3), float64, of the keyed walk with noise in metres."""
    motion = walk_and_pick_up()
    part = slice(first, first + frames)
    thetas, transl = (torch.as_tensor(x).double()[part] for x in (motion.thetas, motion.transl))
    joints = BodyModel.load(dtype=torch.float64).joints(torch.zeros(10).double(), thetas, transl)[None, :, :22]
    return joints + noise * random(*joints.shape)


def losses() -> dict:
    """Each loss as a function of points for clips of six and four frames, with points that it does not lack."""
    pairs, radii = torch.tensor([[0, 1], [0, 2], [1, 3]]), torch.full((4,), 0.8).double()
    weight = torch.rand(2, 5, 2, 3, generator=torch.Generator().manual_seed(1)).double() * REAL[:, 1:, None, None]
    return {
        "slip": (partial(mesh_losses.foot_slip, weight=weight, fps=FPS), random(2, 6, 2, 3, 3) * 0.02),
        "skate": (partial(mesh_losses.skate, standing=weight[..., 0], fps=FPS), random(2, 6, 2, 3) * 0.02),
        "penetration": (partial(mesh_losses.penetration, mask=REAL), random(2, 6, 5)),
        "bones": (partial(mesh_losses.bone_length_change, mask=REAL), random(2, 6, 22, 3)),
        "limits": (partial(mesh_losses.limit_excess, limits=PosePrior.load().limits, mask=REAL), random(2, 6, 24, 3)),
        "self_penetration": (
            partial(mesh_losses.self_penetration, radii=radii, pairs=pairs, mask=REAL),
            random(2, 6, 4, 3),
        ),
        "jerk": (partial(mesh_losses.jerk, mask=REAL, fps=FPS), random(2, 6, 3, 3)),
    }


@pytest.mark.parametrize("name", TERMS)
def test_gradients_against_differences_and_no_word_from_padding(name):
    function, points = losses()[name]
    found = function(points)
    assert found.shape == (2,) and (found > 0).all()
    assert torch.autograd.gradcheck(function, points.clone().requires_grad_(), atol=1e-4)
    before = function(points)
    points[1, 4:] += 100
    torch.testing.assert_close(function(points), before)


def slip(soles: torch.Tensor, standing: torch.Tensor) -> torch.Tensor:
    return mesh_losses.foot_slip(soles, mesh_losses.bearing(soles, standing, FPS), FPS)


def test_slip_is_a_speed_and_a_foot_may_roll_on_its_heel():
    soles, standing = torch.zeros(2, 6, 2, 3, 3), torch.ones(2, 5, 2)
    soles[0, :, :, :, 0] = 0.3 / FPS * torch.arange(6)[:, None, None]  # both feet slide, all of them
    soles[1, :, :, 1:, 1] = 0.1 * torch.arange(1, 7)[:, None, None]  # toes rise, heels stay
    sliding, rolling = slip(soles, standing)
    assert sliding == pytest.approx(0.3, rel=0.01) and rolling < 1e-5
    assert slip(soles, 0 * standing).abs().max() < 1e-5


def test_a_foot_about_to_step_counts_less_than_one_that_slips():
    soles, standing = torch.zeros(2, 21, 2, 3, 3), torch.ones(2, 20, 2)
    soles[0, :, :, :, 0] = 0.05 / FPS * torch.arange(21)[:, None, None]
    soles[1] = soles[0]
    soles[1, 20, :, :, 0] += 1 / FPS  # one fast frame of twenty
    slow, fast = slip(soles, standing)
    assert slow < fast < 0.5 * np.sqrt((19 * 0.05**2 + 1.05**2) / 20)


def test_against_the_metrics_of_a_report():
    joints = walk(0, 12)
    mask = torch.ones(1, 12, dtype=torch.bool)
    assert mesh_losses.jerk(joints, mask, FPS).item() == pytest.approx(metrics.jerk(joints[0], FPS))
    thetas = 1.2 * random(1, 12, 24, 3)
    limits = PosePrior.load().limits
    excess = mesh_losses.limit_excess(thetas, limits, mask) > 0
    assert bool(excess) == bool((metrics.limit_excess_degrees(thetas[0] * 0.999, limits) > 0).any())
    stretched = torch.zeros(1, 12, 22, 3).double()
    stretched[0, :, 1:, 1] = torch.arange(1, 22).double()
    still = mesh_losses.bone_length_change(stretched, mask)
    stretched[0, :, 21, 0] = torch.linspace(0, 1, 12)
    worst = metrics.bone_length_change_percent(stretched[0], SMPL_PARENTS[:22]) / 100
    assert still < 1e-3 and mesh_losses.bone_length_change(stretched, mask).item() == pytest.approx(
        worst / np.sqrt(21), rel=0.01
    )


def test_depth_under_the_floor_and_of_spheres():
    mask = torch.ones(1, 2, dtype=torch.bool)
    heights = torch.tensor([[[0.1, -0.02], [0.0, 0.3]]])
    assert mesh_losses.penetration(heights, mask).item() == pytest.approx(0.01)
    centres = torch.tensor([[[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]]] * 2])
    depth = mesh_losses.self_penetration(centres, torch.full((3,), 0.08), torch.tensor([[0, 1], [0, 2]]), mask)
    assert depth.item() == pytest.approx(0.06, rel=1e-4)


def nearest(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Distance of points (N, P, 3) to the nearest of the others (N, V, 3); exact, as a matrix product is not."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)


@pytest.mark.parametrize("arrays", [smpl_arrays, partial(smpl_arrays, 0.001), smplh_arrays])
def test_points_are_carried_as_the_skin_is(arrays, tmp_path):
    np.savez(tmp_path / "body.npz", **arrays())
    body = BodyModel.load(tmp_path / "body.npz")
    probes = probes_of(body)
    thetas, betas = 0.3 * random(2, 24, 3).float(), random(10).float()
    points, skin = probes(betas, thetas, torch.zeros(2, 3)), body.vertices(betas, thetas, torch.zeros(2, 3))
    assert nearest(points.skin, skin).max() < 1e-4
    left, right = metrics.sole_vertices(body.weights, body.v_template)
    for foot, sole in zip(points.soles.unbind(1), (left, right), strict=True):
        assert nearest(foot, skin[:, sole]).max() < 1e-4
    heel, ball, toe = probes.body.v_template[:3, 2]
    assert heel + 0.1 < ball < toe - 0.04


def test_spheres_touch_where_limbs_do():
    probes = probes_of(BodyModel.load())
    thetas = torch.zeros(3, 24, 3)
    thetas[1, 16, 2], thetas[2, 1, 2] = -1.6, -0.35  # the arm into the side, a leg into the other
    mask, none = torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 3)
    centres = probes(torch.zeros(10), thetas, none).centres[:, None]
    depth = mesh_losses.self_penetration(centres, probes.radii, probes.pairs, mask)
    assert depth[0] == 0 and (depth[1:] > 0.005).all() and len(probes.pairs) > 500


def test_gradient_through_the_fit_against_differences():
    joints, mask, floor = walk(8, 5), torch.ones(1, 5, dtype=torch.bool), torch.zeros(1).double()
    weights = {"penetration": 5.0, "bones": 3.0, "limits": 1.0, "self_penetration": 1.0, "jerk": 1e-3}
    objective = MeshLosses(weights)
    weight = torch.rand(1, 4, 2, 3, generator=torch.Generator().manual_seed(0)).double()

    def value(joints: torch.Tensor) -> torch.Tensor:
        thetas, betas, transl = fit_layer(joints, mask, FPS, objective.fitter)
        others = objective.total(objective.of_fit(joints, (thetas, betas, transl), mask, FPS, floor))
        soles = objective.probes.to(joints)(betas, thetas, transl).soles
        return (others + mesh_losses.foot_slip(soles, weight, FPS)).sum()

    leaf = joints.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(leaf), leaf)
    for seed in range(2):
        way = torch.randn(joints.shape, generator=torch.Generator().manual_seed(seed)).double()
        with torch.no_grad():
            expected = (value(joints + 1e-5 * way) - value(joints - 1e-5 * way)) / 2e-5
        assert (slope * way).sum().item() == pytest.approx(expected.item(), rel=1e-3)


def test_slip_of_generated_feet_is_seen_through_the_fit():
    standing = walk(0, 1, noise=0).repeat(1, 16, 1, 1)
    sliding = standing.clone()
    sliding[..., 0] += 0.2 / FPS * torch.arange(16)[:, None]
    objective, mask = MeshLosses({"slip": 1.0}), torch.ones(2, 16, dtype=torch.bool)
    slip = objective(torch.cat((standing, sliding)), mask, FPS)["slip"]
    assert slip[0] < 1e-3 and slip[1].item() == pytest.approx(0.2, rel=0.02)


def test_guidance_lowers_what_it_is_for_and_each_clip_goes_alone():
    clips = torch.cat([walk(first, 33, noise=0.002) for first in (0, 20)])
    features = torch.stack([joints_to_features(clip).float() for clip in clips])
    features[..., 4:67] += 0.003 * random(*features.shape[:2], 63).float()  # bones change their lengths
    statistics = Statistics(torch.zeros(263), torch.linspace(0.5, 2, 263))
    guidance = MeshGuidance(statistics, 0.2, steps=3)
    moved = statistics.denormalize(guidance(statistics.normalize(features)))
    mask = torch.ones(2, 32, dtype=torch.bool)
    before, after = (guidance.losses(features_to_joints(x), mask, FPS) for x in (features, moved))
    assert all((after[name] < 0.8 * before[name]).all() for name in ("slip", "bones"))
    assert (features_to_joints(moved) - features_to_joints(features)).norm(dim=-1).mean() < 0.01
    alone = statistics.denormalize(guidance(statistics.normalize(features[:1])))
    torch.testing.assert_close(alone[0], moved[0], rtol=0, atol=1e-3)


def test_polyak_step_reaches_the_minimum_of_a_norm():
    x = random(3, 4, 5).requires_grad_()
    torch.testing.assert_close(x - polyak_step(x.flatten(1).norm(dim=1), x), torch.zeros_like(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights, words", [({"slide": 1.0}, "slide; known are slip"), ({"slip": 0.0}, "one above 0")])
def test_weights_that_make_no_sense(weights, words):
    with pytest.raises(InputError, match=words):
        MeshLosses(weights)


@pytest.mark.parametrize("scale, steps", [(0.0, 1), (float("nan"), 1), (0.3, 0)])
def test_guidance_that_makes_no_sense(scale, steps):
    with pytest.raises(InputError, match="scale above 0"):
        MeshGuidance(Statistics(torch.zeros(263), torch.ones(263)), scale, steps)
