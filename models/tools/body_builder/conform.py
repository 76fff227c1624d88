"""Moving the joints of a T-posed body without turning anything: limbs grow longer or shorter, girth is kept.

`moves` gives the displacement of joints by the bone that starts there: of each side "lowerleg01" (knee), "foot"
(ankle), "clavicle" (collar), "upperarm01" (shoulder), "lowerarm01" (elbow), "wrist"; and "neck01" and "head". Hips and
the base of the spine stay; feet and hands are carried whole.
"""

from collections.abc import Iterator

import numpy as np

from models.tools.body_builder.makehuman import SIDES, Heads, Rig, Side
from models.tools.body_builder.target import Joints
from models.tools.body_builder.tpose import Posed

# Part of a limb: the joints at its start and end (None: carried whole), prefixes of the bones that hold its vertices.
Part = tuple[str, str | None, tuple[str, ...]]
LEG: tuple[Part, ...] = (
    ("upperleg01", "lowerleg01", ("upperleg",)),
    ("lowerleg01", "foot", ("lowerleg",)),
    ("foot", None, ("foot", "toe")),
)
ARM: tuple[Part, ...] = (
    ("clavicle", "upperarm01", ("clavicle", "shoulder")),
    ("upperarm01", "lowerarm01", ("upperarm",)),
    ("lowerarm01", "wrist", ("lowerarm",)),
    ("wrist", None, ("wrist", "metacarpal", "finger")),
)
SMPL_JOINT = {
    "lowerleg01": "knee",
    "foot": "ankle",
    "upperarm01": "shoulder",
    "lowerarm01": "elbow",
    "wrist": "wrist",
}
COLLAR_FOLLOWS = np.array([0, 0.7, 0.7])  # share of the shoulder's move, by axis: the chest keeps its width
NECK_RAISE = np.array([0, 0.008, 0])


def moves_to_joints(heads: Heads, joints: Joints) -> Heads:
    """Moves that bring MakeHuman's limb joints onto the target skeleton's; neck and head rise by 8 mm and 0."""
    moves = {"neck01": NECK_RAISE, "head": np.zeros(3)}
    for side in SIDES:
        for bone, joint in SMPL_JOINT.items():
            moves[bone + side.bone] = joints[side.smpl + joint] - heads[bone + side.bone]
        moves["clavicle" + side.bone] = moves["upperarm01" + side.bone] * COLLAR_FOLLOWS
    return moves


def moves_to_heads(heads: Heads, wanted: Heads) -> Heads:
    """Moves that bring a body's joints onto another body's."""
    limbs = [bone + side.bone for side in SIDES for bone in ("clavicle", *SMPL_JOINT)]
    return {bone: wanted[bone] - heads[bone] for bone in ("neck01", "head", *limbs)}


def conform(rig: Rig, body: Posed, moves: Heads) -> Posed:
    """The body (n vertices) after the moves, and its joints.

    Along a bone the displacement is interpolated between its ends; vertices that no limb, neck or head holds follow
    the spine.
    """
    weights = rig.weights[: len(body.vertices)]
    trunk = along(body, "spine05", "neck01") * moves["neck01"]
    field, covered = np.zeros_like(body.vertices), np.zeros(len(weights))
    for bones, move in displacements(rig, body, moves, trunk):
        share = weights[:, bones].sum(1)
        field += share[:, None] * move
        covered += share
    field += (1 - covered)[:, None] * trunk
    heads = body.heads | {bone: body.heads[bone] + move for bone, move in moves.items()}
    return Posed(body.vertices + field, heads)


def displacements(rig: Rig, body: Posed, moves: Heads, trunk: np.ndarray) -> Iterator[tuple[list[int], np.ndarray]]:
    """Each part of the body: the bones that hold it (indices), its displacement (n, 3) or (3,)."""
    for side in SIDES:
        yield from limb(rig, body, moves, side, LEG)
        yield rig.select("pelvis", suffix=side.bone), trunk * 0.5  # between the hips, which stay, and the spine
        yield from limb(rig, body, moves, side, ARM)
    rise = along(body, "neck01", "head")
    yield rig.select("neck"), (1 - rise) * moves["neck01"] + rise * moves["head"]
    yield rig.below("head"), moves["head"]


def limb(
    rig: Rig, body: Posed, moves: Heads, side: Side, parts: tuple[Part, ...]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The same for the parts of one limb."""
    for start, end, prefixes in parts:
        move = moves.get(start + side.bone, np.zeros(3))
        if end is not None:
            u = along(body, start + side.bone, end + side.bone)
            move = (1 - u) * move + u * moves[end + side.bone]
        yield rig.select(*prefixes, suffix=side.bone), move


def along(body: Posed, start: str, end: str) -> np.ndarray:
    """(n, 1): where each vertex lies along a bone, 0 at its start and before, 1 at its end and beyond."""
    origin, axis = body.heads[start], body.heads[end] - body.heads[start]
    return np.clip(((body.vertices - origin) @ axis) / (axis @ axis), 0, 1)[:, None]
