"""From MakeHuman's A-pose to the T-pose."""

from dataclasses import dataclass

import numpy as np

from models.tools.body_builder.makehuman import SIDES, Heads, MakeHuman, Side
from models.tools.body_builder.rigid import align, blend, skin, swing, unit
from models.tools.body_builder.target import Joints, limb_direction

DOWN, FORWARD = np.array([0.0, -1, 0]), np.array([0.0, 0, 1])
LEVEL = np.array([1.0, 0, 1])


@dataclass(frozen=True)
class Posed:
    """A body's skin (n, 3) and the heads of its bones (name -> (3,)), in metres."""

    vertices: np.ndarray
    heads: Heads

    def shifted(self, offset: np.ndarray) -> "Posed":
        """The same body elsewhere."""
        return Posed(self.vertices + offset, {name: head + offset for name, head in self.heads.items()})


def limb_directions(heads: Heads, joints: Joints) -> Heads:
    """Where the limbs shall point: SMPL joint at the bone's end -> unit vector (3,).

    The bones that start at the trunk aim at the wanted joints from where MakeHuman's bones start, which is elsewhere.
    """
    directions = {}
    for side in SIDES:
        h, name = side.of(heads), side.smpl
        for joint in ("foot", "elbow", "wrist", "hand"):
            directions[name + joint] = limb_direction(side, joint)
        directions[name + "knee"] = unit(joints[name + "knee"] - h["upperleg01"])
        directions[name + "ankle"] = unit(joints[name + "ankle"] - joints[name + "knee"])
        directions[name + "shoulder"] = unit(joints[name + "shoulder"] - h["clavicle"])
    return directions


def t_pose(source: MakeHuman, vertices: np.ndarray, directions: Heads) -> Posed:
    """Pose a body of MakeHuman, vertices (19158, 3), its limbs along `directions`; helpers are dropped."""
    rig, heads = source.rig, source.rig.place(vertices)
    turned = {}
    for side in SIDES:
        limbs = arm_rotations(side, heads, directions) | leg_rotations(side, heads, directions)
        turned |= {bone + side.bone: rotation for bone, rotation in limbs.items()}
    rotations, posed = {}, {}
    for name, parent in zip(rig.names, rig.parents, strict=True):
        if parent < 0:
            rotations[name], posed[name] = np.eye(3), heads[name]
            continue
        above = rig.names[parent]
        rotations[name] = turned.get(name, rotations[above])  # bones that nobody turns go with their parent
        posed[name] = posed[above] + rotations[above] @ (heads[name] - heads[above])
    matrices = np.stack([rotations[name] for name in rig.names])
    offsets = np.stack([posed[name] - rotations[name] @ heads[name] for name in rig.names])
    count = source.num_skin
    return Posed(skin(vertices[:count], rig.weights[:count], matrices, offsets), posed)


def arm_rotations(side: Side, heads: Heads, directions: Heads) -> Heads:
    """World rotation of each arm bone (without suffix). Elbows bend about the vertical and palms face down, as in SMPL.

    Twist is spread: the collar takes 60 % of the raise, the second bone of the forearm half of the hand's turn.
    """
    h = side.of(heads)
    upper, fore = h["lowerarm01"] - h["upperarm01"], h["wrist"] - h["lowerarm01"]
    hinge = np.cross(upper, fore) * side.sign
    to_upper = align(upper, hinge, directions[side.smpl + "elbow"], DOWN)
    to_fore = align(fore, hinge, directions[side.smpl + "wrist"], DOWN)
    across_palm = h["finger2-1"] - h["finger5-1"]
    to_hand = align(h["finger3-1"] - h["wrist"], across_palm, directions[side.smpl + "hand"], FORWARD)
    to_collar = swing(h["upperarm01"] - h["clavicle"], directions[side.smpl + "shoulder"])
    return {
        "clavicle": blend(np.eye(3), to_collar, 0.6),
        "shoulder01": blend(to_collar, to_upper, 0.25),
        "upperarm01": to_upper,
        "upperarm02": to_upper,
        "lowerarm01": to_fore,
        "lowerarm02": blend(to_fore, to_hand, 0.5),
        "wrist": to_hand,
    }


def leg_rotations(side: Side, heads: Heads, directions: Heads) -> Heads:
    """World rotation of each leg bone (without suffix). Feet turn about the vertical only: soles stay flat."""
    h = side.of(heads)
    to_thigh = swing(h["lowerleg01"] - h["upperleg01"], directions[side.smpl + "knee"])
    to_shank = swing(h["foot"] - h["lowerleg01"], directions[side.smpl + "ankle"])
    return {
        "upperleg01": blend(np.eye(3), to_thigh, 0.7),
        "upperleg02": to_thigh,
        "lowerleg01": to_shank,
        "lowerleg02": to_shank,
        "foot": swing((h["toe2-1"] - h["foot"]) * LEVEL, directions[side.smpl + "foot"] * LEVEL),
    }
