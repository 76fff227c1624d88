"""Cholesky factors of the frames' matrices, tied in time or not, to be solved with many right sides.

All have the same form: definite (clips,) says where the matrix is positive definite (elsewhere the factors are of no
use); with M = L L^T, `forward` gives L^-1 right and `backward` L^-T of that. What lies between the two is in the order
in which the frames were eliminated, and only inner products of it have a meaning.
"""

import torch
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from fitting.rig import frames_at_once
from fitting.terms import Normal
from fitting.terms.base import band_width

Factors = "Loose | Band | Reduction"


def factor(normal: Normal, blocks: Tensor, loading: Tensor) -> Factors:
    """Factor blocks (clips, T, D, D) + diag(loading (clips, T, D)), with the couplings in time of `normal`."""
    if normal.next1 is None:
        return Loose(blocks, loading)
    if blocks.device.type == "cpu":
        return Band(blocks, normal.next1, normal.next2, loading, normal.spare)
    return Reduction(blocks, normal.next1, normal.next2, loading)


class Loose:
    """Frames that nothing ties: every block for itself, as many at once as suit the device."""

    def __init__(self, blocks: Tensor, loading: Tensor):
        step = max(1, frames_at_once(blocks.device) // len(blocks))
        self.definite = torch.ones(len(blocks), dtype=torch.bool, device=blocks.device)
        self.factors = torch.empty_like(blocks, memory_format=torch.contiguous_format).mT  # by columns, as LAPACK does
        for part, load, room in zip(*(x.split(step, 1) for x in (blocks, loading, self.factors)), strict=True):
            room.copy_(part).diagonal(dim1=2, dim2=3).add_(load)
            info = torch.linalg.cholesky_ex(room, out=(room, room.new_empty(room.shape[:2], dtype=torch.int32)))[1]
            self.definite &= (info == 0).all(1)

    def forward(self, right: Tensor) -> Tensor:
        """right (clips, T, D, R) -> the same shape."""
        return torch.linalg.solve_triangular(self.factors, right, upper=False)

    def backward(self, halfway: Tensor) -> Tensor:
        """What `forward` gives -> (clips, T, D, R)."""
        return torch.linalg.solve_triangular(self.factors.mT, halfway, upper=True)


class Band:
    """Frames tied to the next two, on the CPU: LAPACK's banded Cholesky, clip by clip.

    As a coupling ties each group of three unknowns with itself, the matrix has only 2 D + 2 diagonals under the main
    one, and the factors keep to them.
    """

    def __init__(self, blocks: Tensor, next1: Tensor, next2: Tensor, loading: Tensor, spare: Tensor | None = None):
        """next1 (clips, T - 1, D / 3, 3, 3), next2 (clips, T - 2, ...) couple frame t (rows) with t + 1 and t + 2.

        spare: memory for the factors, which may end with the blocks: no frame's band reaches what is still to be read.
        """
        self.shape = blocks.shape[1:3]
        rows, width = self.shape.numel(), band_width(self.shape[1])
        spare = blocks.new_empty(len(blocks) * rows * width) if spare is None else spare
        self.bands, definite = [], []
        for *clip, out in zip(blocks, next1, next2, loading, spare.split(rows * width), strict=False):
            band = banded(*clip, out.view(rows, width)).numpy().T
            (factorise,) = get_lapack_funcs(("pbtrf",), (band,))
            lower, info = factorise(band, lower=1, overwrite_ab=1)
            self.bands.append(lower)
            definite.append(info == 0)
        self.definite = torch.tensor(definite)

    def forward(self, right: Tensor) -> Tensor:
        return self._solve(right, "N")

    def backward(self, halfway: Tensor) -> Tensor:
        return self._solve(halfway, "T")

    def _solve(self, right: Tensor, transposed: str) -> Tensor:
        """right (clips, T, D, R), any R, also none."""
        if not right.shape[-1]:
            return right
        (solve,) = get_lapack_funcs(("tbtrs",), (self.bands[0],))
        columns = right.flatten(1, 2).mT.clone(memory_format=torch.contiguous_format)
        for band, own in zip(self.bands, columns.numpy(), strict=True):
            solve(band, own.T, uplo="L", trans=transposed, overwrite_b=1)  # in place
        return columns.mT.unflatten(1, self.shape)


def banded(blocks: Tensor, next1: Tensor, next2: Tensor, loading: Tensor, out: Tensor) -> Tensor:
    """Write the lower band of one clip to `out` as LAPACK stores it: (T x D, 2 D + 3), [j, k] = matrix[j + k, j].

    Blocks are written whole, some frames at once, on a skewed view of longer rows, where what lies over the main
    diagonal falls behind the band of the row before; the band is then cut out.
    """
    frames, size, _ = blocks.shape
    width, step = out.shape[1], min(frames, frames_at_once(blocks.device))
    row = width + size
    rows = blocks.new_zeros(step * size, row)
    below = rows.as_strided((step, size, 3 * size), (size * row, row - 1, 1))
    for start in range(0, frames, step):
        part = blocks[start : start + step]
        below[: len(part), :, :size] = part
        for gap, coupling in ((1, next1), (2, next2)):
            coupling = coupling[start : start + step]
            room = below[: len(coupling), :, gap * size : (gap + 1) * size].unflatten(2, (-1, 3)).unflatten(1, (-1, 3))
            room.diagonal(dim1=1, dim2=3).copy_(coupling.permute(0, 2, 3, 1))
        out[start * size : (start + len(part)) * size] = rows[: len(part) * size, :width]
    out[:, 0] += loading.flatten()
    return out


class Reduction:
    """Frames tied to the next two, without a loop over them: cyclic reduction, for a GPU.

    Two frames make one block of a block tridiagonal matrix. Every second block is eliminated, all at once, which leaves
    a block tridiagonal matrix of half the length, and so on: log2(T) steps, 2.7 times the arithmetic.
    """

    def __init__(self, blocks: Tensor, next1: Tensor, next2: Tensor, loading: Tensor):
        self.frames = blocks.shape[1]
        self.definite = torch.ones(len(blocks), dtype=torch.bool, device=blocks.device)
        diagonal, below = pairs(blocks + torch.diag_embed(loading), next1, next2)
        self.levels: list[tuple[Tensor, Tensor, Tensor]] = []
        while diagonal.shape[1] > 1:
            diagonal, below = self._halve(diagonal, below)
        self.last = self._cholesky(diagonal)

    def _cholesky(self, blocks: Tensor) -> Tensor:
        lower, info = torch.linalg.cholesky_ex(blocks)
        self.definite &= (info == 0).all(1)
        return lower

    def _halve(self, diagonal: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """Eliminate the odd blocks: (clips, P, 2D, 2D), (clips, P - 1, 2D, 2D) -> the same of those that are left."""
        lower = self._cholesky(diagonal[:, 1::2])
        left = _right_divide(below[:, 0::2].mT, lower)
        right = _right_divide(below[:, 1::2], lower[:, : below[:, 1::2].shape[1]])
        self.levels.append((lower, left, right))
        kept = diagonal[:, 0::2].clone()
        kept[:, : left.shape[1]] -= left @ left.mT
        kept[:, 1 : 1 + right.shape[1]] -= right @ right.mT
        return kept, -right @ left[:, : right.shape[1]].mT

    def forward(self, right: Tensor) -> Tensor:
        """right (clips, T, D, R) -> (clips, P, 2 D, R), blocks in the order of their elimination."""
        rest, done = _padded(right, self.frames % 2).unflatten(1, (-1, 2)).flatten(2, 3), []
        for lower, before, after in self.levels:
            done.append(torch.linalg.solve_triangular(lower, rest[:, 1::2], upper=False))
            rest = rest[:, 0::2].clone()
            rest[:, : before.shape[1]] -= before @ done[-1]
            rest[:, 1 : 1 + after.shape[1]] -= after @ done[-1][:, : after.shape[1]]
        return torch.cat((*done, torch.linalg.solve_triangular(self.last, rest, upper=False)), 1)

    def backward(self, halfway: Tensor) -> Tensor:
        """What `forward` gives -> (clips, T, D, R)."""
        *parts, last = halfway.split([*(lower.shape[1] for lower, _, _ in self.levels), 1], 1)
        even = torch.linalg.solve_triangular(self.last.mT, last, upper=True)
        for (lower, before, after), odd in zip(self.levels[::-1], parts[::-1], strict=True):
            odd = odd - before.mT @ even[:, : before.shape[1]]
            odd[:, : after.shape[1]] -= after.mT @ even[:, 1 : 1 + after.shape[1]]
            odd = torch.linalg.solve_triangular(lower.mT, odd, upper=True)
            out = even.new_empty(len(even), even.shape[1] + odd.shape[1], *even.shape[2:])
            out[:, 0::2], out[:, 1::2] = even, odd
            even = out
        return even.unflatten(2, (2, -1)).flatten(1, 2)[:, : self.frames]


def _right_divide(blocks: Tensor, lower: Tensor) -> Tensor:
    """blocks L^-T."""
    return torch.linalg.solve_triangular(lower, blocks.mT, upper=False).mT


def _padded(frames: Tensor, count: int) -> Tensor:
    """frames (clips, T, ...) with `count` frames of zeros behind them."""
    return torch.cat((frames, frames.new_zeros(len(frames), count, *frames.shape[2:])), 1)


def pairs(blocks: Tensor, next1: Tensor, next2: Tensor) -> tuple[Tensor, Tensor]:
    """Frames two by two: diagonal blocks (clips, P, 2D, 2D), and those below them (clips, P - 1, 2D, 2D).

    An odd clip gets one idle frame.
    """
    odd, size = blocks.shape[1] % 2, blocks.shape[2]
    blocks, next1, next2 = _padded(blocks, odd), _padded(dense(next1).mT, 1 + odd), _padded(dense(next2).mT, 2 + odd)
    if odd:
        blocks[:, -1] = torch.eye(size).to(blocks)
    even, uneven = slice(0, None, 2), slice(1, None, 2)
    diagonal = torch.cat(
        (torch.cat((blocks[:, even], next1[:, even].mT), 3), torch.cat((next1[:, even], blocks[:, uneven]), 3)), 2
    )
    top = torch.cat((next2[:, even], next1[:, uneven]), 3)
    below = torch.cat((top, torch.cat((torch.zeros_like(next2[:, even]), next2[:, uneven]), 3)), 2)
    return diagonal, below[:, :-1]


def dense(groups: Tensor) -> Tensor:
    """Blocks of a group with itself (clips, T, G, 3, 3) -> (clips, T, 3 G, 3 G)."""
    out = groups.new_zeros(*groups.shape[:2], groups.shape[2], 3, groups.shape[2], 3)
    out.diagonal(dim1=2, dim2=4).copy_(groups.permute(0, 1, 3, 4, 2))
    return out.flatten(4, 5).flatten(2, 3)
