"""BVH files: forward kinematics against hand-made numbers and a reader of the tests' own, round trips, broken files."""

import numpy as np
import pytest

from models.bvh import Bvh, read_bvh, write_bvh
from models.errors import InputError
from tests import bvh as plain

ARM = """HIERARCHY
ROOT Hips
{
  OFFSET 0 90 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Upper Arm
  {
    OFFSET 10 0 0
    CHANNELS 1 Zrotation
    JOINT Hand
    {
      OFFSET 20 0 0
      CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
      End Site #name: finger
      {
        OFFSET 5 0 0
      }
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 0 0 0 0 20 0 0 0 0 0
1 2 3 0 0 90 90 30 0 0 0 0 90
"""


def arm(tmp_path, old: str = "", new: str = ""):
    assert old in ARM
    path = tmp_path / "arm.bvh"
    path.write_text(ARM.replace(old, new, 1) if old else ARM)
    return path


def test_joints_by_hand(tmp_path):
    bvh = read_bvh(arm(tmp_path))
    assert bvh.names == ("Hips", "Upper Arm", "Hand", "Hand_end") and bvh.parents == (-1, 0, 1, 2)
    assert bvh.fps == 30
    rest = [(1, 2, 3), (11, 2, 3), (31, 2, 3), (36, 2, 3)]
    # A quarter turn about y sends +x to -z, one about z sends +x to +y: the hand, 30 away now, hangs above the elbow.
    turned = [(1, 2, 3), (1, 2, -7), (1, 32, -7), (1, 32, -2)]
    np.testing.assert_allclose(bvh.joints(), [rest, turned], atol=1e-12)


def test_round_trip_with_a_hinge_and_a_moving_joint(tmp_path):
    bvh = read_bvh(arm(tmp_path))
    write_bvh(tmp_path / "again.bvh", bvh)
    again = read_bvh(tmp_path / "again.bvh")
    assert (again.names, again.parents, again.channels, again.fps) == (bvh.names, bvh.parents, bvh.channels, bvh.fps)
    np.testing.assert_allclose(again.rotations, bvh.rotations, atol=1e-8)
    np.testing.assert_allclose(again.joints(), bvh.joints(), atol=1e-6)


def test_any_rotation_survives_in_every_order(tmp_path):
    generator = np.random.default_rng(0)
    rotations = np.linalg.qr(generator.normal(size=(30, 2, 3, 3)))[0]
    rotations *= np.sign(np.linalg.det(rotations))[..., None, None]
    path = generator.normal(size=(30, 3))
    for order in ("XYZ", "ZXY", "YXZ"):
        turns = tuple(f"{letter}rotation" for letter in order)
        channels = (("Xposition", "Yposition", "Zposition", *turns), turns)
        write_bvh(tmp_path / "x.bvh", Bvh(("a", "b"), (-1, 0), np.eye(3)[:2], channels, rotations, path, 20))
        found = read_bvh(tmp_path / "x.bvh")
        np.testing.assert_allclose(found.rotations, rotations, atol=1e-7)
        np.testing.assert_allclose(found.translation, path, atol=1e-6)


def test_joints_in_any_order_keep_their_motion(tmp_path):
    """Arms a and b with a hand each, listed as SMPL lists them: across the body, then outwards."""
    turns = ("Zrotation", "Yrotation", "Xrotation")
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rotations = np.stack([np.eye(3), quarter, np.eye(3), np.eye(3), quarter])[None]
    offsets = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]], float)
    names, parents = ("root", "a", "b", "a_hand", "b_hand"), (-1, 0, 0, 1, 2)
    bvh = Bvh(names, parents, offsets, (turns,) * 5, rotations, np.zeros((1, 3)), 20)
    write_bvh(tmp_path / "x.bvh", bvh)
    found = read_bvh(tmp_path / "x.bvh")
    assert found.names == ("root", "a", "a_hand", "b", "b_hand")
    order = [found.names.index(name) for name in names]
    np.testing.assert_allclose(found.joints()[:, order], bvh.joints(), atol=1e-6)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("HIERARCHY", "JERARCHY", "line 1.*HIERARCHY"),
        ("OFFSET 10 0 0", "OFFSET 10 0", "line 9.*three numbers"),
        ("OFFSET 10 0 0", "OFFSET 10 0 nan", "line 8.*three numbers"),
        ("CHANNELS 1 Zrotation", "CHANNELS 99999999999 Zrotation", "line 9.*1 to 6"),
        ("CHANNELS 1 Zrotation", "CHANNELS 1 Wrotation", "line 9.*Xposition, "),
        ("JOINT Hand", "BONE Hand", "line 10.*JOINT"),
        ("JOINT Hand\n    {", "JOINT Hand", "line 11.*{"),
        ("}\nMOTION", "MOTION", "line 20.*close joint Hips"),
        ("MOTION", "MOTIO", "no line MOTION"),
        ("Frames: 2", "Frames: 3", "promises 3 frames, 2 lines"),
        ("Frames: 2", "Frame: 2", "line 22.*Frames: NUMBER"),
        ("0.0333333", "fast", "line 23.*Frame Time: NUMBER"),
        ("0.0333333", "0", "above zero"),
        ("1 2 3 0 0 90", "1 2 3 0 0", r"line 25.*13 finite numbers.*\(12"),
        ("1 2 3 0 0 90", "1 2 3 0 0 inf", "line 25.*13 finite"),
        ("1 2 3 0 0 90", "1 2 3 0 0 a", "line 25.*13 numbers"),
    ],
)
def test_malformed_files_are_named_with_their_line(tmp_path, old, new, said):
    with pytest.raises(InputError, match=f"arm.bvh.*{said}"):
        read_bvh(arm(tmp_path, old, new))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="none.bvh: cannot be read: No such file"):
        read_bvh(tmp_path / "none.bvh")
    (tmp_path / "x.bvh").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="no BVH file"):
        read_bvh(tmp_path / "x.bvh")


@pytest.mark.parametrize("file", ["mocap_bandai/bvh/dataset-1_kick_normal_001.bvh", "mocap_cmu/12_01_walk.bvh"])
def test_motion_capture_equals_a_plain_reader(reference, tmp_path, file):
    bvh, expected = read_bvh(reference / "data" / file), plain.read_bvh(reference / "data" / file)
    joints = [j for j, channels in enumerate(bvh.channels) if channels]
    rotations, positions = bvh.world()
    assert [bvh.names[j] for j in joints] == expected.names
    np.testing.assert_allclose(positions[:, joints], expected.positions, atol=1e-9)
    np.testing.assert_allclose(rotations[:, joints], expected.rotations, atol=1e-12)
    write_bvh(tmp_path / "again.bvh", bvh)
    np.testing.assert_allclose(read_bvh(tmp_path / "again.bvh").joints(), positions, atol=1e-4)
