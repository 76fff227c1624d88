"""rot2xyz: rotations, shape and translation to joints or vertices; and the same in the layout and habits of MDM."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.body import BodyModel
from models.errors import InputError
from models.rotations import matrix_to_axis_angle, quaternion_to_axis_angle, rot6d_to_axis_angle

# name as MDM has it -> numbers a joint, and the way to axis-angle
POSE_REPS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "rotvec": (3, lambda rotvec: rotvec),
    "rotmat": (9, lambda rotmat: matrix_to_axis_angle(rotmat.unflatten(-1, (3, 3)))),
    "rotquat": (4, quaternion_to_axis_angle),
    "rot6d": (6, rot6d_to_axis_angle),
}
JOINTSTYPES = {"smpl": BodyModel.joints, "vertices": BodyModel.vertices}


def rot2xyz(
    rotations: Tensor,
    betas: Tensor,
    transl: Tensor,
    body: BodyModel,
    pose_rep: str = "rot6d",
    jointstype: str = "smpl",
) -> Tensor:
    """rotations (..., T, 24, F), root first -> joints (..., T, J, 3) or vertices (..., T, V, 3), metres, in the world.

    Of a body with fingers they may be those of all its joints, (..., T, J, F).
    pose_rep: rot6d (F = 6, rows), rotvec (3, radians), rotquat (4, wxyz) or rotmat (9, row by row).
    jointstype: smpl (joints) or vertices. betas (..., B) or (..., T, B).
    transl (..., T, 3) is SMPL's, added last: pelvis = rest pelvis(betas) + transl.
    Raises InputError for other names and sizes.
    """
    if jointstype not in JOINTSTYPES:
        raise InputError(f"jointstype {jointstype!r}: known are {', '.join(JOINTSTYPES)}.")
    return JOINTSTYPES[jointstype](body, betas, _to_thetas(rotations, pose_rep, (24, body.num_joints)), transl)


def _to_thetas(rotations: Tensor, pose_rep: str, joints: tuple[int, ...]) -> Tensor:
    """rotations (..., J, F), J one of `joints`, in a form of POSE_REPS -> axis-angle (..., J, 3); else InputError."""
    if pose_rep not in POSE_REPS:
        raise InputError(f"pose_rep {pose_rep!r}: known are {', '.join(POSE_REPS)}.")
    size, to_axis_angle = POSE_REPS[pose_rep]
    if rotations.shape[-2] not in joints or rotations.shape[-1] != size:
        raise InputError(f"{pose_rep} of shape {tuple(rotations.shape)}: expected (..., {joints[0]}, {size}).")
    return to_axis_angle(rotations)


def mdm_rot2xyz(
    x: Tensor,
    body: BodyModel,
    pose_rep: str = "rot6d",
    jointstype: str = "smpl",
    *,
    mask: Tensor | None = None,
    translation: bool = True,
    vertstrans: bool = True,
    betas: Tensor | None = None,
    beta: float = 0.0,
    glob_rot: Tensor | None = None,
) -> Tensor:
    """MDM's Rotation2xyz (model/rotation2xyz.py): x (batch, rows, F, T) -> (batch, 24 or V, 3, T), frames last.

    Rows: the root's rotation (absent where `glob_rot`, axis-angle (3,), is given), 23 joints, and with `translation`
    a row whose first three numbers are the root's place. pose_rep "xyz" returns x. mask (batch, T) bool: frames to
    evaluate. betas (frames under the mask, B), batch entry by batch entry; None is zero but for `beta` in column 1.

    As there: joints are relative to their root, vertices are not; with `vertstrans` the root's path since frame 0 is
    added, also to frames outside the mask, which are otherwise zero. For a mesh that stands in the world use `rot2xyz`.
    """
    if pose_rep == "xyz":
        return x
    x = x.permute(0, 3, 1, 2)  # (batch, T, rows, F)
    mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
    rotations = (x[:, :, :-1] if translation else x)[mask]
    thetas = _to_thetas(rotations, pose_rep, (24 if glob_rot is None else 23,))
    if glob_rot is not None:
        thetas = torch.cat((glob_rot.expand(len(thetas), 1, 3), thetas), 1)
    if betas is None:
        betas = pad(x.new_full((1,), beta), (1, body.num_betas - 2))
    found = rot2xyz(thetas, betas, x.new_zeros(3), body, "rotvec", jointstype)
    xyz = x.new_zeros(*mask.shape, *found.shape[1:]).masked_scatter(mask[..., None, None], found)
    if jointstype != "vertices":
        xyz = xyz - xyz[:, :, :1]
    if translation and vertstrans:
        root = x[:, :, -1, :3]
        xyz = xyz + (root - root[:, :1])[:, :, None]
    return xyz.permute(0, 2, 3, 1)
