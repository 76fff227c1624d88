"""Joints that were not seen: gaps are bridged, wild joints ignored, and what was seen is fitted as well as before."""

import numpy as np
import pytest
import torch

from fitting.data import Motion, collate
from fitting.gaps import bridge, seen_joints
from fitting.recall import FLIP, recall
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.rotations import axis_angle_to_matrix
from tests.known import known_cuts
from tests.runs import keyed_joints

LEGS = (4, 5, 7, 8, 10, 11)


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


def hide(joints: torch.Tensor, start: int, end: int, which: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """joints (clips, frames, 22, 3) with NaN in some frames of some joints, and what is left to see."""
    seen = torch.ones(joints.shape[:3], dtype=torch.bool)
    seen[:, start:end, which] = False
    return torch.where(seen[..., None], joints, torch.nan), seen


def errors_mm(joints: torch.Tensor, seen: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return 1000 * (joints - truth).norm(dim=-1)[~seen]


@pytest.fixture(scope="module")
def walker() -> torch.Tensor:
    """(1, 90, 22, 3): the demo's walker steps on the spot, three times the same second and a half, ever farther on."""
    step = torch.tensor(keyed_joints(30, start=12))
    time = torch.arange(90)
    joints = step[time % 30] - step[time % 30, :1] * torch.tensor([1.0, 0, 1])
    return (joints + 0.04 * time[:, None, None] * torch.tensor([0, 0, 1.0]))[None]


@pytest.mark.parametrize("heading", [0.0, 2.0])
def test_hidden_legs_are_recalled(walker, heading):
    """What happened before happens again, wherever the walker heads: to a centimetre; a straight line is 5 cm off."""
    turn = axis_angle_to_matrix(torch.tensor([0, heading, 0]))
    truth, fps = walker @ turn.mT, torch.tensor([20.0])
    hidden, seen = hide(truth, 36, 56, LEGS)
    straight, doubt = bridge(hidden, seen)
    found, confidence = recall(straight, doubt, seen, fps)
    assert errors_mm(straight, seen, truth).mean() > 50
    assert errors_mm(found, seen, truth).mean() < 10
    torch.testing.assert_close(found[seen], truth[seen])
    assert (confidence[seen] == 1).all()
    assert (confidence[~seen] > doubt[~seen]).all()


def test_the_other_leg_tells_as_well(walker):
    """What a left leg did is known from the right one: the mirrored walker, hidden, in a clip that never showed it."""
    mirrored = walker[:, :, FLIP] * torch.tensor([-1.0, 1, 1])
    truth = torch.cat((walker[:, :60], mirrored[:, :30]), 1)
    hidden, seen = hide(truth, 66, 84, LEGS)
    straight, doubt = bridge(hidden, seen)
    found, _ = recall(straight, doubt, seen, torch.tensor([20.0]))
    assert errors_mm(found, seen, truth).mean() < 0.5 * errors_mm(straight, seen, truth).mean()


def test_padding_and_other_clips_change_nothing(walker):
    fps = torch.tensor([20.0])
    alone = recall(*bridge(*(case := hide(walker, 70, 90, LEGS))), case[1], fps)[0]
    joints, seen = (torch.cat((x, torch.zeros_like(x[:, :25])), 1) for x in (torch.nan_to_num(case[0]), case[1]))
    other = torch.zeros_like(joints), torch.ones_like(seen)
    joints, seen = torch.cat((joints, other[0])), torch.cat((seen, other[1]))
    together = recall(*bridge(joints, seen), seen, fps.expand(2))[0]
    torch.testing.assert_close(together[0, :90], alone[0])
    assert torch.equal(together[1], other[0][0])


@pytest.mark.parametrize(
    "start, end, which", [(40, 45, LEGS), (30, 60, (0, *LEGS)), (0, 75, LEGS), (0, 90, LEGS), (30, 60, range(22))]
)
def test_where_nothing_is_similar_the_bridge_stays(walker, start, end, which):
    """Short gaps, no pelvis, too little to learn from, nothing at all."""
    hidden, seen = hide(walker, start, end, tuple(which))
    before = bridge(hidden, seen)
    for ours, bridged in zip(recall(*before, seen, torch.tensor([20.0])), before, strict=True):
        assert torch.equal(ours, bridged)


def test_recalled_legs_are_fitted(walker):
    """Hidden legs end within 15 mm of where they were, and what was seen is fitted as if they had not been hidden."""
    hidden, seen = hide(walker, 36, 56, LEGS)
    truth, seen = walker[0].numpy(), seen[0].numpy()
    whole, error = fitted_errors(truth, truth), fitted_errors(hidden[0].numpy(), truth)
    assert error[~seen].mean() < 15
    assert error[seen].mean() < whole[seen].mean() + 1


def test_legs_hidden_for_a_second(reference):
    """The twenty known cuts, legs hidden for a second of five: 60 mm from the truth on average."""
    body = BodyModel.load()
    joints = torch.stack([body.joints(k.betas, k.thetas, k.transl)[:, :22] for k in known_cuts(reference, body)])
    hidden, seen = hide(joints, 40, 60, LEGS)
    motions = [Motion(str(i), "test", joints=clip.numpy()) for i, clip in enumerate(hidden)]
    fitted = torch.stack([result.joints() for result in SMPLify3D().fit(collate(motions))])
    assert errors_mm(fitted, seen, joints).mean() < 60
    assert errors_mm(fitted, ~seen, joints).mean() < 1.8
