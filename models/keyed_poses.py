"""Named key poses of the project's own, written by hand: data for models/keyed.py.

A pose is {joint: (x, y, z) or (x, y, z, roll)}: degrees, R = Rx Ry Rz Rx(roll), in the frames of SMPL's rest pose
(T-pose, facing +z, left at +x, y up); roll turns an arm's bone about its own length. A name without a side means the
LEFT joint as written and the right one mirrored; `spine` is shared out evenly over the three spine joints,
`neck_head` over neck and head. Signs (left side): hip x- forward, y+ toes out, z+ outwards; knee x+ bends; ankle x+
points the foot; foot (toes) x- up; shoulder x- swings a hanging arm forward, y- brings a level arm forward, z- down,
z+ up; elbow y- bends; wrist z- bends towards the palm; spine and neck_head x+ forward, y+ turns left, z+ leans right.
Feet that stand are placed by inverse kinematics, so poses of standing people say nothing about legs.
"""

import numpy as np

Pose = dict[str, tuple[float, ...]]

STAND: Pose = {
    "shoulder": (4, -14, -67), "collar": (0, 0, -8), "elbow": (0, -16, 0), "wrist": (0, 0, -6), "hand": (0, 0, -10),
    "spine": (3, 0, 0), "neck_head": (2, 0, 0),
}  # fmt: skip


def over(base: Pose, **changes: tuple[float, ...]) -> Pose:
    """`base` with some joints posed otherwise; an unsided name also replaces what `base` says of either side."""

    def replaced(name: str) -> bool:
        return name in changes or name.removeprefix("left_").removeprefix("right_") in changes

    return {name: value for name, value in base.items() if not replaced(name)} | changes


def vary(pose: Pose, rng: np.random.Generator, share: float, shift: float) -> Pose:
    """The pose as another person would do it: angles off by up to that share and, but for hinges, `shift`."""

    def varied(name: str, value: tuple[float, ...]) -> tuple[float, ...]:
        aside = 0.0 if name.endswith("knee") else shift
        return tuple(v * rng.uniform(1 - share, 1 + share) + rng.uniform(-aside, aside) for v in value)

    return {name: varied(name, value) for name, value in pose.items()}


# fmt: off
POSES: dict[str, Pose] = {
    "stand": STAND,
    "arms_wide": over(STAND, shoulder=(0, -5, -4), collar=(0, 0, 4), elbow=(0, -8, 0)),
    "arms_up": over(
        STAND, shoulder=(0, -20, 55), collar=(0, -5, 25), elbow=(0, -20, 0), neck_head=(-15, 0, 0),
        spine=(-8, 0, 0),
    ),
    "arms_forward": over(STAND, shoulder=(0, -78, -8), collar=(0, -12, 2), elbow=(0, -15, 0)),
    "hands_on_hips": over(STAND, shoulder=(22, 0, -46, 62), collar=(0, 4, 0), elbow=(0, -100, 0), wrist=(0, 0, -35)),
    "arms_crossed": over(STAND, shoulder=(-28, -38, -60), collar=(0, -12, 0), elbow=(0, -105, 0)),
    "hands_behind_head": over(
        STAND, shoulder=(-20, 20, 20, -30), collar=(0, 5, 20), elbow=(0, -138, 0), neck_head=(8, 0, 0),
    ),
    "hands_together": over(STAND, shoulder=(-35, -42, -62), elbow=(0, -75, 0), wrist=(0, 10, 0)),
    "wave_out": over(
        STAND, right_shoulder=(-10, 20, -5, -75), right_collar=(0, 0, -12), right_elbow=(0, 70, 0),
        right_wrist=(0, 0, -10),
    ),
    "wave_in": over(
        STAND, right_shoulder=(-10, 20, -5, -75), right_collar=(0, 0, -12), right_elbow=(0, 115, 0),
        right_wrist=(0, 0, 20),
    ),
    "phone": over(STAND, right_shoulder=(-25, 30, 58), right_elbow=(0, 140, 0), neck_head=(10, 0, 8)),
    "drink": over(STAND, right_shoulder=(-45, 25, 45), right_elbow=(0, 125, 0), neck_head=(-12, 0, 0)),
    "point": over(
        STAND, right_shoulder=(-5, 85, 5), right_collar=(0, 10, -4), right_elbow=(0, 8, 0), neck_head=(0, 8, 0),
    ),
    "reach_high_right": over(
        STAND, right_shoulder=(0, 35, -60), right_collar=(0, 5, -28), right_elbow=(0, 12, 0), spine=(-6, 6, -14),
        neck_head=(-25, -10, 0),
    ),
    "reach_left": over(
        STAND, left_shoulder=(0, -15, 8), left_elbow=(0, -8, 0), spine=(2, 8, -20), neck_head=(0, 20, -6),
    ),
    "bow": over(STAND, spine=(45, 0, 0), neck_head=(20, 0, 0)),
    "bend": over(STAND, spine=(52, 0, 0), neck_head=(-10, 0, 0), shoulder=(-60, -12, -70), elbow=(0, -12, 0)),
    "bend_back": over(STAND, spine=(-28, 0, 0), neck_head=(-25, 0, 0), shoulder=(25, 0, -55)),
    "twist_left": over(
        STAND, spine=(2, 42, 0), neck_head=(0, 30, 0), left_shoulder=(30, 10, -50), right_shoulder=(-35, 30, 45),
        elbow=(0, -35, 0),
    ),
    "lean_left": over(
        STAND, spine=(0, 0, -38), neck_head=(0, 0, -12), right_shoulder=(0, 15, -50), right_elbow=(0, 30, 0),
    ),
    "look_left": over(STAND, neck_head=(0, 65, 0), spine=(2, 12, 0)),
    "look_up": over(STAND, neck_head=(-42, 0, 0), spine=(-4, 0, 0)),
    "look_down": over(STAND, neck_head=(45, 0, 0), spine=(10, 0, 0)),
    "guard": over(STAND, shoulder=(-40, -30, -58), elbow=(0, -120, 0), spine=(12, 10, 0)),
    "punch_left": over(
        STAND, left_shoulder=(-5, -88, -4), left_collar=(0, -20, 0), left_elbow=(0, -8, 0),
        right_shoulder=(-30, 30, 58), right_elbow=(0, 120, 0), spine=(10, -28, 0),
    ),
    "throw": over(
        STAND, right_shoulder=(0, -20, -15, -60), right_elbow=(0, 95, 0), left_shoulder=(0, -70, -10),
        spine=(-4, -35, 0),
    ),
    "carry": over(STAND, shoulder=(-15, -20, -66), elbow=(0, -82, 0), spine=(-2, 0, 0)),
    "balance": over(
        STAND, left_shoulder=(0, -10, 20), right_shoulder=(0, 15, 25), elbow=(0, -12, 0), spine=(8, 0, 8),
    ),
    "swing_back": over(STAND, shoulder=(50, 0, -60), elbow=(0, -10, 0), spine=(25, 0, 0)),
    "lap": over(STAND, shoulder=(-22, -20, -62), elbow=(0, -62, 0), spine=(8, 0, 0)),
    "ballet": over(
        STAND, left_shoulder=(0, -30, 60), left_collar=(0, 0, 20), right_shoulder=(0, 25, 5), elbow=(0, -38, 0),
        spine=(-6, 10, 8),
    ),
    "left_arm_up": over(STAND, left_shoulder=(0, -20, 62), left_collar=(0, -5, 22), left_elbow=(0, -12, 0)),
    "right_arm_up": over(STAND, right_shoulder=(0, 20, -62), right_collar=(0, 5, -22), right_elbow=(0, 12, 0)),
    "left_wave_out": over(STAND, left_shoulder=(-10, -20, 5, -75), left_collar=(0, 0, 12), left_elbow=(0, -70, 0)),
    "left_wave_in": over(STAND, left_shoulder=(-10, -20, 5, -75), left_collar=(0, 0, 12), left_elbow=(0, -115, 0)),
    "throw_end": over(
        STAND, right_shoulder=(-10, 80, 15), right_elbow=(0, 12, 0), spine=(14, 32, 0), left_shoulder=(20, 0, -55),
    ),
    # whole bodies, legs included, for motion without a planted foot
    "lie": over(STAND, hip=(2, 8, 5), knee=(6, 0, 0), ankle=(25, 0, 0), shoulder=(0, -5, -55)),
    "lie_knees_up": over(STAND, hip=(-48, 4, 4), knee=(95, 0, 0), ankle=(25, 0, 0), shoulder=(0, 0, -40)),
    "lie_arms_up": over(
        STAND, hip=(0, 5, 10), knee=(5, 0, 0), ankle=(30, 0, 0), shoulder=(10, 5, 60), collar=(0, 0, 20),
        elbow=(0, -30, 0),
    ),
    "curl": over(
        STAND, hip=(-105, 4, 5), knee=(115, 0, 0), ankle=(15, 0, 0), spine=(48, 0, 0), neck_head=(30, 0, 0),
        shoulder=(-45, -25, -60), elbow=(0, -80, 0),
    ),
    "sit_up": over(
        STAND, hip=(-75, 5, 6), knee=(80, 0, 0), ankle=(10, 0, 0), spine=(35, 0, 0), shoulder=(-50, -15, -62),
        elbow=(0, -25, 0),
    ),
    "cross_legged": over(
        STAND, hip=(-84, 62, 32), knee=(122, 0, 0), ankle=(25, 0, 0), spine=(18, 0, 0), shoulder=(-22, -18, -58),
        elbow=(0, -45, 0),
    ),
    "long_sit": over(
        STAND, hip=(-85, 6, 8), knee=(10, 0, 0), ankle=(20, 0, 0), spine=(14, 0, 0), shoulder=(35, 0, -55),
        elbow=(0, -8, 0), wrist=(0, 0, 50),
    ),
    "plank": over(
        STAND, hip=(-2, 3, 3), knee=(3, 0, 0), ankle=(-15, 0, 0), foot=(-45, 0, 0), shoulder=(0, -80, -6),
        elbow=(0, -6, 0), wrist=(0, 0, 60), neck_head=(-15, 0, 0),
    ),
    "all_fours": over(
        STAND, hip=(-88, 0, 4), knee=(90, 0, 0), ankle=(45, 0, 0), shoulder=(0, -84, -6), elbow=(0, -6, 0),
        wrist=(0, 0, 65), neck_head=(-28, 0, 0), spine=(0, 0, 0),
    ),
    "crawl_left": over(
        STAND, left_hip=(-104, 0, 4), right_hip=(-70, 0, -4), knee=(90, 0, 0), ankle=(45, 0, 0),
        left_shoulder=(22, -84, -6), right_shoulder=(-22, 84, 6), elbow=(0, -10, 0), wrist=(0, 0, 60),
        neck_head=(-32, 0, 0), spine=(0, 8, 6),
    ),
    "splits": over(
        STAND, left_hip=(-80, 0, 6), right_hip=(30, 0, -4), knee=(8, 0, 0), ankle=(35, 0, 0),
        shoulder=(0, -10, -15), spine=(-10, 0, 0),
    ),
    "high_kick": over(
        STAND, right_hip=(-100, 0, -6), right_knee=(12, 0, 0), right_ankle=(30, 0, 0), left_knee=(8, 0, 0),
        left_hip=(4, 5, 2), spine=(-12, 0, 0), elbow=(0, -80, 0), shoulder=(-10, -20, -50),
    ),
    "side_kick": over(
        STAND, right_hip=(-15, -10, -72), right_knee=(10, 0, 0), left_hip=(0, 12, -14), left_knee=(8, 0, 0),
        spine=(0, 0, -25), elbow=(0, -95, 0), shoulder=(-15, -25, -45),
    ),
    "knee_up": over(
        STAND, left_hip=(-98, 4, 6), left_knee=(105, 0, 0), left_ankle=(20, 0, 0), right_knee=(4, 0, 0),
        shoulder=(-10, -25, -50), elbow=(0, -70, 0),
    ),
    "arabesque": over(
        STAND, right_hip=(32, 0, -8), right_knee=(12, 0, 0), right_ankle=(45, 0, 0), left_hip=(-25, 10, 2),
        left_knee=(6, 0, 0), spine=(10, 0, 0), shoulder=(0, -30, 10),
    ),
    "heel_to_seat": over(
        STAND, right_hip=(8, 0, -2), right_knee=(130, 0, 0), right_ankle=(35, 0, 0), left_knee=(4, 0, 0),
        right_shoulder=(45, 0, 55), right_elbow=(0, 25, 0),
    ),
    "tuck_jump": over(
        STAND, hip=(-85, 3, 10), knee=(100, 0, 0), ankle=(35, 0, 0), shoulder=(0, -25, 10), spine=(18, 0, 0),
    ),
    "star_jump": over(
        STAND, hip=(0, 10, 34), knee=(6, 0, 0), ankle=(40, 0, 0), shoulder=(0, -5, 40), collar=(0, 0, 15),
        elbow=(0, -10, 0),
    ),
    "run_left": over(
        STAND, left_hip=(-62, 2, 3), left_knee=(85, 0, 0), left_ankle=(0, 0, 0), right_hip=(24, 2, -2),
        right_knee=(22, 0, 0), right_ankle=(35, 0, 0), foot=(-12, 0, 0), left_shoulder=(42, -10, -62),
        right_shoulder=(-38, 15, 60), elbow=(0, -92, 0), spine=(10, -14, 0),
    ),
    "run_cross": over(
        STAND, left_hip=(-25, 2, 3), left_knee=(22, 0, 0), right_hip=(5, 2, -2), right_knee=(105, 0, 0),
        right_ankle=(20, 0, 0), elbow=(0, -92, 0), spine=(10, 0, 0),
    ),
    "kneel_tall": over(STAND, hip=(2, 5, 6), knee=(92, 0, 0), ankle=(45, 0, 0)),
    "kneel_sit": over(
        STAND, hip=(-72, 8, 10), knee=(140, 0, 0), ankle=(52, 0, 0), shoulder=(-20, -18, -64), elbow=(0, -40, 0),
        spine=(8, 0, 0),
    ),
    "kneel_bow": over(
        STAND, hip=(-105, 8, 10), knee=(140, 0, 0), ankle=(50, 0, 0), spine=(45, 0, 0), shoulder=(-25, -62, -15),
        elbow=(0, -45, 0), wrist=(0, 0, 40),
    ),
}
# fmt: on


def mirrored(pose: Pose) -> Pose:
    """The pose with its sides exchanged; a name without a side stands for both sides of a limb and stays."""
    swap = {"left": "right", "right": "left"}
    out: Pose = {}
    for name, value in pose.items():
        side, _, kind = name.partition("_")
        x, y, z, *roll = value
        if side in swap:
            out[f"{swap[side]}_{kind}"] = (x, -y, -z, *roll)
        else:
            out[name] = (x, -y, -z) if name in ("spine", "neck_head") else value
    return out


POSES |= {
    f"{name}_mirrored": mirrored(POSES[name])
    for name in ("run_left", "run_cross", "crawl_left", "punch_left", "twist_left", "look_left", "lean_left")
}
