"""The term of a learned start: rotations stay near those that a network believes, as far as it is sure of them."""

from dataclasses import dataclass

from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed
from fitting.so3 import left_jacobian_inverse
from fitting.terms.base import Normal, Term
from models.rotations import matrix_to_axis_angle


@dataclass
class Believed(Term):
    """weight x squared error in the belief's own deviations: r = log(R_believed^T R) sqrt(precision), by axis."""

    def _turn(self, posed: Posed, problem: Problem) -> Tensor:
        """log(R_believed^T R) (N, fitted, 3) of the fitted joints, radians in each joint's own axes."""
        return matrix_to_axis_angle(problem.belief.rotations[:, list(posed.rig.fitted)].mT @ posed.local)

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        precision = problem.belief.precision[:, list(posed.rig.fitted)]
        return (self._turn(posed, problem) * precision.sqrt()).flatten(1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        """See Term. exp(v + dv) = exp(v) exp(J_r(v) dv), so d log(B^T exp(v)) = J_r^-1(r) J_r(v) dv, J_r = J_l^T."""
        turn, fitted = self._turn(posed, problem), list(posed.rig.fitted)
        slope = left_jacobian_inverse(turn).mT @ posed.left.mT  # (N, fitted, 3 of r, 3 of v)
        weighted = self.weight * problem.belief.precision[:, fitted, :, None] * slope
        body = slice(6, 6 + 3 * len(fitted))
        normal.gradient[:, body] += (weighted.mT @ turn[..., None]).flatten(1)
        blocks = normal.matrix[:, body, body].unflatten(1, (-1, 3)).unflatten(3, (-1, 3))
        blocks.diagonal(dim1=1, dim2=3).add_((weighted.mT @ slope).permute(0, 2, 3, 1))
