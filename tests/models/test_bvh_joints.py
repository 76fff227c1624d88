"""Motion capture's joints by name: against the published conversions, both sides, and names that nobody knows."""

import numpy as np
import pytest

from models.bvh import Bvh, read_bvh
from models.bvh_joints import NAMINGS, SIDE, TRUNK, body_joints
from models.errors import InputError
from models.skeleton import SMPL_JOINTS


@pytest.mark.parametrize(
    "file, step, unit, tolerance",
    [
        ("mocap_bandai/bvh/dataset-1_kick_normal_001", 3, 0.01, 1e-5),
        ("mocap_bandai/bvh/dataset-2_walk-turn-right_active_001", 3, 0.01, 1e-5),
        ("mocap_100style/bvh/Angry_ID", 6, 0.01, 2e-3),  # its frames last 0.016667 s: the other 20 fps drifts a little
        ("generated/bvh/gmd_anim0", 1, 1, 1e-6),
    ],
)
def test_joints_of_other_conversions(reference, file, step, unit, tolerance):
    path = reference / "data" / f"{file}.bvh"
    joints = body_joints(read_bvh(path))[::step] * unit
    beside = path.with_name(f"{path.stem}_joints.npy")
    expected = np.load(beside) if beside.is_file() else np.load(path.parents[1] / "joints" / f"{path.stem}.npy")[::2]
    both = min(len(joints), len(expected))
    assert both > 20
    np.testing.assert_allclose(joints[:both], expected[:both], atol=tolerance)


def test_cmu_names_make_a_person(reference):
    joints = body_joints(read_bvh(reference / "data" / "mocap_cmu" / "12_01_walk.bvh"))
    assert joints.shape == (524, 22, 3)
    heights = dict(zip(SMPL_JOINTS, joints[..., 1].mean(0), strict=False))
    order = ["left_foot", "left_ankle", "left_knee", "left_hip", "pelvis", "spine1", "spine2", "spine3", "neck", "head"]
    assert sorted(order, key=heights.get) == order


def named(names: list[str]) -> Bvh:
    """Joint i of these names, all children of the first, stands at (i, 0, 0)."""
    count = len(names)
    offsets = np.arange(count)[:, None] * np.array([1.0, 0, 0])
    still = np.broadcast_to(np.eye(3), (2, count, 3, 3))
    return Bvh(tuple(names), (-1,) + (0,) * (count - 1), offsets, ((),) * count, still, np.zeros((2, 3)), 20)


@pytest.mark.parametrize("naming", ["Mixamo", "Unreal", "SMPL"])
def test_left_and_right_by_name(naming):
    trunk, side = ([point.partition("|")[0] for point in points.split()] for points in NAMINGS[naming])
    right = [name.replace("left", "right").replace("_l", "_r") for name in side]
    points = dict(
        zip([*TRUNK, *(f"left_{s}" for s in SIDE), *(f"right_{s}" for s in SIDE)], [*trunk, *side, *right], strict=True)
    )
    joints = body_joints(named([f"mixamorig:{name.upper()}" for name in points.values()]))
    assert joints[0, :, 0].tolist() == [list(points).index(joint) for joint in SMPL_JOINTS[:22]]


def test_unknown_names_are_listed():
    with pytest.raises(InputError, match="namings .*Bandai Namco.*they are Root, Tail"):
        body_joints(named(["Root", "Tail"]))
