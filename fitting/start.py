"""Where a fit starts: the rigid place of the torso, then the limbs, by geometry or at the mean pose."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fitting.problem import TORSO, Problem
from fitting.rig import CHEST, CHILD, State
from models.proportions import TRUNK
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

# shoulders and hips turn about their bone until the next joint, a hinge, bends about this axis of theirs
HINGES = {1: (1.0, 0.0, 0.0), 2: (1.0, 0.0, 0.0), 16: (0.0, -1.0, 0.0), 17: (0.0, 1.0, 0.0)}
STRAIGHT, BENT = 0.1, 0.4  # sine of the hinge's angle below which it tells nothing of twist, above which everything


def mean_start(problem: Problem, root: Tensor, betas: Tensor) -> State:
    """The mean pose and shape in every frame, as the reference starts.

    root (3,) axis-angle, betas (betas,); the translation is that with which hips and shoulders lie on the targets' on
    average.
    """
    rig = problem.rig
    clips, frames = problem.mask.shape
    pose = problem.mean_pose[problem.fitted_dims].view(1, 1, -1, 3)
    single = State(pose.new_zeros(1, 1, 3), axis_angle_to_matrix(root).view(1, 1, 3, 3), pose, betas[None])
    joints = rig.posed(single).joints[:, rig.observed]
    transl = (problem.targets - joints)[:, TORSO].mean(1).view(clips, frames, 3)
    return State(
        transl, single.root.expand(clips, frames, 3, 3), pose.expand(clips, frames, -1, -1), betas.expand(clips, -1)
    )


def aligned_start(problem: Problem, start: State) -> State:
    """`start` turned and moved so that its trunk lies best on the targets' (Kabsch), in every frame."""
    rig = problem.rig
    clips, frames = problem.mask.shape
    single = start.map(lambda x: x[:1, :1] if x.dim() > 2 else x[:1])
    model = (rig.posed(single).joints[:, rig.observed] - single.transl[0])[0, TRUNK]
    targets = problem.targets[:, TRUNK].view(clips, frames, -1, 3)
    turn = kabsch(model.expand_as(targets), targets)
    pelvis = rig.posed(single).joints[0, 0] - single.transl[0, 0]
    centre = (turn @ (model.mean(0) - pelvis)[:, None])[..., 0] + pelvis
    return State(targets.mean(2) - centre, turn @ single.root, start.pose, start.betas)


def kabsch(source: Tensor, target: Tensor) -> Tensor:
    """Rotations (..., 3, 3) that turn centred points source (..., K, 3) best onto target (..., K, 3)."""
    source, target = source - source.mean(-2, keepdim=True), target - target.mean(-2, keepdim=True)
    u, _, vh = torch.linalg.svd(source.mT @ target)
    sign = torch.linalg.det(vh.mT @ u.mT)
    flip = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), -1)
    return vh.mT @ (flip[..., None] * u.mT)


def geometric_start(problem: Problem, start: State, hinges: bool = True) -> State:
    """Keep the rigid place of `start` and swing each limb bone onto the target's, from the root outwards.

    Twist stays that of `start`, but for shoulders and hips, where with `hinges` the bend of elbow and knee shows it.
    """
    rig = problem.rig
    root = start.root.flatten(0, 1)
    local = dict(zip(rig.fitted, axis_angle_to_matrix(start.pose.flatten(0, 1)).unbind(1), strict=True))
    seen = {joint: problem.targets[:, i] for i, joint in enumerate(rig.observed.tolist())}
    world = {0: root}
    for joint in range(1, rig.size):
        parent = world[rig.parents[joint]]
        child = CHILD.get(joint) if joint != CHEST else None
        if joint not in local:
            world[joint] = parent
            continue
        if child in seen and joint in seen:
            bone = parent @ local[joint] @ (rig.rest_template[child] - rig.rest_template[joint])
            local[joint] = parent.mT @ swing(bone, seen[child] - seen[joint]) @ parent @ local[joint]
            if hinges and joint in HINGES and CHILD[child] in seen:
                axis = (parent @ local[joint]) @ local[joint].new_tensor(HINGES[joint])
                twist = hinge_twist(axis, seen[child] - seen[joint], seen[CHILD[child]] - seen[child])
                local[joint] = parent.mT @ twist @ parent @ local[joint]
        world[joint] = parent @ local[joint]
    pose = matrix_to_axis_angle(torch.stack([local[j] for j in rig.fitted], 1))
    return State(start.transl, start.root, pose.view_as(start.pose), start.betas)


def swing(source: Tensor, target: Tensor) -> Tensor:
    """Shortest rotation (N, 3, 3) from directions source to target (N, 3), of any length."""
    axis = torch.linalg.cross(source, target)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (source * target).sum(-1, keepdim=True))
    return axis_angle_to_matrix(axis / sine.clamp_min(1e-9) * angle)


def hinge_twist(axis: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Rotation (N, 3, 3) about the upper bone that brings a hinge's axis (N, 3) to where the lower bone bends from it.

    A straight limb shows no twist and gets none.
    """
    bone = normalize(upper, dim=-1)
    wanted = torch.linalg.cross(bone, normalize(lower, dim=-1))
    sine = wanted.norm(dim=-1)
    angle = torch.atan2((torch.linalg.cross(axis, wanted) * bone).sum(-1), (axis * wanted).sum(-1))
    trust = ((sine - STRAIGHT) / (BENT - STRAIGHT)).clamp(0, 1)
    return axis_angle_to_matrix(bone * (trust * angle)[:, None])
