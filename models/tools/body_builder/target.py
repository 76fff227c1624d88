"""The rest skeleton to build for: bone lengths of the skeleton that HumanML3D retargets every clip to, in a T-pose.

Names are SMPL's; metres, y up, facing +z, pelvis at the origin.
"""

import numpy as np

from models.skeleton import SMPL_JOINTS
from models.tools.body_builder.makehuman import SIDES, Side
from models.tools.body_builder.rigid import unit

Joints = dict[str, np.ndarray]

# Length of the bone that ends at each joint; measured on three HumanML3D clips, which agree within 0.22 mm.
LENGTHS = {
    "left_hip": 0.10307,
    "right_hip": 0.10988,
    "spine1": 0.13157,
    "left_knee": 0.39362,
    "right_knee": 0.39019,
    "spine2": 0.14319,
    "left_ankle": 0.43243,
    "right_ankle": 0.42564,
    "spine3": 0.05736,
    "left_foot": 0.14338,
    "right_foot": 0.14942,
    "neck": 0.21936,
    "left_collar": 0.13749,
    "right_collar": 0.14338,
    "head": 0.10304,
    "left_shoulder": 0.13161,
    "right_shoulder": 0.12298,
    "left_elbow": 0.25684,
    "right_elbow": 0.26309,
    "left_wrist": 0.26601,
    "right_wrist": 0.26988,
    "left_hand": 0.0868,
    "right_hand": 0.0868,
}
# Distances between the three children of pelvis and of spine3. HumanML3D keeps the lengths but not these: they vary by
# 5-13 mm with the subject, so they are the mean of three clips and of the data set's mean pose.
# Each: left to upper, right to upper, left to right.
HIP_DISTANCES = (0.2195, 0.2275, 0.1215)
COLLAR_DISTANCES = (0.1299, 0.1248, 0.1524)
# Directions of the left half's bones in the T-pose, by the joint at their end; lengths are unused, right mirrors left.
LIMB_DIRECTIONS = {
    "knee": (0.034, -0.375, -0.0045),
    "ankle": (-0.0136, -0.398, -0.0437),
    "foot": (0.0264, -0.0558, 0.1193),
    "shoulder": (0.1208, 0.0305, -0.009),
    "elbow": (0.2597, -0.0128, -0.0275),
    "wrist": (0.2493, 0.005, -0.0011),
    "hand": (0.084, -0.006, -0.008),
}
SPINE_DIRECTIONS = {
    "spine1": (0, 0.1083, -0.0326),
    "spine2": (0, 0.1359, 0.007),
    "spine3": (0, 0.0528, 0.0254),
    "neck": (0, 0.2139, -0.0428),
    "head": (0, 0.065, 0.0513),
}
LIMBS = (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist", "hand"))
HIPS_Z, COLLARS_Z = -0.0068, -0.034  # where the hips lie behind the pelvis and the collars behind spine3


def limb_direction(side: Side, joint: str) -> np.ndarray:
    """Unit vector (3,) of the bone that ends at a joint, for example LEFT, "knee"."""
    return unit(np.array(LIMB_DIRECTIONS[joint]) * [side.sign, 1, 1])


def skeleton(symmetric: bool) -> Joints:
    """Rest joints (name -> (3,)). HumanML3D's left and right bones differ by up to 9 mm; `symmetric` averages them."""
    lengths, hips, collars = LENGTHS, HIP_DISTANCES, COLLAR_DISTANCES
    if symmetric:
        lengths = {name: (length + lengths[mirrored(name)]) / 2 for name, length in lengths.items()}
        hips, collars = even(hips), even(collars)
    joints = {"pelvis": np.zeros(3)}
    add_triad(joints, lengths, "pelvis", "spine1", "hip", hips, HIPS_Z)
    for parent, child in (("spine1", "spine2"), ("spine2", "spine3")):
        joints[child] = joints[parent] + lengths[child] * unit(np.array(SPINE_DIRECTIONS[child]))
    add_triad(joints, lengths, "spine3", "neck", "collar", collars, COLLARS_Z)
    joints["head"] = joints["neck"] + lengths["head"] * unit(np.array(SPINE_DIRECTIONS["head"]))
    for side in SIDES:
        add_limbs(joints, lengths, side)
    return joints


def stack(joints: Joints) -> np.ndarray:
    """The joints as an array (24, 3) in SMPL's order."""
    return np.stack([joints[name] for name in SMPL_JOINTS])


def mirrored(name: str) -> str:
    """The same joint of the other half; midline joints are their own."""
    if name.startswith("left_"):
        return name.replace("left_", "right_")
    return name.replace("right_", "left_")


def even(distances: tuple[float, float, float]) -> tuple[float, float, float]:
    """A triad's distances with left and right averaged."""
    left, right, across = distances
    return (left + right) / 2, (left + right) / 2, across


def add_limbs(joints: Joints, lengths: dict[str, float], side: Side) -> None:
    """Add the leg from the hip and the arm from the collar."""
    for limb in LIMBS:
        for parent, child in zip(limb, limb[1:], strict=False):
            name = side.smpl + child
            joints[name] = joints[side.smpl + parent] + lengths[name] * limb_direction(side, child)


def add_triad(
    joints: Joints, lengths: dict[str, float], parent: str, upper: str, child: str, distances: tuple, wanted_z: float
) -> None:
    """Add the three children of pelvis or spine3, given their distances from it and from each other.

    The upper child goes along its direction; left and right spread evenly about the x axis. Two mirror images remain,
    front and back: the one whose left child is nearer to `wanted_z` is taken.
    """
    left, right = f"left_{child}", f"right_{child}"
    up = unit(np.array(SPINE_DIRECTIONS[upper]))
    side = unit(np.array([1.0, 0, 0]) - up * up[0])
    front = np.cross(up, side)
    to_upper = lengths[upper]
    rise_left, out_left = along_and_across(lengths[left], to_upper, distances[0])
    rise_right, out_right = along_and_across(lengths[right], to_upper, distances[1])
    dot = (lengths[left] ** 2 + lengths[right] ** 2 - distances[2] ** 2) / 2  # of the two offsets, by the cosine rule
    between = np.arccos(np.clip((dot - rise_left * rise_right) / (out_left * out_right), -1, 1))  # seen along `up`
    tilt = (np.pi - between) / 2

    def pair(sign: int) -> tuple[np.ndarray, np.ndarray]:
        back = sign * np.sin(tilt) * front
        return (
            rise_left * up + out_left * (np.cos(tilt) * side + back),
            rise_right * up + out_right * (-np.cos(tilt) * side + back),
        )

    joints[upper] = joints[parent] + up * to_upper
    left_offset, right_offset = min((pair(1), pair(-1)), key=lambda offsets: abs(offsets[0][2] - wanted_z))
    joints[left], joints[right] = joints[parent] + left_offset, joints[parent] + right_offset


def along_and_across(length: float, to_upper: float, distance: float) -> tuple[float, float]:
    """A child's offset split along and across the upper child's direction, from the triangle's three sides."""
    along = (length**2 + to_upper**2 - distance**2) / (2 * to_upper)
    return along, np.sqrt(length**2 - along**2)
