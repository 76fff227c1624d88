"""What the project's own small motion model learns from: actions by name, each with sentences, alone or in pairs.

`take(seed)` performs one or two actions of ACTIONS in a random manner, with a sentence that says so.
models/keyed_actions.py holds their scripts, models/keyed_sentences.py puts the sentences together.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from models import keyed_actions as actions
from models.keyed_actions import Maker, Rng
from models.keyed_poses import POSES, Pose, vary
from models.keyed_rig import SIDES, Hold
from models.keyed_script import KeyedMotion, Script, perform
from models.keyed_sentences import sentence

LONGEST = 9.8  # seconds: what a motion model of this kind is given at most


@dataclass(frozen=True)
class Action:
    """script: makes a variation; phrases: what a person who does it does, see keyed_sentences; place in a sequence."""

    script: Maker
    phrases: tuple[str, ...]
    place: str = "any"  # "first": begins on a seat; "last": ends on one


@dataclass(frozen=True)
class Manner:
    """How an action is done: seconds per second of the usual pace, what the pose adds, and the words for it."""

    pace: tuple[float, float]
    adds: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # degrees
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Take:
    """A performed sentence: the motion, whose text is the sentence, and the names of its actions in order."""

    motion: KeyedMotion
    actions: tuple[str, ...]
    manner: str


def take(seed: int, actions: tuple[str, ...] | None = None, manner: str | None = None, fps: float = 20) -> Take:
    """One performance: same arguments, same motion. actions: one or two names of ACTIONS, by default random ones.

    A second action that would last beyond 9.8 seconds is left out, motion and words.
    """
    rng = np.random.default_rng([seed, 20])
    names = _choose(rng) if actions is None else actions
    manner = manner or str(rng.choice(list(MANNERS), p=[0.6, 0.12, 0.12, 0.08, 0.08]))
    scripts = [in_manner(ACTIONS[name].script(rng), MANNERS[manner], rng) for name in names]
    if len(scripts) > 1 and scripts[0].seconds + scripts[1].seconds > LONGEST:
        names, scripts = names[:1], scripts[:1]
    script = scripts[0] if len(scripts) == 1 else then(*scripts)
    text = sentence([ACTIONS[name].phrases for name in names], MANNERS[manner].words, rng)
    return Take(perform(script, text, fps, np.zeros(10)), tuple(names), manner)


def _choose(rng: Rng) -> tuple[str, ...]:
    """One action, or as often two different ones that can follow each other."""
    first, second = rng.choice(list(ACTIONS), 2, replace=False)
    apart = ACTIONS[first].place == "last" or ACTIONS[second].place == "first"
    return (str(first),) if apart or rng.random() < 0.5 else (str(first), str(second))


def then(first: Script, second: Script) -> Script:
    """One script after another: the second where the first has left the person."""
    left, right = (first.feet[side][-1] for side in SIDES)
    middle, heading = np.array([left.x + right.x, left.z + right.z]) / 2, (left.yaw + right.yaw) / 2
    turn = np.radians(heading)
    shift = first.seconds

    def place(x: float, z: float) -> tuple[float, float]:
        across, ahead = np.array([np.cos(turn), -np.sin(turn)]), np.array([np.sin(turn), np.cos(turn)])
        return tuple(map(float, middle + x * across + z * ahead))

    feet = {}
    for side in SIDES:
        moved = [_moved(hold, shift, place(hold.x, hold.z), heading) for hold in second.feet[side]]
        last = first.feet[side][-1]
        joined = replace(moved[0], start=last.start, pitch=(*last.pitch, *moved[0].pitch))
        feet[side] = [*first.feet[side][:-1], joined, *moved[1:]]
    hands = {side: list(keys) for side, keys in first.hands.items()}
    for side, keys in second.hands.items():
        for time, (weight, x, y, z) in keys:
            across, ahead = place(x, z)
            hands.setdefault(side, []).append((shift + time, (weight, across, y, ahead)))
    later = [[(shift + time, value) for time, value in keys] for keys in (second.poses, second.pelvis)]
    seconds = shift + second.seconds
    return Script(seconds, first.poses + later[0], first.pelvis + later[1], feet, hands)


def _moved(hold: Hold, shift: float, place: tuple[float, float], heading: float) -> Hold:
    pitch = tuple((time + shift, angle) for time, angle in hold.pitch)
    start, end = hold.start + shift, hold.end + shift
    return replace(hold, start=start, end=end, x=place[0], z=place[1], yaw=hold.yaw + heading, pitch=pitch)


def in_manner(script: Script, manner: Manner, rng: Rng) -> Script:
    """The script slower or faster, by another person, in another posture."""
    factor = rng.uniform(*manner.pace)

    def timed(keys: list[tuple]) -> list[tuple]:
        return [(time * factor, value) for time, value in keys]

    poses = [(time, _adding(vary(pose, rng, 0.1, 4.0), manner.adds)) for time, pose in script.poses]
    feet = {side: [_timed(hold, factor) for hold in holds] for side, holds in script.feet.items()}
    hands = {side: timed(keys) for side, keys in script.hands.items()}
    return Script(script.seconds * factor, timed(poses), timed(script.pelvis), feet, hands)


def _timed(hold: Hold, factor: float) -> Hold:
    pitch = tuple((time * factor, angle) for time, angle in hold.pitch)
    return replace(hold, start=hold.start * factor, end=hold.end * factor, pitch=pitch)


def _adding(pose: Pose, adds: dict[str, tuple[float, float, float]]) -> Pose:
    return pose | {name: tuple(np.add(pose.get(name, (0, 0, 0))[:3], value)) for name, value in adds.items()}


ACTIONS: dict[str, Action] = {
    "walk": Action(
        actions.walk(),
        (
            "[walk] (forward|ahead|straight ahead|in a straight line|)",
            "[take] (a few|some|several) steps (forward|ahead)",
            "[go] (forward|ahead) on foot",
            "[stroll] (forward|along|ahead|)",
            "[move] forward",
        ),
    ),
    "walk backward": Action(
        actions.walk(180, 0.45),
        (
            "[walk] (backward|backwards|back)",
            "[take] (a few|some|several) steps (back|backward|backwards)",
            "[step] (backward|backwards|back)",
            "[move] (backward|backwards)",
        ),
    ),
    "walk, hands on hips": Action(
        actions.walk(pose=POSES["hands_on_hips"]),
        (
            "[walk] (forward|) with (the|both) hands on the hips",
            "[walk] hands on hips",
        ),
    ),
    "walk, arms wide": Action(
        actions.walk(pose=POSES["arms_wide"]),
        (
            "[walk] (forward|) with (the|both) arms (out to the sides|spread|stretched out)",
            "[balance] forward with arms spread",
        ),
    ),
    "turn left": Action(actions.turn(90), ("[turn] (left|to the left)", "[make] a left turn", "[rotate] to the left")),
    "turn right": Action(
        actions.turn(-90), ("[turn] (right|to the right)", "[make] a right turn", "[rotate] to the right")
    ),
    "turn around": Action(
        actions.turn(180), ("[turn] (around|round|back)", "[turn] to face the other way", "[make] a half turn")
    ),
    "circle left": Action(
        actions.circle(1),
        (
            "[walk] in a circle (to the left|counterclockwise)",
            "[circle] (to the left|counterclockwise)",
        ),
    ),
    "circle right": Action(
        actions.circle(-1),
        (
            "[walk] in a circle (to the right|clockwise)",
            "[circle] (to the right|clockwise)",
        ),
    ),
    "run": Action(
        actions.run(0, 0.85, (6, 10)), ("[run] (forward|ahead|)", "[sprint] (forward|)", "[jog] (forward|ahead|)")
    ),
    "jog backward": Action(
        actions.run(180, 0.4, (5, 8)), ("[jog] (backward|backwards|back)", "[run] (backward|backwards|back)")
    ),
    "step left": Action(
        actions.sidestep(1),
        (
            "[step] (sideways|) to the left",
            "[sidestep] (to the left|left)",
            "[move] sideways to the left",
            "[shuffle] left",
        ),
    ),
    "step right": Action(
        actions.sidestep(-1),
        (
            "[step] (sideways|) to the right",
            "[sidestep] (to the right|right)",
            "[move] sideways to the right",
            "[shuffle] right",
        ),
    ),
    "jump": Action(
        actions.jump((0, 0.02)),
        ("[jump] (up|once|in place|into the air|)", "[leap] (up|into the air)", "[make] a jump"),
    ),
    "jump forward": Action(
        actions.jump((0.4, 0.8)), ("[jump] (forward|ahead)", "[leap] (forward|ahead)", "[make] a long jump")
    ),
    "jump repeatedly": Action(
        actions.jump((0, 0.02), 3), ("[jump] up and down", "[jump] (three|several|many) times", "[bounce] up and down")
    ),
    "hop on the left leg": Action(actions.hop("left"), ("[hop] on (the|one|his) left (leg|foot)",)),
    "hop on the right leg": Action(actions.hop("right"), ("[hop] on (the|one|his) right (leg|foot)",)),
    "jumping jacks": Action(
        actions.jacks, ("[do] (some|a few|) jumping jacks", "[perform] jumping jacks", "[do] star jumps")
    ),
    "march": Action(
        actions.march,
        ("[march] (in place|on the spot|)", "[lift] the knees (high|) in turn", "[walk] (in place|on the spot)"),
    ),
    "kick left": Action(
        actions.kick("left"), ("[kick] (forward|out|) with the left (foot|leg)", "[kick] the left (foot|leg)")
    ),
    "kick right": Action(
        actions.kick("right"),
        (
            "[kick] (forward|out|) with the right (foot|leg)",
            "[kick] the right (foot|leg)",
            "[kick] (a ball|something|)",
        ),
    ),
    "squat": Action(
        actions.low("arms_forward", (0.3, 0.48), 0.12, 18, 3),
        ("[squat] (down|)", "[do] (a squat|some squats)", "[bend] the knees deeply"),
    ),
    "crouch": Action(
        actions.low("lap", (0.4, 0.55), 0.14, 24), ("[crouch] (down|)", "[duck] (down|)", "[get] down low")
    ),
    "sit down": Action(
        actions.seat("down"), ("[sit] down (on a chair|)", "[take] a seat", "[sit] on a (chair|bench)"), "last"
    ),
    "stand up": Action(
        actions.seat("up"),
        ("[stand] up (from a chair|)", "[get] up (from a (chair|seat)|)", "[rise] from a (chair|seat)"),
        "first",
    ),
    "sit and stand": Action(actions.seat("both"), ("[sit] down and [stand] up again", "[sit] on a chair and [get] up")),
    "kneel": Action(actions.kneel, ("[kneel] (down|) (on one knee|)", "[go] down on one knee")),
    "lunge": Action(actions.lunge, ("[lunge] (forward|)", "[do] a lunge", "[make] a lunge")),
    "pick up": Action(
        actions.pick_up,
        (
            "[pick] up (something|an object|a box|his toolbox|a ball) (from|off) the (floor|ground)",
            "[pick] (something|it|a box|an object|his toolbox) up",
            "[pick] up (his toolbox|a box|something|an object)",
            "[bend] (down|over) to (pick|lift) (something|an object) up",
            "[lift] (something|a box) (from|off) the (floor|ground)",
        ),
    ),
    "bow": Action(
        actions.gesture("bow", beat=(0.6, 1)),
        ("[bow] (down|politely|)", "[take] a bow", "[bend] forward (at the waist|)"),
    ),
    "wave right": Action(
        actions.gesture("wave_out", "wave_in", repeat=(2, 5), beat=(0.25, 0.4)),
        (
            "[wave] (with|) the right (hand|arm)",
            "[wave] (hello|goodbye|a hand|at someone|)",
        ),
    ),
    "wave left": Action(
        actions.gesture("left_wave_out", "left_wave_in", repeat=(2, 5), beat=(0.25, 0.4)),
        ("[wave] (with|) the left (hand|arm)",),
    ),
    "clap": Action(actions.clap, ("[clap] (the|both|his|) hands", "[clap]", "[applaud]")),
    "punch left": Action(
        actions.gesture("guard", "punch_left", "guard", repeat=(1, 3), beat=(0.28, 0.4)),
        (
            "[punch] with the left (hand|fist|arm)",
            "[throw] a left punch",
        ),
    ),
    "punch right": Action(
        actions.gesture("guard", "punch_left_mirrored", "guard", repeat=(1, 3), beat=(0.28, 0.4)),
        (
            "[punch] with the right (hand|fist|arm)",
            "[throw] a right punch",
        ),
    ),
    "box": Action(
        actions.gesture("guard", "punch_left", "punch_left_mirrored", "guard", repeat=(2, 4), beat=(0.25, 0.35)),
        (
            "[box] (in the air|)",
            "[punch] with both (hands|fists)",
            "[throw] (some|several|a few) punches",
        ),
    ),
    "raise arms": Action(
        actions.gesture("arms_up", beat=(0.6, 1)),
        (
            "[raise] (both|the) (arms|hands) (up|over the head|)",
            "[lift] (both|the) (arms|hands) (up|overhead|)",
            "[put] both hands up",
        ),
    ),
    "raise left arm": Action(
        actions.gesture("left_arm_up", beat=(0.6, 1)),
        ("[raise] the left (arm|hand)", "[lift] the left (arm|hand) (up|)"),
    ),
    "raise right arm": Action(
        actions.gesture("right_arm_up", beat=(0.6, 1)),
        ("[raise] the right (arm|hand)", "[lift] the right (arm|hand) (up|)"),
    ),
    "spread arms": Action(
        actions.gesture("arms_wide", beat=(0.6, 1)),
        ("[spread] (the|both) arms", "[hold] the arms out to the sides", "[do] a t-pose"),
    ),
    "arms forward": Action(
        actions.gesture("arms_forward", beat=(0.6, 1)),
        ("[stretch] (both|the) arms (out|) (forward|in front)", "[hold] the arms out in front"),
    ),
    "point": Action(
        actions.gesture("point", beat=(0.6, 1)), ("[point] (forward|ahead|at something|) (with the right hand|)",)
    ),
    "reach up": Action(
        actions.gesture("reach_high_right", beat=(0.7, 1)),
        ("[reach] (up|high|for something high)", "[take] something from a (high|) shelf"),
    ),
    "throw": Action(
        actions.gesture("throw", "throw_end", beat=(0.32, 0.45)),
        (
            "[throw] (something|a ball|an object|it|) (forward|away|)",
            "[toss] (something|a ball)",
            "[hurl] something away",
        ),
    ),
    "stretch": Action(
        actions.gesture("arms_up", "lean_left", "lean_left_mirrored", beat=(0.8, 1.1)),
        (
            "[stretch] (the|both sides of the|) body",
            "[stretch] to (both|the) sides",
            "[do] (some|) stretches",
        ),
    ),
    "twist": Action(
        actions.gesture("twist_left", "twist_left_mirrored", repeat=(1, 3), beat=(0.6, 0.8)),
        (
            "[twist] (the|) (upper body|torso|trunk) (left and right|)",
            "[twist] (left and right|from side to side)",
        ),
    ),
    "look around": Action(
        actions.gesture("look_left", "look_left_mirrored", beat=(0.7, 1)),
        (
            "[look] (around|left and right|about)",
            "[look] to (both|the) sides",
            "[turn] the head left and right",
        ),
    ),
    "look up": Action(
        actions.gesture("look_up", beat=(0.7, 1.1)), ("[look] up (at the sky|)", "[gaze] at the (sky|ceiling)")
    ),
    "look down": Action(
        actions.gesture("look_down", beat=(0.7, 1.1)), ("[look] down (at the floor|)", "[lower] the head")
    ),
    "cross arms": Action(
        actions.gesture("arms_crossed", beat=(0.8, 1.2)), ("[cross] (the|his|) arms", "[fold] the arms")
    ),
    "hands on hips": Action(
        actions.gesture("hands_on_hips", beat=(0.8, 1.2)),
        ("[put] (the|both) hands on the hips", "[stand] with hands on hips"),
    ),
    "drink": Action(
        actions.gesture("drink", beat=(0.8, 1.2)),
        ("[drink] (something|from a (cup|glass|bottle)|)", "[take] a (sip|drink)"),
    ),
    "phone": Action(
        actions.gesture("phone", beat=(1.0, 1.6)),
        ("[talk] on the phone", "[hold] a phone to the ear", "[make] a phone call"),
    ),
    "dance": Action(
        actions.dance, ("[dance] (around|happily|)", "[do] (a dance|some dance steps)", "[dance] from side to side")
    ),
    "stand still": Action(actions.still, ("[stand] (still|around|in place|)", "[wait]", "[do] nothing")),
}

MANNERS: dict[str, Manner] = {
    "usual": Manner((0.9, 1.1)),
    "slow": Manner((1.35, 1.6), words=("slowly", "at a slow pace", "without hurry", "carefully")),
    "fast": Manner((0.7, 0.8), words=("quickly", "fast", "in a hurry", "rapidly")),
    "tired": Manner(
        (1.15, 1.35),
        {"spine": (16, 0, 0), "neck_head": (24, 0, 0)},
        ("sadly", "like a tired person", "with a hanging head"),
    ),
    "proud": Manner(
        (0.95, 1.1),
        {"spine": (-9, 0, 0), "neck_head": (-10, 0, 0), "collar": (0, 4, 4)},
        ("proudly", "with the chest out", "confidently"),
    ),
}
