"""The arrow solver against dense linear algebra."""

import pytest
import torch

from fitting.solver import band as bands
from fitting.solver.arrow import FLOOR, solve_step
from fitting.solver.band import Band, Loose, Reduction, banded, dense
from fitting.terms import Normal

G = 3  # groups of three unknowns in a frame


def system(clips: int, frames: int, seed: int = 0):
    """A random positive definite block pentadiagonal system: blocks, next1, next2, and the dense matrix."""
    torch.manual_seed(seed)
    size = 3 * G
    blocks = torch.randn(clips, frames, size, size, dtype=torch.float64)
    blocks = blocks @ blocks.mT + 40 * torch.eye(size, dtype=torch.float64)
    next1 = torch.randn(clips, max(frames - 1, 0), G, 3, 3, dtype=torch.float64)
    next2 = torch.randn(clips, max(frames - 2, 0), G, 3, 3, dtype=torch.float64)
    whole = torch.zeros(clips, frames, size, frames, size, dtype=torch.float64)
    for t in range(frames):
        whole[:, t, :, t] = blocks[:, t]
        for gap, coupling in ((1, next1), (2, next2)):
            if t + gap < frames:
                full = dense(coupling)[:, t]
                whole[:, t, :, t + gap], whole[:, t + gap, :, t] = full, full.mT
    return blocks, next1, next2, whole.flatten(3, 4).flatten(1, 2)


@pytest.mark.parametrize("kind", [Band, Reduction])
@pytest.mark.parametrize("frames", [3, 4, 5, 7, 8, 13, 16, 17])
def test_factors_equal_dense(kind, frames, monkeypatch):
    """Solutions, the inner product that the border needs, and which matrices are positive definite."""
    monkeypatch.setattr(bands, "frames_at_once", lambda device: 5)  # so that a band is written in several parts
    blocks, next1, next2, whole = system(3, frames)
    loading = torch.rand(3, frames, 3 * G, dtype=torch.float64)
    loading[2, 1] -= 1000
    whole.diagonal(dim1=1, dim2=2).add_(loading.flatten(1))
    right = torch.randn(3, frames, 3 * G, 4, dtype=torch.float64)
    factors = kind(blocks, next1, next2, loading)
    assert factors.definite.tolist() == [True, True, False]
    halfway = factors.forward(right)
    expected = torch.linalg.solve(whole, right.flatten(1, 2))[:2]
    torch.testing.assert_close(factors.backward(halfway)[:2].flatten(1, 2), expected, rtol=1e-10, atol=1e-12)
    inner = halfway.flatten(1, 2).mT @ halfway.flatten(1, 2)
    torch.testing.assert_close(inner[:2], right.flatten(1, 2)[:2].mT @ expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("border", [1, 3 * G + 9])
def test_factors_may_take_the_memory_of_the_blocks(border, monkeypatch):
    """Blocks at the end of the memory, as narrow parts of matrices smaller and larger than their bands."""
    monkeypatch.setattr(bands, "frames_at_once", lambda device: 5)
    blocks, next1, next2, _ = system(2, 13)
    size, wide = 3 * G, 3 * G + border
    loading, right = torch.rand(2, 13, size).double(), torch.randn(2, 13, size, 2).double()
    expected = Band(blocks, next1, next2, loading)
    floats = 26 * wide**2
    spare = torch.full((max(floats, 26 * size * (2 * size + 3)),), torch.nan, dtype=torch.float64)
    matrices = spare[-floats:].view(2, 13, wide, wide)
    matrices[..., :size, :size] = blocks
    factors = Band(matrices[..., :size, :size], next1, next2, loading, spare)
    assert torch.equal(factors.backward(factors.forward(right)), expected.backward(expected.forward(right)))


def test_loose_frames_equal_dense(monkeypatch):
    monkeypatch.setattr(bands, "frames_at_once", lambda device: 6)  # three frames of two clips at once
    blocks = system(2, 7)[0]
    loading = torch.rand(2, 7, 3 * G, dtype=torch.float64)
    right = torch.randn(2, 7, 3 * G, 4, dtype=torch.float64)
    factors = Loose(blocks, loading)
    expected = torch.linalg.solve(blocks + torch.diag_embed(loading), right)
    torch.testing.assert_close(factors.backward(factors.forward(right)), expected, rtol=1e-10, atol=1e-12)
    loading[1, 4] -= 1000
    assert Loose(blocks, loading).definite.tolist() == [True, False]


def test_banded_holds_every_entry_once():
    blocks, next1, next2, whole = system(1, 4)
    room = torch.empty(12 * G, 6 * G + 3, dtype=torch.float64)
    band = banded(blocks[0], next1[0], next2[0], torch.zeros(4, 3 * G, dtype=torch.float64), room)
    rebuilt = torch.zeros_like(whole[0])
    for column, entries in enumerate(band):
        entries = entries[: len(rebuilt) - column]
        rebuilt[column : column + len(entries), column] = entries
    torch.testing.assert_close(rebuilt, whole[0].tril(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("betas", [0, 4])
@pytest.mark.parametrize("coupled", [False, True])
def test_arrow_equals_dense(coupled, betas):
    """Frames and shared betas solved by elimination equal the damped system solved whole."""
    clips, frames, size = 2, 5, 3 * G
    blocks, next1, next2, tied = system(clips, frames)
    if not coupled:
        tied = tied.view(clips, frames, size, frames, size)
        keep = torch.eye(frames, dtype=torch.bool)[None, :, None, :, None]
        tied = torch.where(keep, tied, 0).flatten(3, 4).flatten(1, 2)
    border = torch.randn(clips, frames, size, betas, dtype=torch.float64)
    corner = torch.eye(betas, dtype=torch.float64).mul(60).expand(clips, frames, betas, betas)
    matrix = torch.cat((torch.cat((blocks, border), -1), torch.cat((border.mT, corner), -1)), -2)
    gradient = torch.randn(clips, frames, size + betas, dtype=torch.float64)
    normal = Normal(matrix.flatten(0, 1), gradient.flatten(0, 1), *((next1, next2) if coupled else (None, None)))
    damping = torch.rand(clips, frames, dtype=torch.float64) + torch.tensor([[0.1], [3.0]])
    step, betas_step = solve_step(normal, clips, betas, damping)

    whole = torch.zeros(clips, frames * size + betas, frames * size + betas, dtype=torch.float64)
    body = frames * size
    whole[:, :body, :body] = tied
    whole[:, :body, body:] = border.flatten(1, 2)
    whole[:, body:, :body] = border.flatten(1, 2).mT
    whole[:, body:, body:] = corner.sum(1)
    diagonal = whole.diagonal(dim1=1, dim2=2)
    by_unknown = torch.cat((damping.repeat_interleave(size, 1), damping.amin(1, keepdim=True).expand(-1, betas)), 1)
    diagonal += by_unknown * diagonal + FLOOR
    right = torch.cat((gradient[..., :size].flatten(1), gradient[..., size:].sum(1)), 1)
    expected = -torch.linalg.solve(whole, right)
    torch.testing.assert_close(step.flatten(1), expected[:, :body], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(betas_step, expected[:, body:], rtol=1e-9, atol=1e-11)
