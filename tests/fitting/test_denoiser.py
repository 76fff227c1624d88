"""The denoiser: what it must not depend on, that it leaves clean and unseen joints alone, and what the weights know."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import fitting.denoiser
import fitting.denoiser_training
from fitting import fit
from fitting.data import Batch
from fitting.denoiser import FEATURES, Denoiser, Shown, denoised, features
from fitting.denoiser_training import Part, Variations, disturbed, unseen_for_a_while, widened
from fitting.known_motion import KnownMotion, keyed_motions
from fitting.learned_training import spread
from fitting.problem import Problem
from fitting.smplify3d import SMPLify3D
from fitting.truth import mirrored_motion
from models.body import BodyModel
from models.keyed_takes import take
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

UP = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> Denoiser:
    """Random weights in every layer, so that nothing is right by being zero."""
    random = torch.Generator().manual_seed(0)
    network = Denoiser(width=16, dilations=(1, 2)).double().requires_grad_(False)
    for value in network.parameters():
        value += 0.1 * torch.randn(value.shape, generator=random, dtype=value.dtype)
    return network


@pytest.fixture(scope="module")
def fitter() -> SMPLify3D:
    return SMPLify3D().double()


def truth(seed: int = 2_000_000, frames: int = 60) -> torch.Tensor:
    """Joints (frames, 22, 3) float64 of a take that nothing was trained on."""
    motion, body = take(seed).motion, BodyModel.load()
    return body.joints(motion.betas, motion.thetas, motion.transl)[:frames, :22].double()


def noisy(joints: torch.Tensor, level: float = 0.04) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return joints + level * torch.randn(joints.shape, generator=random, dtype=joints.dtype)


def shown(*clips: torch.Tensor) -> Shown:
    joints = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    mask = torch.arange(joints.shape[1]) < torch.tensor([len(clip) for clip in clips])[:, None]
    return Shown(joints, mask[..., None].expand(joints.shape[:3]), mask, joints.new_full((len(clips),), 0.04))


def problem_of(fitter: SMPLify3D, joints: torch.Tensor, fps: float = 20.0) -> Problem:
    mask = torch.ones(1, len(joints), dtype=torch.bool)
    return fitter.problem(Batch(joints[None], mask, [], torch.full((1,), fps, dtype=torch.float64)))[1]


def all_seen(problem: Problem) -> torch.Tensor:
    return torch.ones(*problem.mask.shape, 22, dtype=torch.bool)


def test_what_is_said_turns_and_moves_with_the_joints(network, body):
    joints, turn = noisy(truth()), axis_angle_to_matrix(2.1 * UP)
    place = torch.tensor([3.0, 0.0, -7.0], dtype=torch.float64)
    said = network(shown(joints), body.rest_template)
    assert (said - joints).norm(dim=-1).mean() > 0.01
    assert_close(network(shown(joints @ turn.mT + place), body.rest_template), said @ turn.mT + place)


def test_a_batch_equals_one_by_one(network, body):
    clips = [noisy(truth(2_000_000 + i, frames)) for i, frames in enumerate((9, 60, 1))]
    together = network(shown(*clips), body.rest_template)
    for clip, said in zip(clips, together, strict=True):
        assert_close(said[: len(clip)], network(shown(clip), body.rest_template)[0])


def test_long_clips_are_seen_in_parts(network, body, monkeypatch):
    clip = shown(noisy(truth()))
    whole = network(clip, body.rest_template)
    monkeypatch.setattr(fitting.denoiser, "AT_ONCE", 7)
    assert_close(network(clip, body.rest_template), whole)


def test_what_was_not_seen_tells_nothing(network, body):
    """Where an unseen joint is put matters to nobody beside it; it is averaged over, so the averages are held."""
    clip = shown(noisy(truth()))
    clip.seen = clip.seen.clone()
    clip.seen[:, 20:30, 18] = False
    calm, turn = clip.joints.clone(), torch.eye(3).double().expand(1, 60, 3, 3)
    before = features(clip, calm, turn, slice(0, 60))
    clip.joints[:, 20:30, 18] += 5
    assert before.shape == (1, 60, FEATURES)
    assert torch.equal(features(clip, calm, turn, slice(0, 60)), before)


def test_clean_clips_do_not_move(fitter, network):
    for level in (0.0, 0.004):
        problem = problem_of(fitter, noisy(truth(), level))
        assert denoised(network, problem, all_seen(problem)) is problem


def test_unseen_joints_stay_where_they_are(fitter, network):
    joints = noisy(truth())
    joints[10:30, [5, 18]] = torch.nan
    problem = problem_of(fitter, joints)
    after = denoised(network, problem, joints.isfinite().all(-1)[None])
    moved = (after.targets - problem.targets).norm(dim=-1) > 0
    assert torch.equal(moved, joints.isfinite().all(-1))
    assert after.confidence is problem.confidence


@pytest.mark.parametrize("fps", [7.5, 24.0, 60.0, 120.0])
def test_faster_clips_are_seen_at_about_twenty(fitter, network, fps):
    """Every stride-th frame: those between change nothing of what is said of it."""
    joints = noisy(truth())
    problem, stride = problem_of(fitter, joints, fps), max(1, round(fps / 20))
    seen = all_seen(problem)
    said = denoised(network, problem, seen).targets
    assert said.isfinite().all() and said.shape == problem.targets.shape
    others = torch.arange(len(joints)) % stride != 1 % stride
    problem.targets = problem.targets + 0.5 * others[:, None, None]
    again = denoised(network, problem, seen).targets
    assert_close(again[~others], said[~others])
    assert not others.any() or (again - said)[others].abs().min() > 0.1


def test_less_noise_is_replaced_less(fitter, network):
    """Up to 6 mm nothing, from 14 mm on all; what is smoothed less is what is replaced."""
    problem = problem_of(fitter, noisy(truth()))
    smoothing, moved = problem.noise.smoothing, []
    for level in (0.006, 0.010, 0.014):
        problem.noise.level = torch.full((1,), level, dtype=torch.float64)
        after = denoised(network, problem, all_seen(problem))
        share = (level - 0.006) / 0.008
        assert_close(after.noise.smoothing, smoothing * (1 - share * (1 - fitting.denoiser.ROUGH)))
        moved.append(float((after.targets - problem.targets).norm(dim=-1).mean()))
    assert moved[0] == 0 < moved[1] < moved[2]


def test_parts_are_people_who_move(monkeypatch):
    """A part at its own pace is its motion or the mirror of it; turned farther, it is farther from its mean."""
    motion = KnownMotion(keyed_motions(2_000_000, 1, 0)[0].thetas[:40], torch.randn(40, 3), 20.0)
    rotations = axis_angle_to_matrix(motion.thetas)
    thetas, mirrored_path = mirrored_motion(motion.thetas, motion.path)
    monkeypatch.setattr(fitting.denoiser_training, "PACE", (1.0, 1.0))
    ways = ((rotations, motion.path), (axis_angle_to_matrix(thetas), mirrored_path))
    found = [Variations([[motion]], 1, 40, 0)._cut(np.random.default_rng(seed)) for seed in range(8)]
    apart = torch.tensor(
        [[max((a - b).abs().max() for a, b in zip(cut, way, strict=True)) for way in ways] for cut in found]
    )
    assert apart.amin(1).max() < 1e-5 and set(apart.argmin(1).tolist()) == {0, 1}
    wide = widened(rotations, 1.5)
    assert_close(widened(rotations, 1.0), rotations, atol=1e-5, rtol=0)
    mean = matrix_to_axis_angle(rotations.mean(0, keepdim=True).mT @ rotations).norm(dim=-1).mean()
    assert matrix_to_axis_angle(rotations.mean(0, keepdim=True).mT @ wide).norm(dim=-1).mean() > 1.3 * mean


def test_variations_come_from_their_number(body):
    kinds = [keyed_motions(2_000_000, 2, 0), [KnownMotion(torch.zeros(3, 24, 3), torch.zeros(3, 3), 30.0)]]
    one, other = (Variations(kinds, 8, 16, seed=3) for _ in range(2))
    for field in fields(Part):
        assert torch.equal(getattr(one[5], field.name), getattr(other[5], field.name))
    batch = disturbed([one[i] for i in range(8)], BodyModel.load())
    assert batch.joints.shape == (8, 16, 22, 3) and batch.shown.joints.isfinite().all()
    apart = (batch.shown.joints - batch.joints).norm(dim=-1)[batch.shown.seen]
    assert 0.005 < apart.mean() < 0.08
    loss, metres = batch.loss(Denoiser(), BodyModel.load().rest_template)
    assert loss.isfinite() and metres < apart.mean()  # an untrained one averages in time


def test_the_pelvis_is_always_seen():
    random = np.random.default_rng(0)
    seen = torch.stack([torch.as_tensor(unseen_for_a_while(20, random)) for _ in range(60)])
    assert seen[..., 0].all() and 0.05 < (~seen).flatten(1).any(1).float().mean() < 0.5


def test_batches_of_two_sets_alternate():
    batches = spread([4, 9], 2)
    assert [batch[0] < 4 for batch in batches] == [False, True, False, False, True, False]
    assert sorted(sum(batches, [])) == list(range(12))  # the last, half a batch, is left out
    assert spread([0, 4], 2) == [[0, 1], [2, 3]]


def test_the_weights_beat_smoothing_on_takes_they_have_not_seen():
    clean = [truth(2_000_000 + i, 80).float() for i in range(4)]
    millimetres = {}
    for start in ("geometric", "learned"):
        found = [fit(noisy(joints), start=start).joints() for joints in clean]
        errors = [(one - other).norm(dim=-1).mean() for one, other in zip(found, clean, strict=True)]
        millimetres[start] = 1000 * float(torch.stack(errors).mean())
    assert millimetres["learned"] < 0.95 * millimetres["geometric"]


def test_both_precisions_agree():
    single, double = (fit(noisy(truth(frames=30)), start="learned", dtype=x) for x in (torch.float32, torch.float64))
    assert double.thetas.dtype == torch.float64
    assert (single.joints() - double.joints()).norm(dim=-1).max() < 1e-3
