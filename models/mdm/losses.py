"""Losses of MDM's training: one number a sample, over its real frames alone.

Motion is (batch, frames, features), mask (batch, frames) True where a frame is real. Source: GuyTevet/
motion-diffusion-model, diffusion/gaussian_diffusion.py (training_losses).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.body import BodyModel
from models.errors import InputError
from models.rot2xyz import mdm_rot2xyz

ToJoints = Callable[[Tensor], Tensor]
ACTION_WIDTH = 150
FEET = (7, 10, 8, 11)
STANDING = 0.01  # a foot that moves less between two frames, in metres, stands


@dataclass(frozen=True)
class GeometricWeights:
    """Weights of the terms beside the features' own: velocity, joints and foot contact (lambda_vel, rcxyz, fc).

    The reference has those of joints and contact for action data (25 rows of rot6d) only.
    """

    velocity: float = 0.0
    joints: float = 0.0
    contact: float = 0.0


def masked_l2(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference over the numbers of real frames, (batch,); 0 for a sample without any."""
    squares = ((found - wanted) ** 2 * mask[..., None]).sum((1, 2))
    return squares / (mask.sum(1) * found.shape[-1] + 1e-8)


def velocity_l2(found: Tensor, wanted: Tensor, mask: Tensor, left_out: int) -> Tensor:
    """masked_l2 of the differences to the next frame, without the last `left_out` features (the root's of actions)."""
    steps = (motion[..., : motion.shape[-1] - left_out].diff(dim=1) for motion in (found, wanted))
    return masked_l2(*steps, mask[:, 1:])


def action_joints(motion: Tensor, body: BodyModel) -> Tensor:
    """Joints (batch, frames, 24, 3) about their root of motion (batch, frames, 25 * 6): rot6d rows, then the root's."""
    rows = motion.unflatten(-1, (25, 6)).permute(0, 2, 3, 1)
    return mdm_rot2xyz(rows, body, vertstrans=False).permute(0, 3, 1, 2)


def joint_l2(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """masked_l2 of joints (batch, frames, joints, 3), in their unit squared."""
    return masked_l2(found.flatten(2), wanted.flatten(2), mask)


def foot_contact_l2(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """How far feet slide that stand in the wanted motion; joints (batch, frames, 22 or 24, 3) metres, SMPL's order."""
    feet = list(FEET)
    standing = wanted[:, :, feet].diff(dim=1).norm(dim=-1) <= STANDING
    slide = found[:, :, feet].diff(dim=1) * standing[..., None]
    return joint_l2(slide, torch.zeros_like(slide), mask[:, 1:])


def loss_terms(
    found: Tensor, wanted: Tensor, mask: Tensor, weights: GeometricWeights, to_joints: ToJoints | None = None
) -> dict[str, Tensor]:
    """Every weighted term that is on, (batch,) each; "features" is always there. Their sum is the loss.

    to_joints: motion to joints (batch, frames, joints, 3); needed where joints or contact have a weight.
    """
    terms = {"features": masked_l2(found, wanted, mask)}
    if weights.velocity:
        left_out = 6 if found.shape[-1] == ACTION_WIDTH else 1
        terms["velocity"] = weights.velocity * velocity_l2(found, wanted, mask, left_out)
    if weights.joints or weights.contact:
        if to_joints is None:
            raise InputError("losses of joints and contact (lambda_rcxyz, lambda_fc) need data that joints follow from")
        joints = to_joints(found), to_joints(wanted)
        if weights.joints:
            terms["joints"] = weights.joints * joint_l2(*joints, mask)
        if weights.contact:
            terms["contact"] = weights.contact * foot_contact_l2(*joints, mask)
    return terms
