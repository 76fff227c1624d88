"""Is it a person of a known skeleton, in metres, y up, all numbers finite? The checks of joints and their messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from fitting.axes import SWAPPED, check_axes, check_sides, check_up, sides, turned
from fitting.observed import as_smpl
from fitting.skeleton_file import load_skeleton
from models.body import EMBEDDED
from models.errors import InputError
from models.skeleton import POINTS, SKELETONS, SMPL_JOINTS, Skeleton, of_points

ACCEPTED = (
    "Accepted: joints (frames, 22, 3), (clips, frames, 22, 3) or MDM's (clips, 22, 3, frames), metres, y up, also with "
    "confidence as a fourth number, and of other skeletons (--skeleton); HumanML3D features (frames, 263); rotations "
    "(clips, 25, 6, frames); MDM's results.npy"
)
FIRST_OF_MORE = "; its first {0} are SMPL's: save joints[:, :{0}]"
JOINT_COUNTS = {
    14: "the 14 joints of LSP",
    16: "MPII's 16 joints",
    17: "the 17 joints of Human3.6M or COCO",
    18: "OpenPose's COCO-18",
    19: "OpenPose's COCO-19 or Panoptic's 19 joints",
    21: "KIT-ML's skeleton, in millimetres at 12.5 fps",
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

SMALLEST, LARGEST = 0.34, 2.16  # of an adult's size: a toddler and twice a giant
UNITS = {"feet": 0.3048, "decimetres": 0.1, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
DISORDER = 0.3  # median deviation of the log of bone lengths over an adult's: 0.19 at most in 388 real clips, 0.31 and
# more in 99 of 100 shuffled ones
MMM_SIDES = "Joints 5 and 11 of KIT-ML are taken for the left side: knees and feet point that way."
MMM, MMM_SCALE = 0.8, 0.75 / 480 * 1000  # KIT-ML's people are 1 m tall; what brings them to an adult's size
TRUNK = ("pelvis", "mid_hip", "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck", "left_collar")
TRUNK += ("right_collar", "left_shoulder", "right_shoulder")
ENOUGH = 4  # joints of the trunk that must be seen in some frame
FAR = 1000.0  # metres from the origin beyond which float32 is too coarse
FASTEST = 1000.0  # frames a second


@dataclass
class Checked:
    """Joints as the fit wants them.

    joints (frames, K, 3) metres, y up, NaN = unseen: float32, float64 for somebody far from the origin; skeleton: of
    these K joints alone; confidence (frames, K) from 0 to 1, if given; notes: sentences on what was found.
    """

    joints: np.ndarray
    skeleton: Skeleton
    confidence: np.ndarray | None
    notes: tuple[str, ...]


def known_skeleton(asked: str) -> Skeleton:
    """The skeleton of this name, or in this YAML file; InputError if there is none."""
    if asked in SKELETONS:
        return SKELETONS[asked]
    if asked.endswith((".yaml", ".yml")):
        return load_skeleton(asked)
    raise InputError(f"skeleton {asked!r} is unknown; known: {', '.join(SKELETONS)}, or a YAML file (docs/formats.md)")


def named_skeleton(content: Mapping, count: int) -> Skeleton | None:
    """The skeleton that an npz or dict itself names for its `count` joints; None where it names none.

    By `shows`, the points of the body that the npz of a fit lists for its input; or by `skeleton`, a name in SKELETONS.
    """
    name, shows = str(content.get("skeleton", "")), np.asarray(content.get("shows", ()))
    if shows.shape == (count,) and set(shows.tolist()) <= set(POINTS):
        return of_points(name, shows.tolist())
    found = SKELETONS.get(name)
    return found if found and len(found.joints) == count else None


def find_skeleton(count: int, asked: str | None = None) -> Skeleton:
    """The skeleton asked for, by name or as a YAML file, or the one that this number of joints tells. InputError."""
    chosen = None if asked is None else known_skeleton(asked)
    if chosen is not None and len(chosen.joints) != count:
        guess = f", probably {JOINT_COUNTS[count]}" if count in JOINT_COUNTS else ""
        raise InputError(f"{count} joints{guess}, but skeleton {asked!r} has {len(chosen.joints)}")
    alone = [s for s in SKELETONS.values() if s.alone and len(s.joints) == count]
    if chosen or alone:
        return chosen or alone[0]
    guess = f", probably {JOINT_COUNTS[count]}" if count in JOINT_COUNTS else ""
    hint = "".join(f" (--skeleton {s.name})" for s in SKELETONS.values() if len(s.joints) == count)
    usable = ", ".join(f"{s.name} ({len(s.joints)})" for s in SKELETONS.values())
    raise InputError(
        f"{count} joints{guess}{hint}. Skeletons that can be fitted: {usable}; any other by --skeleton FILE.yaml, "
        "which names its joints (docs/formats.md)"
    )


def check_fps(fps: float) -> float:
    """The frame rate; InputError unless it is a number above 0 and up to FASTEST."""
    if not 0 < fps <= FASTEST:
        raise InputError(
            f"fps {fps} is no frame rate: it is a number above 0 and up to {FASTEST:g} frames a second; HumanML3D and "
            "MDM have 20, KIT-ML 12.5"
        )
    return float(fps)


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
        f"all {what} must be finite. Only joint positions may have gaps, NaN = unseen"
    )


def check_joints(
    joints: np.ndarray,
    skeleton: str | Skeleton | None = None,
    up: str | None = None,
    confidence: np.ndarray | None = None,
) -> Checked:
    """Joints as the fit wants them.

    joints: (frames, J, 3) numbers of any type, in the unit of the skeleton (metres, KIT millimetres), NaN = unseen;
    skeleton: a Skeleton, a name in SKELETONS or a YAML file, by default the one with J joints; up: the axis that points
    up in them, by default the skeleton's, y; confidence (frames, J) from 0, unseen, to 1.
    Raises InputError that says what was found and what would work.
    """
    whole = skeleton if isinstance(skeleton, Skeleton) else find_skeleton(joints.shape[1], skeleton)
    found, axis = whole.fitted(), up or whole.up
    check_up(axis)
    if confidence is not None:
        confidence = check_confidence(confidence, (len(joints), len(whole.joints)))[:, whole.used]
    joints = _seen_only(joints[:, whole.used].astype(np.float64) * found.unit, confidence)
    check_seen(joints, found)
    notes = [check_size(joints, found)]
    joints = turned(joints, axis)
    if found.name == "kit" and sides(as_smpl(joints, found)) < SWAPPED:
        found = found.swapped()
        notes.append(MMM_SIDES)
    ordered = as_smpl(joints, found)
    notes += [check_axes(ordered) if axis == "y" else "", check_sides(ordered)]
    far = np.nanmedian(np.abs(joints)) > FAR
    joints = np.ascontiguousarray(joints, dtype=np.float64 if far else np.float32)
    return Checked(joints, found, confidence, tuple(filter(None, notes)))


def _seen_only(joints: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
    """joints (frames, K, 3) with NaN in all of an unseen joint. InputError for none, infinite ones and zeros."""
    unseen = np.isnan(joints).any(-1) if confidence is None else np.isnan(joints).any(-1) | (confidence == 0)
    check_finite(np.where(unseen[..., None], 0, joints), "coordinates")
    joints = np.where(unseen[..., None], np.nan, joints)
    check_zeros(joints)
    return joints


def check_confidence(confidence: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Confidence as float32 (frames, J); InputError unless it is numbers from 0 to 1 of this shape. NaN is 0."""
    confidence = np.nan_to_num(np.asarray(confidence, dtype=np.float32), nan=0.0)
    if confidence.shape != shape or confidence.min(initial=0) < 0 or confidence.max(initial=0) > 1:
        raise InputError(
            f"confidence {confidence.shape} from {confidence.min(initial=0):g} to {confidence.max(initial=0):g}; "
            f"expected {shape}, a number from 0 (unseen) to 1 for each joint in each frame"
        )
    return confidence


def check_zeros(joints: np.ndarray) -> None:
    """InputError if all joints of a frame lie at the origin: padding, or nothing was written."""
    empty = np.flatnonzero((joints == 0).all((1, 2)))
    if len(empty) == len(joints):
        raise InputError(f"all {len(joints)} frames are zeros: nobody is in it")
    if len(empty):
        raise InputError(
            f"{len(empty)} of {len(joints)} frames are all zeros ({name_frames(empty)}, counted from 0), probably "
            "padding: cut them off, or give the number of valid frames as `lengths` in a dict with `motion`; frames in "
            "which nobody was seen may stay, as NaN"
        )


def check_seen(joints: np.ndarray, skeleton: Skeleton) -> None:
    """InputError if in no frame of joints (frames, K, 3), NaN = unseen, enough of the trunk is seen to place a body."""
    trunk = [i for i, point in enumerate(skeleton.shows) if point in TRUNK]
    seen = np.isfinite(joints[:, trunk]).all(-1)
    if seen.sum(1).max() >= ENOUGH:
        return
    best = int(seen.sum(1).argmax())
    names = ", ".join(skeleton.joints[joint] for joint, there in zip(trunk, seen[best], strict=True) if there) or "none"
    raise InputError(
        f"too little is seen: a fit needs a frame with {ENOUGH} joints of the trunk (pelvis, hips, spine, neck, "
        f"collars, shoulders). The best of {len(joints)} frames, {best}, has {names}; of all joints "
        f"{np.isnan(joints).all(-1).mean():.0%} are NaN or of confidence 0"
    )


@cache
def _rest() -> np.ndarray:
    """(24, 3) metres: the joints of the embedded body at rest."""
    with np.load(EMBEDDED, allow_pickle=False) as body:
        return body["J"]


def check_size(joints: np.ndarray, skeleton: Skeleton) -> str:
    """InputError if joints (frames, K, 3) are in another order than the skeleton's, or not those of a person in metres.

    KIT-ML's people of 1 m are enlarged in place. Returns a note on that, else "".
    """
    measured, usual = _bones(joints, skeleton)
    size, person = float(measured.sum()), float(usual.sum())
    ratios = np.log(measured.clip(1e-9) / usual)
    if len(ratios) >= ENOUGH and np.median(np.abs(ratios - np.median(ratios))) > DISORDER:
        raise InputError(
            f"the bones have no person's proportions: the joints are not in the order of skeleton {skeleton.name!r} "
            f"({', '.join(skeleton.joints[:6])}, ...). Put them in it, or name theirs with --skeleton"
        )
    if not SMALLEST <= size / max(person, 1e-9) <= LARGEST:
        raise InputError(_wrong_unit(size, person, skeleton))
    if skeleton.name == "kit" and size / person < MMM:
        joints *= MMM_SCALE
        return f"KIT-ML's people are 1 m tall: enlarged by {MMM_SCALE:g} to an adult's size."
    return ""


def _bones(joints: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in metres of the bones between SMPL's joints, median over frames, and the embedded body's."""
    smpl = [SMPL_JOINTS.index(point) if point in SMPL_JOINTS else -1 for point in skeleton.shows]
    bones = [(i, p) for i, p in enumerate(skeleton.parents) if p >= 0 and smpl[i] >= 0 and smpl[p] >= 0]
    children, parents = np.array(bones, dtype=int).reshape(-1, 2).T
    lengths = np.sort(
        np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1), axis=0
    )  # NaN behind the others
    seen = np.isfinite(lengths).sum(0)
    measured = lengths[(seen - 1) // 2, np.arange(len(bones))]
    usual = np.linalg.norm(_rest()[np.take(smpl, children)] - _rest()[np.take(smpl, parents)], axis=-1)
    return measured[seen > 0], usual[seen > 0]


def _wrong_unit(size: float, person: float, skeleton: Skeleton) -> str:
    """The message on bones that add up to `size` where a person's add up to about `person` metres."""
    fits = {unit: factor for unit, factor in UNITS.items() if abs(np.log(max(size, 1e-9) * factor / person)) < 0.5}
    if fits:
        unit = min(fits, key=lambda name: abs(np.log(size * fits[name] / person)))
        advice = f"it is probably in {unit}: multiply by {fits[unit]:g}"
    else:
        advice = f"multiply by about {person / max(size, 1e-9):.3g} if these are joint positions in this order at all"
    taken = f"as {len(skeleton.joints)} joints of {skeleton.name!r} in units of {skeleton.unit:g} m "
    return (
        f"not in metres: {taken if skeleton.unit != 1 else ''}the bones add up to {size:.4g}, a person's to about "
        f"{person:.1f}; {advice}"
    )
