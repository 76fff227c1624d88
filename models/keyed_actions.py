"""Scripts of single actions of the project's own: each a function of a random generator, or one that makes such.

Every script starts and ends in the same stance, but for those on a seat, so that any two can follow each other.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from models.keyed_poses import POSES, Pose, over
from models.keyed_rig import SIDES, Hold
from models.keyed_script import HALF_STANCE, STILL, TOES_OUT, Script, footsteps, standing

Rng = np.random.Generator
Maker = Callable[[Rng], Script]
STAND = POSES["stand"]
SEATED = (0, -0.45, -0.38, -4, 0, 0)  # the pelvis on a chair behind the feet
GRAVITY = 9.81  # m / s^2


def moves(*steps: tuple, seconds: float) -> dict[str, list[Hold]]:
    """Holds out of single movements of the feet from the usual stance.

    steps: (time, duration, side, x, z[, y[, lift[, yaw]]]), in the order of time; metres and degrees as in Hold.
    """
    feet = standing(seconds, HALF_STANCE)
    for time, duration, side, x, z, *rest in steps:
        y, lift, yaw = (*rest, *(0.0, None, 0.0)[len(rest) :])
        feet[side][-1] = replace(feet[side][-1], end=time, lift=lift)
        outward = TOES_OUT if side == "left" else -TOES_OUT
        feet[side].append(Hold(time + duration, seconds + 1, x, z, yaw + outward, y=y))
    return feet


def walk(direction: float = 0.0, longest: float = 0.75, pose: Pose = STAND) -> Maker:
    """Steps in a direction (degrees from where the person faces), each up to `longest` metres, the arms in a pose."""

    def script(rng: Rng) -> Script:
        steps, length = int(rng.integers(3, 7)), rng.uniform(0.65, 1) * longest
        feet, end = footsteps(
            steps, length, rng.uniform(0.5, 0.62), start=0.25, direction=direction, half_width=HALF_STANCE,
            first=str(rng.choice(SIDES)),
        )  # fmt: skip
        return Script(end + 0.25, [(0, STAND), (0.4, pose), (end - 0.3, pose), (end + 0.2, STAND)], feet=feet)

    return script


def run(direction: float, length: float, steps: tuple[int, int]) -> Maker:
    """A gait with flight: a foot is down for a third of a stride and the body rises while none is."""

    def script(rng: Rng) -> Script:
        count, period = int(rng.integers(*steps)), rng.uniform(0.32, 0.38)
        feet, end = footsteps(
            count, length * rng.uniform(0.85, 1.1), period, start=0.4, direction=direction, half_width=HALF_STANCE,
            first=str(rng.choice(SIDES)), down=0.36, lift=0.16,
        )  # fmt: skip
        arms = over(STAND, left_shoulder=(5, -12, -64), right_shoulder=(5, 12, 64), elbow=(0, -85, 0), spine=(9, 0, 0))
        low, high = (0, -0.05, 0, 5, 0, 0), (0, 0.02, 0, 5, 0, 0)
        landings = [0.4 + i * period + 1.28 * period for i in range(count)]
        bounce = [key for time in landings for key in ((time + 0.3 * period, low), (time + 0.86 * period, high))]
        pelvis = [(0, STILL), (0.4, low), *bounce[:-1], (end + 0.1, low), (end + 0.5, STILL)]
        poses = [(0, STAND), (0.4, arms), (end, arms), (end + 0.5, STAND)]
        return Script(end + 0.6, poses, pelvis, feet)

    return script


def turn(angle: float) -> Maker:
    """A turn on the spot by about so many degrees to the left."""

    def script(rng: Rng) -> Script:
        steps = 2 if abs(angle) < 100 else 4
        feet, end = footsteps(
            steps, 0.0, rng.uniform(0.45, 0.6), start=0.3, turn=rng.uniform(0.9, 1.1) * angle / steps,
            half_width=HALF_STANCE, first="left" if angle > 0 else "right",
        )  # fmt: skip
        return Script(end + 0.3, [(0, STAND)], feet=feet)

    return script


def circle(sign: int) -> Maker:
    """A walk along a circle, to the left for sign 1, to the right for -1."""

    def script(rng: Rng) -> Script:
        steps = int(rng.integers(8, 11))
        feet, end = footsteps(
            steps, rng.uniform(0.4, 0.55), rng.uniform(0.5, 0.58), start=0.3, turn=sign * rng.uniform(28, 34),
            half_width=HALF_STANCE, first="left" if sign > 0 else "right",
        )  # fmt: skip
        return Script(end + 0.3, [(0, STAND)], feet=feet)

    return script


def sidestep(sign: int) -> Maker:
    """Steps to the left for sign 1, to the right for -1; the feet never cross."""

    def script(rng: Rng) -> Script:
        count, length, pace = int(rng.integers(2, 5)), rng.uniform(0.28, 0.45), rng.uniform(0.4, 0.5)
        leading, closing = ("left", "right") if sign > 0 else ("right", "left")
        steps = []
        for i in range(count):
            for j, (side, hand) in enumerate(((leading, sign), (closing, -sign))):
                steps.append(
                    (0.3 + (2 * i + j) * pace, 0.85 * pace, side, hand * HALF_STANCE + sign * (i + 1) * length, 0)
                )
        end = 0.3 + 2 * count * pace
        return Script(end + 0.3, [(0, STAND)], feet=moves(*steps, seconds=end + 0.3))

    return script


def jump(ahead: tuple[float, float], times: int = 1) -> Maker:
    """Crouch, push off, fly as long as the height takes, land on both feet."""

    def script(rng: Rng) -> Script:
        arms = over(STAND, shoulder=(45, 0, -55), elbow=(0, -20, 0), spine=(22, 0, 0))
        swung = over(STAND, shoulder=(0, -75, 12), elbow=(0, -20, 0), spine=(-2, 0, 0))
        time, z = 0.3, 0.0
        steps, poses, pelvis = [], [(0, STAND)], [(0, STILL)]
        for _ in range(times):
            height, gone = rng.uniform(0.14, 0.3), rng.uniform(*ahead)
            crouch, off = time + 0.35, time + 0.6
            flight = np.sqrt(8 * height / GRAVITY)
            land, z = off + flight, z + gone
            steps += [
                (off, flight, side, sign * HALF_STANCE, z, 0.0, height)
                for side, sign in zip(SIDES, (1, -1), strict=True)
            ]
            low = (0, -0.24, -0.07, 16, 0, 0)
            pelvis += [(crouch, low), (off, STILL), (off + flight / 2, (0, height, 0, 2, 0, 0)), (land, STILL)]
            pelvis += [(land + 0.22, (0, -0.2, -0.05, 14, 0, 0))]
            poses += [
                (crouch, arms),
                (off + 0.1, swung),
                (land + 0.22, over(STAND, shoulder=(-15, -20, -55), spine=(15, 0, 0))),
            ]
            time = land + 0.35
        end = time + 0.4
        return Script(end, [*poses, (end, STAND)], [*pelvis, (end, STILL)], moves(*steps, seconds=end))

    return script


def hop(side: str) -> Maker:
    """One foot is held up while the other one hops in place."""

    def script(rng: Rng) -> Script:
        sign = 1 if side == "left" else -1
        other = "right" if side == "left" else "left"
        count, height = int(rng.integers(3, 6)), rng.uniform(0.07, 0.12)
        flight = np.sqrt(8 * height / GRAVITY)
        up, x = rng.uniform(0.22, 0.32), -sign * HALF_STANCE
        steps = [(0.3, 0.4, other, x, -0.12, up)]
        lean = (sign * 0.07, -0.05, 0, 4, 0, 0)
        pelvis, time = [(0, STILL), (0.8, lean)], 1.0
        for _ in range(count):
            steps += [
                (time, flight, side, sign * HALF_STANCE, 0, 0.0, height),
                (time, flight, other, x, -0.12, up, height),
            ]
            pelvis += [(time, (*lean[:1], -0.01, *lean[2:])), (time + flight / 2, (*lean[:1], height, *lean[2:]))]
            pelvis += [
                (time + flight, (*lean[:1], -0.01, *lean[2:])),
                (time + flight + 0.12, (*lean[:1], -0.09, *lean[2:])),
            ]
            time += flight + 0.25
        steps.append((time, 0.4, other, x, 0.0))
        end = time + 0.7
        arms = over(STAND, shoulder=(-10, -15, -35), elbow=(0, -50, 0))
        poses = [(0, STAND), (0.8, arms), (time, arms), (end, STAND)]
        return Script(end, poses, [*pelvis, (time + 0.4, STILL), (end, STILL)], moves(*steps, seconds=end))

    return script


def kick(side: str) -> Maker:
    """The foot goes back, then far up to the front, and down to its place."""

    def script(rng: Rng) -> Script:
        sign = 1 if side == "left" else -1
        height, reach = rng.uniform(0.4, 0.85), rng.uniform(0.5, 0.62)
        x = sign * HALF_STANCE
        steps = [
            (0.3, 0.3, side, x, -0.3, 0.15),
            (0.65, 0.25, side, x * 0.6, reach, height),
            (0.98, 0.45, side, x, 0.0),
        ]
        lean = -sign * 0.075
        pelvis = [(0, STILL), (0.55, (lean, -0.02, 0, 8, 0, 0)), (1.12, (lean, 0, 0.02, -16, 0, 0)), (1.7, STILL)]
        arms = over(STAND, shoulder=(-15, -30, -45), elbow=(0, -70, 0), spine=(4, 0, 0))
        poses = [(0, STAND), (0.55, arms), (1.15, over(arms, spine=(14, 0, 0))), (1.8, STAND)]
        feet = moves(*steps, seconds=2.1)
        feet[side][2] = replace(feet[side][2], pitch=((1.1, -45 * height), (1.2, -45 * height)))
        return Script(2.1, poses, pelvis, feet)

    return script


def march(rng: Rng) -> Script:
    """Knees up in turn, in place."""
    count, pace, height = int(rng.integers(4, 8)), rng.uniform(0.5, 0.62), rng.uniform(0.26, 0.4)
    steps, pelvis = [], [(0, STILL)]
    for i in range(count):
        side, sign = (("left", 1), ("right", -1))[i % 2]
        time = 0.3 + i * pace
        steps += [(time, 0.4 * pace, side, sign * HALF_STANCE, 0.14, height, 0.0)]
        steps += [(time + 0.45 * pace, 0.4 * pace, side, sign * HALF_STANCE, 0.0, 0.0, 0.0)]
        pelvis.append((time + 0.4 * pace, (-sign * 0.05, 0, 0, -3, 0, 0)))
    end = 0.5 + count * pace
    arms = over(STAND, elbow=(0, -75, 0))
    poses = [(0, STAND), (0.5, arms), (end - 0.3, arms), (end, STAND)]
    return Script(end + 0.1, poses, [*pelvis, (end, STILL)], moves(*steps, seconds=end))


def jacks(rng: Rng) -> Script:
    """Jumping jacks: feet apart and arms up, feet together and arms down."""
    count, wide, flight = int(rng.integers(2, 5)), rng.uniform(0.26, 0.34), 0.26
    steps, poses, pelvis, time = [], [(0, STAND)], [(0, STILL)], 0.4
    up = over(POSES["arms_up"], spine=(0, 0, 0), neck_head=(0, 0, 0))
    for i in range(2 * count):
        apart = i % 2 == 0
        for side, sign in zip(SIDES, (1, -1), strict=True):
            steps.append((time, flight, side, sign * (wide if apart else HALF_STANCE), 0, 0.0, 0.07))
        pelvis += [(time, (0, -0.02, 0, 2, 0, 0)), (time + flight / 2, (0, 0.05, 0, 2, 0, 0))]
        pelvis += [(time + flight, (0, -0.02, 0, 2, 0, 0)), (time + flight + 0.1, (0, -0.06, 0, 4, 0, 0))]
        poses.append((time + flight, up if apart else STAND))
        time += flight + 0.24
    return Script(time + 0.3, poses, [*pelvis, (time + 0.2, STILL)], moves(*steps, seconds=time + 0.3))


def low(pose: str, depth: tuple[float, float], back: float, pitch: float, rests: int = 1) -> Maker:
    """Down on both feet and up again, so many times."""

    def script(rng: Rng) -> Script:
        low = (0, -rng.uniform(*depth), -back, pitch, rng.normal(0, 3), 0)
        poses, pelvis, time = [(0, STAND)], [(0, STILL)], 0.2
        for _ in range(int(rng.integers(1, rests + 1))):
            down, hold, up = time + np.cumsum([rng.uniform(0.7, 1), rng.uniform(0.15, 0.5), rng.uniform(0.7, 1)])
            poses += [(down, POSES[pose]), (hold, POSES[pose]), (up, STAND)]
            pelvis += [(down, low), (hold, low), (up, STILL)]
            time = up + 0.1
        return Script(time + 0.1, poses, pelvis, standing(time + 1, HALF_STANCE))

    return script


def seat(way: str) -> Maker:
    """Down onto a chair, up from one, or both."""

    def script(rng: Rng) -> Script:
        low = np.array(SEATED) * (1, rng.uniform(0.92, 1.04), 1, 1, 1, 1)
        rest = POSES[str(rng.choice(["lap", "hands_together", "lap"]))]
        halfway = 0.5 * low + (0, 0, 0.0, 18, 0, 0)
        moving, still = rng.uniform(1.0, 1.4), rng.uniform(0.6, 1.2)
        poses, pelvis, time = [], [], 0.0
        if way != "up":
            poses += [(0, STAND), (0.2, STAND)]
            pelvis += [(0, STILL), (0.2, STILL), (0.2 + 0.55 * moving, halfway)]
            time = 0.2 + moving
        poses += [(time, rest), (time + still, rest)]
        pelvis += [(time, low), (time + still, low)]
        time += still
        if way != "down":
            poses += [(time + 0.5 * moving, over(STAND, shoulder=(-25, -15, -60), spine=(22, 0, 0)))]
            pelvis += [(time + 0.5 * moving, halfway)]
            time += moving
            poses.append((time, STAND))
            pelvis.append((time, STILL))
        return Script(time + 0.3, poses, pelvis, standing(time + 1, HALF_STANCE))

    return script


def kneel(rng: Rng) -> Script:
    """A step forward, down on the other knee, and up again."""
    ahead, behind = rng.uniform(0.3, 0.36), -0.3
    low = (0, -0.42, 0.0, rng.uniform(0, 12), 0, 0)
    steps = [(0.3, 0.5, "left", HALF_STANCE, ahead), (0.7, 0.45, "right", -HALF_STANCE, behind)]
    down, up = 2.2, 2.2 + rng.uniform(0.5, 1.0)
    rise = up + 1.2
    steps += [(rise, 0.45, "right", -HALF_STANCE, 0.0), (rise + 0.4, 0.45, "left", HALF_STANCE, 0.0)]
    feet = moves(*steps, seconds=rise + 1.2)
    feet["right"][1] = replace(feet["right"][1], pitch=((1.2, 15), (down, 70), (up, 70), (rise - 0.1, 20)))
    pose = POSES[str(rng.choice(["lap", "hands_together", "look_down"]))]
    poses = [(0, STAND), (down, pose), (up, pose), (rise, STAND)]
    return Script(rise + 1.1, poses, [(1.0, STILL), (down, low), (up, low), (rise, STILL)], feet)


def lunge(rng: Rng) -> Script:
    """A long step forward, the knees bend, and back again."""
    ahead, depth = rng.uniform(0.55, 0.7), rng.uniform(0.14, 0.24)
    feet = moves((0.3, 0.6, "left", HALF_STANCE, ahead), (2.0, 0.65, "left", HALF_STANCE, 0.0), seconds=3.2)
    feet["right"][0] = replace(feet["right"][0], pitch=((0.5, 0), (1.1, 48), (1.8, 48), (2.5, 0)))
    pose = POSES[str(rng.choice(["hands_on_hips", "stand"]))]
    pelvis = [(0.3, STILL), (1.15, (0, -depth, 0, 4, 0, 0)), (1.7, (0, -depth, 0, 4, 0, 0)), (2.6, STILL)]
    return Script(3.0, [(0, STAND), (1.0, pose), (1.8, pose), (2.7, STAND)], pelvis, feet)


def pick_up(rng: Rng) -> Script:
    """A bend to something in front of the right foot, a grasp, and it comes up."""
    spot = np.array([-rng.uniform(0.12, 0.26), rng.uniform(0.1, 0.2), rng.uniform(0.16, 0.3)])
    down, hold, up = np.cumsum([rng.uniform(0.9, 1.2), rng.uniform(0.3, 0.6), rng.uniform(0.9, 1.2)])
    bent = over(
        POSES["bend"], neck_head=(-8, -6, 0), left_shoulder=(-40, -10, -60), left_elbow=(0, -40, 0),
        right_shoulder=(-78, 12, 72), right_elbow=(0, 10, 0),
    )  # fmt: skip
    low = (0, -rng.uniform(0.34, 0.46), -0.2, 40, -4, 0)
    end = up + 0.5
    raised = tuple(spot + (-0.08, 0.62, -0.02))
    hand = [(0.1, (0, *raised)), (down, (1, *spot)), (hold, (1, *spot)), (up, (0.8, *raised)), (end, (0, *raised))]
    poses = [(0, STAND), (down, bent), (hold, bent), (up, STAND), (end, STAND)]
    pelvis = [(0, STILL), (down, low), (hold, low), (up, STILL)]
    return Script(end + 0.1, poses, pelvis, standing(end + 1, HALF_STANCE), {"right": hand})


def clap(rng: Rng) -> Script:
    """The hands meet in front of the chest some times."""
    beats, pace, height = int(rng.integers(4, 9)), rng.uniform(0.3, 0.42), rng.uniform(1.08, 1.25)
    hands: dict[str, list[tuple]] = {}
    end = 0.6 + beats * pace
    for side, sign in (("left", 1), ("right", -1)):
        near, far = (sign * 0.035, height, 0.36), (sign * 0.2, height, 0.34)
        keys = [(0.1, (0, *far)), (0.5, (1, *far))]
        for i in range(beats):
            keys += [(0.6 + i * pace, (1, *near)), (0.6 + (i + 0.5) * pace, (1, *far))]
        hands[side] = [*keys, (end + 0.4, (0, *far))]
    arms = POSES["carry"]
    poses = [(0, STAND), (0.5, arms), (end, arms), (end + 0.4, STAND)]
    return Script(end + 0.5, poses, feet=standing(end + 1, HALF_STANCE), hands=hands)


def gesture(*names: str, repeat: tuple[int, int] = (1, 2), beat: tuple[float, float] = (0.5, 0.8)) -> Maker:
    """On both feet through the named poses, several times over, and back."""

    def script(rng: Rng) -> Script:
        order = [POSES[name] for name in names] * int(rng.integers(*repeat))
        pace = rng.uniform(*beat)
        times = 0.6 + pace * np.arange(len(order))
        end = times[-1] + rng.uniform(0.2, 0.5)
        poses = [(0, STAND), *zip(times, order, strict=True), (end, order[-1]), (end + 0.6, STAND)]
        return Script(end + 0.8, poses, feet=standing(end + 2, HALF_STANCE))

    return script


def dance(rng: Rng) -> Script:
    """Steps to either side in time with the arms."""
    pace, wide, bars = rng.uniform(0.4, 0.5), rng.uniform(0.16, 0.26), int(rng.integers(2, 4))
    steps, poses, pelvis = [], [(0, STAND)], [(0, STILL)]
    for i in range(2 * bars):
        side, other, sign = ("left", "right", 1) if i % 2 == 0 else ("right", "left", -1)
        time = 0.3 + 2 * i * pace
        steps += [(time, 0.8 * pace, side, sign * (HALF_STANCE + wide), 0.0)]
        steps += [(time + pace, 0.8 * pace, side, sign * HALF_STANCE, 0.0)]
        raised = over(STAND, **{f"{side}_shoulder": (0, sign * -15, sign * 35), f"{other}_elbow": (0, sign * 70, 0)})
        poses += [(time + 0.8 * pace, over(raised, spine=(2, sign * 16, sign * -8))), (time + 1.8 * pace, STAND)]
        pelvis += [(time + 0.8 * pace, (sign * 0.04, -0.06, 0, 4, sign * 8, sign * 4)), (time + 1.8 * pace, STILL)]
    end = 0.4 + 4 * bars * pace
    return Script(end + 0.2, [*poses, (end, STAND)], pelvis, moves(*steps, seconds=end + 0.2))


def still(rng: Rng) -> Script:
    seconds = rng.uniform(2, 4)
    return Script(seconds, [(0, STAND)], feet=standing(seconds, HALF_STANCE))
