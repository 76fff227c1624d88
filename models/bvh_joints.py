"""SMPL's 22 body joints of BVH files, by the names that motion capture gives its joints."""

import re

import numpy as np

from models.bvh import Bvh
from models.errors import InputError
from models.skeleton import SMPL_JOINTS

# Of every naming the joints at SMPL's places: the trunk, then the left side. "a|b": a, or b where there is no a;
# "a>b:0.6": a point 60 % of the way from a to b. NAME_end is the End Site of NAME. Blanks and prefixes ("mixamorig:")
# and capitals of the file's names do not matter.
TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
SIDE = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
NAMINGS = {
    "SMPL": (
        "pelvis spine1 spine2 spine3 neck head|neck_end",
        "left_hip left_knee left_ankle left_foot|left_ankle_end left_collar left_shoulder left_elbow "
        "left_wrist|left_elbow_end",
    ),
    "SMPL's letters": (
        "pelvis spine1 spine2 spine3 neck head|neck_end",
        "l_hip l_knee l_ankle l_foot|l_ankle_end l_collar l_shoulder l_elbow l_wrist|l_elbow_end",
    ),
    "Bandai Namco": (
        "hips hips>spine:0.6 spine>chest:0.5 chest neck head",
        "upperleg_l lowerleg_l foot_l toes_l shoulder_l upperarm_l lowerarm_l hand_l",
    ),
    "100STYLE": (
        "hips chest chest2 chest3 neck head",
        "lefthip leftknee leftankle lefttoe leftcollar leftshoulder leftelbow leftwrist",
    ),
    "Mixamo": (
        "hips spine spine1 spine2 neck head",
        "leftupleg leftleg leftfoot lefttoebase leftshoulder leftarm leftforearm lefthand",
    ),
    "CMU": (
        "hips spine spine>spine1:0.5 spine1 neck1|neck head",
        "leftupleg leftleg leftfoot lefttoebase leftshoulder>leftarm:0.4 leftarm leftforearm lefthand",
    ),
    "Unity": (
        "hips spine chest upperchest neck head|neck_end",
        "leftupperleg leftlowerleg leftfoot lefttoes|leftfoot_end leftshoulder leftupperarm leftlowerarm "
        "lefthand|leftlowerarm_end",
    ),
    "Unreal": (
        "pelvis spine_01 spine_02 spine_03 neck_01 head",
        "thigh_l calf_l foot_l ball_l clavicle_l upperarm_l lowerarm_l hand_l",
    ),
}


def body_joints(bvh: Bvh) -> np.ndarray:
    """SMPL's 22 body joints (L, 22, 3) of a BVH file, in its units, axes and place.

    Raises InputError, with the names that are there, when the file's joints follow none of the NAMINGS.
    """
    places = {_plain(name): j for j, name in reversed(list(enumerate(bvh.names)))}
    for trunk, side in NAMINGS.values():
        points = dict(zip(TRUNK, map(_alternatives, trunk.split()), strict=True))
        for part, point in zip(SIDE, map(_alternatives, side.split()), strict=True):
            points[f"left_{part}"], points[f"right_{part}"] = point, [_mirrored(name) for name in point]
        found = [_find(points[joint], places) for joint in SMPL_JOINTS[:22]]
        if None not in found:
            positions = bvh.joints()
            return np.stack([(1 - t) * positions[:, a] + t * positions[:, b] for a, b, t in found], 1)
    raise InputError(
        f"its joints follow none of the namings {', '.join(NAMINGS)}; they are {', '.join(bvh.names)[:400]}. Rename "
        f"them in the file, or convert it to joints (frames, 22, 3) in SMPL's order"
    )


def _plain(name: str) -> str:
    return re.sub(r"\s", "", name.rpartition(":")[2]).lower()


def _alternatives(point: str) -> list[str]:
    return point.split("|")


def _mirrored(name: str) -> str:
    """The name of the right side's joint."""
    return re.sub(r"_l\b", "_r", re.sub(r"\bl_", "r_", name.replace("left", "right")))


def _find(alternatives: list[str], places: dict[str, int]) -> tuple[int, int, float] | None:
    """(joint, other joint, share of the way to it) of the first alternative that the file has."""
    for point in alternatives:
        first, _, rest = point.partition(">")
        second, _, share = rest.partition(":")
        second = second or first
        if first in places and second in places:
            return places[first], places[second], float(share or 0)
    return None
