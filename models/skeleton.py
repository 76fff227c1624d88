"""Named skeletons: joint order, parents, units and frame rate of the joints that motion files hold."""

from dataclasses import dataclass

# fmt: off
SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
KIT_JOINTS = (
    "root", "belly", "chest", "neck", "head", "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist", "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe",
    "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe",
)
KIT_PARENTS = (-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19)
# fmt: on
FINGERS = tuple(
    f"{side}_{finger}{i}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for i in (1, 2, 3)
)


@dataclass(frozen=True)
class Skeleton:
    """A joint convention.

    name: key in SKELETONS; joints: names in file order; parents: index of each joint's parent, -1 for the root;
    smpl: for the joints that the fit uses, their SMPL index, in file order from joint 0; unit: metres per file unit;
    fps: usual frame rate.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    smpl: tuple[int, ...]
    unit: float = 1.0
    fps: float = 20.0


def _finger_parents() -> tuple[int, ...]:
    """Each finger is a chain of three from its wrist (20 left, 21 right); fingers follow the 22 body joints."""
    return tuple((20 if i < 15 else 21) if i % 3 == 0 else 22 + i - 1 for i in range(30))


SKELETONS = {
    s.name: s
    for s in (
        Skeleton("humanml3d", SMPL_JOINTS[:22], SMPL_PARENTS[:22], tuple(range(22))),
        Skeleton("smpl", SMPL_JOINTS, SMPL_PARENTS, tuple(range(24))),
        Skeleton("smplh", SMPL_JOINTS[:22] + FINGERS, SMPL_PARENTS[:22] + _finger_parents(), tuple(range(22))),
        Skeleton("kit", KIT_JOINTS, KIT_PARENTS, (), unit=0.001, fps=12.5),
    )
}
