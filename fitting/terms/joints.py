"""Data terms: the distance between the body's joints and the joints of the input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.problem import TORSO, Problem
from fitting.rig import Posed
from fitting.terms.base import Normal, Term


def gmof(residual: Tensor, sigma: float) -> Tensor:
    """Geman-McClure s^2 x^2 / (s^2 + x^2), elementwise: x^2 for x << s metres, at most s^2."""
    square = residual.square()
    return sigma**2 * square / (sigma**2 + square)


def gmof_slope(residual: Tensor, sigma: float) -> Tensor:
    """d gmof / d x^2: the weight with which a residual enters reweighted least squares."""
    return (1 + residual.square() / sigma**2).square().reciprocal()


@dataclass
class Joints(Term):
    """weight x confidence^2 x sum over xyz of gmof(joint - target); sigma in metres."""

    sigma: float = 100.0

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.joints[:, posed.rig.observed] - problem.targets

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        error = gmof(self.residual(posed, problem), self.sigma).sum(-1)
        return self.weight * problem.trust * (problem.confidence.square() * error).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        weight = self.weight * problem.confidence.square()[..., None] * gmof_slope(residual, self.sigma)
        trusted = (weight.flatten(1).T * problem.trust).T
        normal.add(posed.observed_jacobian(unknowns).flatten(2), residual.flatten(1), trusted)

    def add_curvature_to(self, normal: Normal, posed: Posed, problem: Problem) -> None:
        """gmof's half second derivative is less than gmof_slope by 4 q / (1 + q)^3, q = (residual / sigma)^2."""
        share = self.residual(posed, problem).square() / self.sigma**2
        weight = -4 * self.weight * problem.confidence.square()[..., None] * share / (1 + share) ** 3
        bend = (weight.flatten(1).T * problem.trust).T
        normal.add(posed.observed_jacobian("all").flatten(2), torch.zeros_like(bend), bend)


@dataclass
class Torso(Term):
    """weight x squared distance of hips and shoulders, in metres: what places the body before its limbs move."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (posed.joints[:, posed.rig.observed] - problem.targets)[:, TORSO].flatten(1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        jacobian = posed.observed_jacobian(unknowns)[:, :, TORSO].flatten(2)
        normal.add(jacobian, residual, residual.new_full(residual.shape, self.weight))


@dataclass
class Placement(Term):
    """weight x |transl - guess|^2: holds the translation where the torso of the start asks for it."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.transl - problem.guess

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        normal.matrix.diagonal(dim1=1, dim2=2)[:, :3] += self.weight
        normal.gradient[:, :3] += self.weight * residual
