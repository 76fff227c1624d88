"""HumanML3D and KIT-ML motion features: back to joints.

Channels of one frame, humanml3d 263 (22 joints) or kit 251 (21 joints): 0 half the yaw to the next frame (radians);
1:3 root x, z displacement to the next frame, that frame's heading removed; 3 root height; then positions of joints 1..
(root x, z and heading removed), their rotations as cont6d (two COLUMNS), velocities of all joints, four foot contacts.
Source: EricGuo5513/HumanML3D, motion_representation.ipynb (recover_root_rot_pos, recover_from_ric).
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.errors import InputError
from models.rotations import quaternion_apply, quaternion_conjugate

JOINTS_BY_WIDTH = {263: 22, 251: 21}


def denormalize(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """x * std + mean: network output (..., F) to features, with the training set's Mean.npy and Std.npy, (F,) each."""
    return features * std + mean


def local_rotations(features: Tensor) -> Tensor:
    """The cont6d rotations (..., T, J - 1, 6) inside features (..., T, F)."""
    bones = JOINTS_BY_WIDTH[features.shape[-1]] - 1
    return features[..., 4 + 3 * bones : 4 + 9 * bones].unflatten(-1, (bones, 6))


def root_trajectory(features: Tensor) -> tuple[Tensor, Tensor]:
    """Heading and path of the root.

    features: (..., T, F), not normalised. Returns quaternions (..., T, 4), (w, x, y, z), that turn the person to face
    +z, and root positions (..., T, 3): absolute height, x = z = 0 and no turn in the first frame.
    """
    half_yaw = pad(features[..., :-1, 0], (1, 0)).cumsum(-1)
    zero = torch.zeros_like(half_yaw)
    to_front = torch.stack((half_yaw.cos(), zero, half_yaw.sin(), zero), -1)
    x, z = pad(features[..., :-1, 1:3], (0, 0, 1, 0)).unbind(-1)
    steps = quaternion_apply(quaternion_conjugate(to_front), torch.stack((x, zero, z), -1))
    x, _, z = steps.cumsum(-2).unbind(-1)
    return to_front, torch.stack((x, features[..., 3], z), -1)


def features_to_joints(features: Tensor) -> Tensor:
    """Joint positions of HumanML3D or KIT-ML features (recover_from_ric).

    features: (..., T, 263) or (..., T, 251), not normalised. Returns (..., T, 22, 3) in metres or (..., T, 21, 3) in
    KIT's millimetres, y up, starting at x = z = 0 and facing +z. Raises InputError for any other width.
    """
    joints = JOINTS_BY_WIDTH.get(features.shape[-1])
    if joints is None:
        shape = tuple(features.shape)
        raise InputError(f"features {shape} are neither HumanML3D's (..., frames, 263) nor KIT-ML's (..., frames, 251)")
    to_front, root = root_trajectory(features)
    local = features[..., 4 : 1 + 3 * joints].unflatten(-1, (joints - 1, 3))
    others = quaternion_apply(quaternion_conjugate(to_front)[..., None, :], local)
    others = others + root[..., None, :] * root.new_tensor((1, 0, 1))
    return torch.cat((root[..., None, :], others), -2)
