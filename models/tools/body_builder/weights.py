"""SMPL's 24-joint skinning weights from those of MakeHuman's 163 bones."""

import numpy as np

from models.skeleton import SMPL_JOINTS
from models.tools.body_builder.makehuman import SIDES, Rig
from models.tools.body_builder.smoothing import neighbour_mean, smoothstep
from models.tools.body_builder.target import Joints

BONES = {
    "hip": ("upperleg",),
    "knee": ("lowerleg",),
    "ankle": ("foot",),
    "foot": ("toe",),
    "collar": ("clavicle", "shoulder"),
    "shoulder": ("upperarm",),
    "elbow": ("lowerarm",),
    "wrist": ("wrist", "metacarpal"),
    "hand": ("finger",),
}
SPINE = (("spine1", 0.09), ("spine2", 0.07), ("spine3", 0.07))  # each takes over within so many metres of its height
SMOOTHING_ROUNDS = 8  # fewer leave creases where several bones became one joint
JOINTS_A_VERTEX = 4  # as in SMPL, and as many as a GLB holds


def merge_bones(rig: Rig, weights: np.ndarray, points: np.ndarray, joints: Joints) -> np.ndarray:
    """Weights (n, 24) of points (n, 3) from their bone weights (n, bones); joints: rest joints (name -> (3,)).

    Limbs, neck and head (with the face) sum their bones. MakeHuman's spine bones lie elsewhere than SMPL's joints, so
    what is left is shared out over pelvis and spine by height.
    """
    merged = dict.fromkeys(SMPL_JOINTS, 0.0)
    for side in SIDES:
        for joint, prefixes in BONES.items():
            merged[side.smpl + joint] = weights[:, rig.select(*prefixes, suffix=side.bone)].sum(1)
    merged["neck"] = weights[:, rig.select("neck01", "neck02")].sum(1)
    merged["head"] = weights[:, rig.below("head") + rig.select("neck03")].sum(1)
    trunk = 1 - sum(merged.values())
    above = [smoothstep((points[:, 1] - joints[name][1] + spread) / (2 * spread)) for name, spread in SPINE]
    for name, low, high in zip(("pelvis", "spine1", "spine2", "spine3"), [1.0, *above], [*above, 0.0], strict=True):
        merged[name] = trunk * low * (1 - high)  # steps overlap, so this sums to up to 1.06: normalised below
    return normalised(np.stack(list(merged.values()), 1), 1e-4)


def smooth(weights: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Weights (n, 24) averaged over the mesh, then cut to the four largest of each vertex."""
    mean = neighbour_mean(triangles, len(weights))
    for _ in range(SMOOTHING_ROUNDS):
        weights = 0.5 * weights + 0.5 * (mean @ weights)
    np.put_along_axis(weights, np.argsort(weights, 1)[:, :-JOINTS_A_VERTEX], 0, 1)
    return normalised(weights, 1e-3)


def normalised(weights: np.ndarray, smallest: float) -> np.ndarray:
    """Weights below `smallest` dropped, rows scaled to sum to one."""
    weights = np.where(weights < smallest, 0, weights)
    return weights / weights.sum(1, keepdims=True)
