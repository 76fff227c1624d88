"""What training through the fit looks at: its own samples, windows inside them, and the pace that shall stay."""

import copy
from pathlib import Path

import pytest
import torch

from fitting.generate import Request, open_model
from fitting.through import ThroughFit, first, pace_change, places
from models.mdm.data import TextMotionBatch
from models.mdm.sampling import seeded_noise
from models.mdm.takes import collate
from models.mdm.words import WordText

SMALL = Path(__file__).parents[2] / "models" / "assets" / "small_mdm"


@pytest.fixture(scope="module")
def training() -> ThroughFit:
    return ThroughFit({"bones": 1.0}, init_from=str(SMALL / "model.pt"), encoder=WordText(SMALL))


def sentences(*texts: str) -> TextMotionBatch:
    return collate([(torch.zeros(12, 263), text) for text in texts])


def test_training_looks_at_what_generating_makes(training):
    texts, seeds = ("a person walks forward", "someone waves"), (3, 4)
    noise = seeded_noise(seeds)(torch.empty(2, 12, 263))
    model = open_model(Request([], str(SMALL / "model.pt")), "cpu")
    made = model.generator(seeds, 12, model.encoder.encode(texts))
    found, last, strayed = training.sampled(sentences(*texts), noise, seed=0)
    usual = training.usual(sentences(*texts), noise)
    torch.testing.assert_close(found, made, rtol=0, atol=1e-4)
    torch.testing.assert_close(found, usual, rtol=0, atol=1e-4)
    torch.testing.assert_close(last, usual, rtol=0, atol=1e-4)
    assert found.requires_grad and not usual.requires_grad and float(strayed.detach().max()) < 1e-9


def test_samples_of_a_network_that_is_refined_come_to_the_last_level_as_always():
    """So what they would be without what is trained is known there, and nothing need be sampled twice."""
    others = ["seqTrans*", "embed_*", "input_process.*", "output_process.*"]
    given = {"init_from": str(SMALL / "model.pt"), "encoder": WordText(SMALL), "options": {"refine": 8}}
    training, free = ThroughFit({"bones": 1.0}, freeze=others, **given), ThroughFit({"bones": 1.0}, **given)
    assert training.refines and not free.refines
    training.denoiser.refine.out.reset_parameters()
    few, noise = sentences("someone waves"), torch.randn(1, 12, 263, generator=torch.Generator().manual_seed(0))
    found, last, strayed = training.sampled(few, noise, seed=0)
    torch.testing.assert_close(last, training.usual(few, noise), rtol=0, atol=1e-4)
    assert (found - last).abs().mean() > 0.1 and strayed > 0.01


def test_the_gradient_of_a_sample_is_that_of_the_last_evaluation(training):
    torch.manual_seed(0)
    few, noise, along = sentences("a person walks forward"), torch.randn(1, 12, 263).double(), torch.randn(1, 12, 263)
    training = copy.deepcopy(training).double()
    network = training.denoiser
    weight, seen = network.output_process.poseFinal.weight, {}
    rough = network.rough
    network.rough = lambda x, *rest: seen.update(x=x) or rough(x, *rest)
    found = training.sampled(few, noise, seed=0)[0]
    slope = torch.autograd.grad((found * along).sum(), weight)[0]
    turn = torch.randn_like(weight)
    values = []
    for by in (1e-6, -1e-6):
        with torch.no_grad():
            weight.add_(turn, alpha=by)
            last = training.predicted(network, seen["x"], 0, training.condition(few), follow=False)
            weight.sub_(turn, alpha=by)
        values.append(float((last * along).sum()))
    assert float((slope * turn).sum()) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_straying_is_seen_at_an_earlier_level_too(training, monkeypatch):
    """A network changed at one early level alone samples otherwise, and it is seen when that level is drawn."""
    noise, few = torch.randn(1, 12, 263, generator=torch.Generator().manual_seed(0)), sentences("someone waves")
    changed = int(training.levels.timesteps[5])
    rough = training.denoiser.rough
    monkeypatch.setattr(
        training.denoiser, "rough", lambda x, t, *rest: rough(x, t, *rest) + 0.5 * (int(t[0]) == changed)
    )
    levels = len(training.levels) - 1
    strayed = [float(training.sampled(few, noise, seed)[2]) for seed in range(levels)]
    assert [value > 0.2 for value in strayed] == [seed == 4 for seed in range(levels)]


def test_what_was_usual_stays_so_while_the_network_learns(training):
    """Pace is compared with it: a network that slowed down at every level would find nothing wrong with its own."""
    noise, few = torch.randn(1, 12, 263, generator=torch.Generator().manual_seed(0)), sentences("someone waves")
    training, before = copy.deepcopy(training), training.usual(few, noise)
    with torch.no_grad():
        training.denoiser.output_process.poseFinal.bias.add_(0.5)
    torch.testing.assert_close(training.usual(few, noise), before, rtol=0, atol=0)
    assert (training.sampled(few, noise, seed=0)[0] - before).abs().mean() > 0.3


def test_pace_is_a_share_of_the_speed_of_all_clips():
    wanted = torch.randn(2, 12, 22, 3, generator=torch.Generator().manual_seed(0)).cumsum(1)
    found, mask = wanted * torch.tensor([0.8, 1.0])[:, None, None, None], torch.ones(2, 12, dtype=torch.bool)
    speeds = [(clip[4:] - clip[:-4]).norm(dim=-1).mean() for clip in wanted]
    torch.testing.assert_close(pace_change(found, wanted, mask), 0.2 * speeds[0] / sum(speeds), rtol=0, atol=1e-6)
    before = pace_change(found[:, :9], wanted[:, :9], mask[:, :9])
    mask[:, 9:] = False
    found[:, 9:] += 100
    torch.testing.assert_close(pace_change(found, wanted, mask), before, rtol=0, atol=1e-6)


def test_jitter_is_no_pace():
    wanted = torch.linspace(0, 1, 40)[None, :, None, None].repeat(1, 1, 22, 3)
    jitter = 0.004 * (-1.0) ** torch.arange(40)[None, :, None, None]
    assert pace_change(wanted + jitter, wanted, torch.ones(1, 40, dtype=torch.bool)) < 1e-4


def test_windows_lie_in_their_clips_and_anywhere_in_them():
    lengths = torch.tensor([40, 16, 10]).repeat(200)
    frames = places(lengths, 16, torch.Generator().manual_seed(0))
    assert (frames.diff(dim=1) == 1).all() and (frames[:, 0] >= 0).all()
    assert (frames[lengths >= 16].amax(1) < lengths[lengths >= 16]).all() and (frames[lengths < 16, 0] == 0).all()
    assert set(frames[lengths == 40, 0].tolist()) == set(range(25))


@pytest.mark.parametrize("count", [2, 5])
def test_the_first_clips_of_a_batch(count):
    batch = collate([(torch.full((4 + number, 3), float(number)), f"clip {number}") for number in range(3)])
    few = first(batch, count)
    assert few.texts == batch.texts[:count] and len(few.motion) == len(few.mask) == min(count, 3)
    assert few.prefix is None and torch.equal(few.motion, batch.motion[:count])
