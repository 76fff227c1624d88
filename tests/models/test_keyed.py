"""Keyed motion: feet that stand do stand, bodies touch the floor and stay within a person's limits, the IK reaches."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from models.body import BodyModel
from models.errors import InputError
from models.keyed import MOTIONS, KeyedMotion, sample, walk_and_pick_up
from models.keyed_poses import POSES, mirrored
from models.keyed_rig import JOINT, SIDES, curve, two_bone
from models.keyed_script import Script, degrees, footsteps, perform, standing
from models.prior import PosePrior

FEET = [JOINT["left_foot"], JOINT["right_foot"]]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def demo() -> KeyedMotion:
    return walk_and_pick_up()


@pytest.fixture(scope="module", params=list(MOTIONS))
def motion(request) -> KeyedMotion:
    return sample(request.param, 5)


def joints_of(motion: KeyedMotion, body: BodyModel) -> torch.Tensor:
    return body.joints(motion.betas, motion.thetas, motion.transl)


def speeds(points: torch.Tensor, fps: float) -> torch.Tensor:
    """(L-1, ...) metres a second of points (L, ..., 3)."""
    return points.diff(dim=0).norm(dim=-1) * fps


def planted_speeds(motion: KeyedMotion, body: BodyModel) -> torch.Tensor:
    """Speeds of the balls of the feet over all pairs of frames in which they are said to stand."""
    stands = motion.planted[1:] & motion.planted[:-1]
    return speeds(joints_of(motion, body)[:, FEET], motion.fps)[stands]


def beyond_limits(motion: KeyedMotion) -> torch.Tensor:
    """Degrees by which the worst component of every joint leaves the prior's limits: negative inside."""
    limits, pose = PosePrior.load().limits, motion.thetas[:, 1:]
    return torch.rad2deg(torch.maximum(pose - limits[..., 1], limits[..., 0] - pose)).amax((0, 2))


def test_demo_has_the_promised_form(demo):
    assert demo.thetas.shape == (120, 24, 3) and demo.transl.shape == (120, 3) and demo.betas.shape == (10,)
    assert demo.fps == 20 and demo.text == "the person walked forward and is picking up his toolbox."
    assert demo.betas.abs().max() > 0.1, "the fit has a shape to find"


def test_demo_is_the_same_at_every_call(demo):
    again = walk_and_pick_up()
    assert torch.equal(again.thetas, demo.thetas) and torch.equal(again.transl, demo.transl)


def test_demo_at_another_rate_is_the_same_motion(demo, body):
    fast = walk_and_pick_up(fps=60)
    assert (joints_of(fast, body)[::3] - joints_of(demo, body)).norm(dim=-1).mean() < 0.02  # metres; smoothing differs


def test_demo_walks_forward_with_alternating_feet(demo, body):
    joints = joints_of(demo, body)
    assert joints[-1, 0, 2] - joints[0, 0, 2] > 2 and joints[:, 0, 0].abs().max() < 0.06  # metres of pelvis
    lead = (joints[:60, FEET[0], 2] - joints[:60, FEET[1], 2]).sign()
    assert (lead.diff().abs() == 2).sum() >= 3, "each foot passes the other"


def test_demo_feet_stand_where_they_are_planted(demo, body):
    assert planted_speeds(demo, body).max() < 0.02
    assert demo.planted.any(1).float().mean() > 0.85 and demo.planted[-55:].all()


def test_demo_stays_on_the_floor(demo, body):
    lowest = body.vertices(demo.betas, demo.thetas, demo.transl)[..., 1].amin(-1)
    assert lowest.min() > -0.008 and lowest.max() < 0.003


def test_demo_reaches_for_the_ground_and_rises(demo, body):
    hand = joints_of(demo, body)[:, JOINT["right_hand"], 1]
    assert hand[:40].min() > 0.6 and hand.min() < 0.25
    assert hand[-1] > hand.min() + 0.15 and (hand < 0.25).sum() >= 10, "a grasp, then up"


def test_demo_keeps_its_hands_out_of_its_legs(demo, body):
    """Wrists and hands keep 12 cm from the axes of thighs and shanks, frame by frame."""
    joints = joints_of(demo, body)
    for side, hip in ((0, 1), (1, 2)):
        for upper in (hip, hip + 3):
            start, bone = joints[:, upper], joints[:, upper + 3] - joints[:, upper]
            for hand in (20 + side, 22 + side):
                offset = joints[:, hand] - start
                along = ((offset * bone).sum(-1) / bone.square().sum(-1)).clamp(0, 1)
                assert (offset - along[:, None] * bone).norm(dim=-1).min() > 0.12


def test_demo_moves_like_a_person(demo, body):
    acceleration = joints_of(demo, body).diff(n=2, dim=0).norm(dim=-1) * demo.fps**2
    assert acceleration.max() < 45 and acceleration.mean() < 5  # metres / s^2
    assert demo.thetas[:, [4, 5], 0].min() > -0.02, "knees do not bend forwards"
    assert beyond_limits(demo).max() < 0


def test_motions_are_possible(motion, body):
    assert torch.isfinite(motion.thetas).all() and torch.isfinite(motion.transl).all()
    assert beyond_limits(motion).max() < 2  # degrees: beyond is allowed to a hair's breadth
    turns = (
        Rotation.from_rotvec(motion.thetas[1:].reshape(-1, 3))
        * Rotation.from_rotvec(motion.thetas[:-1].reshape(-1, 3)).inv()
    )
    assert np.degrees(turns.magnitude()).max() < 45, "no joint jumps between frames"


def test_motions_touch_the_floor(motion, body):
    lowest = body.vertices(motion.betas, motion.thetas[::6], motion.transl[::6])[..., 1].amin(-1)
    assert lowest.min() > -0.03 and lowest.min() < 0.01


def test_motions_do_not_slide(motion, body):
    still = planted_speeds(motion, body)
    assert not len(still) or still.max() < 0.02


def test_samples_follow_their_seed():
    first, again, other = sample("twist", 3), sample("twist", 3), sample("twist", 4)
    assert torch.equal(first.thetas, again.thetas)
    assert first.thetas.shape != other.thetas.shape or not torch.allclose(first.thetas, other.thetas, atol=0.01)


def test_unknown_motion_names_the_known_ones():
    with pytest.raises(InputError, match="'swim'.*walk.*crawl"):
        sample("swim", 0)


def test_a_wrist_goes_where_it_is_told(body):
    point = (0.25, 1.35, 0.35)
    script = Script(1.0, [(0, POSES["arms_forward"])], feet=standing(1.0), hands={"left": [(0, (1, *point))]})
    wrist = joints_of(perform(script, "reach", 20, np.zeros(10)), body)[:, JOINT["left_wrist"]]
    assert (wrist - torch.tensor(point)).norm(dim=-1).max() < 1e-4


@pytest.mark.parametrize(("direction", "axis", "sign"), [(0, 2, 1), (180, 2, -1), (90, 0, 1), (-90, 0, -1)])
def test_footsteps_go_where_they_are_sent(direction, axis, sign, body):
    feet, end = footsteps(3, 0.25, 0.6, 0.2, direction=direction, half_width=0.2)
    path = joints_of(perform(Script(end + 0.5, [(0, POSES["stand"])], feet=feet), "walk", 20, np.zeros(10)), body)[:, 0]
    gone = path[-1] - path[0]
    assert gone[axis] * sign == pytest.approx(0.75, abs=0.03) and gone[2 - axis].abs() < 0.03


def test_two_bone_reaches_with_a_hinge():
    rng = np.random.default_rng(0)
    upper, lower, hinge = np.array([0.02, -0.4, 0.01]), np.array([-0.01, -0.43, -0.03]), np.array([1.0, 0, 0])
    target = rng.normal(size=(50, 3))
    target *= rng.uniform(0.2, 0.8, (50, 1)) / np.linalg.norm(target, axis=1, keepdims=True)
    axis = rng.normal(size=(50, 3))
    first, bend = two_bone(upper, lower, hinge, target, axis)
    np.testing.assert_allclose(first.apply(upper + bend.apply(lower)), target, atol=1e-9)
    rotvec = bend.as_rotvec()
    assert np.abs(rotvec[:, 1:]).max() < 1e-12 and (rotvec[:, 0] > 0).all(), "bends about the hinge, one way"
    plane = np.cross(target, axis)
    plane /= np.linalg.norm(plane, axis=1, keepdims=True)
    np.testing.assert_allclose((first.apply(hinge) * plane).sum(1), 0, atol=1e-9, err_msg="hinge in the asked plane")


def test_two_bone_stretches_towards_what_it_cannot_reach():
    upper, lower = np.array([0, -0.4, 0]), np.array([0, -0.4, 0])
    first, bend = two_bone(upper, lower, np.array([1.0, 0, 0]), np.array([[0, 0, 2.0]]), np.array([[1.0, 0, 0]]))
    np.testing.assert_allclose(first.apply(upper + bend.apply(lower)), [[0, 0, 0.8]], atol=1e-6)


def test_curve_meets_its_keys_and_never_overshoots():
    keys = [(2.0, (1.0, 5.0)), (0.0, (0.0, 5.0)), (3.0, (1.0, -5.0))]
    times = np.linspace(-1, 4, 501)
    values = curve(keys, times)
    assert values.shape == (501, 2)
    for time, value in keys:
        np.testing.assert_allclose(curve(keys, np.array([time]))[0], value, atol=1e-12)
    assert values.min(0) == pytest.approx((0, -5)) and values.max(0) == pytest.approx((1, 5))


@pytest.mark.parametrize("name", ["throw", "run_left", "arms_crossed"])
def test_mirrored_poses_are_mirrored(name):
    pose, other = degrees(POSES[name]), degrees(mirrored(POSES[name]))
    for side, opposite in (SIDES, SIDES[::-1]):
        for joint in ("shoulder", "elbow", "hip", "knee"):
            np.testing.assert_allclose(
                other[JOINT[f"{side}_{joint}"]], pose[JOINT[f"{opposite}_{joint}"]] * (1, -1, -1, 1)
            )
    np.testing.assert_allclose(other[JOINT["spine2"]], pose[JOINT["spine2"]] * (1, -1, -1, 1))
