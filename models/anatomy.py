"""How far joints turn and how much they usually do, on SMPL's rotation vectors; sources in docs/prior.md."""

import numpy as np

from models.skeleton import SMPL_JOINTS

AXES_FLIPPED_BY_MIRROR = np.array([1.0, -1.0, -1.0])

# Lowest and highest degrees of the rotation vector's x, y, z, left side; docs/prior.md says how clinical angles
# became these. Signs as in models/keyed_poses.py.
# fmt: off
LIMITS = {
    "hip":      ((-150,  45), ( -70,  80), (-60,  95)),
    "knee":     (( -10, 165), ( -40,  45), (-25,  25)),
    "ankle":    (( -45,  65), ( -40,  40), (-35,  40)),
    "foot":     (( -80,  50), ( -15,  15), (-15,  15)),
    "spine1":   (( -35,  65), ( -35,  35), (-35,  35)),
    "spine2":   (( -30,  50), ( -35,  35), (-30,  30)),
    "spine3":   (( -30,  45), ( -35,  35), (-30,  30)),
    "neck":     (( -50,  50), ( -55,  55), (-40,  40)),
    "head":     (( -50,  45), ( -55,  55), (-35,  35)),
    "collar":   (( -35,  35), ( -45,  30), (-25,  50)),
    "shoulder": ((-120, 120), (-160,  80), (-120, 120)),
    "elbow":    (( -90,  90), (-165,  15), (-70,  70)),
    "wrist":    (( -90,  90), ( -45,  45), (-90,  85)),
    "hand":     (( -40,  40), ( -40,  40), (-60,  60)),
}
# Standard deviation, degrees, of each component in everyday movement of every kind: what the prior falls back on
# where it has seen little. The turn of a bone about itself (x in arms, y in legs, spine and neck) is the narrow one.
SPREAD = {
    "hip": (35, 14, 16),      "knee": (35, 6, 6),       "ankle": (15, 9, 9),    "foot": (14, 4, 4),
    "spine1": (13, 8, 8),     "spine2": (10, 8, 6),     "spine3": (8, 8, 6),    "neck": (12, 12, 9),
    "head": (12, 14, 8),      "collar": (7, 9, 9),      "shoulder": (22, 35, 30), "elbow": (16, 35, 12),
    "wrist": (14, 9, 16),     "hand": (5, 5, 9),
}
# fmt: on


def sided(table: dict[str, tuple]) -> np.ndarray:
    """A table of joint kinds as (23, 3, ...) radians for SMPL joints 1..23, the right side mirrored."""
    return np.radians(np.stack([_row(table, name) for name in SMPL_JOINTS[1:]]))


def mirror_index() -> np.ndarray:
    """For SMPL joints 1..23: the index (0..22) of the joint on the other side."""
    swap = {"left": "right", "right": "left"}
    names = SMPL_JOINTS[1:]
    return np.array([names.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in names])


def mirrored(body_pose: np.ndarray) -> np.ndarray:
    """`body_pose` (..., 69) seen in a mirror: sides swapped, y and z of every rotation vector negated."""
    joints = body_pose.reshape(*body_pose.shape[:-1], 23, 3)[..., mirror_index(), :] * AXES_FLIPPED_BY_MIRROR
    return joints.reshape(body_pose.shape)


def _row(table: dict[str, tuple], name: str) -> np.ndarray:
    """One joint's entry; ranges swap ends where the mirror negates them."""
    side, _, kind = name.rpartition("_")
    row = np.array(table[kind], dtype=np.float64)
    if side == "right" and row.ndim == 2:
        row = np.sort(row * AXES_FLIPPED_BY_MIRROR[:, None], axis=-1)
    return row
