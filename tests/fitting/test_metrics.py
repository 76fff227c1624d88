"""Each metric on motion whose number is known beforehand, and on real clips whose numbers were measured elsewhere."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fitting.data import load_motions
from fitting.metrics import (
    Underside,
    acceleration,
    acceleration_error,
    aligned,
    bone_length_change_percent,
    float_mm,
    floor_height,
    foot_skate_ratio,
    jerk,
    joint_errors_mm,
    lifted_share,
    limit_excess_degrees,
    mean,
    pa_errors_mm,
    penetration_mm,
    planted,
    planted_speed,
    rotation_errors_degrees,
    rotation_jitter_degrees,
    slip_mm,
    sole_height_mm,
    sole_vertices,
    speeds,
    underside,
)
from fitting.report import METRIC_KEYS, all_metrics, as_smpl
from models.body import BodyModel
from models.prior import PosePrior
from models.rotations import axis_angle_to_matrix
from models.skeleton import SKELETONS, SMPL_PARENTS
from tests.bodies import smplh_arrays, smplx_arrays

FPS = 20.0
HUMAN = SKELETONS["humanml3d"]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def standing(frames: int = 40, height: float = 0.0) -> np.ndarray:
    """The embedded body's rest joints (frames, 22, 3), both feet joints at `height`."""
    joints = BodyModel.load().rest_template[:22].double().numpy()
    joints[:, 1] -= joints[[10, 11], 1].mean() - height
    joints[[10, 11], 1] = height
    return np.repeat(joints[None], frames, 0)


def moving(joints: np.ndarray, velocity: tuple[float, float, float], which: list[int], fps: float = FPS) -> np.ndarray:
    """joints with some of them moving at this velocity, m/s."""
    moved = joints.copy()
    moved[:, which] += (np.arange(len(joints)) / fps)[:, None, None] * np.array(velocity)
    return moved


# Errors -------------------------------------------------------------------------------------------------------------


def test_joint_errors_are_millimetres() -> None:
    assert joint_errors_mm(np.zeros((2, 3)), np.array([[0.003, 0.004, 0], [0, 0, 1.0]])) == pytest.approx([5, 1000])


def test_aligned_error_does_not_see_a_similarity_of_each_frame() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=(7, 22, 3))
    turns = axis_angle_to_matrix(torch.tensor(random.normal(size=(7, 3)))).numpy()
    moved = random.uniform(0.3, 3, (7, 1, 1)) * target @ turns + random.normal(size=(7, 1, 3))
    assert joint_errors_mm(moved, target).mean() > 100
    assert pa_errors_mm(moved, target).max() < 1e-6


def test_aligned_is_the_best_similarity_and_no_reflection() -> None:
    random = np.random.default_rng(1)
    target, points = random.normal(size=(2, 5, 22, 3))
    best = (joint_errors_mm(aligned(points, target), target) ** 2).sum(1)
    for _ in range(50):
        turn = axis_angle_to_matrix(torch.tensor(random.normal(scale=0.05, size=3))).numpy()
        other = aligned(points, target) @ turn * random.normal(1, 0.05) + random.normal(scale=0.02, size=3)
        assert ((joint_errors_mm(other, target) ** 2).sum(1) > best).all()
    mirrored = target * [-1, 1, 1]
    assert pa_errors_mm(mirrored, target).mean() > 100


def test_joints_that_were_not_seen_leave_the_alignment_alone() -> None:
    random = np.random.default_rng(2)
    target, points = random.normal(size=(2, 3, 22, 3))
    gaps = target.copy()
    gaps[:, 5] = np.nan
    others = [joint for joint in range(22) if joint != 5]
    errors = pa_errors_mm(points, gaps)
    assert np.isnan(errors[:, 5]).all()
    assert errors[:, others] == pytest.approx(pa_errors_mm(points[:, others], target[:, others]))
    assert mean(errors) == pytest.approx(errors[:, others].mean())


def test_rotation_error_is_the_angle_between() -> None:
    axis = np.array([2.0, -1, 2]) / 3
    thetas = axis * np.radians([[30.0], [170], [-170]])
    target = axis * np.radians([[10.0], [-170], [190]])
    assert rotation_errors_degrees(thetas, target) == pytest.approx([20, 20, 0], abs=1e-6)


@pytest.mark.parametrize("fps", [12.5, 20.0, 120.0])
def test_derivatives_of_polynomial_paths_are_in_si_units(fps: float) -> None:
    seconds = np.arange(30) / fps
    direction = np.array([3.0, 0.0, 4.0])
    line = seconds[:, None, None] * 2 + np.arange(22)[None, :, None]
    square, cubic = ((seconds**n)[:, None, None] * direction + line for n in (2, 3))
    assert jerk(cubic, fps) == pytest.approx(6 * 5, rel=1e-5)
    assert acceleration(square, fps) == pytest.approx(2 * 5, rel=1e-5)
    assert acceleration_error(square, line, fps) == pytest.approx(2 * 5, rel=1e-5)
    assert acceleration_error(square + line, square, fps) == pytest.approx(0, abs=1e-6)  # a constant speed is free
    assert speeds(np.repeat(line, 3, -1), fps) == pytest.approx(2 * math.sqrt(3), rel=1e-6)


def test_differences_need_their_frames() -> None:
    assert jerk(np.zeros((3, 22, 3)), 20) is None and jerk(np.zeros((4, 22, 3)), 20) == 0
    assert acceleration(np.zeros((2, 22, 3)), 20) is None and acceleration(np.zeros((3, 22, 3)), 20) == 0
    assert rotation_jitter_degrees(np.zeros((2, 24, 3))) is None


# Rotations ----------------------------------------------------------------------------------------------------------


def test_rotation_jitter_of_a_shaking_joint() -> None:
    """One joint of 24 goes 3 degrees forth and back: turns of -6 and 6, so the turn changes by 12 every frame."""
    thetas = np.zeros((50, 24, 3))
    thetas[:, 7, 1] = np.radians(3) * (-1.0) ** np.arange(50)
    assert rotation_jitter_degrees(thetas) == pytest.approx(12 / 24)


def test_steady_turns_and_winding_are_no_jitter() -> None:
    thetas = np.zeros((60, 24, 3))
    thetas[:, 0, 1] = np.arange(60) * 2 * np.pi * 3 / 60  # three turns, 18 degrees a frame
    assert rotation_jitter_degrees(thetas) < 1e-6
    thetas[::2, 0, 1] -= 2 * np.pi
    assert rotation_jitter_degrees(thetas) < 1e-6


def test_limits_are_passed_by_the_angle_that_was_added() -> None:
    limits = PosePrior.load().limits
    thetas = np.zeros((3, 24, 3))
    high = np.degrees(limits[4 - 1, 0, 1].item())  # left knee, bending
    thetas[1, 4, 0] = np.radians(high + 10)
    thetas[2, 4, 0] = np.radians(high - 10)
    assert limit_excess_degrees(thetas, limits).max(1) == pytest.approx([0, 10, 0], abs=1e-3)
    thetas[2, 4, 0] -= 2 * np.pi  # the same rotation, wound
    assert limit_excess_degrees(thetas, limits)[2].max() == pytest.approx(0, abs=1e-3)


# Bones --------------------------------------------------------------------------------------------------------------


def test_bone_length_change_names_the_worst_bone() -> None:
    joints = np.zeros((10, 3, 3))
    joints[:, 1, 1] = 0.4  # rigid
    joints[:, 2, 0] = 0.5 + 0.05 * (-1) ** np.arange(10)  # 10 % about its mean
    assert bone_length_change_percent(joints, (-1, 0, 0)) == pytest.approx(10)
    assert bone_length_change_percent(joints[:, :2], (-1, 0)) == pytest.approx(0)
    joints[3:5, 2], joints[:, 1] = np.nan, np.nan  # gaps change no length, a bone never seen has none
    assert bone_length_change_percent(joints, (-1, 0, 0)) == pytest.approx(10, rel=0.02)


def test_a_rigid_body_changes_no_bone_and_a_bone_without_length_is_none() -> None:
    assert bone_length_change_percent(standing(), SMPL_PARENTS) < 1e-6
    assert bone_length_change_percent(np.zeros((5, 22, 3)), HUMAN.parents) == 0


# Feet ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [20.0, 60.0])
def test_a_foot_that_slides_slowly_is_planted_at_its_speed(fps: float) -> None:
    joints = moving(standing(), (0.18, 0, 0.24), [10], fps)  # 0.3 m/s; the right foot stands
    contact = planted(joints, fps, floor_height(joints))
    assert contact.all()
    assert foot_skate_ratio(joints, fps, 0.0) == 0
    assert planted_speed(joints, fps, contact) == pytest.approx(0.15)  # the mean over both feet
    assert planted_speed(joints, fps, contact & [True, False]) == pytest.approx(0.3)


def test_a_foot_that_slides_fast_skates_and_is_not_planted() -> None:
    joints = moving(standing(), (0.8, 0, 0), [10])
    assert foot_skate_ratio(joints, FPS, 0.0) == 1
    assert planted(joints, FPS, 0.0).mean(0).tolist() == [0, 1]
    assert planted_speed(joints, FPS, planted(joints, FPS, 0.0) & [True, False]) is None
    joints[10:20, 10, 1] = 0.04  # over the low gate only: 11 of 39 steps begin or end there
    assert foot_skate_ratio(joints, FPS, 0.0) == 1
    assert foot_skate_ratio(joints, FPS, 0.0, gate=0.025) == pytest.approx(28 / 39)


def test_a_foot_that_falls_fast_is_not_planted_though_it_stays_above_one_spot() -> None:
    joints = standing()
    joints[::2, 10, 1] = 0.04  # 0.8 m/s up and down, under the gate
    assert planted(joints, FPS, 0.0).mean(0).tolist() == [0, 1]
    assert foot_skate_ratio(joints, FPS, 0.0) == 0


def test_floor_is_where_the_feet_are_lowest_most_of_the_time() -> None:
    joints = standing(200, height=-0.7)
    joints[50:150, [10, 11], 1] += 0.3
    joints[7, 10, 1] -= 0.2  # one frame of one foot out of 400: below the 1st percentile
    assert floor_height(joints) == pytest.approx(-0.7)
    assert floor_height(joints + [0, 1.5, 0]) == pytest.approx(0.8)


def test_lifted_feet_are_counted_of_those_that_were_low() -> None:
    given = standing(100)
    given[:50, 10, 1] = 0.2  # the left foot is low in half of the frames
    fit = given.copy()
    fit[:10, 11, 1] = 0.06  # ten of 150 low feet are lifted
    fit[:10, 10, 1] = 0.5  # a high foot cannot be lifted
    assert lifted_share(fit, given, 0.0) == pytest.approx(10 / 150)
    assert lifted_share(given, given, 0.0) == 0


def test_feet_that_were_not_seen_are_in_no_contact() -> None:
    joints = standing()
    joints[5:10, 10] = np.nan
    contact = planted(joints, FPS, floor_height(joints))
    assert np.flatnonzero(~contact[:, 0]).tolist() == [4, 5, 6, 7, 8, 9] and contact[:, 1].all()
    assert lifted_share(standing(height=0.1), joints, 0.0) == 1
    assert floor_height(np.full((4, 22, 3), np.nan)) is None


# The mesh -----------------------------------------------------------------------------------------------------------


def rest_underside(body: BodyModel, height: float, frames: int = 40, velocity: float = 0.0) -> Underside:
    """The rest pose with its lowest vertex at `height` metres, sliding along x at `velocity` m/s."""
    transl = torch.zeros(frames, 3)
    transl[:, 0] = velocity * torch.arange(frames) / FPS
    transl[:, 1] = height - body.v_template[:, 1].min()
    return underside(body, torch.zeros(body.num_betas), torch.zeros(frames, 24, 3), transl, frames_at_once=16)


def test_a_body_sunk_by_two_centimetres(body: BodyModel) -> None:
    mesh, contact = rest_underside(body, -0.02), np.ones((39, 2), bool)
    assert penetration_mm(mesh, 0.0) == pytest.approx(20, abs=1e-3)
    assert float_mm(mesh, 0.0, contact) == 0
    assert sole_height_mm(mesh, 0.0, contact) == pytest.approx(
        20, abs=1
    )  # the higher foot of the two is 0.0 to 1 mm up
    assert slip_mm(mesh, contact) == 0


def test_a_body_that_floats_counts_where_the_input_stands(body: BodyModel) -> None:
    mesh, contact = rest_underside(body, 0.03), np.zeros((39, 2), bool)
    contact[:10, 1] = True
    assert penetration_mm(mesh, 0.0) == 0
    assert float_mm(mesh, 0.0, contact) == pytest.approx(30, abs=1e-3)
    assert float_mm(mesh, 0.0, np.zeros_like(contact)) is None  # a jump floats for good reason
    sunk = rest_underside(body, -0.02)
    assert penetration_mm(sunk, 0.0) > 19 and sole_height_mm(sunk, 0.0, np.zeros_like(contact)) is None


def test_slip_is_the_way_a_planted_sole_makes_in_a_frame(body: BodyModel) -> None:
    contact = np.ones((39, 2), bool)
    assert slip_mm(rest_underside(body, 0.0, velocity=0.1), contact) == pytest.approx(5, abs=1e-3)
    assert slip_mm(rest_underside(body, 0.0, velocity=0.1), ~contact) is None


def test_a_foot_that_rolls_does_not_slip() -> None:
    """A flat plate of 20 x 8 cm that tips about its front edge: the edge bears and stays."""
    z, x = np.meshgrid(np.linspace(-0.2, 0, 41), np.linspace(-0.04, 0.04, 5))
    angle = np.linspace(0.3, 1.2, 20)[:, None]  # radians: the heel is over SUPPORT but for 3 cm and less
    z, x = z.reshape(1, -1), np.repeat(x.reshape(1, -1), 20, 0)
    plate = np.stack((x, -z * np.sin(angle), z * np.cos(angle)), -1)
    slip = slip_mm(Underside(plate[..., 1].min(1), (plate, plate)), np.ones((19, 2), bool))
    whole = 1000 * np.linalg.norm(np.diff(plate[..., [0, 2]], axis=0), axis=-1).mean()
    assert slip < 0.5 < 3 < whole


def test_pieces_are_the_whole_mesh(body: BodyModel) -> None:
    random = torch.Generator().manual_seed(0)
    betas, thetas = torch.randn(10, generator=random), 0.3 * torch.randn(11, 24, 3, generator=random)
    transl = torch.randn(11, 3, generator=random)
    vertices = body.vertices(betas, thetas, transl).numpy()
    for shape in (betas, betas.expand(11, -1)):
        mesh = underside(body, shape, thetas, transl, frames_at_once=4)
        np.testing.assert_allclose(mesh.lowest, vertices[..., 1].min(1), atol=1e-6)
        for sole, indices in zip(mesh.soles, sole_vertices(body.weights, body.v_template), strict=True):
            np.testing.assert_allclose(sole, vertices[:, indices], atol=1e-6)


@pytest.mark.parametrize("arrays", [None, smplh_arrays, smplx_arrays], ids=["embedded", "smplh", "smplx"])
def test_soles_of_any_body(body: BodyModel, arrays) -> None:
    content = arrays() if arrays else {"weights": body.weights.numpy(), "v_template": body.v_template.numpy()}
    rest = content["v_template"]
    soles = sole_vertices(content["weights"], rest)
    for sole, side in zip(soles, (1, -1), strict=True):  # the left foot is at positive x
        assert len(sole) > 50
        assert (side * rest[sole, 0] > 0).all()
        assert rest[sole, 1].max() <= rest[:, 1].min() + 0.02
        assert np.ptp(rest[sole, 2]) > 0.15 and 0.04 < np.ptp(rest[sole, 0]) < 0.15  # heel to toes, and a foot wide


# All of them together -----------------------------------------------------------------------------------------------


def rest_metrics(body: BodyModel, given: np.ndarray, joints: np.ndarray, drop: float = 0.0) -> dict:
    """all_metrics of a body at rest that stands `drop` under the floor, to joints `given` on it."""
    frames = len(given)
    thetas = np.zeros((frames, 24, 3))
    return all_metrics(joints, thetas, given, HUMAN, FPS, lambda: rest_underside(body, -drop, frames))


def test_a_still_figure_scores_nothing(body: BodyModel) -> None:
    metrics = rest_metrics(body, standing(), standing())
    assert metrics.keys() == set(METRIC_KEYS)
    assert metrics.pop("planted_share") == 1
    assert metrics.pop("sole_height_mm") < 1
    assert {name for name, value in metrics.items() if value > 1e-5} <= {"limit_excess_degrees", "limit_share"}
    assert metrics["limit_excess_degrees"] == 0


def test_contact_is_the_inputs_whatever_the_fit_does(body: BodyModel) -> None:
    """A fit whose feet fly finds no contact of its own, and is measured where the input stands."""
    fit = moving(standing() + [0, 0.3, 0], (2.0, 0, 0), list(range(22)))
    metrics = rest_metrics(body, standing(), fit, drop=0.02)
    assert metrics["planted_share"] == 1 and metrics["lifted_share"] == 1
    assert metrics["planted_speed_in"] == pytest.approx(0, abs=1e-9)
    assert metrics["planted_speed_out"] == pytest.approx(2.0)
    assert metrics["foot_skate_ratio_out"] == 0  # which is why the ratio alone says little
    assert metrics["penetration_mm"] == pytest.approx(20, abs=1e-3)


def test_a_skeleton_without_feet_has_no_numbers_of_feet(body: BodyModel) -> None:
    given = standing()
    given[:, [10, 11]] = np.nan
    metrics = rest_metrics(body, given, standing())
    assert metrics["mpjpe_mm"] == pytest.approx(0, abs=1e-9)
    for name in ("foot_skate_ratio_in", "planted_speed_out", "penetration_mm", "float_mm", "slip_mm", "foot_jerk_in"):
        assert metrics[name] is None


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_few_frames_give_what_they_can(body: BodyModel, frames: int) -> None:
    metrics = rest_metrics(body, standing(frames), standing(frames))
    assert metrics["mpjpe_mm"] == 0 and metrics["penetration_mm"] == pytest.approx(0, abs=1e-3)
    assert (metrics["jerk_in"] is None) == (frames < 4)
    assert (metrics["planted_speed_in"] is None) == (frames < 2)


def test_more_joints_are_measured_at_those_that_a_fit_has(body: BodyModel) -> None:
    given = np.concatenate((standing(), np.full((40, 30, 3), 5.0)), 1)  # SMPL-H's fingers, anywhere
    assert as_smpl(given, SKELETONS["smplh"]).shape == (40, 22, 3)
    metrics = all_metrics(standing(), np.zeros((40, 24, 3)), given, SKELETONS["smplh"], FPS, None)
    assert metrics["mpjpe_mm"] == 0 and metrics["penetration_mm"] is None


# Real motion: figures measured before this code was written ---------------------------------------------------------


def skate_ratios(sources: list[Path], gate: float) -> list[float]:
    motions, failures = load_motions(sources)
    assert motions and not failures
    return [foot_skate_ratio(m.joints, m.fps, floor_height(m.joints), gate) for m in motions]


def test_skate_ratio_of_generated_clips(reference: Path) -> None:
    generated = reference / "data/generated"
    assert skate_ratios([generated / "mdm_toolbox/results.npy"], 0.05) == pytest.approx([0.54, 0.09, 0.24], abs=0.01)
    assert skate_ratios([generated / "mdm_arms_crossed/results.npy"], 0.05) == [0, 0, 0]
    dance = skate_ratios([generated / "mdm_dance263"], 0.05)
    assert len(dance) == 8 and min(dance) == 0 and max(dance) == pytest.approx(0.19, abs=0.01)
    assert sum(ratio > 0.02 for ratio in dance) == 4


def test_skate_ratio_of_motion_capture(reference: Path) -> None:
    joints = [reference / "data/mocap_100style/joints"]
    assert np.mean(skate_ratios(joints, 0.05)) == pytest.approx(0.31, abs=0.01)
    assert np.mean(skate_ratios(joints, 0.025)) == pytest.approx(0.07, abs=0.01)
