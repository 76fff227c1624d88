"""Skeletons: what each joint shows of the body, parents, sides; landmarks on bodies with and without fingers."""

import pytest
import torch

from models.body import BodyModel
from models.landmarks import landmark, landmarks
from models.skeleton import BODY, FINGERS, LANDMARKS, POINTS, SKELETONS, SMPL_JOINTS, SMPL_PARENTS, hung, of_points
from tests.bodies import smplh_arrays, smplx_arrays, write_official

COUNTS = {"humanml3d": 22, "smpl": 24, "smplh": 52, "kit": 21, "body25": 25, "h36m": 17}


@pytest.mark.parametrize("name", SKELETONS)
def test_skeletons_are_whole(name):
    skeleton = SKELETONS[name]
    assert len(skeleton.joints) == len(set(skeleton.joints)) == len(skeleton.parents) == COUNTS[name]
    shown = [point for point in skeleton.shows if point is not None]
    assert len(shown) == len(set(shown)) and set(shown) <= set(POINTS)
    fitted = skeleton.fitted()
    assert list(fitted.shows) == shown and fitted.parents.count(-1) == 1
    for joint, parent in enumerate(fitted.parents):  # every chain ends at the root
        steps = 0
        while parent >= 0:
            parent, steps = fitted.parents[parent], steps + 1
        assert steps < 12, fitted.joints[joint]


@pytest.mark.parametrize("name", SKELETONS)
def test_sides_of_a_joint_are_those_of_what_it_shows(name):
    for joint, point in zip(SKELETONS[name].joints, SKELETONS[name].shows, strict=True):
        for side in ("left", "right"):
            assert point is None or joint.startswith(side) == point.startswith(side)


def test_hung_gives_smpls_own_tree_and_bridges_what_is_not_shown():
    assert hung(SMPL_JOINTS) == SMPL_PARENTS
    assert hung(("pelvis", None, "head", "left_wrist", "neck")) == (-1, -1, 4, 0, 0)
    assert hung(("left_hip", "mid_hip", "nose")) == (1, -1, 1)


def test_kits_chains_are_those_of_the_reference():
    """0-11-12-13-15, 0-16-17-18-20, 0-1-2-3-4, arms from the chest; without the metatarsals 14 and 19."""
    kit = SKELETONS["kit"].fitted()
    above = {kit.joints[i]: kit.joints[p] for i, p in enumerate(kit.parents) if p >= 0}
    order = SKELETONS["kit"].joints
    for chain in ((0, 11, 12, 13, 15), (0, 16, 17, 18, 20), (0, 1, 2, 3, 4), (2, 5, 6, 7), (2, 8, 9, 10)):
        for parent, child in zip(chain, chain[1:], strict=False):
            assert above[order[child]] == order[parent]


def test_swapped_twice_is_the_same():
    kit = SKELETONS["kit"]
    assert kit.swapped().joints[5] == "left_shoulder" and kit.swapped().shows[15] == "left_foot"
    assert kit.swapped().swapped() == kit


def test_of_points_writes_down_any_fitted_skeleton():
    fitted = SKELETONS["body25"].fitted()
    again = of_points("body25", list(fitted.shows))
    assert (again.shows, again.parents, again.unit) == (fitted.shows, fitted.parents, 1.0)


def test_landmarks_lie_where_their_names_say():
    body = BodyModel.load()
    names, _, rest, dirs = landmarks(body, tuple(LANDMARKS))
    assert set(names) == set(LANDMARKS) - set(FINGERS) and dirs.shape == (len(names), 3, body.num_betas)
    place = dict(zip(names, rest, strict=True)) | dict(zip(BODY, body.rest_template, strict=False))
    assert place["head_top"][1] == body.v_template[:, 1].max()
    for side, sign in (("left", 1), ("right", -1)):
        assert sign * place[f"{side}_ear"][0] > 0.05 and place["nose"][2] > place[f"{side}_ear"][2] + 0.05
        assert place[f"{side}_big_toe"][2] > place[f"{side}_foot"][2] > place[f"{side}_heel"][2]
        assert sign * (place[f"{side}_small_toe"] - place[f"{side}_big_toe"])[0] > 0.01
        torch.testing.assert_close(place[f"{side}_hand"], body.rest_template[SMPL_JOINTS.index(f"{side}_hand")])
    torch.testing.assert_close(2 * place["mid_hip"], place["left_hip"] + place["right_hip"])


def test_landmarks_follow_the_shape():
    """The direction by betas is that of the vertex: an ear of another shape lies on that shape's skin."""
    body, betas = BodyModel.load(), torch.linspace(-2, 2, 10)
    _, rest, dirs = landmark(body, "left_ear")
    skin = body.rest_vertices(betas)
    assert (skin - (rest + dirs @ betas)).norm(dim=1).min() < 1e-6


@pytest.mark.parametrize("arrays, first", [(smplh_arrays, 22), (smplx_arrays, 25)])
def test_knuckles_where_the_body_has_fingers(tmp_path, arrays, first):
    body = BodyModel.load(write_official(tmp_path / "body.npz", arrays()))
    joint, rest, _ = landmark(body, "right_index1")
    assert joint == 21
    torch.testing.assert_close(rest, body.rest_template[first + 15])
    assert landmark(body, "left_hand") is None and landmark(BodyModel.load(), "right_index1") is None
