"""HumanML3D features: from joints and back, a naive loop, free leading dimensions, and the reference's numbers."""

import numpy as np
import pytest
import torch

from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.mdm.feature_skeleton import FEATURE_SKELETONS
from models.mdm.features import (
    canonicalize,
    denormalize,
    features_to_joints,
    heading,
    joints_to_features,
    local_rotations,
    rescale_bones,
    root_trajectory,
    rotations_to_joints,
)
from models.rotations import axis_angle_to_matrix, matrix_to_cont6d, quaternion_to_matrix


def naive_joints(features: np.ndarray, joints: int) -> np.ndarray:
    """Frame by frame with complex numbers: a turn about +y by angle a takes z + ix to (z + ix) exp(ia)."""
    out, half_yaw, place = np.zeros((len(features), joints, 3)), 0.0, 0j
    for t, row in enumerate(features):
        if t:
            half_yaw += features[t - 1, 0]
            place += (features[t - 1, 2] + 1j * features[t - 1, 1]) * np.exp(-2j * half_yaw)
        out[t, 0] = place.imag, row[3], place.real
        for j in range(1, joints):
            x, y, z = row[4 + 3 * (j - 1) : 7 + 3 * (j - 1)]
            turned = (z + 1j * x) * np.exp(-2j * half_yaw) + place
            out[t, j] = turned.imag, y, turned.real
    return out


@pytest.mark.parametrize("width, joints", [(263, 22), (251, 21)])
def test_joints_equal_a_naive_loop(width, joints):
    features = np.random.default_rng(0).normal(0, 0.3, (2, 30, width))
    expected = np.stack([naive_joints(clip, joints) for clip in features])
    found = features_to_joints(torch.from_numpy(features))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    single = features_to_joints(torch.from_numpy(features).float())
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-5)


def test_any_leading_dimensions_and_one_frame():
    features = torch.randn(2, 3, 5, 263, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    joints = features_to_joints(features)
    assert joints.shape == (2, 3, 5, 22, 3)
    assert torch.equal(joints[1, 2], features_to_joints(features[1, 2]))
    assert features_to_joints(features[0, 0, :1]).shape == (1, 22, 3)


def test_starts_at_the_origin_and_faces_front():
    quaternion, root = root_trajectory(torch.randn(7, 263))
    assert root[0, 0] == root[0, 2] == 0
    assert quaternion[0].tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(quaternion.norm(dim=-1), torch.ones(7))


def test_gradient_reaches_the_features():
    features = (0.1 * torch.randn(4, 263, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: features_to_joints(x)[..., ::7, :], features)


def test_other_widths_are_refused_with_the_shape():
    with pytest.raises(InputError, match=r"\(10, 262\).*263.*251"):
        features_to_joints(torch.zeros(10, 262))


HUMANML3D, KIT = FEATURE_SKELETONS["humanml3d"], FEATURE_SKELETONS["kit"]


def turning(turns: float, frames: int = 120) -> torch.Tensor:
    """The keyed walk's joints (T, 22, 3) in float64 on HumanML3D's bones, turned about y all the while."""
    motion = walk_and_pick_up()
    joints = BodyModel.load().joints(motion.betas, motion.thetas, motion.transl)[:frames, :22].double()
    yaw = torch.linspace(0, 2 * torch.pi * turns, len(joints), dtype=torch.float64)
    matrices = axis_angle_to_matrix(yaw[:, None] * torch.tensor((0.0, 1, 0), dtype=torch.float64))
    return rescale_bones(joints @ matrices.mT, HUMANML3D, torch.tensor(HUMANML3D.lengths, dtype=torch.float64))


@pytest.mark.parametrize("turns", [0, 0.8, -2.3])
def test_joints_come_back_however_the_person_turns(turns):
    joints = canonicalize(turning(turns), HUMANML3D)
    features = joints_to_features(joints)
    torch.testing.assert_close(features_to_joints(features), joints[:-1], atol=1e-9, rtol=0)
    torch.testing.assert_close(rotations_to_joints(features), joints[:-1], atol=1e-9, rtol=0)
    single = features_to_joints(joints_to_features(joints.float()))
    torch.testing.assert_close(single, joints[:-1].float(), atol=1e-5, rtol=0)


def test_size_place_and_heading_of_the_recording_do_not_matter():
    joints = turning(0.3)
    turn = axis_angle_to_matrix(torch.tensor((0, 2.1, 0), dtype=torch.float64))
    moved = 1.7 * joints @ turn.mT + torch.tensor((3.0, -0.4, 5), dtype=torch.float64)
    found = joints_to_features(moved)
    torch.testing.assert_close(found, joints_to_features(joints), atol=1e-9, rtol=0)
    start = features_to_joints(found)[0]
    assert abs(heading(start, HUMANML3D)) < 1e-9 and start[0, [0, 2]].abs().max() == 0
    many = joints_to_features(torch.stack((joints, moved))[:, None])
    assert many.shape == (2, 1, len(joints) - 1, 263)
    torch.testing.assert_close(many[1, 0], found, atol=1e-12, rtol=0)


def test_heading_is_the_angle_from_z_towards_x():
    joints = turning(0)[0]
    quarter = axis_angle_to_matrix(torch.tensor((0, torch.pi / 2, 0), dtype=torch.float64))  # +z goes to +x
    turned = heading(joints @ quarter.mT, HUMANML3D) - heading(joints, HUMANML3D)
    assert abs(turned - torch.pi / 2) < 1e-9


def test_contacts_are_the_feet_that_stand():
    joints = turning(0)
    joints = joints + 0.05 * torch.arange(len(joints))[:, None, None] * torch.tensor((0, 0, 1.0)).double()
    joints[50:, HUMANML3D.feet[1]] = joints[50, HUMANML3D.feet[1]]
    form, contacts = HUMANML3D, joints_to_features(joints, lengths=None)[:, -4:]
    assert contacts.shape == (len(joints) - 1, 4) and set(contacts.unique().tolist()) <= {0.0, 1.0}
    moves = canonicalize(rescale_bones(joints, form, joints.new_tensor(form.lengths)), form).diff(dim=0)
    for channel, joint in enumerate((7, 10, 8, 11)):
        assert torch.equal(contacts[:, channel], (moves[:, joint].square().sum(-1) < 0.002).double())


@pytest.mark.parametrize(
    "shape, said", [((1, 22, 3), r"\(1, 22, 3\).*frames >= 2"), ((9, 21, 3), r"\(9, 21, 3\).*22"), ((22, 3), "22, 3")]
)
def test_joints_of_another_shape_are_refused(shape, said):
    with pytest.raises(InputError, match=said):
        joints_to_features(torch.zeros(shape))


def test_gaps_and_people_without_legs_are_refused():
    joints = turning(0).clone()
    with pytest.raises(InputError, match="legs have no length"):
        joints_to_features(torch.zeros(5, 22, 3))
    joints[7, 3] = torch.nan
    with pytest.raises(InputError, match="not finite, first in frame 7 of"):
        joints_to_features(joints)


def golden(reference, name: str) -> dict[str, torch.Tensor]:
    with np.load(reference / "golden" / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def test_recovery_of_the_reference(reference):
    numbers = golden(reference, "humanml_features.npz")
    quaternion, root = root_trajectory(numbers["rec_in"])
    torch.testing.assert_close(quaternion, numbers["rec_root_quat"], atol=1e-5, rtol=0)
    torch.testing.assert_close(root, numbers["rec_root_pos"], atol=1e-5, rtol=0)
    torch.testing.assert_close(features_to_joints(numbers["rec_in"]), numbers["rec_joints"], atol=1e-5, rtol=0)
    torch.testing.assert_close(features_to_joints(numbers["kit_features"]), numbers["kit_joints"], atol=0.05, rtol=0)
    kit = golden(reference, "kit_features.npz")
    torch.testing.assert_close(features_to_joints(kit["official_features"]), kit["rec_joints"], atol=0.05, rtol=0)


def test_network_output_to_joints_of_the_reference(reference):
    numbers = golden(reference, "humanml_features.npz")
    rows = numbers["norm_sample"].squeeze(2).mT  # (3, 263, 1, 40) -> (3, 40, 263)
    joints = features_to_joints(denormalize(rows, numbers["mean_263"], numbers["std_263"]))
    torch.testing.assert_close(joints.permute(0, 2, 3, 1), numbers["norm_sample_xyz"], atol=1e-4, rtol=0)


def test_the_published_clip_is_reproduced_exactly(reference):
    clip = reference / "data" / "humanml3d" / "012314"
    features, joints = (torch.from_numpy(np.load(clip / name)) for name in ("new_joint_vecs.npy", "new_joints.npy"))
    torch.testing.assert_close(features_to_joints(features), joints, atol=1e-6, rtol=0)


CHANNELS = {"humanml3d": (4, 67, 193), "kit": (4, 64, 184)}  # where positions, rotations and velocities begin


def assert_features(found, expected, form, positions: float, rotations: float):
    first, turn, move = CHANNELS[form.name]
    torch.testing.assert_close(found[:, :turn], expected[:, :turn], atol=positions, rtol=0)
    torch.testing.assert_close(found[:, turn:move], expected[:, turn:move], atol=rotations, rtol=0)
    torch.testing.assert_close(found[:, move:-4], expected[:, move:-4], atol=positions, rtol=0)
    assert torch.equal(found[:, -4:], expected[:, -4:])


@pytest.mark.parametrize("side", ["", "_mirrored"])
def test_features_of_the_reference(reference, side):
    numbers = golden(reference, "humanml_features.npz")
    lengths = numbers["t2m_target_offsets"].norm(dim=-1)[1:]
    torch.testing.assert_close(lengths, torch.tensor(HUMANML3D.lengths), atol=1e-6, rtol=0)
    raw, expected = numbers[f"raw_joints{side}"], numbers[f"official_features{side}"]
    assert_features(joints_to_features(raw, lengths=lengths), expected, HUMANML3D, 2e-4, 2e-4)
    features = joints_to_features(raw)
    assert_features(features, expected, HUMANML3D, 2e-4, 2e-4)
    joints = canonicalize(rescale_bones(raw, HUMANML3D, torch.tensor(HUMANML3D.lengths)), HUMANML3D)
    torch.testing.assert_close(features_to_joints(features), joints[:-1], atol=1e-5, rtol=0)


def test_retargeting_and_placing_of_the_reference(reference):
    numbers = golden(reference, "humanml_features.npz")
    uniform = rescale_bones(numbers["raw_joints"], HUMANML3D, numbers["t2m_target_offsets"].norm(dim=-1)[1:])
    torch.testing.assert_close(uniform, numbers["official_uniform_skeleton"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        canonicalize(uniform, HUMANML3D), numbers["official_global_positions"], atol=1e-5, rtol=0
    )


def test_kit_features_of_the_reference(reference):
    numbers = golden(reference, "kit_features.npz")
    lengths = numbers["kit_target_offsets"].norm(dim=-1)[1:]
    found = joints_to_features(numbers["kit_raw_joints"], "kit", lengths)
    assert_features(found, numbers["official_features"], KIT, 0.05, 2e-4)


def test_rotations_and_heading_of_the_reference(reference):
    numbers = golden(reference, "humanml_features.npz")
    features = numbers["rec_in"]
    joints = rotations_to_joints(features, lengths=numbers["t2m_target_offsets"].norm(dim=-1)[1:])
    torch.testing.assert_close(joints, numbers["rec_from_rot_joints"], atol=1e-4, rtol=0)
    found = heading(numbers["rec_joints"], HUMANML3D)
    torch.testing.assert_close(found, numbers["heading_angle_fixed"], atol=1e-5, rtol=0)
    quaternion, root = root_trajectory(features)
    first = matrix_to_cont6d(quaternion_to_matrix(quaternion))[:, None]
    place = torch.nn.functional.pad(root, (0, 3))[:, None]
    rows = torch.cat((first, local_rotations(features), place), 1)
    torch.testing.assert_close(rows, numbers["rec_rot_23x6"], atol=1e-5, rtol=0)
