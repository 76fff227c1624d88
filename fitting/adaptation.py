"""Bones for people outside a body's shape space: more shape coefficients, which the solver need not tell from betas.

Rest joints are linear in the betas, so changes of the skeleton enter as further directions of shape. Each is scaled so
that its coefficient has the betas' prior: one unit changes a bone by DEVIATION of its length.
"""

import torch
from torch import Tensor

from models.body import BODY_JOINTS, BodyModel
from models.proportions import adapted, bone_factors, bone_offsets, carried, displaced
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS

DEVIATION = 0.2
FAR = 0.2  # a bone longer or shorter than the body's by more is named


def directions(body: BodyModel) -> Tensor:
    """(22, 3, D): changes of the joints' offsets from their parents, each that of one coefficient of 1, in metres.

    Left and right change alike. A bone that goes on alone changes its length: where it points is a matter of pose. The
    three of the pelvis and the three of the chest change in length and direction, for no pose turns them against each
    other. 19 in all.
    """
    bones = DEVIATION * bone_offsets(body, body.v_template.new_zeros(body.num_betas))
    mirror = bones.new_tensor([-1, 1, 1])
    out = []
    for joint, name in enumerate(SMPL_JOINTS[1:BODY_JOINTS], 1):
        if name.startswith("right_"):
            continue
        twin = SMPL_JOINTS.index(name.replace("left_", "right_"))
        if SMPL_PARENTS[:BODY_JOINTS].count(SMPL_PARENTS[joint]) == 1:
            ways = [(bones[joint], bones[twin])]
        else:
            axes = bones[joint].norm() * torch.eye(3).to(bones)
            ways = [(axis, axis * mirror) for axis in (axes if twin != joint else axes[1:])]
        for own, mirrored in ways:
            change = torch.zeros_like(bones)
            change[joint], change[twin] = own, mirrored
            out.append(change)
    return torch.stack(out, -1)


def adaptable(body: BodyModel) -> BodyModel:
    """The body with the coefficients of `directions` behind its betas: skeleton and mesh are linear in all of them."""
    moved = displaced(body, directions(body))
    return body.replaced(
        rest_dirs=torch.cat((body.rest_dirs, moved), -1),
        shapedirs=torch.cat((body.shapedirs, torch.einsum("vj,jcd->vcd", carried(body), moved)), -1),
    )


def individual(body: BodyModel, coefficients: Tensor) -> tuple[BodyModel, Tensor]:
    """The body with the bones of one clip, and its betas (..., B); coefficients (..., B) or (B + D,) of `adaptable`."""
    betas, changes = coefficients[..., : body.num_betas], coefficients[..., body.num_betas :]
    if not changes.shape[-1]:
        return body, betas
    return adapted(body, directions(body) @ changes.to(body.v_template)), betas


def far_bones(body: BodyModel, betas: Tensor) -> str:
    """A sentence on bones that are longer or shorter than the body's by more than FAR; "" if there are none."""
    factors = bone_factors(body, betas) or {}
    far = [f"{name} x{factor:.2f}" for name, factor in factors.items() if abs(factor - 1) > FAR]
    if not far:
        return ""
    return (
        f" Bones over {FAR:.0%} longer or shorter than the body's: {', '.join(far)}. The input's joints may lie "
        "elsewhere in the body than SMPL's; look at the mesh."
    )
