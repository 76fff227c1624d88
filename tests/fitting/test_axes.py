"""Which way is up, and which side is left: recognised in the keyed person however it is turned, and on real clips."""

import logging

import numpy as np
import pytest

from fitting.axes import UP, check_axes, check_sides, sides, turned
from fitting.data import load_motions
from models.errors import InputError
from tests.person import person
from tests.runs import keyed_joints

MIRROR = np.array([-1.0, 1, 1])
SWAP = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]


@pytest.fixture(scope="module")
def joints() -> np.ndarray:
    return keyed_joints(60).astype(np.float64)


@pytest.mark.parametrize("up", UP)
def test_turning_is_a_rotation_that_brings_the_axis_up(up):
    assert np.linalg.det(UP[up]) == pytest.approx(1) and np.allclose(UP[up] @ UP[up].T, np.eye(3))
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    np.testing.assert_array_equal(turned(axis, up), [0, 1, 0])


@pytest.mark.parametrize("up", [up for up in UP if up[-1] != "y"])
def test_somebody_upright_along_another_axis_is_told_what_to_pass(up, joints):
    with pytest.raises(InputError, match=f"{up} seems to point up.*up='{up}'"):
        check_axes(joints @ UP[up])
    assert check_axes(turned(joints @ UP[up], up)) == ""


def test_head_down_is_a_warning_and_lying_nothing(joints):
    assert "--up=-y" in check_axes(joints @ UP["-y"])
    lying = (joints[:1] - joints[:1, :1]) @ UP["x"]
    lying[..., 1] -= lying[..., 1].min()
    assert check_axes(lying + [3, 0, 0]) == ""


def test_axes_are_read_with_holes_and_wild_joints(joints):
    broken = joints.copy()
    broken[::3, 12] = np.nan
    broken[5, 7] += 5
    with pytest.raises(InputError, match="up='z'"):
        check_axes(broken @ UP["z"])


def test_sides_change_sign_with_a_mirror_and_with_a_swap_and_with_no_rotation(joints):
    value = sides(joints)
    assert value > 0.9
    assert sides(joints * MIRROR) == pytest.approx(-value)
    assert sides(joints[:, SWAP]) == pytest.approx(-value)
    for up in UP.values():
        assert sides(joints @ up) == pytest.approx(value)
    assert sides(joints[:, SWAP] * MIRROR) == pytest.approx(value)  # a mirrored person with the right names is a person


def test_sides_of_what_is_not_seen_are_not_told(joints):
    hidden = joints.copy()
    hidden[:, [4, 5, 7, 8, 10, 11]] = np.nan
    assert sides(hidden) == 0 and check_sides(hidden) == ""
    hidden = joints.copy()
    hidden[:, [10, 11]] = np.nan
    assert sides(hidden) > 0.9


@pytest.mark.parametrize("change", [lambda x: x * np.float32([-1, 1, 1]), lambda x: x[:, SWAP]], ids=["mirror", "swap"])
def test_a_file_with_wrong_sides_is_read_with_a_note(tmp_path, caplog, change):
    np.save(tmp_path / "walk.npy", change(keyed_joints(20)))
    (motion,), _ = load_motions(tmp_path / "walk.npy")
    assert "Left and right seem swapped" in motion.notes[0] and "Left and right" in caplog.text


def test_units_and_axes_of_a_person_who_stands_still_are_right():
    assert check_axes(person().astype(np.float64)) == "" and check_sides(person().astype(np.float64)) == ""


def test_no_real_clip_is_called_wrong_and_every_mirrored_one_is(reference, caplog):
    data = reference / "data"
    caplog.set_level(logging.ERROR, "thetafit")  # not the lengths of MDM's results
    folders = ["generated", "humanml3d", "mocap_100style", "mocap_bandai"]
    motions, _ = load_motions([data / folder for folder in folders])
    clips = [motion for motion in motions if motion.joints is not None]
    assert len(clips) > 300 and not any(clip.notes for clip in clips)
    values = np.array([sides(clip.joints[:, :22].astype(np.float64)) for clip in clips])
    mirrored = np.array([sides(clip.joints[:, :22] * MIRROR) for clip in clips])
    assert values.min() > 0.6 and mirrored.max() < -0.6
