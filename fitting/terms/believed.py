"""The term of a learned start: limbs are turned about their bones as a network believes, as far as it is sure."""

from dataclasses import dataclass

from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed
from fitting.so3 import left_jacobian_inverse
from fitting.terms.base import Normal, Term
from models.rotations import matrix_to_axis_angle


@dataclass
class Believed(Term):
    """weight x squared error in the belief's own deviations: r = b . log(R_believed^T R) sqrt(precision), b the bone.

    Where the bone points is seen, so this says nothing of it.
    """

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (self._error(posed, problem) * posed.rig.bones).sum(-1) * self._sureness(posed, problem)

    def _error(self, posed: Posed, problem: Problem) -> Tensor:
        """log(R_believed^T R) (N, fitted, 3) of the fitted joints, radians in each joint's own axes."""
        return matrix_to_axis_angle(problem.belief.rotations[:, list(posed.rig.fitted)].mT @ posed.local)

    def _sureness(self, posed: Posed, problem: Problem) -> Tensor:
        return problem.belief.precision[:, list(posed.rig.fitted)].sqrt()

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        """See Term. exp(v + dv) = exp(v) exp(J_r(v) dv), so d log(B^T exp(v)) = J_r^-1(r) J_r(v) dv, J_r = J_l^T."""
        error, bones, sureness = self._error(posed, problem), posed.rig.bones, self._sureness(posed, problem)
        along = (bones[:, None] @ left_jacobian_inverse(error).mT @ posed.left.mT)[:, :, 0]  # (N, fitted, 3)
        slope = along * sureness[..., None]
        residual = (error * bones).sum(-1) * sureness
        body = slice(6, 6 + 3 * bones.shape[0])
        normal.gradient[:, body] += self.weight * (slope * residual[..., None]).flatten(1)
        blocks = normal.matrix[:, body, body].unflatten(1, (-1, 3)).unflatten(3, (-1, 3))
        blocks.diagonal(dim1=1, dim2=3).add_(self.weight * (slope[..., None] * slope[..., None, :]).permute(0, 2, 3, 1))
