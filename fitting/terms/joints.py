"""Data terms: the distance between the body's joints and the joints of the input."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from fitting.problem import TORSO, Problem
from fitting.rig import Posed
from fitting.terms.base import Normal, Term
from models.errors import InputError
from models.skeleton import BODY


def gmof(residual: Tensor, sigma: float) -> Tensor:
    """Geman-McClure s^2 x^2 / (s^2 + x^2), elementwise: x^2 for x << s metres, at most s^2."""
    square = residual.square()
    return sigma**2 * square / (sigma**2 + square)


def gmof_slope(residual: Tensor, sigma: float) -> Tensor:
    """d gmof / d x^2: the weight with which a residual enters reweighted least squares."""
    return (1 + residual.square() / sigma**2).square().reciprocal()


@dataclass
class Joints(Term):
    """weight x confidence^2 x sum over xyz of gmof(joint - target); sigma in metres.

    confidence: factors of the input's confidence by joint, 1 for those not named; kept as a tensor (22,).
    """

    sigma: float = 100.0
    confidence: Mapping[str, float] | Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.confidence, Mapping):
            self.confidence = by_joint(self.confidence)

    def _confidence(self, problem: Problem) -> Tensor:
        """Squared confidence (N, observed); landmarks keep the input's."""
        if self.confidence is None:
            return problem.confidence.square()
        landmarks = problem.confidence.shape[1] - len(BODY)
        factors = pad(self.confidence.to(problem.confidence), (0, landmarks), value=1.0)
        return (problem.confidence * factors).square()

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.joints[:, posed.rig.observed] - problem.targets

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        error = gmof(self.residual(posed, problem), self.sigma).sum(-1)
        return self.weight * problem.trust * (self._confidence(problem) * error).sum(-1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        weight = self.weight * self._confidence(problem)[..., None] * gmof_slope(residual, self.sigma)
        trusted = (weight.flatten(1).T * problem.trust).T
        normal.add(posed.observed_jacobian(unknowns).flatten(2), residual.flatten(1), trusted)

    def add_curvature_to(self, normal: Normal, posed: Posed, problem: Problem) -> None:
        """gmof's half second derivative is less than gmof_slope by 4 q / (1 + q)^3, q = (residual / sigma)^2."""
        share = self.residual(posed, problem).square() / self.sigma**2
        weight = -4 * self.weight * self._confidence(problem)[..., None] * share / (1 + share) ** 3
        bend = (weight.flatten(1).T * problem.trust).T
        normal.add(posed.observed_jacobian("all").flatten(2), torch.zeros_like(bend), bend)


def by_joint(factors: Mapping[str, float]) -> Tensor:
    """Factors by joint's name as a tensor (22,) float64, 1 for joints not named. Raises InputError for other names."""
    if unknown := set(factors) - set(BODY):
        raise InputError(f"confidence names {', '.join(sorted(map(str, unknown)))}; joints are {', '.join(BODY)}.")
    return torch.tensor([float(factors.get(name, 1.0)) for name in BODY], dtype=torch.float64)


@dataclass
class Torso(Term):
    """weight x squared distance of hips and shoulders, in metres: what places the body before its limbs move."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return (posed.joints[:, posed.rig.observed] - problem.targets)[:, TORSO].flatten(1)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        jacobian = posed.observed_jacobian(unknowns)[:, :, TORSO].flatten(2)
        normal.add(jacobian, residual, self.weight * torch.ones_like(residual))


@dataclass
class Placement(Term):
    """weight x |transl - guess|^2: holds the translation where the torso of the start asks for it."""

    def residual(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.transl - problem.guess

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        residual = self.residual(posed, problem)
        normal.matrix.diagonal(dim1=1, dim2=2)[:, :3] += self.weight
        normal.gradient[:, :3] += self.weight * residual
