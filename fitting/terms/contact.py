"""Terms on the feet: a planted foot stays where it stands, and its sole lies on the floor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.contact import FEET
from fitting.problem import Problem
from fitting.rig import Posed
from fitting.terms.base import Normal, Term

STANDING = tuple(foot for _, foot in FEET)
LEVEL = (0, 2)  # x and z
SOFT, SLACK = 0.005, 0.01  # metres


@dataclass
class Contact(Term):
    """weight x contact x squared distance over ground of a foot joint from where it stands, in metres."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (posed.joints[:, STANDING] - problem.contact.anchors)[..., LEVEL].flatten(1)

    def _weights(self, problem: Problem) -> Tensor:
        by_coordinate = problem.contact.weight.repeat_interleave(2, 1)
        return self.weight * (by_coordinate.T * problem.trust).T

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return (self._weights(problem) * self.residual(posed, problem).square()).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        if not problem.contact.weight.any():
            return
        jacobian = posed.joint_jacobian(unknowns)[:, :, STANDING][..., LEVEL].flatten(2)
        normal.add(jacobian, self.residual(posed, problem), self._weights(problem))


@dataclass
class Floor(Term):
    """weight x contact x squared height in metres by which a planted foot's lowest point misses the floor.

    The lowest of heel, ball and toes, taken softly: -SOFT log sum exp(-height / SOFT), so that it does not jump. Within
    SLACK of the floor nothing pulls: the floor is found from foot joints, and how they lie over the sole varies.
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
        points = self._soles(posed, problem)
        share = torch.softmax(-points[..., 1] / SOFT, -1)
        parts = torch.stack([self._height_jacobians(posed, problem, side, points, unknowns) for side in (0, 1)], 2)
        lowest = (parts * share[:, None]).sum(-1)
        weight = self.weight * (problem.contact.weight.T * problem.trust).T
        residual = self.residual(posed, problem)
        normal.add(lowest, residual, weight * (residual != 0))
        # a foot under the floor also feels how the lowest point moves along the sole: the curvature of the soft minimum
        bend = (weight * (-residual).relu() / SOFT)[..., None] * share
        others = (parts - lowest[..., None]).flatten(2)
        normal.add(others, torch.zeros_like(others[:, 0]), bend.flatten(1))

    @staticmethod
    def _soles(posed: Posed, problem: Problem) -> Tensor:
        """World heels, balls and toes (N, 2, 3, 3)."""
        contact = problem.contact
        ankles = [pair[0] for pair in FEET]
        offset = contact.sole + torch.einsum("spck,nk->nspc", contact.sole_dirs, posed.betas)
        turned = (posed.globals[:, ankles][:, :, None] @ offset[..., None])[..., 0]
        return posed.joints[:, ankles][:, :, None] + turned

    @staticmethod
    def _height_jacobians(posed: Posed, problem: Problem, side: int, points: Tensor, unknowns: str) -> Tensor:
        """Derivative (N, P, 3) of the heights of a foot's heel, ball and toes; points (N, 2, 3, 3)."""
        ankle, foot = FEET[side]
        jacobian = torch.stack([posed.point_jacobian(p, foot, unknowns)[..., 1] for p in points[:, side].unbind(1)], -1)
        if unknowns == "all":
            dirs = problem.contact.sole_dirs[side]
            shape = posed.joint_jacobian(unknowns)[:, -dirs.shape[-1] :, ankle, 1]
            turned = torch.einsum("nc,pck->nkp", posed.globals[:, ankle, 1], dirs)
            jacobian[:, -dirs.shape[-1] :] = shape[..., None] + turned
        return jacobian
