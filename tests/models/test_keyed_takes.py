"""Takes: every action is possible, on the floor and free of sliding; sentences say what happens; sequences join."""

import numpy as np
import pytest
import torch

from models.body import BodyModel
from models.keyed_actions import walk
from models.keyed_rig import JOINT
from models.keyed_script import Script, perform
from models.keyed_sentences import conjugated, sentence, spoken
from models.keyed_takes import ACTIONS, MANNERS, Take, in_manner, take, then
from tests.models.test_keyed import beyond_limits, joints_of, planted_speeds

FEET = [JOINT["left_foot"], JOINT["right_foot"]]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module", params=list(ACTIONS))
def performed(request) -> Take:
    return take(7, (request.param,), "usual")


def test_an_action_is_possible(performed, body):
    motion = performed.motion
    joints = joints_of(motion, body)
    assert torch.isfinite(joints).all() and 20 <= len(joints) <= 196
    assert beyond_limits(motion).max() < 12  # degrees
    assert joints.diff(n=2, dim=0).norm(dim=-1).max() * motion.fps**2 < 130  # metres / s^2: hands and kicking feet
    still = planted_speeds(motion, body)
    assert not len(still) or still.max() < 0.02


def test_an_action_stays_on_the_floor(performed, body):
    motion = performed.motion
    lowest = body.vertices(motion.betas, motion.thetas[::3], motion.transl[::3])[..., 1].amin(-1)
    assert lowest.min() > -0.01 and lowest.min() < 0.003
    flies = performed.actions[0].startswith(("jump", "hop", "run", "jog"))
    assert (lowest.max() > 0.01) == flies


@pytest.mark.parametrize(
    ("name", "axis", "least"),
    [("walk", 2, 0.8), ("run", 2, 2), ("walk backward", 2, -0.5), ("step left", 0, 0.5), ("step right", 0, -0.5)],
)
def test_it_goes_where_the_name_says(name, axis, least, body):
    for seed in range(4):
        path = joints_of(take(seed, (name,)).motion, body)[:, 0]
        gone = path[-1] - path[0]
        assert gone[axis] * np.sign(least) > abs(least) and gone[2 - axis].abs() < 0.1


@pytest.mark.parametrize(("name", "degrees"), [("turn left", 90), ("turn right", -90), ("turn around", 180)])
def test_turns_turn(name, degrees, body):
    joints = joints_of(take(3, (name,)).motion, body)
    across = joints[[0, -1], JOINT["left_hip"]] - joints[[0, -1], JOINT["right_hip"]]
    heading = torch.rad2deg(torch.atan2(-across[:, 2], across[:, 0]))
    turned = (heading[1] - heading[0]) % 360
    assert (turned - degrees % 360).abs() < 25


def test_the_second_action_begins_where_the_first_ended(body):
    rng = np.random.default_rng(0)
    manner = MANNERS["usual"]
    first, second = (in_manner(walk()(rng), manner, rng), in_manner(ACTIONS["pick up"].script(rng), manner, rng))
    both = perform(then(first, second), "", 20, np.zeros(10))
    alone = perform(second, "", 20, np.zeros(10))
    joints, other = joints_of(both, body), joints_of(alone, body)
    steps = joints.diff(dim=0).norm(dim=-1).mean(-1)
    seam = round(first.seconds * 20)
    assert steps[seam - 3 : seam + 3].max() < 0.03, "no jump at the seam"
    shift = joints[-1, FEET].mean(0) - other[-1, FEET].mean(0)
    apart = (joints[seam + 20 :][: len(other) - 20] - shift - other[20:][: len(joints) - seam - 20]).norm(dim=-1)
    assert apart.mean() < 0.03, "the same movement in another place"  # metres; slow wandering differs
    assert (both.planted[1:] & both.planted[:-1]).any() and planted_speeds(both, body).max() < 0.02


def test_a_turn_carries_the_next_action_along(body):
    rng = np.random.default_rng(1)
    turn, ahead = ACTIONS["turn left"].script(rng), walk()(rng)
    path = joints_of(perform(then(turn, ahead), "", 20, np.zeros(10)), body)[:, 0]
    gone = path[-1] - path[0]
    assert gone[0] > 0.8 and gone[2].abs() < 0.4 * gone[0], "walks to the left"


def test_takes_follow_their_seed():
    first, again, other = take(5), take(5), take(6)
    assert torch.equal(first.motion.thetas, again.motion.thetas) and first.motion.text == again.motion.text
    assert first.motion.text != other.motion.text


def test_takes_are_of_a_length_a_model_is_given():
    takes = [take(seed) for seed in range(60)]
    assert max(len(one.motion.thetas) for one in takes) <= 196
    assert {len(one.actions) for one in takes} == {1, 2}
    assert {one.manner for one in takes} == set(MANNERS)


def test_slow_is_slower_than_fast():
    lengths = {manner: len(take(2, ("pick up",), manner).motion.thetas) for manner in ("slow", "usual", "fast")}
    assert lengths["slow"] > 1.2 * lengths["usual"] > 1.2 * 1.15 * lengths["fast"]


def test_the_tired_hang_their_heads(body):
    def lean(manner: str) -> float:
        joints = joints_of(take(4, ("walk",), manner).motion, body)
        return float((joints[:, JOINT["head"], 2] - joints[:, 0, 2]).mean())

    assert lean("tired") > lean("usual") + 0.05 > lean("proud") + 0.05


def test_every_phrase_can_be_said():
    rng = np.random.default_rng(0)
    for action in ACTIONS.values():
        for phrase in action.phrases:
            words = spoken(phrase, "progressive", rng)
            assert words.startswith("is ") and not set("[]()|") & set(words) and "  " not in words


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("walk", ("walks", "is walking", "walked")),
        ("stretch", ("stretches", "is stretching", "stretched")),
        ("raise", ("raises", "is raising", "raised")),
        ("sit", ("sits", "is sitting", "sat")),
        ("go", ("goes", "is going", "went")),
    ],
)
def test_verbs_are_conjugated(verb, forms):
    assert tuple(conjugated(verb, tense) for tense in ("present", "progressive", "past")) == forms


def test_a_sentence_names_its_actions_in_order():
    text = sentence([("[walk] forward",), ("[sit] down",)], ("slowly",), np.random.default_rng(2))
    assert "walk" in text and "slowly" in text and text.index("forward") < text.index("down")


def test_a_script_without_hands_takes_over_from_one_with(body):
    rng = np.random.default_rng(3)
    joined = then(ACTIONS["clap"].script(rng), ACTIONS["walk"].script(rng))
    assert isinstance(joined, Script) and all(keys[-1][1][0] == 0 for keys in joined.hands.values())
    hands = joints_of(perform(joined, "", 20, np.zeros(10)), body)[-1, [JOINT["left_wrist"], JOINT["right_wrist"]]]
    assert hands[:, 1].max() < 1.0, "the arms hang again"
