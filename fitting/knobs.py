"""What of a fit's energy can be learned: weights and widths of its terms, trust in each joint, and the pose prior."""

import copy
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from fitting.preset import Preset, Stage
from fitting.smplify3d import SMPLify3D
from fitting.terms import Term
from fitting.terms.joints import Joints
from models.prior import PosePrior
from models.skeleton import BODY, SMPL_JOINTS

POSED = SMPL_JOINTS[1:]  # the joints of a body pose


class Knobs(nn.Module):
    """Changes of a preset's last stage and of a prior, all without units and 0 where nothing is changed; float64.

    numbers (N,): logarithms of factors of the terms' weights and widths, in the order of `names`, "TERM.FIELD";
    confidence (22,): logarithms of factors of each joint's confidence; means (K, 69): shifts of the prior's means in
    deviations of their component; spread (23,): logarithms of factors of each joint's deviations in all components.
    """

    def __init__(self, preset: Preset, prior: PosePrior):
        super().__init__()
        terms = last_stage(preset)[1].terms
        self.names = [f"{name}.{field}" for name, term in terms.items() for field in numbers_of(term)]
        for name, shape in {
            "numbers": (len(self.names),),
            "confidence": (len(BODY),),
            "means": tuple(prior.means.shape),
            "spread": (len(POSED),),
        }.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape, dtype=torch.float64)))

    def applied(self, module: SMPLify3D) -> SMPLify3D:
        """The module with the changed preset and prior, which follow these parameters; the module itself stays."""
        changed = copy.copy(module)
        changed.preset, changed.prior = self.preset(module.preset), self.prior(module.prior)
        return changed

    def preset(self, preset: Preset) -> Preset:
        """The preset with its last stage's numbers changed."""
        name, stage = last_stage(preset)
        factors = dict(zip(self.names, self.numbers.exp(), strict=True))
        terms = {key: self._term(key, term, factors) for key, term in stage.terms.items()}
        return replace(preset, stages={**preset.stages, name: replace(stage, terms=terms)})

    def _term(self, name: str, term: Term, factors: dict[str, Tensor]) -> Term:
        changed = copy.copy(term)
        for field, value in numbers_of(term).items():
            setattr(changed, field, value * factors[f"{name}.{field}"])
        if isinstance(term, Joints):
            before = 1.0 if term.confidence is None else term.confidence.double()
            changed.confidence = before * self.confidence.exp()
        return changed

    def prior(self, prior: PosePrior) -> PosePrior:
        """The prior with means moved and covariances S C S, where S are the factors of the joints' deviations."""
        scale = self.spread.exp().repeat_interleave(3)
        deviations = prior.covariances.diagonal(dim1=1, dim2=2).sqrt()
        covariances = scale[:, None] * prior.covariances * scale
        return replace(
            prior,
            means=prior.means + self.means * deviations,
            covariances=covariances,
            precisions=torch.linalg.inv(covariances),
        )

    def table(self) -> dict[str, float]:
        """Every change by name, of the means their root mean square by joint: for curves."""
        with torch.no_grad():
            moved = self.means.unflatten(1, (len(POSED), 3)).square().mean((0, 2)).sqrt()
            named = dict(zip(self.names, self.numbers.exp().tolist(), strict=True))
            named |= {f"confidence.{joint}": float(x) for joint, x in zip(BODY, self.confidence.exp(), strict=True)}
            named |= {f"spread.{joint}": float(x) for joint, x in zip(POSED, self.spread.exp(), strict=True)}
            return named | {f"means.{joint}": float(x) for joint, x in zip(POSED, moved, strict=True)}


def last_stage(preset: Preset) -> tuple[str, Stage]:
    """Name and stage in which a fit ends, whose minimum is the answer."""
    return list(preset.stages.items())[-1]


def numbers_of(term: Term) -> dict[str, float]:
    """A term's weight and widths."""
    return {field.name: getattr(term, field.name) for field in fields(term) if field.type in (float, "float")}
