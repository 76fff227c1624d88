"""Smoothing follows the noise: none is found in clean motion, white noise is measured, and taken away."""

import numpy as np
import pytest
import torch

from fitting.data import Motion, collate
from fitting.metrics import rotation_jitter_degrees
from fitting.noise import bone_acceleration, measure, noise_level
from fitting.rig import Rig
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from tests.runs import keyed_joints


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return keyed_joints(100)


def noisy(truth: np.ndarray, level: float) -> np.ndarray:
    return truth + level * np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32)


def acceleration(joints) -> np.ndarray:
    return np.diff(np.asarray(joints), 2, axis=0) * 400


@pytest.mark.parametrize("level", [0.003, 0.01, 0.04])
def test_white_noise_is_measured(truth, level):
    joints = torch.tensor(noisy(truth, level))[None]
    assert float(noise_level(joints)) == pytest.approx(level, rel=0.1)
    joints[0, 10:20, 3:9] = torch.nan
    assert float(noise_level(joints)) == pytest.approx(level, rel=0.1)


def test_a_jump_is_no_noise(truth):
    """A frame somewhere else and a missing joint leave the measure as it is; less than eight frames tell nothing."""
    joints = torch.tensor(noisy(truth, 0.02))[None]
    joints[0, 40, 3], joints[0, 50] = torch.nan, 9.0
    assert float(noise_level(joints)) == pytest.approx(0.02, rel=0.1)
    assert float(noise_level(torch.tensor(truth)[None])) < 0.001
    assert float(noise_level(joints[:, :7])) == 0


def test_clean_motion_is_trusted(truth):
    noise = measure(torch.tensor(truth)[None], torch.tensor([20.0]), Rig(BodyModel.load(), tuple(range(22))))
    assert float(noise.level) < 0.001
    assert float(noise.trust) > 0.99


def test_frame_rate_does_not_change_the_accelerations(truth):
    """The same noisy motion, every second frame of it at half the rate: much the same smoothing."""
    rig = Rig(BodyModel.load(), tuple(range(22)))
    joints = torch.tensor(noisy(truth, 0.02))[None]
    fast = measure(joints, torch.tensor([20.0]), rig)
    slow = measure(joints[:, ::2], torch.tensor([10.0]), rig)
    ratio = (fast.smoothing / slow.smoothing)[0]
    assert 0.4 < float(ratio.median()) < 2.5


def test_four_centimetres_of_noise(truth):
    """Joints twice as near the truth as a fit frame by frame, a tenth of its acceleration error, 0.3 of its jitter."""
    joints = noisy(truth, 0.04)
    fits, thetas = {}, {}
    for preset in ("quick", "careful"):
        result = SMPLify3D(preset=preset).fit(collate([Motion("clip", "test", joints=joints)]))[0]
        fits[preset], thetas[preset] = result.joints().numpy(), result.thetas
    errors = {name: np.linalg.norm(fit - truth, axis=-1).mean() for name, fit in fits.items()}
    jitter = {k: np.linalg.norm(acceleration(v) - acceleration(truth), axis=-1).mean() for k, v in fits.items()}
    assert errors["careful"] < min(0.5 * errors["quick"], 0.021)
    assert jitter["careful"] < min(0.1 * jitter["quick"], 4)
    turning = {name: rotation_jitter_degrees(fit) for name, fit in thetas.items()}
    assert turning["careful"] < 0.3 * turning["quick"]


def test_bones_that_change_length_are_smoothed_and_captured_ones_are_not(truth):
    """A shin that stretches and shrinks several times a second: no skeleton follows, and the fit need not shake."""
    stretched = truth.copy()
    swing = 1 + 0.15 * np.sin(2.2 * np.arange(len(truth), dtype=np.float32))[:, None]
    stretched[:, 7] = truth[:, 4] + swing * (truth[:, 7] - truth[:, 4])
    stretched[:, 10] += stretched[:, 7] - truth[:, 7]
    rig = Rig(BodyModel.load(), tuple(range(22)))
    motions = torch.tensor(np.stack((truth, stretched)))
    assert bone_acceleration(motions, torch.full((2,), 20.0))[0] < 0.01
    clean, uneven = measure(motions, torch.full((2,), 20.0), rig).smoothing
    assert clean.max() < 1e-3 and (uneven > clean + 1e-2).all()
