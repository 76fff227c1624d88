"""Joints that were not seen: gaps are bridged, wild joints ignored, and what was seen is fitted as well as before."""

import numpy as np
import pytest
import torch

from fitting.data import Motion, collate
from fitting.gaps import bridge, seen_joints
from fitting.smplify3d import SMPLify3D
from tests.runs import keyed_joints


def fitted_errors(joints: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance in mm of the fit of joints from the truth, (frames, 22)."""
    result = SMPLify3D().fit(collate([Motion("clip", "test", joints=joints)]))[0]
    assert result.status == "converged"
    return (result.joints() - torch.tensor(truth)).norm(dim=-1).numpy() * 1000


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return keyed_joints(80)


@pytest.fixture(scope="module")
def clean_error(truth) -> float:
    return fitted_errors(truth, truth).mean()


def test_bridge_is_a_straight_line_beside_the_pelvis():
    """A wrist that moves steadily beside a moving pelvis comes back exactly, and less sure the longer it was away."""
    time = torch.arange(9.0)[:, None, None]
    joints = torch.cat((time**2 * torch.tensor([1.0, 0, 0]), time**2 * torch.tensor([1.0, 0, 0]) + time * 0.1), 1)[None]
    seen = torch.ones(1, 9, 2, dtype=torch.bool)
    seen[0, 3:6, 1] = False
    hidden = torch.where(seen[..., None], joints, torch.nan)
    filled, confidence = bridge(hidden, seen)
    torch.testing.assert_close(filled, joints)
    assert (confidence[seen] == 1).all()
    assert 0 < confidence[0, 4, 1] < confidence[0, 3, 1] < 1
    assert bridge(joints, torch.ones_like(seen))[0] is joints


def test_a_joint_never_seen_has_no_say():
    joints = torch.zeros(1, 5, 3, 3)
    seen = torch.ones(1, 5, 3, dtype=torch.bool)
    seen[:, :, 2] = False
    joints[:, :, 2] = torch.nan
    filled, confidence = bridge(joints, seen)
    assert filled.isfinite().all()
    assert (confidence[:, :, 2] == 0).all()


def test_a_missing_pelvis_is_not_sure():
    joints = torch.arange(6.0)[None, :, None, None].expand(1, 6, 3, 3).clone()
    seen = torch.ones(1, 6, 3, dtype=torch.bool)
    seen[:, 2:4, 0] = False
    filled, confidence = bridge(torch.where(seen[..., None], joints, torch.nan), seen)
    torch.testing.assert_close(filled, joints)
    assert (confidence[:, 2:4, 0] < 0.1).all()


def test_far_joints_are_not_seen():
    joints = torch.tensor(keyed_joints(4))[None]
    joints[0, 2, 20] += 5
    seen = seen_joints(joints, torch.ones(1, 4, dtype=torch.bool))
    assert seen.sum() == 4 * 22 - 1 and not seen[0, 2, 20]


def test_missing_at_random(truth, clean_error):
    """30 % of all joints missing: what was seen is fitted as before, what was not is near the truth."""
    hidden = np.random.default_rng(0).random(truth.shape[:2]) < 0.3
    error = fitted_errors(np.where(hidden[..., None], np.nan, truth), truth)
    assert error[~hidden].mean() < clean_error + 1
    assert error[hidden].mean() < 15


def test_one_wild_joint_spoils_nothing(truth, clean_error):
    """One joint 5 m off in a tenth of the frames."""
    rng = np.random.default_rng(1)
    joints = truth.copy()
    for frame in rng.choice(len(truth), len(truth) // 10, replace=False):
        joints[frame, rng.integers(22)] += 5 / np.sqrt(3)
    assert fitted_errors(joints, truth).mean() < clean_error + 0.5


def test_a_frame_without_any_joint(truth, clean_error):
    joints = truth.copy()
    joints[30:33] = np.nan
    error = fitted_errors(joints, truth)
    assert error[[i for i in range(80) if not 30 <= i < 33]].mean() < clean_error + 0.5
    assert error[30:33].mean() < 40
