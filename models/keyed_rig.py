"""The puppet behind models/keyed.py: planted feet, legs and arms by two-bone inverse kinematics, the floor."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from models.body import BodyModel
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS

SIDES = ("left", "right")
JOINT = {name: i for i, name in enumerate(SMPL_JOINTS)}
HEEL_BEHIND_ANKLE = 0.045  # metres; where the foot rolls when its toes are up
SWING_HEIGHT = 0.05  # metres; how high a foot is carried over a full step


@dataclass(frozen=True)
class Hold:
    """A foot kept in place from `start` to `end` (seconds): its ball at (x, z) metres, turned left by `yaw` degrees.

    pitch: ((time, degrees), ...) that raise the heel (positive, about the ball) or the toes (negative, about the
    heel) meanwhile. y: metres above the floor, 0 where the foot stands. lift: metres by which the way to the next hold
    rises above the straight one, by default as much as a step of that length needs.
    """

    start: float
    end: float
    x: float
    z: float
    yaw: float = 0.0
    pitch: tuple[tuple[float, float], ...] = ()
    y: float = 0.0
    lift: float | None = None


@dataclass(frozen=True)
class FootTrack:
    """One foot over time: ball (L,3) metres; yaw, pitch, toe bend (L,) degrees; planted (L,) bool: the ball stands.

    support (L,3): the ball as if it went straight from one stand on the floor to the next, for where the body is.
    """

    ball: np.ndarray
    support: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    toes: np.ndarray
    planted: np.ndarray


@dataclass(frozen=True)
class Rig:
    """Rest pose of the embedded body with its soles on y = 0: joints (24,3). ground: y of the soles before."""

    body: BodyModel
    betas: np.ndarray
    joints: np.ndarray
    ground: float

    @classmethod
    def build(cls, body: BodyModel, betas: np.ndarray) -> "Rig":
        shape = body.v_template.new_tensor(betas)
        ground = float(body.rest_vertices(shape)[:, 1].min())
        return cls(body, betas, body.rest_joints(shape).numpy() - (0, ground, 0), ground)

    def offset(self, name: str, parent: str) -> np.ndarray:
        """Rest vector (3,) from one joint to another."""
        return self.joints[JOINT[name]] - self.joints[JOINT[parent]]


def curve(keys: list[tuple], times: np.ndarray) -> np.ndarray:
    """Values at `times` (L,) of keys (time, value or values): monotone cubics (PCHIP), no overshoot, rest at the ends.

    Of several keys at one time the last written counts.
    """
    keys = sorted(dict(keys).items())
    if len(keys) == 1:
        return np.repeat(np.asarray(keys[0][1], dtype=np.float64)[None], len(times), axis=0)
    at, values = np.array([key[0] for key in keys]), np.array([key[1] for key in keys], dtype=np.float64)
    # a second of rest on either side
    at, values = np.r_[at[0] - 1, at, at[-1] + 1], np.r_[values[:1], values, values[-1:]]
    return PchipInterpolator(at, values)(np.clip(times, at[0], at[-1]))


def about(axis: str, angles: np.ndarray) -> Rotation:
    """Rotations about "x", "y" or "z" by `angles` (L,) degrees."""
    return Rotation.from_euler(axis, np.reshape(angles, (-1, 1)), degrees=True)


def foot_track(holds: list[Hold], times: np.ndarray) -> FootTrack:
    """Where a foot is, given where it stands: straight swings with the speed profile of a minimum-jerk reach.

    A step forward strikes with the heel and leaves with the toes, as much as it is long.
    """
    ball, yaw = _way(holds, times)
    support, _ = _way([hold for hold in holds if hold.y == 0], times)
    planted = np.zeros(len(times), dtype=bool)
    pitches, toes = [], []
    for i, (hold, after) in enumerate(zip(holds, [*holds[1:], None], strict=True)):
        planted |= (times >= hold.start - 1e-9) & (times <= hold.end + 1e-9) & (hold.y == 0)
        pitches += _roll(holds[i - 1] if i else None, hold, after)
        if after is not None:
            toes += [(hold.end, 1), (hold.end + 0.4 * (after.start - hold.end), 0.1), (after.start, 1)]
    pitch = curve(pitches, times)
    planted &= pitch > -1e-6  # a foot that rolls over its heel carries its ball along
    return FootTrack(ball, support, yaw, pitch, -np.maximum(pitch, 0) * curve(toes or [(0, 1)], times), planted)


def _way(holds: list[Hold], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ball (L,3) and yaw (L,) of a foot that goes from hold to hold."""
    ball, yaw = np.zeros((len(times), 3)), np.zeros(len(times))
    for hold, after in zip(holds, [*holds[1:], None], strict=True):
        inside = (times >= hold.start - 1e-9) & (times <= hold.end + 1e-9)
        ball[inside], yaw[inside] = (hold.x, hold.y, hold.z), hold.yaw
        if after is not None:
            swing = (times > hold.end + 1e-9) & (times < after.start - 1e-9)
            _swing(hold, after, times, swing, ball, yaw)
    return ball, yaw


def _stride(a: Hold, b: Hold) -> float:
    """How far a foot goes forward between two holds, as a share of 1.2 metres: -1..1."""
    heading = np.radians(a.yaw)
    return float(np.clip(((b.x - a.x) * np.sin(heading) + (b.z - a.z) * np.cos(heading)) / 1.2, -1, 1))


def _roll(before: Hold | None, hold: Hold, after: Hold | None) -> list[tuple[float, float]]:
    """Pitch keys of one hold and the swing after it."""
    keys = list(hold.pitch)
    if hold.y > 0:
        return keys or [(hold.start, 25), (hold.end, 25)]
    if before is not None:
        strike = -22 * max(_stride(before, hold), 0) + 15 * max(-_stride(before, hold), 0)
        keys += [(hold.start, strike), (hold.start + 0.13, 0)]
    if after is not None:
        push = 15 + 38 * max(_stride(hold, after), 0)
        length = after.start - hold.end
        keys += [(hold.end - 0.3, 0), (hold.end, push), (hold.end + 0.55 * length, 0.1 * push)]
    return keys or [(hold.start, 0)]


def _swing(a: Hold, b: Hold, times: np.ndarray, swing: np.ndarray, ball: np.ndarray, yaw: np.ndarray) -> None:
    """Fill the frames `swing` (a mask) of ball and yaw between two holds."""
    s = (times[swing] - a.end) / (b.start - a.end)
    ease = s**3 * (10 - 15 * s + 6 * s**2)
    lift = SWING_HEIGHT * min(1, 0.3 + np.hypot(b.x - a.x, b.z - a.z)) if a.lift is None else a.lift
    ball[swing, 0] = a.x + (b.x - a.x) * ease
    ball[swing, 2] = a.z + (b.z - a.z) * ease
    ball[swing, 1] = a.y + (b.y - a.y) * ease + lift * 16 * s**2 * (1 - s) ** 2
    yaw[swing] = a.yaw + (b.yaw - a.yaw) * ease


def ankle_path(rig: Rig, side: str, foot: FootTrack) -> tuple[np.ndarray, Rotation]:
    """Position (L,3) of the ankle and rotation of the foot, in the world: it rolls about its ball or its heel."""
    turn = about("y", foot.yaw)
    rotation = turn * about("x", foot.pitch)
    ball_joint = rig.joints[JOINT[f"{side}_foot"]]
    to_ankle = rig.offset(f"{side}_ankle", f"{side}_foot")
    heel = rig.joints[JOINT[f"{side}_ankle"]] * (1, 0, 1) - (0, 0, HEEL_BEHIND_ANKLE)
    about_ball = foot.ball + (0, ball_joint[1], 0) + rotation.apply(to_ankle)
    about_heel = foot.ball + (0, ball_joint[1], 0) + turn.apply(heel - ball_joint)
    about_heel = about_heel + rotation.apply(rig.joints[JOINT[f"{side}_ankle"]] - heel)
    return np.where(foot.pitch[:, None] >= 0, about_ball, about_heel), rotation


def two_bone(
    upper: np.ndarray, lower: np.ndarray, hinge: np.ndarray, target: np.ndarray, axis: np.ndarray
) -> tuple[Rotation, Rotation]:
    """Rotations of a limb whose second joint is a hinge, so that its end reaches `target`.

    upper, lower (3,): rest vectors of the two bones; hinge (3,): unit axis in the rest pose about which the second
    joint bends; target (L,3): end of the limb from its first joint, in the frame of that joint's parent; axis (L,3):
    where the hinge axis should point there (its part along the target is ignored). A target out of reach is
    approached with the limb straight. Returns (Rotation of the first joint, Rotation of the hinge), each of length L.
    """
    along = hinge * (lower @ hinge)
    across = lower - along
    # |upper + R(angle) lower|^2 = constant + 2 (p cos + q sin), solved for the bent side
    p, q = upper @ across, upper @ np.cross(hinge, lower)
    wanted = ((target**2).sum(-1) - upper @ upper - lower @ lower) / 2 - upper @ along
    angle = np.arctan2(q, p) + np.arccos(np.clip(wanted / np.hypot(p, q), -1, 1))
    bend = Rotation.from_rotvec(angle[:, None] * hinge)
    rest = _frame(upper + bend.apply(lower), np.broadcast_to(hinge, target.shape))
    return Rotation.from_matrix(_frame(target, axis) @ rest.transpose(0, 2, 1)), bend


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal frames (L,3,3), columns: along `first`, `second` made perpendicular, and their cross product."""
    a = first / np.linalg.norm(first, axis=-1, keepdims=True)
    b = second - a * (a * second).sum(-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], axis=-1)


def chain(rig: Rig, local: list[Rotation], pelvis: np.ndarray, name: str) -> tuple[np.ndarray, Rotation]:
    """World position (L,3) and rotation of joint `name`, given all local rotations and the pelvis path (L,3)."""
    path = [JOINT[name]]
    while path[0] > 0:
        path.insert(0, SMPL_PARENTS[path[0]])
    position, rotation = pelvis, local[0]
    for parent, joint in zip(path, path[1:], strict=False):
        position = position + rotation.apply(rig.joints[joint] - rig.joints[parent])
        rotation = rotation * local[joint]
    return position, rotation


def highest_pelvis(rig: Rig, hips: dict[str, np.ndarray], ankles: dict[str, np.ndarray]) -> np.ndarray:
    """Pelvis height (L,) at which the straighter leg is 99.5 % stretched.

    hips: (L,3) from the pelvis; ankles: (L,3), y in the world, x and z from the pelvis.
    """
    heights = []
    for side in SIDES:
        thigh, shank = rig.offset(f"{side}_knee", f"{side}_hip"), rig.offset(f"{side}_ankle", f"{side}_knee")
        reach = 0.995 * (np.linalg.norm(thigh) + np.linalg.norm(shank))
        gap = ankles[side] - hips[side]
        heights.append(gap[:, 1] + np.sqrt(np.maximum(reach**2 - gap[:, 0] ** 2 - gap[:, 2] ** 2, 0)))
    return np.min(heights, axis=0)


def bend_leg(rig: Rig, side: str, local: list[Rotation], pelvis: np.ndarray, foot: FootTrack) -> None:
    """Set hip, knee, ankle and toes of one leg so that the foot is where its track says."""
    ankle, foot_rotation = ankle_path(rig, side, foot)
    hip = pelvis + local[0].apply(rig.offset(f"{side}_hip", "pelvis"))
    knee_axis = about("y", foot.yaw).apply((1, 0, 0))
    thigh, shank = rig.offset(f"{side}_knee", f"{side}_hip"), rig.offset(f"{side}_ankle", f"{side}_knee")
    to_parent = local[0].inv()
    hip_turn, knee_turn = two_bone(
        thigh, shank, np.array([1.0, 0, 0]), to_parent.apply(ankle - hip), to_parent.apply(knee_axis)
    )
    local[JOINT[f"{side}_hip"]], local[JOINT[f"{side}_knee"]] = hip_turn, knee_turn
    local[JOINT[f"{side}_ankle"]] = (local[0] * hip_turn * knee_turn).inv() * foot_rotation
    local[JOINT[f"{side}_foot"]] = about("x", foot.toes)


def reach_with(
    rig: Rig, side: str, local: list[Rotation], pelvis: np.ndarray, keys: list[tuple], times: np.ndarray
) -> None:
    """Bend shoulder and elbow so that the wrist goes to the keyed points: keys (time, (weight, x, y, z)), world metres.

    Weight 0 leaves the arm as posed, 1 puts the wrist on the point (or as near as a straight arm gets).
    """
    goal = curve(keys, times)
    hinge = np.array([0, -1.0 if side == "left" else 1.0, 0])
    collar_position, collar = chain(rig, local, pelvis, f"{side}_collar")
    shoulder = collar_position + collar.apply(rig.offset(f"{side}_shoulder", f"{side}_collar"))
    wrist, _ = chain(rig, local, pelvis, f"{side}_wrist")
    wrist = wrist + goal[:, :1] * (goal[:, 1:] - wrist)
    axis = local[JOINT[f"{side}_shoulder"]].apply(hinge)
    upper, fore = rig.offset(f"{side}_elbow", f"{side}_shoulder"), rig.offset(f"{side}_wrist", f"{side}_elbow")
    first, bend = two_bone(upper, fore, hinge, collar.inv().apply(wrist - shoulder), axis)
    local[JOINT[f"{side}_shoulder"]], local[JOINT[f"{side}_elbow"]] = first, bend


def rest_on_floor(rig: Rig, thetas: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """`transl` (L,3) moved up or down so that the lowest vertex of every frame of `thetas` (L,24,3) touches y = 0."""
    tensor = rig.body.v_template.new_tensor
    lowest = rig.body.vertices(tensor(rig.betas), tensor(thetas), tensor(transl))[..., 1].amin(-1).numpy()
    return transl - lowest[:, None] * (0, 1, 0)
