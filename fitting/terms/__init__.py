"""The residual terms that a preset may name."""

from fitting.terms.base import Normal, Term, residual_term
from fitting.terms.contact import Contact, Floor, Near
from fitting.terms.joints import Joints, Placement, Torso
from fitting.terms.pose import Angle, Limits, PosePriorTerm, Preserve, Shape
from fitting.terms.smoothness import Smoothness

TERMS: dict[str, type[Term]] = {
    "joints": Joints,
    "torso": Torso,
    "placement": Placement,
    "pose_prior": PosePriorTerm,
    "angle": Angle,
    "limits": Limits,
    "preserve": Preserve,
    "shape": Shape,
    "smoothness": Smoothness,
    "contact": Contact,
    "floor": Floor,
    "near": Near,
}

__all__ = ["TERMS", "Normal", "Term", "residual_term"]
