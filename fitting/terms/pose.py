"""Terms on the body pose alone: mixture prior, angle prior, joint limits, pull towards the start; and on the shape."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed
from fitting.terms.base import Normal, Term


@dataclass
class PosePriorTerm(Term):
    """weight x -log of the mixture: the best component alone ("hard", as SMPLify) or all of them ("soft", smooth)."""

    components: Literal["hard", "soft"] = "soft"

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        energies = problem.mixture.whitened(posed.pose.flatten(1))[1]
        return self.weight * (energies.amin(-1) if self.components == "hard" else -torch.logsumexp(-energies, -1))

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        """See Term: the components' gradients and precisions under their shares, the body's pose (frames, 69) alone."""
        mixture = problem.mixture
        z, energies = mixture.whitened(posed.pose.flatten(1))
        share = torch.softmax(-energies, -1)
        if self.components == "hard":
            share = torch.zeros_like(energies).scatter_(-1, energies.argmin(-1, keepdim=True), 1)
        half = 0.5 * self.weight
        body = slice(6, 6 + mixture.size)
        normal.gradient[:, body] += half * (z * share[..., None]).flatten(1) @ mixture.factors.T
        normal.matrix[:, body, body] += half * (share @ mixture.precisions).unflatten(-1, (mixture.size, mixture.size))

    def add_curvature_to(self, normal: Normal, posed: Posed, problem: Problem) -> None:
        """Take half of weight x the covariance of the components' gradients, under their shares, from the matrices."""
        if self.components == "hard":
            return
        mixture = problem.mixture
        z, energies = mixture.whitened(posed.pose.flatten(1))
        share = torch.softmax(-energies, -1)[..., None] * problem.mask.flatten()[:, None, None]
        slopes = torch.einsum("dke,nke->nkd", mixture.factors.unflatten(1, (mixture.count, -1)), z)
        spread = share.sqrt() * (slopes - (share * slopes).sum(1, keepdim=True))
        body = slice(6, 6 + mixture.size)
        normal.matrix[:, body, body] -= self.weight / 2 * spread.mT @ spread


# left and right elbow about y, left and right knee about x: place among the 69 numbers, sign of bending the wrong way
BENDING = {52: 1.0, 55: -1.0, 9: -1.0, 12: -1.0}


def angle_prior(body_pose: Tensor) -> Tensor:
    """exp(2 x signed angle) of elbows and knees (N, 69) -> (N, 4): grows fast when they bend the wrong way."""
    sign = torch.tensor(list(BENDING.values()), dtype=body_pose.dtype, device=body_pose.device)
    return torch.exp(2 * sign * body_pose[:, list(BENDING)])


@dataclass
class Angle(Term):
    """weight x sum of angle_prior over elbows and knees; the fit has all body joints as unknowns."""

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return self.weight * angle_prior(posed.pose.flatten(1)).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        value = self.weight * angle_prior(posed.pose.flatten(1))
        rows = [6 + i for i in BENDING]
        normal.gradient[:, rows] += value * torch.tensor(list(BENDING.values())).to(value)
        normal.matrix.diagonal(dim1=1, dim2=2)[:, rows] += value


@dataclass
class Limits(Term):
    """weight x squared angle in radians by which a component of a rotation vector lies outside its joint's limits."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        low, high = problem.limits.unbind(-1)
        pose = posed.pose.flatten(1)
        return (pose - high).relu() - (low - pose).relu()

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        excess = self.residual(posed, problem)
        body = slice(6, 6 + excess.shape[-1])
        normal.gradient[:, body] += self.weight * excess
        normal.matrix.diagonal(dim1=1, dim2=2)[:, body] += self.weight * (excess != 0)


@dataclass
class Preserve(Term):
    """weight x squared distance of the body pose from the mean pose, on rotation vectors in radians."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.pose.flatten(1) - problem.mean_pose[problem.fitted_dims]

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        body = slice(6, 6 + residual.shape[-1])
        normal.gradient[:, body] += self.weight * residual
        normal.matrix.diagonal(dim1=1, dim2=2)[:, body] += self.weight


@dataclass
class Shape(Term):
    """weight x |betas|^2 in every frame, as much as the frame's joints are trusted."""

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return self.weight * problem.trust * posed.betas.square().sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        if unknowns == "all":
            weight = (self.weight * torch.ones_like(posed.betas)).T * problem.trust
            normal.gradient[:, -posed.betas.shape[-1] :] += weight.T * posed.betas
            normal.matrix.diagonal(dim1=1, dim2=2)[:, -posed.betas.shape[-1] :] += weight.T
