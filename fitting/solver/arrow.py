"""Linear algebra of a clip: one sparse system, blocks along time bordered by the shape.

The matrix of a clip is an arrow: a band of frame blocks (each coupled to the next two frames by its time terms) and a
border of the betas that all frames share. Cost is linear in the number of frames.
"""

import torch
from torch import Tensor

from fitting.solver.band import factor
from fitting.terms import Normal

FLOOR = 1e-3  # added to every diagonal: keeps what nothing sees solvable


class Arrow:
    """Cholesky factors of H + damping diag(H), to be solved with many right sides: the frames are eliminated first.

    damping (clips, frames); the shape takes the least of its frames'; without it, none. definite (clips,): where the
    matrix is positive definite; elsewhere the factors are of no use.
    """

    def __init__(self, normal: Normal, clips: int, num_betas: int, damping: Tensor | None = None):
        matrix = normal.matrix.unflatten(0, (clips, -1))
        self.frames, self.size = size = matrix.shape[1], matrix.shape[-1] - num_betas
        damping = matrix.new_zeros(size[:1]).expand(clips, -1) if damping is None else damping
        blocks, border = matrix[..., : self.size, : self.size], matrix[..., : self.size, self.size :]
        border = border.contiguous()  # the matrix may be written over
        corner = matrix[..., self.size :, self.size :].sum(1)
        loading = damping[..., None] * blocks.diagonal(dim1=2, dim2=3) + FLOOR
        self.band = factor(normal, blocks, loading)
        self.border = self.band.forward(border).flatten(1, 2)
        schur = corner - self.border.mT @ self.border
        own = corner.diagonal(dim1=1, dim2=2)
        schur.diagonal(dim1=1, dim2=2).add_(damping.amin(1, keepdim=True) * own + FLOOR)
        self.schur, info = torch.linalg.cholesky_ex(schur)
        self.definite = self.band.definite & (info == 0)

    def solve(self, right: Tensor) -> Tensor:
        """right (clips, frames x size + betas) -> the same shape."""
        body = self.frames * self.size
        along = self.band.forward(right[:, :body].unflatten(1, (self.frames, self.size))[..., None])
        rest = right[:, body:, None] - self.border.mT @ along.flatten(1, 2)
        betas = torch.cholesky_solve(rest, self.schur)
        frames = self.band.backward(along - (self.border @ betas).view(along.shape))
        return torch.cat((frames.flatten(1), betas[..., 0]), 1)


def solve_step(normal: Normal, clips: int, num_betas: int, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The damped Newton step: (clips, frames, D) for the frames, (clips, num_betas) for the shapes.

    Solves (H + damping diag(H)) step = -gradient; damping (clips, frames).
    """
    arrow = Arrow(normal, clips, num_betas, damping)
    gradient = normal.gradient.unflatten(0, (clips, -1))
    frames, betas = gradient.split((arrow.size, num_betas), 2)
    step = -arrow.solve(torch.cat((frames.flatten(1), betas.sum(1)), 1))
    frames, betas = step.split((arrow.frames * arrow.size, num_betas), 1)
    return frames.unflatten(1, (arrow.frames, arrow.size)), betas
