"""The arrow solver against dense linear algebra."""

import pytest
import torch

from fitting.solver.blocks import FLOOR, _dense, solve_band, solve_step
from fitting.terms import Normal

G = 3  # groups of three unknowns in a frame


def band(clips: int, frames: int, seed: int = 0):
    """A random positive definite block pentadiagonal system: blocks, next1, next2, and the dense matrix."""
    torch.manual_seed(seed)
    size = 3 * G
    blocks = torch.randn(clips, frames, size, size, dtype=torch.float64)
    blocks = blocks @ blocks.mT + 40 * torch.eye(size, dtype=torch.float64)
    next1 = torch.randn(clips, max(frames - 1, 0), G, 3, 3, dtype=torch.float64)
    next2 = torch.randn(clips, max(frames - 2, 0), G, 3, 3, dtype=torch.float64)
    dense = torch.zeros(clips, frames, size, frames, size, dtype=torch.float64)
    for t in range(frames):
        dense[:, t, :, t] = blocks[:, t]
        for gap, coupling in ((1, next1), (2, next2)):
            if t + gap < frames:
                full = _dense(coupling)[:, t]
                dense[:, t, :, t + gap], dense[:, t + gap, :, t] = full, full.mT
    return blocks, next1, next2, dense.flatten(3, 4).flatten(1, 2)


@pytest.mark.parametrize("frames", [3, 4, 7, 10])
def test_band_equals_dense(frames):
    blocks, next1, next2, dense = band(2, frames)
    right = torch.randn(2, frames, 3 * G, 4, dtype=torch.float64)
    expected = torch.linalg.solve(dense, right.flatten(1, 2)).view_as(right)
    torch.testing.assert_close(solve_band(blocks, next1, next2, right), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("coupled", [False, True])
def test_arrow_equals_dense(coupled):
    """Frames and shared betas solved by elimination equal the damped system solved whole."""
    clips, frames, size, betas = 2, 5, 3 * G, 4
    blocks, next1, next2, dense = band(clips, frames)
    if not coupled:
        dense = dense.view(clips, frames, size, frames, size)
        keep = torch.eye(frames, dtype=torch.bool)[None, :, None, :, None]
        dense = torch.where(keep, dense, 0).flatten(3, 4).flatten(1, 2)
    border = torch.randn(clips, frames, size, betas, dtype=torch.float64)
    corner = torch.eye(betas, dtype=torch.float64).mul(60).expand(clips, frames, betas, betas)
    matrix = torch.cat((torch.cat((blocks, border), -1), torch.cat((border.mT, corner), -1)), -2)
    gradient = torch.randn(clips, frames, size + betas, dtype=torch.float64)
    normal = Normal(matrix.flatten(0, 1), gradient.flatten(0, 1), *((next1, next2) if coupled else (None, None)))
    damping = torch.rand(clips, frames, dtype=torch.float64) + torch.tensor([[0.1], [3.0]])
    step, betas_step = solve_step(normal, clips, betas, damping)

    whole = torch.zeros(clips, frames * size + betas, frames * size + betas, dtype=torch.float64)
    whole[:, :-betas, :-betas] = dense
    whole[:, :-betas, -betas:] = border.flatten(1, 2)
    whole[:, -betas:, :-betas] = border.flatten(1, 2).mT
    whole[:, -betas:, -betas:] = corner.sum(1)
    diagonal = whole.diagonal(dim1=1, dim2=2)
    by_unknown = torch.cat((damping.repeat_interleave(size, 1), damping.amin(1, keepdim=True).expand(-1, betas)), 1)
    diagonal += by_unknown * diagonal + FLOOR
    right = torch.cat((gradient[..., :size].flatten(1), gradient[..., size:].sum(1)), 1)
    expected = -torch.linalg.solve(whole, right)
    torch.testing.assert_close(step.flatten(1), expected[:, :-betas], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(betas_step, expected[:, -betas:], rtol=1e-9, atol=1e-11)
