"""Which way is up in a file's joints, and are left and right what they are called? Recognised, named, turned."""

import numpy as np

from models.errors import InputError

# Rotations that turn points (x, y, z) of a file in which that axis points up so that y does: p -> UP[axis] @ p.
UP = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.diag([1.0, -1, -1]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
STANDS = 0.8  # of 1: how far the line from ankles to neck must lie along an axis
HIPS, SHOULDERS, KNEES, ANKLES, FEET, NECK = (1, 2), (16, 17), (4, 5), (7, 8), (10, 11), 12
SWAPPED = -0.5  # from -1 to 1; 388 real clips lie above 0.6, their mirror images below -0.6
STRAIGHT = 0.02  # sine of the bend, on average, below which legs tell nothing


def check_up(up: str) -> None:
    """InputError unless up is an axis."""
    if up not in UP:
        raise InputError(f"up {up!r} is unknown; it is one of {', '.join(UP)}, y by default (--up=-y with the = sign)")


def turned(points: np.ndarray, up: str) -> np.ndarray:
    """Points (..., 3) with the axis `up` pointing up -> the same with y up."""
    return points if up == "y" else points @ UP[up].T


def upright(joints: np.ndarray) -> np.ndarray:
    """The direction (3,) from ankles to neck, median over frames of unit vectors; zeros where they are not seen.

    joints (frames, 22, 3) in SMPL's order, NaN = unseen. Hips and shoulders stand in for ankles and neck never seen.
    """
    low = ANKLES if np.isfinite(joints[:, ANKLES]).any() else HIPS
    high = NECK if np.isfinite(joints[:, NECK]).any() else SHOULDERS
    spine = _middle(joints, high) - _middle(joints, low)
    spine = spine[np.isfinite(spine).all(1)]
    if not len(spine):
        return np.zeros(3)
    return np.median(spine / np.linalg.norm(spine, axis=-1, keepdims=True).clip(1e-9), axis=0)


def _middle(joints: np.ndarray, which: int | tuple[int, ...]) -> np.ndarray:
    """The middle (frames, 3) of some joints; NaN where one of them is unseen."""
    return joints[:, np.atleast_1d(which)].mean(1)


def check_axes(joints: np.ndarray) -> str:
    """InputError if somebody in joints (frames, 22, 3) stands along x or z, where y should be up.

    Somebody who lies along an axis is told from somebody who stands in such axes by the floor: is it at y = 0, or at 0
    of that axis? Returns a warning for somebody who stands on the head, else "".
    """
    spine = upright(joints)
    axis = int(np.abs(spine).argmax())
    if abs(spine[axis]) < STANDS or (axis == 1 and spine[1] > 0):
        return ""
    name = ("-" if spine[axis] < 0 else "") + "xyz"[axis]
    if axis == 1:
        return "Head down: if y points down in the file, as in a camera's axes, pass --up=-y (up='-y')."
    seen = np.where(np.isfinite(joints), joints, np.inf * np.sign(spine[axis]))
    lowest = (seen[..., axis] * np.sign(spine[axis])).min(1)  # (frames,) along what seems up
    floor_at_y0 = -0.15 < np.nanpercentile(joints[..., 1], 1) < 0.3  # a joint may be metres off
    floor_here = -0.15 < np.median(lowest) < 0.25
    if floor_here or not floor_at_y0:
        x, y, z = (_signed(row) for row in UP[name])
        option = f"--up={name}" if name[0] == "-" else f"--up {name}"  # after a space -z would be another option
        raise InputError(
            f"{name} seems to point up (head above feet along {name}); expected is y up. Give {option} "
            f"(up='{name}'), which turns (x, y, z) into ({x}, {y}, {z}). Somebody who does lie along {name} passes "
            "with his lowest point at y = 0"
        )
    return ""


def _signed(row: np.ndarray) -> str:
    """[0, 0, -1] -> '-z'."""
    axis = int(np.abs(row).argmax())
    return ("-" if row[axis] < 0 else "") + "xyz"[axis]


def sides(joints: np.ndarray) -> float:
    """From 1, left is left, to -1, left and right are swapped or the motion is mirrored; 0 where nothing tells.

    joints (frames, 22, 3) in SMPL's order, any up axis, NaN = unseen. Hips and shoulders give the axis to the left;
    about it knees bend forward and feet point forward of the shin: thigh x shin and foot x shin point to the left. The
    joint error of a fit tells neither, since people are nearly symmetrical.
    """
    left = (joints[:, [1, 16]] - joints[:, [2, 17]]).sum(1)[:, None]
    thighs, shins, feet = (joints[:, b] - joints[:, a] for a, b in ((HIPS, KNEES), (KNEES, ANKLES), (ANKLES, FEET)))
    sines = np.stack([_triple(bone, shins, left) for bone in (thighs, feet)])
    sines = sines[np.isfinite(sines)]
    return float(sines.sum() / np.abs(sines).sum()) if sines.size and np.abs(sines).mean() > STRAIGHT else 0.0


def _triple(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(a x b) . c of the directions of vectors (..., 3); NaN where one has no length."""
    sizes = np.prod([np.linalg.norm(vector, axis=-1) for vector in np.broadcast_arrays(a, b, c)], 0)
    return (np.cross(a, b) * c).sum(-1) / np.where(sizes > 0, sizes, np.nan)


def check_sides(joints: np.ndarray) -> str:
    """A warning if left and right of joints (frames, 22, 3) are swapped or the motion is mirrored, else ""."""
    if sides(joints) > SWAPPED:
        return ""
    return (
        "Left and right seem swapped, or the motion mirrored: knees and feet point backwards. It fits all the same, to "
        "a body that faces the wrong way; swap the sides' joints, or negate one axis (joints * [-1, 1, 1])."
    )
