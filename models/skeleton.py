"""Named skeletons: joint order, parents, units and frame rate of the joints that motion files hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

# fmt: off
SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
KIT_JOINTS = (  # sides as HumanML3D's code has them; MMM's own names have them the other way round: the feet tell
    "root", "belly", "chest", "neck", "head", "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "right_metatarsal",
    "right_toe", "left_hip", "left_knee", "left_ankle", "left_metatarsal", "left_toe",
)
KIT_PARENTS = (-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19)
KIT_SHOWS = {
    "root": "mid_hip", "belly": "spine1", "chest": "spine3", "right_metatarsal": None, "left_metatarsal": None,
    "right_toe": "right_foot", "left_toe": "left_foot",
}
BODY25_JOINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)
BODY25_SHOWS = {"neck": None, "right_eye": None, "left_eye": None}  # its neck is the middle of the shoulders
H36M_JOINTS = (
    "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
    "nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)
H36M_SHOWS = {"hip": "mid_hip", "spine": None, "thorax": "neck", "nose": None, "head": "head_top"}
# fmt: on
FINGERS = tuple(
    f"{side}_{finger}{i}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for i in (1, 2, 3)
)
BODY = SMPL_JOINTS[:22]
# Points of the body besides its 22 joints that a file's joints may show, and the joint that carries each
# (models/landmarks.py says where they lie). Fingers only where the body has them; knuckles are carried by the wrist.
LANDMARKS = {"mid_hip": "pelvis", "head_top": "head", "nose": "head"}
for _side in ("left", "right"):
    LANDMARKS |= {f"{_side}_ear": "head", f"{_side}_heel": f"{_side}_ankle", f"{_side}_hand": f"{_side}_wrist"}
    LANDMARKS |= {f"{_side}_{toe}_toe": f"{_side}_foot" for toe in ("big", "small")}
LANDMARKS |= {name: f"{name.split('_')[0]}_wrist" for name in FINGERS if name.endswith("1")}
PHALANGES = {f"{name[:-1]}{i}": f"{name[:-1]}{i - 1}" for name in FINGERS if name.endswith("1") for i in (2, 3)}
POINTS = (*BODY, *LANDMARKS, *PHALANGES)  # PHALANGES: the joints of a finger behind its knuckle, and what each hangs on


@dataclass(frozen=True)
class Skeleton:
    """A joint convention.

    name: key in SKELETONS, or a file's; joints: names in file order; parents: index of each joint's parent, -1 for the
    root; shows: the name among POINTS of what each joint shows of the body, None for a joint that is left out; unit:
    metres per file unit; fps: usual frame rate; up: the axis that points up; alone: no other usual convention has as
    many joints, so that their number tells it.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    shows: tuple[str | None, ...]
    unit: float = 1.0
    fps: float = 20.0
    up: str = "y"
    alone: bool = True

    @property
    def used(self) -> list[int]:
        """Indices of the joints that show something of the body."""
        return [index for index, point in enumerate(self.shows) if point is not None]

    def fitted(self) -> "Skeleton":
        """The skeleton of the used joints alone."""
        joints, shows = (tuple(names[index] for index in self.used) for names in (self.joints, self.shows))
        return replace(self, joints=joints, shows=shows, parents=hung(shows))

    def swapped(self) -> "Skeleton":
        """The skeleton with left and right the other way round."""
        other = {"left": "right", "right": "left"}

        def swap(name: str | None) -> str | None:
            side, _, part = (name or "").partition("_")
            return f"{other[side]}_{part}" if side in other else name

        return replace(self, joints=tuple(map(swap, self.joints)), shows=tuple(map(swap, self.shows)))


def _finger_parents() -> tuple[int, ...]:
    """Each finger is a chain of three from its wrist (20 left, 21 right); fingers follow the 22 body joints."""
    return tuple((20 if i < 15 else 21) if i % 3 == 0 else 22 + i - 1 for i in range(30))


def hung(shows: Sequence[str | None]) -> tuple[int, ...]:
    """Parents of joints that show these points: each hangs on the nearest shown one between it and the pelvis.

    The middle of the hips stands in for a pelvis that is not shown.
    """
    above = dict(zip(SMPL_JOINTS, (None, *(SMPL_JOINTS[parent] for parent in SMPL_PARENTS[1:])), strict=True))
    above |= LANDMARKS | PHALANGES
    index = {point: i for i, point in enumerate(shows) if point is not None}
    index.setdefault("pelvis", index.get("mid_hip", -1))
    parents = []
    for point in shows:
        parent = above.get(point)
        while parent is not None and parent not in index:
            parent = above[parent]
        parents.append(-1 if parent is None or point in ("pelvis", "mid_hip") else index[parent])
    return tuple(parents)


def of_points(name: str, points: Sequence[str]) -> Skeleton:
    """A skeleton in metres, y up, whose joints are points of the body: what a fit wrote down of its input."""
    return Skeleton(name, tuple(points), hung(points), tuple(points))


def _by_name(name: str, joints: tuple[str, ...], others: dict[str, str | None], **about: float | bool) -> Skeleton:
    """A skeleton whose joints show the points of their own names, but for `others`."""
    shows = tuple(others.get(joint, joint) for joint in joints)
    return Skeleton(name, joints, hung(shows), shows, **about)


SKELETONS = {
    s.name: s
    for s in (
        Skeleton("humanml3d", BODY, SMPL_PARENTS[:22], BODY),
        Skeleton("smpl", SMPL_JOINTS, SMPL_PARENTS, SMPL_JOINTS),
        Skeleton("smplh", BODY + FINGERS, SMPL_PARENTS[:22] + _finger_parents(), BODY + FINGERS),
        replace(_by_name("kit", KIT_JOINTS, KIT_SHOWS, unit=0.001, fps=12.5), parents=KIT_PARENTS),
        _by_name("body25", BODY25_JOINTS, BODY25_SHOWS, fps=30.0, alone=False),
        _by_name("h36m", H36M_JOINTS, H36M_SHOWS, fps=50.0, alone=False),
    )
}
