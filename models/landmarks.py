"""Points of the body that are no joints of SMPL: where they lie, on any body of the family, and what carries them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.body import BodyModel
from models.skeleton import FINGERS, LANDMARKS, SMPL_JOINTS

# The outermost vertex of the skin that its joint carries, in this direction of the rest pose (y up, facing +z).
OUTERMOST = {
    "head_top": (0, 1, 0),
    "nose": (0, 0, 1),
    "left_ear": (1, 0, 0),
    "right_ear": (-1, 0, 0),
    "left_heel": (0, 0, -1),
    "right_heel": (0, 0, -1),
    "left_big_toe": (0, 0, 1),
    "right_big_toe": (0, 0, 1),
    "left_small_toe": (1, 0, 0),
    "right_small_toe": (-1, 0, 0),
}
HIPS = (1, 2)


def landmark(body: BodyModel, name: str) -> tuple[int, Tensor, Tensor] | None:
    """The joint that carries a landmark, its rest position (3,) in metres, and how betas move it (3, B).

    None for fingers on a body that has none, and for SMPL's hands on a body that has fingers.
    """
    joint = SMPL_JOINTS.index(LANDMARKS[name])
    if name == "mid_hip":
        return joint, body.rest_template[HIPS, :].mean(0), body.rest_dirs[HIPS, :].mean(0)
    if name in OUTERMOST:
        skin = (body.weights.argmax(1) == joint).nonzero()[:, 0]
        vertex = skin[(body.v_template[skin] @ body.v_template.new_tensor(OUTERMOST[name])).argmax()]
        return joint, body.v_template[vertex], body.shapedirs[vertex]
    index = _own_joint(body, name)
    return None if index is None else (joint, body.rest_template[index], body.rest_dirs[index])


def _own_joint(body: BodyModel, name: str) -> int | None:
    """The index of a hand or finger among the body's own joints, if it has it."""
    if name in FINGERS:  # the last of SMPL-H's and SMPL-X's joints
        return body.num_joints - len(FINGERS) + FINGERS.index(name) if body.has_fingers else None
    return None if body.has_fingers else SMPL_JOINTS.index(name)


def landmarks(body: BodyModel, names: Sequence[str]) -> tuple[list[str], tuple[int, ...], Tensor, Tensor]:
    """The names that the body has, their carriers, rest positions (K, 3) and shape directions (K, 3, B)."""
    found = {name: point for name in names if (point := landmark(body, name)) is not None}
    rest, dirs = body.rest_template[:0], body.rest_dirs[:0]
    if found:
        rest, dirs = (torch.stack([point[i] for point in found.values()]) for i in (1, 2))
    return list(found), tuple(point[0] for point in found.values()), rest, dirs
