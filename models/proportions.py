"""A body with another person's bones: joints moved at rest, and the mesh with them.

Limbs stretch along their bones. Where the joints of hips, spine and shoulders lie inside the flesh is convention more
than anatomy, so the trunk follows the one affine map that carries its joints best, without bumps at any of them. All of
it is linear in the joints' displacements, and smooth along the skin as skinning weights are.
"""

import torch
from torch import Tensor

from models.body import BODY_JOINTS, BodyModel
from models.errors import InputError
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS

TRUNK = (0, 1, 2, 3, 6, 9, 12, 13, 14, 16, 17)  # joints that keep their places when limbs move
LIMBS = {1: 4, 2: 5, 4: 7, 5: 8, 7: 10, 8: 11, 12: 15, 16: 18, 17: 19, 18: 20, 19: 21}  # joint -> its bone's end
STIFF = 0.1  # metres: directions in which the trunk's joints spread less than that are hardly stretched


def adapted(body: BodyModel, joint_offsets: Tensor) -> BodyModel:
    """The body whose joints stand joint_offsets (22, 3) metres farther from their parents at rest, whatever the betas.

    The pelvis stays. Raises InputError for another shape, and for a body that is adapted already.
    """
    if joint_offsets.shape != (BODY_JOINTS, 3):
        raise InputError(f"joint_offsets of shape {tuple(joint_offsets.shape)}; expected ({BODY_JOINTS}, 3), metres.")
    offsets = joint_offsets.to(body.v_template)
    moved = displaced(body, offsets)
    return body.replaced(
        v_template=body.v_template + carried(body) @ moved,
        rest_template=body.rest_template + moved,
        joint_offsets=offsets,
    )


def displaced(body: BodyModel, offsets: Tensor) -> Tensor:
    """Offsets (22, ...) from the parents -> displacements (J, ...) of all joints of the rest pose."""
    moved: list[Tensor] = []
    for joint, parent in enumerate(body.parents):
        own = offsets[joint] if joint < BODY_JOINTS else torch.zeros_like(offsets[0])
        moved.append(own + moved[parent] if parent >= 0 else own)
    return torch.stack(moved)


def carried(body: BodyModel) -> Tensor:
    """(V, J): how far each vertex of the rest pose goes with the displacement of each joint; rows sum to one.

    By skinning weights: the skin of a limb's joint from that joint's place to the next one's, by its place along the
    bone; the skin of hips, neck and shoulders starts with the trunk; hands, feet and head go with their joint. Raises
    InputError for a body that is adapted already: its skin would be carried from another place.
    """
    if body.joint_offsets is not None:
        raise InputError(f"the body {body.name} has adapted bones already; adapt the one that it was made from.")
    rest, vertices = body.rest_template, body.v_template
    joints = torch.eye(body.num_joints).to(rest)
    trunk = _with_trunk(rest, vertices)
    out = torch.zeros_like(body.weights)
    for joint, weight in enumerate(body.weights.T):
        rows = trunk if joint in TRUNK else joints[joint]
        if joint in LIMBS:
            bone = rest[LIMBS[joint]] - rest[joint]
            along = ((vertices - rest[joint]) @ bone / bone.square().sum()).clamp(0, 1)
            rows = torch.lerp(rows, joints[LIMBS[joint]], along[:, None])
        out += weight[:, None] * rows
    return out


def _with_trunk(rest: Tensor, points: Tensor) -> Tensor:
    """(P, J): points (P, 3) under the affine map that fits the trunk's joints' displacements (ridge regression)."""
    places = rest[list(TRUNK)]
    middle = places.mean(0)
    spread = places - middle
    ridge = len(TRUNK) * STIFF**2 * torch.eye(3).to(rest)
    rows = (points - middle) @ torch.linalg.solve(spread.T @ spread + ridge, spread.T) + 1 / len(TRUNK)
    return rows.new_zeros(len(points), len(rest)).index_copy(1, torch.tensor(TRUNK, device=rest.device), rows)


def bone_offsets(body: BodyModel, betas: Tensor) -> Tensor:
    """(22, 3): from the parent to each joint at rest, zero for the pelvis; betas (B,)."""
    rest = body.rest_joints(betas)[:BODY_JOINTS]
    parents = torch.tensor(SMPL_PARENTS[1:BODY_JOINTS], device=rest.device)
    return torch.cat((torch.zeros_like(rest[:1]), rest[1:] - rest[parents]))


def bone_factors(body: BodyModel, betas: Tensor) -> dict[str, float] | None:
    """By the joint in which it ends, each bone's length over what betas (B,) alone give it; None without adaptation."""
    if body.joint_offsets is None:
        return None
    bones = bone_offsets(body, betas.to(body.v_template))
    factors = bones.norm(dim=1) / (bones - body.joint_offsets).norm(dim=1)
    return dict(zip(SMPL_JOINTS[1:BODY_JOINTS], factors[1:].tolist(), strict=True))
