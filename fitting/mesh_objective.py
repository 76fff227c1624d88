"""Losses on the mesh as a function of motion joints: joints -> fit layer -> body -> fitting/mesh_losses.py.

losses = MeshLosses({"slip": 1.0, "bones": 4.0})
terms = losses(joints, mask, fps=20.0)  # each (clips,), differentiable by the joints
losses.total(terms).sum().backward()
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fitting import mesh_losses
from fitting.contact import BALLS, floor_under, standing
from fitting.layer import fit_layer
from fitting.probes import Probes, probes_of
from fitting.smplify3d import SMPLify3D
from models.errors import InputError

TERMS = ("slip", "skate", "penetration", "bones", "limits", "self_penetration", "jerk")
OF_JOINTS = ("skate", "bones")  # need no fit
Fit = tuple[Tensor, Tensor, Tensor]  # thetas, betas, transl as fit_layer gives them


class MeshLosses:
    """Terms by name, those of `weights`; see the functions of fitting/mesh_losses.py."""

    def __init__(self, weights: Mapping[str, float], preset: str = "quick") -> None:
        """weights: of TERMS, 0 for one that is only looked at; preset: of the fit. `quick` leaves feet where the joints
        have them, so that slip shows.

        Raises InputError for other names, weights below 0 or not finite, and none above 0.
        """
        if unknown := sorted(set(weights) - set(TERMS)):
            raise InputError(f"unknown losses on the mesh {', '.join(unknown)}; known are {', '.join(TERMS)}")
        if not any(weights.values()) or not all(0 <= weight < math.inf for weight in weights.values()):
            raise InputError(f"weights of losses on the mesh are {dict(weights)}; expected: 0 or more, one above 0")
        self.weights = dict(weights)
        self.fitter = SMPLify3D(preset=preset)
        self.probes: Probes = probes_of(self.fitter.body)

    def __call__(self, joints: Tensor, mask: Tensor, fps: float, floor: Tensor | None = None) -> dict[str, Tensor]:
        """joints (clips, frames, 22, 3) metres, y up, mask (clips, frames) -> each term (clips,), not weighted.

        floor (clips,): height of the foot joints on the ground, by default the lowest of the clip.
        """
        with torch.autocast(joints.device.type, enabled=False):
            if set(self.weights) <= set(OF_JOINTS):
                return self.of_joints(joints.float(), mask, fps, floor)
            fit = fit_layer(joints, mask, fps, self.fitter)
            return self.of_fit(joints, fit, mask, fps, floor)

    def of_joints(self, joints: Tensor, mask: Tensor, fps: float, floor: Tensor | None = None) -> dict[str, Tensor]:
        """As __call__, but only the terms that need no fit."""
        floor = _floor(joints, mask) if floor is None else floor
        terms = {
            "skate": lambda: mesh_losses.skate(joints[:, :, BALLS], _stands(joints, mask, fps, floor), fps),
            "bones": lambda: mesh_losses.bone_length_change(joints, mask),
        }
        return {name: terms[name]() for name in self.weights if name in OF_JOINTS}

    def of_fit(
        self, joints: Tensor, fit: Fit, mask: Tensor, fps: float, floor: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As __call__, of a fit to the joints that was made before."""
        (thetas, betas, transl), probes = fit, self.probes.to(joints)
        floor = _floor(joints, mask) if floor is None else floor
        points = probes(betas, thetas, transl)
        weight = mesh_losses.bearing(points.soles, _stands(joints, mask, fps, floor), fps)
        terms = {
            "slip": lambda: mesh_losses.foot_slip(points.soles, weight, fps),
            "penetration": lambda: mesh_losses.penetration(points.skin[..., 1] - self._ground(floor), mask),
            "limits": lambda: mesh_losses.limit_excess(thetas, self.fitter.limits.to(thetas), mask),
            "self_penetration": lambda: mesh_losses.self_penetration(points.centres, probes.radii, probes.pairs, mask),
            "jerk": lambda: mesh_losses.jerk(probes.body.joints(betas, thetas, transl)[:, :, :22], mask, fps),
        }
        found = {name: terms[name]() for name in self.weights if name in terms}
        return found | self.of_joints(joints, mask, fps, floor)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum (clips,)."""
        return sum(weight * terms[name] for name, weight in self.weights.items() if weight)

    def _ground(self, floor: Tensor) -> Tensor:
        """The height of the ground (clips, 1, 1) under a flat sole whose foot joint is as high as `floor` (clips,)."""
        body = self.fitter.body
        flat = body.rest_template[BALLS, 1].mean() - self.probes.body.v_template[:6, 1].min()
        return (floor - flat.to(floor))[:, None, None]


def _floor(joints: Tensor, mask: Tensor) -> Tensor:
    """Height (clips,) of the foot joints on the ground; no gradient."""
    feet = joints.detach()[:, :, BALLS]
    return floor_under(feet, mask[..., None].expand(feet.shape[:3]))


def _stands(joints: Tensor, mask: Tensor, fps: float, floor: Tensor) -> Tensor:
    """How surely each foot stands from a frame to the next, (clips, frames - 1, 2); no gradient."""
    feet = joints.detach()[:, :, BALLS]
    return standing(feet, mask[..., None].expand(feet.shape[:3]), joints.new_full(floor.shape, fps), floor)
