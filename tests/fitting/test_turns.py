"""People who turn: full turns about every axis, all headings, a cartwheel, lying; no flip, winding, jump of twist.

Default preset, smoothing on. Every motion is made from the body itself, so all rotations are known.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fitting.data import Motion, collate
from fitting.metrics import rotation_errors_degrees, rotation_jitter_degrees
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from fitting.window import averaged
from models.body import BodyModel
from models.keyed import sample, walk_and_pick_up
from models.keyed_poses import POSES
from models.keyed_script import STILL, KeyedMotion, Script, perform
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

FRAMES = 60
AXES = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (-0.3, -0.8, 0.5))  # yaw, pitch, two tilted ones
UNSEEN = [10, 11, 15, 20, 21, 22, 23]  # feet, head, wrists and hands: no joint shows how they turn


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def module() -> SMPLify3D:
    return SMPLify3D()


@pytest.fixture(scope="module")
def walk() -> KeyedMotion:
    return walk_and_pick_up()


def turned(motion: KeyedMotion, turns: Tensor) -> KeyedMotion:
    """The first frames of a motion, turned in the world about the pelvis by rotation vectors (frames, 3)."""
    thetas, transl = motion.thetas[: len(turns)].clone(), motion.transl[: len(turns)]
    thetas[:, 0] = matrix_to_axis_angle(axis_angle_to_matrix(turns) @ axis_angle_to_matrix(thetas[:, 0]))
    return replace(motion, thetas=thetas, transl=transl)


def cartwheel() -> KeyedMotion:
    """Arms up, over both hands with the legs apart, and onto the feet again: 2.4 seconds, two metres to the right."""
    stand, star = POSES["stand"], POSES["star_jump"]
    poses = [(0, stand), (0.5, star), (1.9, star), (2.4, stand)]
    over = (-2, 0, 0, 0, 0, 360)
    return perform(Script(2.4, poses, pelvis=[(0.3, STILL), (2.1, over)]), "a cartwheel", 20, np.zeros(10))


def joints_of(body: BodyModel, motion: KeyedMotion) -> Tensor:
    return body.joints(motion.betas, motion.thetas, motion.transl)[:, :22]


def fit_all(module: SMPLify3D, clips: list[Tensor]) -> list[FitResult]:
    return module.fit(collate([Motion(str(i), "test", joints=clip.numpy()) for i, clip in enumerate(clips)]))


def steps_degrees(thetas: Tensor) -> np.ndarray:
    """Angle of every joint's turn from one frame to the next, (L - 1, 24)."""
    return rotation_errors_degrees(thetas[:-1], thetas[1:])


def check(result: FitResult, motion: KeyedMotion, joints: Tensor) -> None:
    """Joints 3 mm on average, 5 mm in the worst frame, root within 5 degrees; no winding, no step beyond the truth's.

    Steps may differ by 10 degrees a frame from the truth's, and up to 20 are fine in any motion.
    """
    error = 1000 * (result.joints() - joints).norm(dim=-1).mean(1)
    assert result.status == "converged"
    assert error.mean() < 3 and error.max() < 5
    assert rotation_errors_degrees(result.thetas[:, 0], motion.thetas[:, 0]).max() < 5
    assert result.thetas.norm(dim=-1).max() < math.pi + 1e-5
    assert steps_degrees(result.thetas).max() < max(steps_degrees(motion.thetas).max() + 10, 20)


def test_three_full_turns(module, body, walk):
    """In 60 frames, while walking: 18 degrees a frame about axes that are level, upright and tilted."""
    phase = torch.arange(FRAMES)[:, None] * 6 * math.pi / FRAMES
    motions = [turned(walk, phase * normalize(torch.tensor(axis), dim=0)) for axis in AXES]
    joints = [joints_of(body, motion) for motion in motions]
    for result, motion, clip in zip(fit_all(module, joints), motions, joints, strict=True):
        check(result, motion, clip)


def test_all_headings_are_fitted_alike(module, body, walk):
    """24 of them: where somebody heads changes neither the pose nor the shape, by a hundredth of a degree."""
    headings = torch.arange(24) * math.pi / 12
    up = torch.tensor([0.0, 1, 0])
    motions = [turned(walk, (heading * up).expand(20, 3)) for heading in headings]
    joints = [joints_of(body, motion) for motion in motions]
    results = fit_all(module, joints)
    for result, motion, clip in zip(results, motions, joints, strict=True):
        check(result, motion, clip)
        assert rotation_errors_degrees(result.thetas[:, 1:], results[0].thetas[:, 1:]).max() < 0.1


@pytest.mark.parametrize("name", ["cartwheel", "lie", "lie_on_side", "lie_prone", "crawl", "jump"])
def test_upside_down_and_on_the_floor(module, body, name):
    motion = cartwheel() if name == "cartwheel" else sample(name, 1)
    joints = joints_of(body, motion)
    check(fit_all(module, [joints])[0], motion, joints)


def test_the_cartwheel_is_one(body):
    """A full turn with hands on the floor, head down and feet up in its middle: what the test above is worth."""
    motion = cartwheel()
    joints = joints_of(body, motion)
    middle = joints[len(joints) // 2]
    assert middle[[20, 21], 1].max() < 0.4 < middle[15, 1] < middle[0, 1] < middle[[7, 8], 1].min()
    assert (axis_angle_to_matrix(motion.thetas[:, 0])[:, 1, 1] < -0.9).any()


@pytest.mark.parametrize("name", ["walk_and_pick_up", "cartwheel"])
def test_noise_makes_no_twist_jump(module, body, name):
    """4 cm of noise a coordinate: no joint turns by 30 degrees more in a frame than it did, and all turn calmly.

    A fit of each frame alone turns some joint by 170 degrees and jitters 100 times as much as the motion does.
    """
    motion = walk_and_pick_up() if name == "walk_and_pick_up" else cartwheel()
    random = torch.Generator().manual_seed(0)
    joints = joints_of(body, motion)
    noisy = joints + 0.04 * torch.randn(joints.shape, generator=random)
    careful, quick = (fit_all(one, [noisy])[0].thetas for one in (module, SMPLify3D(preset="quick")))
    assert steps_degrees(careful).max() < steps_degrees(motion.thetas).max() + 30
    assert steps_degrees(careful)[:, UNSEEN].max() < 15
    assert rotation_jitter_degrees(careful) < 0.1 * rotation_jitter_degrees(quick)


def test_averages_in_time():
    """What flips every frame becomes even, a lasting change takes the window's time; width 0 does nothing."""
    flips = torch.eye(2)[torch.arange(80) % 2]
    change = torch.eye(2)[(torch.arange(80) >= 40).long()]
    values = torch.stack((flips, change, flips))
    mask, width = torch.ones(3, 80, dtype=torch.bool), torch.tensor([5.0, 5.0, 0.0])
    even, slow, same = averaged(values, mask, width)
    torch.testing.assert_close(even[16:-16], torch.full((48, 2), 0.5), atol=1e-3, rtol=0)
    assert slow.diff(dim=0).abs().max() < 0.1 and (slow[:, 1].diff() > -1e-6).all()
    torch.testing.assert_close(slow[[20, 60]], torch.eye(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(same, flips)
    mask[1, 40:] = False
    torch.testing.assert_close(averaged(values, mask, width)[1], change)
