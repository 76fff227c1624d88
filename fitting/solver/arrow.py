"""The matrix of a clip factored once, to be solved with many right sides."""

import torch
from torch import Tensor

from fitting.solver.blocks import FLOOR, _dense, _pairs
from fitting.terms import Normal


class Arrow:
    """Block Cholesky of the arrow matrix that `blocks.solve_step` solves, without damping.

    definite (clips,): where it is positive definite; elsewhere the factors are of no use.
    """

    def __init__(self, normal: Normal, clips: int, num_betas: int):
        matrix = normal.matrix.unflatten(0, (clips, -1))
        self.frames, self.size = matrix.shape[1], matrix.shape[-1] - num_betas
        blocks, self.border = matrix[..., : self.size, : self.size].clone(), matrix[..., : self.size, self.size :]
        blocks.diagonal(dim1=2, dim2=3).add_(FLOOR)
        self.definite = torch.ones(clips, dtype=torch.bool, device=matrix.device)
        self.factors, self.couplings = self._factor(blocks, normal)
        self.through = self._solve_frames(self.border)  # how the frames answer each beta
        corner = matrix[..., self.size :, self.size :].sum(1)
        schur = corner - torch.einsum("ctdb,ctde->cbe", self.border, self.through)
        schur.diagonal(dim1=1, dim2=2).add_(FLOOR)
        self.schur = self._cholesky(schur)

    def solve(self, right: Tensor) -> Tensor:
        """right (clips, frames x size + betas) -> the same shape."""
        body = self.frames * self.size
        frames = self._solve_frames(right[:, :body].unflatten(1, (self.frames, self.size))[..., None])[..., 0]
        rest = right[:, body:] - torch.einsum("ctdb,ctd->cb", self.border, frames)
        betas = torch.cholesky_solve(rest[..., None], self.schur)[..., 0]
        frames = frames - torch.einsum("ctdb,cb->ctd", self.through, betas)
        return torch.cat((frames.flatten(1), betas), 1)

    def _cholesky(self, blocks: Tensor) -> Tensor:
        factor, info = torch.linalg.cholesky_ex(blocks)
        self.definite &= (info.view(len(blocks), -1) == 0).all(1)
        return factor

    def _factor(self, blocks: Tensor, normal: Normal) -> tuple[list[Tensor], list[Tensor]]:
        """Lower factors of the eliminated blocks and their couplings; without time terms one batch of blocks."""
        if normal.next1 is None:
            return [self._cholesky(blocks)], []
        nothing = blocks[..., :0]
        diagonal, below, _ = _pairs(blocks, _dense(normal.next1).mT, _dense(normal.next2).mT, nothing)
        factors, couplings = [self._cholesky(diagonal[:, 0])], []
        for t in range(1, diagonal.shape[1]):
            couplings.append(torch.linalg.solve_triangular(factors[-1], below[:, t - 1].mT, upper=False).mT)
            block = torch.baddbmm(diagonal[:, t], couplings[-1], couplings[-1].mT, alpha=-1)
            factors.append(self._cholesky(block))
        return factors, couplings

    def _solve_frames(self, right: Tensor) -> Tensor:
        """right (clips, frames, size, R) -> the same shape, with the block triangular factors."""
        if self.factors[0].dim() == 4:
            return torch.cholesky_solve(right, self.factors[0])
        odd = right.new_zeros(right.shape[0], self.frames % 2, *right.shape[2:])
        pairs = torch.cat((right, odd), 1).unflatten(1, (-1, 2)).flatten(2, 3)
        forward: list[Tensor] = []
        for t, factor in enumerate(self.factors):
            rhs = pairs[:, t]
            if t:
                rhs = torch.baddbmm(rhs, self.couplings[t - 1], forward[-1], alpha=-1)
            forward.append(torch.linalg.solve_triangular(factor, rhs, upper=False))
        out = [torch.linalg.solve_triangular(self.factors[-1].mT, forward[-1], upper=True)]
        for t in range(len(self.factors) - 2, -1, -1):
            rhs = torch.baddbmm(forward[t], self.couplings[t].mT, out[-1], alpha=-1)
            out.append(torch.linalg.solve_triangular(self.factors[t].mT, rhs, upper=True))
        return torch.stack(out[::-1], 1).unflatten(2, (2, -1)).flatten(1, 2)[:, : self.frames]
