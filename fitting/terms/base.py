"""What a residual term is.

The energy of a frame is the sum over terms of weight x |residual|^2. A term is a small pure function of the posed
frames; where it pays, its class also adds its own blocks to the normal equations, else exact forward-mode derivatives
serve.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.func import jvp, vmap

if TYPE_CHECKING:
    from fitting.problem import Problem
    from fitting.rig import Posed


def band_width(size: int) -> int:
    """Diagonals from the main one down that hold something, where groups of three of a frame's unknowns are tied."""
    return 2 * size + 3


@dataclass
class Normal:
    """Half gradient and Gauss-Newton matrix of the energy, by frame, and the coupling of neighbouring frames.

    matrix (N, P, P), gradient (N, P): P unknowns of a frame, then its clip's betas where they are free.
    next1, next2 (clips, frames - 1 or 2, P / 3, 3, 3): blocks between frames t (rows) and t + 1 or t + 2 (columns),
    each group of three unknowns with itself; None without time terms. spare: memory (M,) that ends with the matrices
    and that their factors may take, so that a long clip has room for one of the two only; None = they may not.
    """

    matrix: Tensor
    gradient: Tensor
    next1: Tensor | None = None
    next2: Tensor | None = None
    spare: Tensor | None = None

    def add(self, jacobian: Tensor, residual: Tensor, weight: Tensor) -> None:
        """Add residuals (N, R) with derivative transposed (N, P, R) and weights (N, R)."""
        weighted = jacobian * weight[:, None]
        self.matrix.baddbmm_(weighted, jacobian.mT)
        self.gradient += torch.bmm(residual[:, None], weighted.mT)[:, 0]  # six times as fast as with a column


@dataclass
class Term:
    """Base of all terms: weight x |residual|^2 a frame."""

    weight: float
    ties_frames: ClassVar[int] = 0  # with how many of the frames after it a frame is coupled, at most two

    def residual(self, posed: "Posed", problem: "Problem") -> Tensor:
        """(N, R) residuals; the one thing a new term must write."""
        raise NotImplementedError

    def energy(self, posed: "Posed", problem: "Problem") -> Tensor:
        """(N,) weighted energy of each frame."""
        return self.weight * self.residual(posed, problem).square().sum(-1)

    def add_to(self, normal: Normal, posed: "Posed", problem: "Problem", unknowns: str) -> None:
        """Add this term's blocks; by default from exact forward-mode derivatives, one unknown at a time."""
        size = normal.gradient.shape[-1]
        body = size - (posed.rig.num_betas if unknowns == "all" else 0)

        frames = posed.state_by_frame()

        def shifted(step: Tensor) -> Tensor:
            moved = frames.moved(step[:, None, :body], step[:, body:] if unknowns == "all" else 0)
            return self.residual(posed.rig.posed(moved), problem)

        zero = torch.zeros_like(normal.gradient)
        directions = torch.eye(size, dtype=zero.dtype, device=zero.device)[:, None].expand(size, *zero.shape)
        jacobian = vmap(lambda direction: jvp(shifted, (zero,), (direction,))[1])(directions)
        residual = self.residual(posed, problem)
        normal.add(jacobian.permute(1, 0, 2), residual, self.weight * torch.ones_like(residual))

    def add_curvature_to(self, normal: Normal, posed: "Posed", problem: "Problem") -> None:
        """Add what Gauss-Newton leaves out of half the second derivatives, but for the bend of the joints' own arcs.

        All unknowns are free. Only Newton's method asks (fitting/curvature.py); by default nothing is added.
        """


def residual_term(function: Callable[["Posed", "Problem"], Tensor], weight: float) -> Term:
    """A term from a plain function (posed, problem) -> (N, R): your own term in one line."""
    term = Term(weight)
    term.residual = function
    return term
