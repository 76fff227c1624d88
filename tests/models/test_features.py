"""HumanML3D features back to joints: a naive loop, free leading dimensions, and the reference's numbers."""

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.mdm.features import denormalize, features_to_joints, root_trajectory


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
