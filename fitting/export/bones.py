"""Names of bones: the joints of a body file as SMPL calls them, and as Mixamo's and Unreal's characters do."""

from collections.abc import Sequence

from models.errors import InputError
from models.skeleton import FINGERS, SMPL_JOINTS

# fmt: off
HUMANIK = (  # SMPL's 22 body joints in HumanIK's words, as MDM's motions2hik has them
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand",
)
UNREAL = (  # the same on Unreal's mannequin
    "pelvis", "thigh_l", "thigh_r", "spine_01", "calf_l", "calf_r", "spine_02", "foot_l", "foot_r", "spine_03",
    "ball_l", "ball_r", "neck_01", "clavicle_l", "clavicle_r", "head", "upperarm_l", "upperarm_r",
    "lowerarm_l", "lowerarm_r", "hand_l", "hand_r",
)
# fmt: on
HANDS = {"left_hand": "left_middle1", "right_hand": "right_middle1"}  # SMPL's hand joint is where the fingers begin


def _mixamo(name: str) -> str:
    """`left_hand` and fingers such as `left_index1`; jaw and eyes keep their name."""
    side, _, finger = HANDS.get(name, name).partition("_")
    part = f"{side.title()}Hand{finger.title()}" if HANDS.get(name, name) in FINGERS else name
    return f"mixamorig:{part}"


def _unreal(name: str) -> str:
    name = HANDS.get(name, name)
    side, _, finger = name.partition("_")
    return f"{finger[:-1]}_0{finger[-1]}_{side[0]}" if name in FINGERS else name


# name of a rig -> the names of the 22 body joints, and how to call those beyond
RIGS = {
    "smpl": (SMPL_JOINTS[:22], lambda name: name),
    "mixamo": (tuple(f"mixamorig:{name}" for name in HUMANIK), _mixamo),
    "unreal": (UNREAL, _unreal),
}


def joint_names(count: int, rig: str = "smpl") -> list[str]:
    """Names of a body file's joints, SMPL (24), SMPL-H (52) or SMPL-X (55), on one of RIGS.

    Raises InputError for another rig.
    """
    if rig not in RIGS:
        raise InputError(f"bone names {rig!r} are unknown; known: {', '.join(RIGS)}.")
    first, rename = RIGS[rig]
    further = {24: SMPL_JOINTS[22:], 52: FINGERS, 55: ("jaw", "left_eye", "right_eye", *FINGERS)}
    return [*first, *map(rename, further[count])]


def depth_first(parents: Sequence[int], joint: int = 0) -> list[int]:
    """The joint and all below it, each followed by its own children first: the order of BVH and MuJoCo files."""
    below = [child for child, parent in enumerate(parents) if parent == joint]
    return [joint, *(each for child in below for each in depth_first(parents, child))]
