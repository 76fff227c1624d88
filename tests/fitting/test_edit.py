"""`thetafit edit`: what is kept stays to the millimetre, what is free is made anew; masks; bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fitting.cli import main
from fitting.edit import JOINTS, Change
from models.errors import InputError
from models.mdm.edit_masks import LOWER_BODY, channels, joint_channels
from models.mdm.features import features_to_joints, joints_to_features
from models.safe_pickle import load_npy
from tests.runs import keyed_joints, save_joints

LOWER = [JOINTS.index(name) for name in LOWER_BODY]
UPPER = [i for i in range(22) if i not in LOWER]


def edit(*arguments: object) -> int:
    return main(["edit", *map(str, arguments), "--steps", "4", "--device", "cpu"])


def made(out: Path) -> np.ndarray:
    """Joints (frames, 22, 3) of the only motion."""
    return load_npy(out / "results.npy")["motion"][0].transpose(2, 0, 1)


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A motion file, and its joints as features hold them: HumanML3D's person, from the origin."""
    joints = torch.from_numpy(keyed_joints(63)).double()
    path = save_joints(tmp_path_factory.mktemp("walk") / "walk.npy", 63)
    return path, features_to_joints(joints_to_features(joints)).numpy()


def test_legs_walk_on_while_the_upper_body_is_made_anew(walk, tmp_path):
    assert edit(walk[0], "a person waves", "--joints", "upper_body", "--out", tmp_path) == 0
    difference = np.abs(made(tmp_path) - walk[1])
    assert difference[:, LOWER].max() < 1e-3 and difference[:, UPPER].max() > 0.05
    assert (tmp_path / "results.txt").read_text() == "a person waves"
    assert (tmp_path / "sample00_rep00.mp4").stat().st_size > 1000


def test_the_middle_is_made_anew_between_two_ends(walk, tmp_path):
    assert edit(walk[0], "a person bows", "--out", tmp_path) == 0
    found, wanted = made(tmp_path), walk[1]
    assert np.abs(found[:15] - wanted[:15]).max() < 1e-3 and np.abs(found[15:46] - wanted[15:46]).max() > 0.05
    spread = [np.linalg.norm(j[-15:, :, None] - j[-15:, None], axis=-1) for j in (found, wanted)]
    assert np.abs(spread[0] - spread[1]).max() < 1e-3  # the same poses, wherever the middle has led


def test_an_own_mask_is_frames_and_joints_at_once(walk, tmp_path):
    mask = np.zeros((62, 22))
    mask[20:40, JOINTS.index("left_wrist")] = 1
    np.save(tmp_path / "mask.npy", mask)
    assert edit(walk[0], "a person waves", "--mask", tmp_path / "mask.npy", "--out", tmp_path / "a") == 0
    chosen = ("--joints", "left_wrist", "--frames", "20-40")
    assert edit(walk[0], "a person waves", *chosen, "--out", tmp_path / "b") == 0
    np.testing.assert_array_equal(made(tmp_path / "a"), made(tmp_path / "b"))
    moved = np.abs(made(tmp_path / "a") - walk[1]).max(-1) > 1e-3
    assert moved[20:40, JOINTS.index("left_wrist")].any()
    moved[20:40, JOINTS.index("left_wrist")] = False
    assert not moved.any()


def test_channels_of_a_mask_are_those_of_its_joints():
    free = Change(frames="2-4", joints=("head", "left_foot")).free(6)
    expected = joint_channels(("head", "left_foot"))
    mask = channels(free)
    assert mask.shape == (6, 263) and not mask[[0, 1, 4, 5]].any()
    assert torch.equal(mask[2], expected) and torch.equal(mask[3], expected)


@pytest.mark.parametrize(
    "change, message",
    [
        (Change(frames="40-20"), "--frames 40-20: expected first-last"),
        (Change(frames="70-80"), "this motion's are 0-62"),
        (Change(frames="0-64"), "this motion's are 0-62"),
        (Change(joints=("left_ear",)), "no joint left_ear; there are upper_body, pelvis"),
        (Change(frames="1-2", mask="m.npy"), "leave out --frames and --joints"),
    ],
)
def test_bad_choices(change, message):
    with pytest.raises(InputError, match=message):
        change.free(62)


def test_bad_input(walk, tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.full((62, 22), 0.5))
    assert edit(walk[0], "a person waves", "--mask", tmp_path / "mask.npy", "--out", tmp_path / "out") == 2
    assert "expected (62, 22) of 0 and 1" in capsys.readouterr().err
    assert edit(walk[0], "--out", tmp_path / "out") == 2
    assert "the motion's file has no text" in capsys.readouterr().err
    assert edit(save_joints(tmp_path / "long.npy", 120), "bow", "--frames", "0-120", "--out", tmp_path / "out") == 0
    holes = keyed_joints(40)
    holes[3, 5] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    assert edit(tmp_path / "holes.npy", "bow", "--out", tmp_path / "holes") == 2
    assert "22 joints in every frame" in capsys.readouterr().err
