"""How keyed motion is performed: a script of footholds, poses and offsets becomes SMPL parameters.

Feet stand where their holds say and swing between them; the pelvis follows the feet; poses of the upper body are
interpolated and a walker's sway is added; legs (and arms that reach for a point) are then solved by inverse
kinematics, so planted feet do not move.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from models.body import BodyModel
from models.keyed_poses import Pose
from models.keyed_rig import (
    JOINT,
    SIDES,
    FootTrack,
    Hold,
    Rig,
    about,
    ankle_path,
    bend_leg,
    curve,
    foot_track,
    highest_pelvis,
    reach_with,
    rest_on_floor,
)

Keys = list[tuple]
HALF_STANCE = 0.09  # metres from the middle to each foot's ball
TOES_OUT = 8.0  # degrees
STILL = (0, 0, 0, 0, 0, 0)  # a pelvis where the feet put it


@dataclass(frozen=True)
class KeyedMotion:
    """A motion whose parameters are the truth.

    thetas (L,24,3) axis-angle, radians; betas (10,) of the embedded body; transl (L,3) metres, SMPL's convention
    (pelvis in the world = rest pelvis of betas + transl); fps; text: what happens. World: y up, soles on y = 0,
    facing +z in the first frame. planted (L,2): whether the ball of the left and of the right foot stands still on
    the floor.
    """

    thetas: torch.Tensor
    betas: torch.Tensor
    transl: torch.Tensor
    fps: float
    text: str
    planted: torch.Tensor


@dataclass
class Script:
    """What happens in a motion: keys in seconds.

    poses: (time, Pose); pelvis: (time, (left, up, forward, pitch, yaw, roll)), metres and degrees added to
    where the feet put it; feet: holds by side, or none (the legs are then posed, and the body lies on the floor with
    its lowest point, at pelvis x, z); hands: by side (time, (weight, x, y, z)) points for a wrist; airborne: lifts
    the body off the floor, (time, metres).
    """

    seconds: float
    poses: Keys
    pelvis: Keys = field(default_factory=lambda: [(0, STILL)])
    feet: dict[str, list[Hold]] = field(default_factory=dict)
    hands: dict[str, Keys] = field(default_factory=dict)
    airborne: Keys = field(default_factory=lambda: [(0, 0)])


def perform(script: Script, text: str, fps: float, betas: np.ndarray) -> KeyedMotion:
    """Play a script on the embedded body with shape `betas` (10,)."""
    rig = _rig(tuple(float(b) for b in betas))
    times = np.arange(round(script.seconds * fps)) / fps
    feet = {side: foot_track(holds, times) for side, holds in script.feet.items()}
    euler = curve([(time, degrees(pose)) for time, pose in script.poses], times) + _restless(len(times), fps)
    offset = curve(script.pelvis, times)
    turn = np.zeros(len(times))
    if feet:
        sway = _gait(feet, fps, euler, offset)
        turn = _smooth(0.5 * (feet["left"].yaw + feet["right"].yaw), 0.16, fps) + sway
    local = [_rotation(angles) for angles in euler.swapaxes(0, 1)]
    local[0] = Rotation.from_euler("YXZ", offset[:, [4, 3, 5]] + turn[:, None] * (1, 0, 0), degrees=True)
    pelvis = _pelvis(rig, feet, local[0], turn, offset, fps) if feet else rig.joints[0] + offset[:, :3]
    for side, foot in feet.items():
        bend_leg(rig, side, local, pelvis, foot)
    for side, keys in script.hands.items():
        reach_with(rig, side, local, pelvis, keys, times)
    thetas = np.stack([r.as_rotvec() for r in local], axis=1)
    transl = pelvis - rig.joints[0] - (0, rig.ground, 0)
    if not feet:
        transl = rest_on_floor(rig, thetas, transl) + curve(script.airborne, times)[:, None] * (0, 1, 0)
    planted = np.stack([feet[side].planted if feet else np.zeros(len(times), bool) for side in SIDES], axis=1)
    floats = [torch.as_tensor(a, dtype=torch.float32) for a in (thetas, betas, transl)]
    return KeyedMotion(*floats, fps=fps, text=text, planted=torch.as_tensor(planted))


def degrees(pose: Pose) -> np.ndarray:
    """A pose written by name as (24,4): x, y, z, roll in degrees for every SMPL joint."""
    out = np.zeros((24, 4))
    spread = {"spine": ("spine1", "spine2", "spine3"), "neck_head": ("neck", "head")}
    for name in sorted(pose, key=lambda name: name in JOINT):  # sided names last: they override
        value = np.array((*pose[name], 0.0)[:4], dtype=np.float64)
        if name in spread:
            for joint in spread[name]:
                out[JOINT[joint]] = value / len(spread[name])
        elif name in JOINT:
            out[JOINT[name]] = value
        else:
            out[JOINT[f"left_{name}"]], out[JOINT[f"right_{name}"]] = value, value * (1, -1, -1, 1)
    return out


def footsteps(
    steps: int,
    length: float,
    period: float,
    start: float,
    *,
    direction: float = 0.0,
    turn: float = 0.0,
    half_width: float = 0.075,
    first: str = "right",
    down: float = 0.6,
    lift: float | None = None,
) -> tuple[dict[str, list[Hold]], float]:
    """Holds of a walk, and when it ends: from standing to standing, `steps` long steps and one that closes the feet.

    length: metres from one foot to the other; period: seconds a step; direction: degrees from where the walker faces;
    turn: degrees a step; down: share of a stride that a foot is down, by default as in an ordinary walk (Perry and
    Burnfield, Gait Analysis, 2010), below a half in a run; lift: as in Hold.
    """
    swing = 2 * period * (1 - down)
    place = {"left": (half_width, 0.0, 0.0), "right": (-half_width, 0.0, 0.0)}
    downs: dict[str, list[tuple]] = {side: [(0.0, *place[side])] for side in SIDES}
    holds: dict[str, list[Hold]] = {"left": [], "right": []}
    middle, heading = np.zeros(2), 0.0
    order = SIDES if first == "left" else SIDES[::-1]
    for i in range(steps + 1):
        side = order[i % 2]
        heading += turn if i < steps else 0
        way = np.radians(heading + direction)
        middle = middle + (length if i < steps else 0) * np.array([np.sin(way), np.cos(way)])
        aside = half_width if side == "left" else -half_width
        facing = np.radians(heading)
        x, z = middle + aside * np.array([np.cos(facing), -np.sin(facing)])
        leave = start + i * period
        time, *where = downs[side][-1]
        holds[side].append(_hold(side, time, leave, *where, lift))
        downs[side].append((leave + swing, x, z, heading))
    end = start + steps * period + swing
    for side in SIDES:
        time, *where = downs[side][-1]
        holds[side].append(_hold(side, time, end + 60, *where, lift))
    return holds, end


def _hold(side: str, start: float, end: float, x: float, z: float, heading: float, lift: float | None) -> Hold:
    return Hold(start, end, x, z, heading + (TOES_OUT if side == "left" else -TOES_OUT), lift=lift)


def standing(
    seconds: float, half_width: float = HALF_STANCE, stagger: float = 0.0, yaw: float = TOES_OUT
) -> dict[str, list[Hold]]:
    """Both feet on the floor all the time; stagger: metres the left one is ahead."""
    return {
        "left": [Hold(-1, seconds + 1, half_width, stagger / 2, yaw)],
        "right": [Hold(-1, seconds + 1, -half_width, -stagger / 2, -yaw)],
    }


def _rotation(angles: np.ndarray) -> Rotation:
    """Rx Ry Rz Rx(roll) of (L,4) degrees."""
    return Rotation.from_euler("XYZ", angles[:, :3], degrees=True) * about("x", angles[:, 3])


@cache
def _rig(betas: tuple[float, ...]) -> Rig:
    return Rig.build(BodyModel.load(dtype=torch.float64), np.array(betas))


def _smooth(values: np.ndarray, seconds: float, fps: float) -> np.ndarray:
    return gaussian_filter1d(values, seconds * fps, axis=0, mode="nearest")


def _restless(frames: int, fps: float) -> np.ndarray:
    """Slow wandering of trunk and shoulders by 1.2 degrees, (L,24,4): nobody holds still. Always the same."""
    noise = _smooth(np.random.default_rng(0).normal(size=(frames, 24, 4)), 0.4, fps)
    moving = np.array([name.startswith(("spine", "neck", "head")) or name.endswith("shoulder") for name in JOINT])
    degrees_std = 1.2 * np.sqrt(2 * np.sqrt(np.pi) * 0.4 * fps)  # undoes what the smoothing takes
    return degrees_std * noise * moving[:, None] * (1, 1, 1, 0)


def _gait(feet: dict[str, FootTrack], fps: float, euler: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Add a walker's arm swing and counter-rotation to `euler` (L,24,4), sway to `offset` (L,6).

    Returns the turn (L,) of the pelvis in degrees.
    """
    left, right = feet["left"], feet["right"]
    stepping = _smooth(1.0 - (left.planted & right.planted), 0.25, fps)
    heading = np.radians(0.5 * (left.yaw + right.yaw))
    forward = np.stack([np.sin(heading), np.zeros_like(heading), np.cos(heading)], axis=1)
    lead = _smooth(((left.ball - right.ball) * forward).sum(1) / 0.65, 0.06, fps)  # 1: left foot a step ahead
    lead *= np.clip(2 * stepping, 0, 1)
    weight = _smooth(right.planted * 1.0 - left.planted * 1.0, 0.1, fps)  # 1: on the right foot
    for side, sign in (("left", 1), ("right", -1)):
        swing = sign * lead
        euler[:, JOINT[f"{side}_shoulder"], 0] += 24 * swing + 4 * np.abs(lead)
        euler[:, JOINT[f"{side}_elbow"], 1] -= sign * (8 * np.abs(lead) - 12 * swing)
    euler[:, [JOINT[f"spine{i}"] for i in (1, 2, 3)], 1] += 4.5 * lead[:, None]
    euler[:, JOINT["neck"], 1] -= 2.5 * lead
    euler[:, JOINT["spine1"], 2] += 3.0 * weight
    offset[:, 0] -= 0.025 * weight
    offset[:, 5] -= 3.5 * weight
    return -6 * lead


def _pelvis(
    rig: Rig, feet: dict[str, FootTrack], root: Rotation, turn: np.ndarray, offset: np.ndarray, fps: float
) -> np.ndarray:
    """Path (L,3) of the pelvis: over the middle of the feet, as high as the legs allow, plus the script's offset."""
    ankles = {side: ankle_path(rig, side, foot)[0] for side, foot in feet.items()}
    facing = about("y", turn)
    balls = 0.5 * (rig.joints[JOINT["left_foot"]] + rig.joints[JOINT["right_foot"]])
    middle = _smooth(0.5 * (feet["left"].support + feet["right"].support), 0.22, fps)
    pelvis = middle + facing.apply((rig.joints[0] - balls) * (0, 0, 1) + offset[:, :3] * (1, 0, 1))
    hips = {side: root.apply(rig.offset(f"{side}_hip", "pelvis")) for side in SIDES}
    level = pelvis * (1, 0, 1)
    ceiling = highest_pelvis(rig, hips, {side: ankle - level for side, ankle in ankles.items()})
    wanted = np.minimum(rig.joints[0][1] - 0.012, ceiling - 0.006) + offset[:, 1]
    pelvis[:, 1] = np.minimum(_smooth(wanted, 0.07, fps), ceiling)
    return pelvis
