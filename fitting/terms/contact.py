"""Terms on the feet: a planted foot stays where it stands, its sole lies on the floor, and no foot is lifted off it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.contact import ANKLES, BALLS, FEET, NEAR
from fitting.problem import Problem
from fitting.rig import Posed
from fitting.terms.base import Normal, Term

SOFT, SLACK = 0.003, 0.004  # metres
CEILING = NEAR - 0.005  # metres over the floor below which a foot joint near it stays


@dataclass
class Contact(Term):
    """weight x contact x squared distance in metres of a foot joint from where it stands."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (posed.joints[:, BALLS] - problem.contact.anchors).flatten(1)

    def _weights(self, problem: Problem) -> Tensor:
        by_coordinate = problem.contact.weight.repeat_interleave(3, 1)
        return self.weight * (by_coordinate.T * problem.trust).T

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return (self._weights(problem) * self.residual(posed, problem).square()).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        if not problem.contact.weight.any():
            return
        jacobian = posed.joint_jacobian(unknowns)[:, :, BALLS].flatten(2)
        normal.add(jacobian, self.residual(posed, problem), self._weights(problem))


@dataclass
class Near(Term):
    """weight x squared height in metres by which a foot joint that the input has near the floor lies above it."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (posed.joints[:, BALLS, 1] - problem.contact.floor[:, None] - CEILING).relu()

    def _weights(self, problem: Problem) -> Tensor:
        return self.weight * (problem.contact.near.T * problem.trust**2).T

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return (self._weights(problem) * self.residual(posed, problem).square()).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        weight = self._weights(problem) * (residual > 0)
        if weight.any():
            normal.add(posed.joint_jacobian(unknowns)[:, :, BALLS, 1], residual, weight)


@dataclass
class Floor(Term):
    """weight x contact x squared height in metres by which a planted foot's lowest point misses the floor.

    The lowest of the points where its sole touches, taken softly: -SOFT log sum exp(-height / SOFT), so that it does
    not jump. Within SLACK of the floor nothing pulls.
    """

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        heights = self._soles(posed, problem)[..., 1] - problem.contact.floor[:, None, None]
        lowest = -SOFT * torch.logsumexp(-heights / SOFT, -1)
        return lowest - lowest.clamp(-SLACK, SLACK)

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        weighted = problem.contact.weight * self.residual(posed, problem).square()
        return self.weight * problem.trust * weighted.sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        if not problem.contact.weight.any():
            return
        lowest, others, share = self._slopes(posed, problem, unknowns)
        residual = self.residual(posed, problem)
        normal.add(lowest, residual, self._weights(problem) * (residual != 0))
        # a foot under the floor also feels how the lowest point moves along the sole: the curvature of the soft minimum
        self._bend(normal, others, share, problem, (-residual).relu())

    def add_curvature_to(self, normal: Normal, posed: Posed, problem: Problem) -> None:
        """Over the floor the soft minimum's curvature, negative there; anywhere, betas change a turned sole's arm."""
        if not problem.contact.weight.any():
            return
        _, others, share = self._slopes(posed, problem, "all")
        residual = self.residual(posed, problem)
        self._bend(normal, others, share, problem, -residual.relu())
        arms = posed.globals[:, ANKLES] @ torch.einsum("nsp,spck->nsck", share, problem.contact.sole_dirs)
        pull = (self._weights(problem) * residual)[..., None, None] * arms
        torque = torch.stack((-pull[:, :, 2], torch.zeros_like(pull[:, :, 0]), pull[:, :, 0]), 2)  # pull x up
        turned = posed.rig.chain[ANKLES][:, [0, *posed.rig.turning]]
        border = torch.einsum("nacj,nsck,sa->najk", posed.axes, torque, turned).flatten(1, 2)
        body, betas = slice(3, 3 + border.shape[1]), slice(-border.shape[2], None)
        normal.matrix[:, body, betas] += border
        normal.matrix[:, betas, body] += border.mT

    def _weights(self, problem: Problem) -> Tensor:
        return self.weight * (problem.contact.weight.T * problem.trust).T

    def _bend(self, normal: Normal, others: Tensor, share: Tensor, problem: Problem, depth: Tensor) -> None:
        weight = (self._weights(problem) * depth / SOFT)[..., None] * share
        normal.add(others, torch.zeros_like(others[:, 0]), weight.flatten(1))

    def _slopes(self, posed: Posed, problem: Problem, unknowns: str) -> tuple[Tensor, Tensor, Tensor]:
        """Derivative of the lowest heights (N, P, 2), by how much the points' differ from it (N, P, 2 x TILTS), and the
        points' shares in it (N, 2, TILTS)."""
        points = self._soles(posed, problem)
        share = torch.softmax(-points[..., 1] / SOFT, -1)
        parts = torch.stack([self._height_jacobians(posed, problem, side, points, unknowns) for side in (0, 1)], 2)
        lowest = (parts * share[:, None]).sum(-1)
        return lowest, (parts - lowest[..., None]).flatten(2), share

    @staticmethod
    def _soles(posed: Posed, problem: Problem) -> Tensor:
        """World points of the soles (N, 2, TILTS, 3)."""
        contact = problem.contact
        offset = contact.sole + torch.einsum("spck,nk->nspc", contact.sole_dirs, posed.betas)
        turned = (posed.globals[:, ANKLES][:, :, None] @ offset[..., None])[..., 0]
        return posed.joints[:, ANKLES][:, :, None] + turned

    @staticmethod
    def _height_jacobians(posed: Posed, problem: Problem, side: int, points: Tensor, unknowns: str) -> Tensor:
        """Derivative (N, P, TILTS) of the heights of a sole's points (N, 2, TILTS, 3)."""
        ankle, foot = FEET[side]
        jacobian = torch.stack([posed.point_jacobian(p, foot, unknowns)[..., 1] for p in points[:, side].unbind(1)], -1)
        if unknowns == "all":
            dirs = problem.contact.sole_dirs[side]
            shape = posed.joint_jacobian(unknowns)[:, -dirs.shape[-1] :, ankle, 1]
            turned = torch.einsum("nc,pck->nkp", posed.globals[:, ankle, 1], dirs)
            jacobian[:, -dirs.shape[-1] :] = shape[..., None] + turned
        return jacobian
