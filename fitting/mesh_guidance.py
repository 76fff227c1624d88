"""Losses on the mesh as guidance while a diffusion model samples, for models that one cannot or will not train."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fitting.mesh_objective import MeshLosses
from models.errors import InputError
from models.mdm.features import features_to_joints
from models.mdm.generate import FPS
from models.mdm.normalization import Statistics

WEIGHTS = {"slip": 1.0, "bones": 1.0}
SCALE = 0.2  # more overshoots: slip is fast in some frames, slow in others
STEPS = 6


class MeshGuidance:
    """Moves predicted motion (batch, frames, 263), normalised, down the gradients of losses on its mesh.

    The gradient is taken in the features' own units, mostly metres, where all joints move alike. Each term's step is
    Polyak's, share x term / |gradient|^2 along its gradient, for each clip apart: a term of constant slope would come
    to zero with the share 1, whatever its unit and the clip's length.
    """

    def __init__(
        self,
        statistics: Statistics,
        scale: float = SCALE,
        steps: int = STEPS,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        """A term's share is scale x its weight; steps: how many, each with a fit of its own.

        Raises InputError for a scale that is not above 0, no step, and for weights that MeshLosses refuses.
        """
        if not (math.isfinite(scale) and scale > 0) or steps < 1:
            raise InputError(
                f"guidance by the mesh at scale {scale:g} in {steps} steps: expected is a scale above 0, such as "
                f"{SCALE:g}, and 1 step or more"
            )
        self.statistics, self.scale, self.steps = statistics, scale, steps
        self.losses = MeshLosses(weights)

    def __call__(self, clean: Tensor) -> Tensor:
        """The motion after all steps."""
        for _ in range(self.steps):
            clean = self._step(clean)
        return clean

    @torch.enable_grad()
    def _step(self, clean: Tensor) -> Tensor:
        features = self.statistics.denormalize(clean.detach().float()).requires_grad_()
        joints = features_to_joints(features)
        mask = joints.new_ones(joints.shape[:2], dtype=torch.bool)
        terms = self.losses(joints, mask, FPS["humanml"])
        shares = {name: weight for name, weight in self.losses.weights.items() if weight}
        steps = (weight * polyak_step(terms[name], features) for name, weight in shares.items())
        return self.statistics.normalize(features.detach() - self.scale * sum(steps)).to(clean)


def polyak_step(loss: Tensor, x: Tensor) -> Tensor:
    """loss / |slope|^2 along the slope: loss (batch,) of x (batch, ...), each of its own row alone."""
    (slope,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
    length = loss.detach() / slope.square().flatten(1).sum(1).clamp_min(1e-12)
    return length.view(-1, *[1] * (x.dim() - 1)) * slope
