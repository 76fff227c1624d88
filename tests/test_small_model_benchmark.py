"""What experiments/benchmarks/small_model.py measures: copies found, evaluations counted, prompts in other words."""

import numpy as np
import pytest
import torch

from experiments.benchmarks.small_model import Nearest, copies, feet, posed, prompts, ways
from models.keyed_takes import ACTIONS
from models.mdm.diffusion import noise_schedule
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.takes import Takes, make_takes
from models.mdm.words import WordText


@pytest.fixture(scope="module")
def takes() -> Takes:
    return make_takes(3_000_000, 12)


def features(takes: Takes, index: int) -> torch.Tensor:
    parts = np.split(takes.features, takes.lengths.cumsum()[:-1])
    return torch.from_numpy(parts[index].astype(np.float32))


def test_a_copy_is_found_though_turned_moved_cut_and_shifted(takes):
    nearest, motion = Nearest(takes), features(takes, 3)
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    moved = joints_to_features(features_to_joints(motion) @ turn + torch.tensor([3.0, 0, 1]))
    assert nearest(motion) == pytest.approx(0, abs=1e-3) and nearest(moved) < 1
    assert nearest(motion[: int(0.9 * len(motion))]) == pytest.approx(0, abs=1e-3)
    shifted = motion.clone()
    shifted[:, 4:67:3] += 0.03  # every joint but the root 30 mm aside
    assert 0 < nearest(shifted) <= 30.1


def test_copies_are_counted_and_named(takes):
    motion = features(takes, 3)
    far = motion.clone()
    far[:, 4:67] += 1
    found = copies([motion, far], Nearest(takes), ["walk", "run"])
    assert found["too near"] == 0.5 and found["whose"] == ["walk"] and found["least mm"] < 1 < 100 < found["median mm"]


def test_joints_are_seen_from_the_root(takes):
    motion = features(takes, 0)
    joints = features_to_joints(motion)
    seen = (joints[:, 1:] - joints[:, :1]).norm(dim=-1)
    torch.testing.assert_close(posed(motion).norm(dim=-1), seen, rtol=0, atol=1e-5)


def test_planted_feet_of_takes_hardly_move(takes):
    found = feet([features(takes, i) for i in range(12)])
    assert 0 < found["planted m/s"] < 0.1 and found["worst m/s"] < 0.5


def test_evaluations_of_the_ways_to_sample():
    counts = {way.name: way.evaluations for way in ways(noise_schedule("cosine", 100))}
    assert next(iter(counts)) == "ancestral 100" and counts["ancestral 100"] == 200
    assert counts["ancestral 100, plain"] == 100 and counts["DDIM 10"] == 20 and counts["ancestral 5"] == 10
    assert counts["DPM-Solver++ 20, plain"] < counts["DPM-Solver++ 20, guided midway"] < counts["DPM-Solver++ 20"]


def test_prompts_ask_for_every_action_in_words_that_are_known():
    for paraphrased in (True, False):
        asked = list(prompts(paraphrased))
        assert len(asked) == 5 * len(ACTIONS) and {action for action, _, _ in asked} == set(ACTIONS)
        unknown = {word for _, text, _ in asked for word in WordText().vocabulary.read(text)[1]}
        assert not unknown
    other = [text for _, text, _ in prompts(True)]
    assert np.mean([one != two for one, (_, two, _) in zip(other, prompts(False), strict=True)]) > 0.5
