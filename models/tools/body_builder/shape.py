"""Shape directions: what one standard deviation of each beta does to the template's vertices.

Size and the seven proportions are computed; weight and gender are MakeHuman's own bodies, compared on one skeleton, so
that these two change the girth and hardly the joints.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from models.tools.body_builder.conform import conform, moves_to_heads
from models.tools.body_builder.makehuman import SIDES, Heads, Rig
from models.tools.body_builder.tpose import Posed

SIZE = 0.045  # share of the stature, about one standard deviation among adults
# Share of the bone's length (clavicle: metres) that is one standard deviation.
PROPORTIONS = {
    "clavicle": 0.005,
    "torso": 0.035,
    "thigh": 0.035,
    "shank": 0.035,
    "uarm": 0.035,
    "farm": 0.035,
    "shoulders": 0.06,
}
# MakeHuman parameters at beta = -2 and at +2, and a factor: weight goes beyond MakeHuman's extremes.
CONTRASTS = {
    "weight": ({"weight": 0.0}, {"weight": 1.0}, 1.6),
    "gender": ({"gender": 1.0}, {"gender": 0.0}, 1.0),
}
COLLAR_SPREAD = np.array([1.0, -0.55, 0])  # a longer clavicle also sits lower


def shape_directions(
    rig: Rig, pose: Callable[..., Posed], on_template: Callable[[Posed], np.ndarray], rest: Posed, template: Posed
) -> dict[str, np.ndarray]:
    """All but size: name -> (V, 3), metres for one standard deviation.

    pose(gender=, weight=): a body of MakeHuman in the T-pose; on_template(body): the V vertices' places on it;
    rest: the mean body in the T-pose; template: the same on the target's joints.
    """
    found = {}
    for name, (low, high, factor) in CONTRASTS.items():
        thin, thick = (on_template(onto(rig, pose(**parameters), rest)) for parameters in (low, high))
        found[name] = (thick - thin) / 4 * factor
    for name, gain in PROPORTIONS.items():
        longer = conform(rig, template, stretch(template.heads, {name: gain}))
        found[name] = on_template(longer) - on_template(template)
    return found


def onto(rig: Rig, body: Posed, rest: Posed) -> Posed:
    """A body put on the joints of another, so that girth is all that differs."""
    body = body.shifted(rest.heads["spine05"] - body.heads["spine05"])
    return conform(rig, body, moves_to_heads(body.heads, rest.heads))


def stretch(heads: Heads, gains: dict[str, float]) -> Heads:
    """Moves of the joints (see conform) when bones grow by the given shares; what hangs on them moves along."""
    gain = defaultdict(float, gains)
    spine = heads["neck01"] - heads["spine05"]
    moves = {"neck01": gain["torso"] * spine, "head": gain["torso"] * spine}
    for side in SIDES:
        h = side.of(heads)
        knee = gain["thigh"] * (h["lowerleg01"] - h["upperleg01"])
        height = (h["clavicle"][1] - heads["spine05"][1]) / spine[1]
        collar = height * moves["neck01"] + gain["clavicle"] * COLLAR_SPREAD * [side.sign, 1, 1]
        shoulder = collar + gain["shoulders"] * (h["upperarm01"] - h["clavicle"]) * [1, 0, 0]
        elbow = shoulder + gain["uarm"] * (h["lowerarm01"] - h["upperarm01"])
        limbs = {
            "lowerleg01": knee,
            "foot": knee + gain["shank"] * (h["foot"] - h["lowerleg01"]),
            "clavicle": collar,
            "upperarm01": shoulder,
            "lowerarm01": elbow,
            "wrist": elbow + gain["farm"] * (h["wrist"] - h["lowerarm01"]),
        }
        moves |= {bone + side.bone: move for bone, move in limbs.items()}
    return moves


def symmetrised(directions: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Directions (V, 3, B) averaged with their mirror image: symmetric to the last bit, which posing was not."""
    flipped = directions[mirror] * np.array([-1, 1, 1])[:, None]
    return (directions + flipped) / 2
