"""Joints of other skeletons, made from a posed body: what a file of theirs would hold of a known motion."""

import numpy as np
from torch import Tensor

from models.body import BodyModel
from models.landmarks import landmark
from models.skeleton import LANDMARKS, SMPL_JOINTS, Skeleton


def joints_of(body: BodyModel, skeleton: Skeleton, betas: Tensor, thetas: Tensor, transl: Tensor) -> np.ndarray:
    """The skeleton's joints (L, J, 3) in its own unit, y up; NaN for those that show nothing of the body.

    Points of the skin are taken from the skinned mesh, which bends where a fit takes them as fixed to a joint.
    """
    joints, vertices = body.joints(betas, thetas, transl), body.vertices(betas, thetas, transl)
    out = np.full((len(thetas), len(skeleton.joints), 3), np.nan, np.float32)
    for column, point in enumerate(skeleton.shows):
        if point in SMPL_JOINTS:
            out[:, column] = joints[:, SMPL_JOINTS.index(point)].numpy()
        elif point == "mid_hip":
            out[:, column] = joints[:, [1, 2]].mean(1).numpy()
        elif point in LANDMARKS and (found := landmark(body, point)) is not None:
            vertex = (body.v_template - found[1]).norm(dim=1).argmin()
            out[:, column] = vertices[:, vertex].numpy()
    return out / np.float32(skeleton.unit)
