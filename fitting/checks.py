"""Is it a person of a known skeleton, in metres, y up, all numbers finite? The checks of joints and their messages."""

import numpy as np

from models.errors import InputError
from models.skeleton import SKELETONS, Skeleton

ACCEPTED = (
    "Accepted: joints (frames, 22, 3), (clips, frames, 22, 3) or MDM's (clips, 22, 3, frames), also SMPL's 24 or "
    "SMPL-H's 52, metres, y up; HumanML3D features (frames, 263); rotations (clips, 25, 6, frames); MDM's results.npy"
)
FIRST_OF_MORE = "; its first {0} are SMPL's: save joints[:, :{0}]"
JOINT_COUNTS = {
    14: "the 14 joints of LSP",
    16: "MPII's 16 joints",
    17: "the 17 joints of Human3.6M or COCO",
    18: "OpenPose's COCO-18",
    19: "OpenPose's COCO-19 or Panoptic's 19 joints",
    21: "KIT-ML's skeleton, in millimetres at 12.5 fps, which cannot be fitted yet",
    25: "OpenPose's BODY_25 or Kinect's 25 joints",
    31: "the CMU/Acclaim skeleton",
    45: "the 45 joints of an SMPL body from smplx" + FIRST_OF_MORE.format(24),
    49: "the 49 joints of SPIN or VIBE",
    55: "SMPL-X's skeleton" + FIRST_OF_MORE.format(22),
    73: "the 73 joints of an SMPL-H body from smplx" + FIRST_OF_MORE.format(22),
    127: "the joints of an SMPL-X body from smplx" + FIRST_OF_MORE.format(22),
    133: "COCO-WholeBody",
    144: "the joints of an SMPL-X body with face contour from smplx" + FIRST_OF_MORE.format(22),
}

PERSON = 4.4  # metres, all bones of 22 joints added up: 4.4 in HumanML3D, 3.8 to 4.8 in motion capture
SMALLEST, LARGEST = 1.5, 9.5  # a toddler and twice a giant
UNITS = {"feet": 0.3048, "decimetres": 0.1, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
NECK, ANKLES = 12, (7, 8)


def find_skeleton(count: int, asked: str | None = None) -> Skeleton:
    """The skeleton asked for by name, or the first one with that many joints; InputError if it cannot be fitted."""
    if asked is not None and asked not in SKELETONS:
        raise InputError(f"skeleton {asked!r} is unknown; known: {', '.join(SKELETONS)}")
    known = [s for s in SKELETONS.values() if asked in (None, s.name) and len(s.joints) == count]
    if known and known[0].smpl:
        return known[0]
    guess = f", probably {JOINT_COUNTS[count]}" if count in JOINT_COUNTS else ""
    wanted = f", but skeleton {asked!r} has {len(SKELETONS[asked].joints)}" if asked and not known else ""
    usable = ", ".join(f"{s.name} ({len(s.joints)})" for s in SKELETONS.values() if s.smpl)
    raise InputError(f"{count} joints{guess}{wanted}. Skeletons that can be fitted: {usable}")


def check_up(up: str) -> None:
    """InputError unless up is y or z."""
    if up not in ("y", "z"):
        raise InputError(f"up {up!r} is unknown; it is y (the default) or z")


def name_frames(frames: np.ndarray, most: int = 8) -> str:
    """[3, 7, 8, 9] -> '3, 7-9'."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    named = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more runs" if len(named) > most else "")


def check_finite(values: np.ndarray, what: str = "values") -> None:
    """InputError that names the frames of values (frames, ...) where something is NaN or infinite; or has no frames."""
    if not len(values):
        raise InputError("there are no frames in it")
    finite = np.isfinite(values)
    if finite.all():
        return
    kinds = [word for word, found in (("NaN", np.isnan(values)), ("Inf", np.isinf(values))) if found.any()]
    frames = np.flatnonzero(~finite.reshape(len(values), -1).all(1))
    raise InputError(
        f"{' and '.join(kinds)} in {len(frames)} of {len(values)} frames ({name_frames(frames)}, counted from 0): "
        f"all {what} must be finite. Gaps are not repaired yet: fill these frames or cut them out"
    )


def check_joints(joints: np.ndarray, skeleton: str | None = None, up: str = "y") -> tuple[np.ndarray, Skeleton]:
    """Joints as the fit wants them.

    joints: (frames, J, 3) numbers of any type, in the unit of the skeleton (metres, KIT millimetres); skeleton: name in
    SKELETONS, by default the one with J joints; up: the axis that points up in them, y or z.
    Returns float32 (frames, K, 3) in metres, y up, only the joints that the fit uses (52 of SMPL-H: the first 22), and
    the skeleton. Raises InputError that says what was found and what would work.
    """
    check_up(up)
    found = find_skeleton(joints.shape[1], skeleton)
    joints = joints[:, : len(found.smpl)].astype(np.float64)
    check_finite(joints, "coordinates")
    check_zeros(joints)
    joints *= found.unit
    check_unit(joints, found.parents)
    if up == "z":
        joints = z_up_to_y_up(joints)
    else:
        check_axes(joints)
    return np.ascontiguousarray(joints, dtype=np.float32), found


def check_zeros(joints: np.ndarray) -> None:
    """InputError if all joints of a frame lie at the origin: padding, or nothing was written."""
    empty = np.flatnonzero((joints == 0).all((1, 2)))
    if len(empty) == len(joints):
        raise InputError(f"all {len(joints)} frames are zeros: nobody is in it")
    if len(empty):
        raise InputError(
            f"{len(empty)} of {len(joints)} frames are all zeros ({name_frames(empty)}, counted from 0), probably "
            "padding: cut them off, or give the number of valid frames as `lengths` in a dict with `motion`"
        )


def check_unit(joints: np.ndarray, parents: tuple[int, ...]) -> None:
    """InputError if a person of this size is not measured in metres."""
    bones = joints[:, 1:] - joints[:, list(parents[1 : joints.shape[1]])]
    size = float(np.median(np.linalg.norm(bones, axis=-1).sum(-1)))
    if SMALLEST <= size <= LARGEST:
        return
    fits = {unit: factor for unit, factor in UNITS.items() if abs(np.log(max(size, 1e-9) * factor / PERSON)) < 0.5}
    if fits:
        unit = min(fits, key=lambda name: abs(np.log(size * fits[name] / PERSON)))
        advice = f"it is probably in {unit}: multiply by {fits[unit]:g}"
    else:
        advice = f"multiply by about {PERSON / max(size, 1e-9):.3g} if these are joint positions in SMPL order at all"
    raise InputError(f"not in metres: the bones add up to {size:.4g}, a person's to about {PERSON}; {advice}")


def z_up_to_y_up(points: np.ndarray) -> np.ndarray:
    """(..., 3) with z up -> (..., 3) with y up: (x, y, z) -> (x, z, -y), a quarter turn about x."""
    return np.stack((points[..., 0], points[..., 2], -points[..., 1]), -1)


def upright(joints: np.ndarray) -> np.ndarray:
    """The direction (3,) from ankles to neck, median over frames (frames, J, 3) of unit vectors."""
    spine = joints[:, NECK] - joints[:, ANKLES].mean(1)
    return np.median(spine / np.linalg.norm(spine, axis=-1, keepdims=True).clip(1e-9), axis=0)


def check_axes(joints: np.ndarray) -> None:
    """InputError if somebody in joints (frames, J, 3) stands along z, where y should be up.

    Somebody who lies along z is told from somebody who stands in z-up axes by the floor: is it at y = 0, or at z = 0?
    """
    if upright(joints)[2] < 0.8:
        return
    lowest = joints.min(1)  # (frames, 3)
    floor_at_y0 = -0.15 < lowest[:, 1].min() < 0.3
    floor_at_z0 = -0.15 < np.median(lowest[:, 2]) < 0.25
    if floor_at_z0 or not floor_at_y0:
        raise InputError(
            "z seems to point up (head above feet along z); expected is y up. Give --up z (up='z'), which turns "
            "(x, y, z) into (x, z, -y). Somebody who does lie along z passes with his lowest point at y = 0"
        )
