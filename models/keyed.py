"""Motion of the project's own, animated from key poses and footholds, so that every parameter is known.

`walk_and_pick_up()` is the motion of examples and tests. `MOTIONS` is a table of kinds of motion, each a function of a
random generator, and `sample(name, seed)` performs one: material for the pose prior. models/keyed_script.py says how a
motion comes about, models/keyed_poses.py holds the poses.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from models.body import BodyModel
from models.errors import InputError
from models.keyed_poses import POSES, Pose, over, vary
from models.keyed_script import STILL, KeyedMotion, Script, footsteps, perform, standing

Rng = np.random.Generator


def walk_and_pick_up(fps: float = 20) -> KeyedMotion:
    """Four steps, a stop, a bend to the floor, a grasp, and the toolbox comes up: 6 seconds."""
    feet, stop = footsteps(steps=4, length=0.62, period=0.56, start=0.35)
    end = 6.0
    box = np.array([-0.25, 0.19, feet["right"][-1].z + 0.13])  # where the wrist is when the hand has the handle
    down, up, risen = stop + 0.95, stop + 1.6, end - 0.2
    stand = POSES["stand"]
    look = over(stand, neck_head=(26, -6, 0), spine=(8, 0, 0))
    bent = over(
        POSES["bend"], spine=(50, -10, 5), neck_head=(-10, -6, 0), left_shoulder=(-54, -10, -58),
        left_elbow=(0, -40, 0), right_shoulder=(-78, 12, 72), right_elbow=(0, 10, 0), right_wrist=(0, 0, 8),
    )  # fmt: skip
    lifted = over(bent, spine=(36, -6, 4), neck_head=(2, -8, 0), left_shoulder=(-32, -10, -60), left_elbow=(0, -30, 0))
    low, half = (0, -0.43, -0.2, 41, -4, 0), (0, -0.2, -0.14, 28, -2, 0)
    handle = ((stop + 0.1, 0, 0.3), (down, 1, 0), (up, 1, 0), (risen, 1, 0.24))  # time, held, metres above its place
    script = Script(
        seconds=end,
        feet=feet,
        poses=[(0, stand), (stop - 0.7, stand), (stop, look), (down, bent), (up, bent), (risen, lifted)],
        pelvis=[(stop - 0.2, STILL), (down, low), (up, low), (risen, half)],
        hands={"right": [(time, (hold, *(box + (-height / 3, height, 0)))) for time, hold, height in handle]},
    )
    betas = np.array([0.5, -0.4, 0.3, 0, 0.4, -0.3, 0.2, 0, 0.3, -0.2])
    return perform(script, "the person walked forward and is picking up his toolbox.", fps, betas)


def walk_joints() -> np.ndarray:
    """(120, 22, 3) float32 metres, y up, 20 frames a second: joints of that motion, something to try a fit on."""
    walk = walk_and_pick_up()
    return BodyModel.load().joints(walk.betas, walk.thetas, walk.transl)[:, :22].numpy(force=True)


def sample(name: str, seed: int, fps: float = 20) -> KeyedMotion:
    """One variation of the kind of motion `name`, a key of MOTIONS (else InputError): same seed, same motion."""
    if name not in MOTIONS:
        raise InputError(f"there is no keyed motion {name!r}; the known ones are {', '.join(MOTIONS)}.")
    rng = np.random.default_rng([seed, list(MOTIONS).index(name)])
    script = MOTIONS[name](rng)
    script.poses = [(time, vary(pose, rng, 0.15, 8.0)) for time, pose in script.poses]
    return perform(script, name.replace("_", " "), fps, np.zeros(10))


def _walk(rng: Rng, direction: float = 0.0, turn: float = 0.0, longest: float = 0.78) -> Script:
    """Some steps with one length and pace, standing before and after."""
    steps, period = int(rng.integers(4, 7)), rng.uniform(0.48, 0.7)
    feet, end = footsteps(
        steps, rng.uniform(0.4, 1) * longest, period, start=0.3, direction=direction, turn=turn * rng.uniform(0.6, 1.2),
        half_width=rng.uniform(0.06, 0.11), first=rng.choice(["left", "right"]),
    )  # fmt: skip
    pose = _one_of(rng, "stand", "stand", "stand", "carry", "hands_together")
    return Script(end + 0.3, [(0, pose), (end, pose)], feet=feet)


def _sidestep(rng: Rng) -> Script:
    """Steps to one side: the feet never cross."""
    side, length = rng.choice(["left", "right"]), rng.uniform(0.15, 0.3)
    feet, end = footsteps(
        4, length, rng.uniform(0.55, 0.7), start=0.3, direction=90 if side == "left" else -90,
        half_width=length / 2 + 0.1, first=side,
    )  # fmt: skip
    return Script(end + 0.3, [(0, POSES["stand"])], feet=feet)


def _gestures(*names: str, dip: float = 0.03) -> Callable[[Rng], Script]:
    """A kind of motion: standing, through the named poses in a random order, and back."""

    def script(rng: Rng) -> Script:
        order = [POSES["stand"], *(POSES[name] for name in rng.permutation(names)), POSES["stand"]]
        times = np.r_[0, np.cumsum(rng.uniform(0.6, 1.3, len(order) - 1))]
        feet = standing(times[-1], rng.uniform(0.07, 0.25), rng.uniform(-0.18, 0.18), rng.uniform(0, 18))
        pelvis = [(0, STILL), (times[-1], STILL)]
        for time in times[1:-1]:
            down = rng.uniform(0, 2 * dip)
            pelvis.append((time, (rng.normal(0, 0.02), -down, 0, rng.normal(0, 4), rng.normal(0, 6), 0)))
        return Script(times[-1] + 0.2, list(zip(times, order, strict=True)), pelvis, feet)

    return script


def _lower(
    depth: tuple[float, float], back: float, pitch: float, *names: str, stagger: float = 0.0
) -> Callable[[Rng], Script]:
    """A kind of motion: on planted feet, down by `depth` metres (a range), the pelvis moved `back` and pitched."""

    def script(rng: Rng) -> Script:
        down, hold, end = np.cumsum([rng.uniform(0.9, 1.5), rng.uniform(0.3, 1), rng.uniform(0.9, 1.5)])
        drop = rng.uniform(*depth)
        pose, stand = POSES[rng.choice(names)], POSES["stand"]
        ahead = stagger * rng.choice([-1, 1]) * rng.uniform(0.7, 1.2)
        feet = standing(end, rng.uniform(0.09, 0.22), ahead, rng.uniform(5, 28))
        if stagger:
            rear = "right" if ahead > 0 else "left"
            feet[rear] = [replace(feet[rear][0], pitch=((0, 25), (down, 60), (hold, 60), (end, 25)))]
        low = np.array([0, -drop, -back, pitch, rng.normal(0, 8), 0])
        pelvis = [(0, STILL), (0.5 * down, 0.5 * low + (0, 0, -0.04, 14, 0, 0)), (down, low), (hold, low), (end, STILL)]
        poses = [(0, stand), (down, pose), (hold, over(pose, neck_head=(-8, 0, 0))), (end, stand)]
        return Script(end + 0.2, poses, pelvis, feet)

    return script


def _kneel(rng: Rng) -> Script:
    """Down on one knee, the front foot flat, and up again."""
    down, up, end = np.cumsum([rng.uniform(1.2, 1.8), rng.uniform(0.5, 1), rng.uniform(1.2, 1.8)])
    ahead = rng.choice([-0.62, 0.62])
    feet = standing(end, 0.11, ahead)
    rear = "right" if ahead > 0 else "left"
    feet[rear] = [replace(feet[rear][0], pitch=((0.1, 15), (down, 72), (up, 72), (end, 15)))]
    low = (0, -0.43, -0.04, rng.uniform(-8, 25), rng.normal(0, 8), 0)
    pose = _one_of(rng, "stand", "lap", "look_down", "hands_together")
    poses = [(0, POSES["stand"]), (down, pose), (up, pose), (end, POSES["stand"])]
    return Script(end + 0.2, poses, [(0, STILL), (down, low), (up, low), (end, STILL)], feet)


def _reach(rng: Rng) -> Script:
    """The hands go to points all around, high and low, the body helping."""
    times = 1.1 * np.arange(5)
    high = rng.uniform(-1, 1, len(times))
    poses, pelvis, hands = [], [], {"left": [], "right": []}
    for time, up in zip(times, high, strict=True):
        low, turn = max(-up, 0), rng.normal(0, 20)
        spine, head = (45 * low - 6, turn, rng.normal(0, 10)), (15 * low, turn, 0)
        poses.append((time, over(POSES["arms_forward"], spine=spine, neck_head=head)))
        pelvis.append((time, (0, -0.25 * low, -0.14 * low, 28 * low, 0, 0)))
        for side, sign in (("left", 1), ("right", -1)):
            point = (sign * rng.uniform(0.05, 0.5), 1.0 + 0.75 * up + rng.normal(0, 0.1), rng.uniform(0.3, 0.5))
            hands[side].append((time, (1, *point)))
    feet = standing(times[-1] + 1, rng.uniform(0.1, 0.2), rng.uniform(-0.15, 0.15))
    return Script(times[-1] + 0.2, poses, pelvis, feet, hands)


def _posed(*names: str, pitch: float = 0.0, roll: float = 0.0, hop: float = 0.0) -> Callable[[Rng], Script]:
    """A kind of motion without planted feet: through whole-body poses, on the floor or `hop` metres above."""

    def script(rng: Rng) -> Script:
        start = int(rng.integers(len(names)))
        order = [POSES[name] for name in (*names[start:], *names[:start], names[start])]
        times = np.r_[0, np.cumsum(rng.uniform(0.4, 0.9, len(order) - 1))]
        tilts = rng.normal((pitch, 0, roll), (4, 10, 4), (len(times), 3))
        pelvis = [(time, (0, 0, 0, *tilt)) for time, tilt in zip(times, tilts, strict=True)]
        air = [(time, hop * (i % 2)) for i, time in enumerate(times)]
        return Script(times[-1] + 0.1, list(zip(times, order, strict=True)), pelvis, airborne=air)

    return script


def _one_of(rng: Rng, *names: str) -> Pose:
    return POSES[str(rng.choice(names))]


MOTIONS: dict[str, Callable[[Rng], Script]] = {
    "walk": _walk,
    "walk_backward": lambda rng: _walk(rng, direction=180, longest=0.5),
    "walk_diagonally": lambda rng: _walk(rng, direction=rng.choice([-35, 35]), longest=0.5),
    "turn": lambda rng: _walk(rng, turn=rng.choice([-32, 32]), longest=0.5),
    "sidestep": _sidestep,
    "run": _posed("run_left", "run_cross", "run_left_mirrored", "run_cross_mirrored", hop=0.06),
    "stand": _gestures("look_down", "hands_together", "stand"),
    "raise_arms": _gestures("arms_wide", "arms_up", "arms_forward"),
    "hands_on_hips": _gestures("hands_on_hips", "look_left"),
    "arms_crossed": _gestures("arms_crossed", "arms_crossed"),
    "stretch": _gestures("hands_behind_head", "lean_left", "lean_left_mirrored", "bend_back"),
    "wave": _gestures("wave_out", "wave_in", "wave_out"),
    "hold_to_face": _gestures("phone", "drink"),
    "point": _gestures("point", "reach_high_right", "reach_left"),
    "look_around": _gestures("look_left", "look_left_mirrored", "look_up", "look_down"),
    "twist": _gestures("twist_left", "twist_left_mirrored"),
    "bow": _gestures("bow", "bend_back"),
    "box": _gestures("guard", "punch_left", "guard", "punch_left_mirrored", dip=0.08),
    "throw": _gestures("throw", "swing_back", dip=0.1),
    "dance": _gestures("ballet", "balance", "arms_wide", "twist_left", "arms_up", dip=0.1),
    "carry": _gestures("carry", "lap"),
    "reach": _reach,
    "squat": _lower((0.2, 0.6), 0.12, 18, "arms_forward", "bend", "hands_together"),
    "sit": _lower((0.42, 0.5), 0.4, -4, "lap", "hands_together", "arms_crossed", "phone"),
    "pick_up": _lower((0.15, 0.5), 0.18, 38, "bend"),
    "lunge": _lower((0.22, 0.35), 0.0, 6, "hands_on_hips", "guard", "balance", stagger=0.75),
    "kneel": _kneel,
    "kneel_on_both": _posed("kneel_tall", "kneel_sit", "kneel_bow"),
    "lie": _posed("lie", "lie_knees_up", "lie_arms_up", pitch=-90),
    "lie_on_side": _posed("curl", "lie", roll=88),
    "lie_prone": _posed("lie", "lie_arms_up", pitch=88),
    "sit_on_floor": _posed("long_sit", "sit_up", "cross_legged", pitch=-12),
    "plank": _posed("plank", "all_fours", pitch=78),
    "crawl": _posed("crawl_left", "all_fours", "crawl_left_mirrored", "all_fours", pitch=82),
    "kick": _posed("guard", "high_kick", "guard", "side_kick"),
    "balance": _posed("stand", "knee_up", "arabesque", "heel_to_seat"),
    "jump": _posed("stand", "tuck_jump", "stand", "star_jump", hop=0.3),
    "splits": _posed("stand", "splits"),
}
