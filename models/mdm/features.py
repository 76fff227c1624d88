"""HumanML3D and KIT-ML motion features: from joints and back to joints.

Channels of one frame, humanml3d 263 (22 joints) or kit 251 (21 joints): 0 half the yaw to the next frame (radians);
1:3 root x, z displacement to the next frame, that frame's heading removed; 3 root height; then positions of joints 1..
(root x, z and heading removed), their rotations as cont6d (two COLUMNS), velocities of all joints, four foot contacts.
Source: EricGuo5513/HumanML3D, motion_representation.ipynb (process_file, recover_root_rot_pos, recover_from_ric).
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from models.errors import InputError
from models.mdm.feature_skeleton import FEATURE_SKELETONS, FeatureSkeleton
from models.rotations import (
    cont6d_to_matrix,
    matrix_to_cont6d,
    quaternion_apply,
    quaternion_between,
    quaternion_conjugate,
    quaternion_multiply,
    quaternion_to_matrix,
)

JOINTS_BY_WIDTH = {form.width: form.joints for form in FEATURE_SKELETONS.values()}


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
    to_front = _yaw_quaternion(half_yaw)
    x, z = pad(features[..., :-1, 1:3], (0, 0, 1, 0)).unbind(-1)
    zero = torch.zeros_like(x)
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


def rotations_to_joints(features: Tensor, skeleton: str = "humanml3d", lengths: Tensor | None = None) -> Tensor:
    """Joint positions by forward kinematics of the rotation channels (recover_from_rot).

    features (..., T, F), not normalised; lengths (J - 1,) of the bones, HumanML3D's when not given. Returns (..., T, J,
    3) as `features_to_joints`; the two agree when features were made of joints, not when a network made them.
    """
    form = FEATURE_SKELETONS[skeleton]
    if lengths is None and form.lengths is None:
        raise InputError(
            f"the bones of {form.name}'s skeleton are not published: give their lengths, ({form.joints - 1},)"
        )
    lengths = features.new_tensor(form.lengths) if lengths is None else lengths
    to_front, root = root_trajectory(features)
    turned = [quaternion_to_matrix(to_front)]
    for rotation, parent in zip(
        cont6d_to_matrix(local_rotations(features)).unbind(-3), form.rotation_parents, strict=True
    ):
        turned.append(turned[parent] @ rotation)
    bones = (torch.stack(turned[1:], -3) @ (form.rest_directions(features) * lengths[:, None])[..., None]).squeeze(-1)
    return chain(root, bones, form)


def chain(root: Tensor, bones: Tensor, form: FeatureSkeleton) -> Tensor:
    """Joints (..., J, 3) of a root (..., 3) and the vectors (..., J - 1, 3) from each joint's parent to it."""
    joints = [root]
    for bone, parent in zip(bones.unbind(-2), form.parents[1:], strict=True):
        joints.append(joints[parent] + bone)
    return torch.stack(joints, -2)


def joints_to_features(joints: Tensor, skeleton: str = "humanml3d", lengths: Tensor | None = None) -> Tensor:
    """Features of joint positions, as the data sets' own repository makes them (process_file).

    joints: (..., T, 22, 3) in metres at 20 fps, or "kit" (..., T, 21, 3) in millimetres at 12.5 fps, y up; anywhere and
    facing anywhere. lengths: (J - 1,) bones of the skeleton that they are put on; without it HumanML3D's, and for
    KIT-ML, whose own is not published, each clip's. Returns (..., T - 1, 263 or 251), not normalised: the last frame
    only gives velocities. The first frame's rotation is kept, which the copy of this code in MDM lost. Unlike the
    source a turn through the back, where quaternions change sign, keeps its direction.
    Raises InputError for another shape, fewer than two frames, and joints that are not finite.
    """
    form = FEATURE_SKELETONS[skeleton]
    _check_joints(joints, form)
    if lengths is None and form.lengths:
        lengths = joints.new_tensor(form.lengths)
    if lengths is not None:
        joints = rescale_bones(joints, form, lengths)
    return canonical_to_features(canonicalize(joints, form), form)


def _check_joints(joints: Tensor, form: FeatureSkeleton) -> None:
    shape = tuple(joints.shape)
    if len(shape) < 3 or shape[-2:] != (form.joints, 3) or shape[-3] < 2:
        raise InputError(f"joints {shape}: {form.name} features are made of (frames >= 2, {form.joints}, 3)")
    bad = (~joints.isfinite()).nonzero()
    if len(bad):
        frame = bad[:, -3].min().item()
        raise InputError(
            f"joints that are not finite, first in frame {frame} of {shape[-3]}: fill or cut the gap first"
        )


def rescale_bones(joints: Tensor, form: FeatureSkeleton, lengths: Tensor) -> Tensor:
    """Joints (..., T, J, 3) with bones of the given lengths (J - 1,), their directions kept.

    The root's path is scaled by the ratio of the legs, the source's measured in its first frame. (The source does this
    by inverse and forward kinematics, whose rotations cancel.) Raises InputError for legs of no length.
    """
    bones = joints[..., 1:, :] - joints[..., form.parents[1:], :]
    legs = [leg - 1 for leg in form.legs]
    size = bones[..., :1, legs, :].norm(dim=-1).sum(-1)
    if not (size > 0).all():
        raise InputError(f"joints {form.legs} lie on their parents in the first frame, so the legs have no length")
    bones = normalize(bones, dim=-1) * lengths[:, None]
    return chain(joints[..., 0, :] * (lengths[legs].sum() / size)[..., None], bones, form)


def heading(joints: Tensor, form: FeatureSkeleton) -> Tensor:
    """Yaw (...,) in radians, of joints (..., J, 3): 0 towards +z, positive towards +x."""
    right_hip, left_hip, right_shoulder, left_shoulder = joints[..., form.facing, :].unbind(-2)
    return _yaw_of_across((right_hip - left_hip) + (right_shoulder - left_shoulder))


def canonicalize(joints: Tensor, form: FeatureSkeleton) -> Tensor:
    """Joints (..., T, J, 3) moved as a whole: the lowest of a clip at y = 0, frame 0 at x = z = 0 and facing +z."""
    floor = joints[..., 1].flatten(-2).amin(-1)
    x, _, z = joints[..., 0, 0, :].unbind(-1)
    joints = joints - torch.stack((x, floor, z), -1)[..., None, None, :]
    return quaternion_apply(_yaw_quaternion(-heading(joints[..., 0, :, :], form) / 2)[..., None, None, :], joints)


def canonical_to_features(joints: Tensor, form: FeatureSkeleton) -> Tensor:
    """Features (..., T - 1, F) of joints (..., T, J, 3) that need no change of size, place or heading."""
    half_yaw = _smooth_half_yaw(joints, form)
    to_front = _yaw_quaternion(half_yaw)
    moves = joints.diff(dim=-3)
    turn = half_yaw.diff(dim=-1)
    turn = turn - torch.pi * (turn / torch.pi).round()  # half angles: one turn is pi
    steps = quaternion_apply(to_front[..., 1:, :], moves[..., 0, :])
    root = torch.stack((turn, steps[..., 0], steps[..., 2], joints[..., :-1, 0, 1]), -1)
    now = to_front[..., :-1, None, :]
    across_ground = joints[..., :-1, :1, :] * joints.new_tensor((1, 0, 1))
    places = quaternion_apply(now, joints[..., :-1, 1:, :] - across_ground)
    rotations = matrix_to_cont6d(quaternion_to_matrix(_bone_rotations(joints, to_front, form)))[..., :-1, :, :]
    velocities = quaternion_apply(now, moves)
    contacts = (moves[..., form.feet, :].square().sum(-1) < form.still).to(joints)
    return torch.cat((root, *(part.flatten(-2) for part in (places, rotations, velocities)), contacts), -1)


def _bone_rotations(joints: Tensor, to_front: Tensor, form: FeatureSkeleton) -> Tensor:
    """Quaternions (..., T, J - 1, 4): the shortest turn of each bone from rest, relative to the turn before it."""
    bones = joints[..., 1:, :] - joints[..., form.parents[1:], :]
    turned = quaternion_between(form.rest_directions(joints), bones)
    before = torch.cat((to_front[..., None, :], turned), -2)[..., form.rotation_parents, :]
    return quaternion_multiply(quaternion_conjugate(before), turned)


def _smooth_half_yaw(joints: Tensor, form: FeatureSkeleton) -> Tensor:
    """Half the yaw (..., T) that turns the smoothed heading to +z; 0 in the first frame.

    As in the source the hips enter with the opposite sign of the shoulders here (unlike in `heading`); features of the
    published data are made so, and recovery only needs the same angle everywhere.
    """
    right_hip, left_hip, right_shoulder, left_shoulder = joints[..., form.facing, :].unbind(-2)
    across = normalize((left_hip - right_hip) + (right_shoulder - left_shoulder), dim=-1)
    half_yaw = -_yaw_of_across(_smooth(across)) / 2
    return torch.cat((torch.zeros_like(half_yaw[..., :1]), half_yaw[..., 1:]), -1)


def _yaw_of_across(across: Tensor) -> Tensor:
    """Heading (...,) of a person whose right lies along `across` (..., 3): forward = y x across."""
    return torch.atan2(across[..., 2], -across[..., 0])


def _yaw_quaternion(half_angle: Tensor) -> Tensor:
    zero = torch.zeros_like(half_angle)
    return torch.stack((half_angle.cos(), zero, half_angle.sin(), zero), -1)


def _smooth(vectors: Tensor, sigma: int = 20, radius: int = 80) -> Tensor:
    """Gaussian filter over the frames of (..., T, 3), in frames; the ends repeat their last value."""
    frames = torch.arange(vectors.shape[-2] + 2 * radius, device=vectors.device) - radius
    padded = vectors[..., frames.clamp(0, vectors.shape[-2] - 1), :]
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).to(vectors) / sigma).square())
    return padded.unfold(-2, 2 * radius + 1, 1) @ (kernel / kernel.sum())
