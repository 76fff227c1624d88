"""Metrics of generated motion: the reference's numbers, and what must hold of them."""

import math

import pytest
import torch

from models.errors import InputError
from models.mdm.motion_metrics import (
    accuracy,
    diversity,
    frechet_distance,
    interval,
    matching_distance,
    multimodality,
    r_precision,
    random_pairs,
    text_distances,
)
from tests.mdm import golden


def close(found, wanted, rtol=1e-6):
    torch.testing.assert_close(torch.as_tensor(found).double(), wanted.double(), rtol=rtol, atol=0)


def test_metrics_of_the_reference(reference):
    file = golden(reference, "metrics")
    motion, truth = file["motion_emb_f64"], file["gt_emb_f64"]
    distances = text_distances(file["text_emb_f64"], motion)
    close(distances[0], file["dist_f64"])
    ranks = (distances[0] < distances[0].diagonal()[:, None]).sum(-1)
    assert torch.equal(ranks[:, None] < torch.arange(1, 4), file["top3_first_batch"])
    close(r_precision(distances), file["r_precision_batches_of_32"], rtol=1e-6)
    close(matching_distance(distances), file["matching_score_f64"])
    close(frechet_distance(truth, motion), file["fid_f64"], rtol=1e-4)
    close(diversity(truth, file["diversity_idx1"], file["diversity_idx2"]), file["diversity_f64"])
    close(multimodality(file["mm_emb_f64"], file["mm_idx1"], file["mm_idx2"]), file["multimodality_f64"])


def draws(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_itself_is_zero_where_covariances_are_singular():
    few = draws(20, 64)  # rank 19 of 64
    assert frechet_distance(few, few.flip(0)) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_along_axes_is_the_closed_form():
    one, other = draws(4000, 3), draws(4000, 3, seed=1)
    one, other = (torch.linalg.qr(x - x.mean(0))[0] * math.sqrt(3999) for x in (one, other))  # covariance 1
    scale, shift = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 0.0, -4.0])
    assert frechet_distance(one, other * scale + shift) == pytest.approx(25 + 0 + 1 + 0.25)


def test_frechet_distance_does_not_depend_on_the_frame_and_reads_single_precision():
    one, other = draws(200, 8), 2 * draws(150, 8, seed=1) + 1
    turn = torch.linalg.qr(draws(8, 8, seed=2))[0]
    wanted = frechet_distance(one, other)
    assert frechet_distance(one @ turn + 5, other @ turn + 5) == pytest.approx(wanted)
    assert frechet_distance(other.float(), one.float()) == pytest.approx(wanted, rel=1e-5)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="two of each"):
        frechet_distance(draws(1, 3), draws(5, 3))
    with pytest.raises(InputError, match="not finite"):
        frechet_distance(draws(5, 3) / 0, draws(5, 3))
    with pytest.raises(InputError, match="32 or more"):
        text_distances(draws(31, 3), draws(31, 3))


def test_r_precision_counts_what_lies_nearer():
    distances = torch.full((1, 32, 32), 2.0)
    distances[0].fill_diagonal_(1.0)
    distances[0, 0, 1] = distances[0, 0, 2] = 0.5  # two lie nearer to the first sentence, one to the second
    distances[0, 1, 5] = 0.5
    torch.testing.assert_close(r_precision(distances), torch.tensor([30, 31, 32]).double() / 32)


def test_pairs_are_within_the_count_and_never_twice():
    first, second = random_pairs(10, 300, torch.Generator().manual_seed(0))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))


def test_accuracy_and_interval():
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, 1])) == 0.75
    mean, half = interval([1.0, 3.0])
    assert mean == 2 and half == pytest.approx(1.96 / math.sqrt(2))
