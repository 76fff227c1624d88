"""Linear algebra of a clip: one sparse system, blocks along time bordered by the shape.

The matrix of a clip is an arrow: a band of frame blocks (each coupled to the next two frames by its time terms) and a
border of the betas that all frames share. Cost is linear in the number of frames.
"""

import torch
from torch import Tensor

from fitting.terms import Normal

FLOOR = 1e-3  # added to every diagonal: keeps what nothing sees solvable


def solve_step(normal: Normal, clips: int, num_betas: int, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The damped Newton step: (clips, frames, D) for the frames, (clips, num_betas) for the shapes.

    Solves (H + damping diag(H)) step = -gradient by elimination of the frames (Schur complement). damping (clips,
    frames); the shape takes the least of its frames'.
    """
    matrix = normal.matrix.unflatten(0, (clips, -1))
    gradient = normal.gradient.unflatten(0, (clips, -1))
    size = matrix.shape[-1] - num_betas
    frames, border = matrix[..., :size, :size].clone(), matrix[..., :size, size:]
    diagonal = frames.diagonal(dim1=2, dim2=3)
    diagonal += damping[..., None] * diagonal + FLOOR
    right = torch.cat((gradient[..., :size, None], border), -1)
    if normal.next1 is None:
        solved = torch.cholesky_solve(right, torch.linalg.cholesky_ex(frames)[0])
    else:
        solved = solve_band(frames, normal.next1, normal.next2, right)
    if num_betas == 0:
        return -solved[..., 0], gradient.new_zeros(clips, 0)
    shape = matrix[..., size:, size:].sum(1)
    schur = shape - torch.einsum("ctdb,ctde->cbe", border, solved[..., 1:])
    schur.diagonal(dim1=1, dim2=2).add_(damping.amin(1, keepdim=True) * shape.diagonal(dim1=1, dim2=2) + FLOOR)
    right = gradient[..., size:].sum(1) - torch.einsum("ctdb,ctd->cb", border, solved[..., 0])
    betas_step = -torch.linalg.solve_ex(schur, right)[0]
    return -solved[..., 0] - torch.einsum("ctdb,cb->ctd", solved[..., 1:], betas_step), betas_step


def _dense(groups: Tensor) -> Tensor:
    """Blocks of a group with itself (clips, T, G, 3, 3) -> (clips, T, 3 G, 3 G)."""
    out = groups.new_zeros(*groups.shape[:2], groups.shape[2], 3, groups.shape[2], 3)
    out.diagonal(dim1=2, dim2=4).copy_(groups.permute(0, 1, 3, 4, 2))
    return out.flatten(4, 5).flatten(2, 3)


def solve_band(blocks: Tensor, next1: Tensor, next2: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric block pentadiagonal system: blocks (clips, T, D, D), right (clips, T, D, R) -> like right.

    next1 (clips, T - 1, D / 3, 3, 3), next2 (clips, T - 2, ...) couple frame t (rows) with t + 1 and t + 2 (columns).
    Two frames make one block of a block tridiagonal matrix, which block Cholesky eliminates from front to back.
    """
    diagonal, below, right = _pairs(blocks, _dense(next1).mT, _dense(next2).mT, right)
    factors, couplings, forward = [], [], []
    for t in range(diagonal.shape[1]):
        block, rhs = diagonal[:, t], right[:, t]
        if t:
            # W = B L^-T, so that the eliminated block before takes W W^T away from this one
            couplings.append(torch.linalg.solve_triangular(factors[-1], below[:, t - 1].mT, upper=False).mT)
            block = torch.baddbmm(block, couplings[-1], couplings[-1].mT, alpha=-1)
            rhs = torch.baddbmm(rhs, couplings[-1], forward[-1], alpha=-1)
        factors.append(torch.linalg.cholesky_ex(block)[0])
        forward.append(torch.linalg.solve_triangular(factors[-1], rhs, upper=False))
    out = [torch.linalg.solve_triangular(factors[-1].mT, forward[-1], upper=True)]
    for t in range(len(factors) - 2, -1, -1):
        rhs = torch.baddbmm(forward[t], couplings[t].mT, out[-1], alpha=-1)
        out.append(torch.linalg.solve_triangular(factors[t].mT, rhs, upper=True))
    solved = torch.stack(out[::-1], 1)
    return solved.unflatten(2, (2, -1)).flatten(1, 2)[:, : blocks.shape[1]]


def _pairs(blocks: Tensor, prev1: Tensor, prev2: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames two by two: diagonal blocks (clips, P, 2D, 2D), blocks below them (clips, P - 1, 2D, 2D), right sides.

    prev1[:, t] couples frame t + 1 (rows) with t, prev2[:, t] frame t + 2 with t. An odd clip gets one idle frame.
    """
    clips, count, size = blocks.shape[:3]
    pairs = (count + 1) // 2
    if count % 2:
        blocks = torch.cat((blocks, torch.eye(size).to(blocks).expand(clips, 1, size, size)), 1)
        right = torch.cat((right, right.new_zeros(clips, 1, *right.shape[2:])), 1)
    room1, room2 = (blocks.new_zeros(clips, 2 * pairs, size, size) for _ in range(2))
    room1[:, : count - 1], room2[:, : count - 2] = prev1, prev2
    even, odd = slice(0, None, 2), slice(1, None, 2)
    diagonal = blocks.new_zeros(clips, pairs, 2, size, 2, size)
    diagonal[:, :, 0, :, 0], diagonal[:, :, 1, :, 1] = blocks[:, even], blocks[:, odd]
    diagonal[:, :, 1, :, 0] = room1[:, even]
    diagonal[:, :, 0, :, 1] = room1[:, even].mT
    below = blocks.new_zeros(clips, pairs - 1, 2, size, 2, size)
    below[:, :, 0, :, 0], below[:, :, 1, :, 1] = room2[:, even][:, :-1], room2[:, odd][:, :-1]
    below[:, :, 0, :, 1] = room1[:, odd][:, :-1]
    flat = (2 * size, 2 * size)
    return (
        diagonal.reshape(clips, pairs, *flat),
        below.reshape(clips, pairs - 1, *flat),
        right.reshape(clips, pairs, 2 * size, -1),
    )
