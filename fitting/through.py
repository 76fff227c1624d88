"""Training MDM through the fit: losses on the mesh of the motion that it predicts, beside the diffusion loss.

At low noise the predicted x_0 is what sampling ends with. A few clips of each batch are noised so little, and a window
of the motion predicted for each goes features -> joints -> fit -> mesh -> losses, whose gradient comes all the way back
(fitting/mesh_objective.py).
"""

import math
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from fitting.contact import BALLS, floor_under
from fitting.mesh_objective import MeshLosses
from models.errors import InputError
from models.mdm.data import TextMotionBatch
from models.mdm.generate import FPS
from models.mdm.module import MDM, derived_seed, plain_attention

MESH = 3  # whose draws a seed is for, after those of models.mdm.module


class ThroughFit(MDM):
    """MDM with losses on the mesh; HumanML3D's features alone."""

    def __init__(
        self,
        mesh_weights: dict[str, float],
        preset: str = "quick",
        below: float = 0.1,
        clips: int = 4,
        window: int = 32,
        **kwargs: Any,
    ) -> None:
        """mesh_weights, preset: as of MeshLosses; below: the share of the noise levels, from the cleanest, at which
        motion is looked at; clips: how many of a batch; window: frames of each. The rest is MDM's.

        Raises InputError for numbers out of range, a data set without 22 joints, and what MDM refuses.
        """
        super().__init__(**kwargs)
        if not 0 < below <= 1 or clips < 1 or window < 4:
            raise InputError(f"below {below} is a share in (0, 1], clips {clips} at least 1, window {window} at least 4")
        if self.options["dataset"] != "humanml":
            raise InputError(f"losses on the mesh need the 22 joints of humanml, not dataset {self.options['dataset']!r}")
        self.mesh = MeshLosses(mesh_weights, preset)

    def training_step(self, batch: TextMotionBatch, batch_idx: int) -> Tensor:
        """The diffusion loss and the weighted losses on the mesh; each of these is logged by name, not weighted."""
        loss = super().training_step(batch, batch_idx)
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        terms = self.mesh(*self._windows(batch, derived_seed(self.hparams.seed, MESH, step)))
        count = len(next(iter(terms.values())))
        total = self.mesh.total(terms).mean()
        self.log_dict({f"mesh/{name}": value.mean() for name, value in terms.items()}, batch_size=count)
        self.log("mesh/loss", total, batch_size=count)
        return loss + total

    def _windows(self, batch: TextMotionBatch, seed: int) -> tuple[Tensor, Tensor, float, Tensor]:
        """Joints (clips, window, 22, 3) of motion predicted at low noise, their mask, their rate, and the floor."""
        timesteps, _, noise, _ = self._draw(batch.motion, seed)
        low = math.ceil(self.hparams.below * len(self.schedule))
        few, clips = first(batch, self.hparams.clips), slice(self.hparams.clips)
        timesteps, noise = timesteps[clips] * low // len(self.schedule), noise[clips]
        with plain_attention(self.device):
            clean = self._predicted(self.denoiser, few, timesteps, noise)
        joints = self._to_joints(clean)
        feet = joints.detach()[:, :, BALLS]
        floor = floor_under(feet, few.mask[..., None].expand(feet.shape[:3]))
        draws = torch.Generator().manual_seed(derived_seed(seed, self.global_rank))
        frames = places(few.mask.sum(1), self.hparams.window, draws)
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        inside = frames < few.mask.sum(1, keepdim=True)
        return joints[rows, frames.clamp_max(joints.shape[1] - 1)], inside, FPS["humanml"], floor


def first(batch: TextMotionBatch, count: int) -> TextMotionBatch:
    """The first clips of a batch."""
    return TextMotionBatch(*(None if part is None else part[:count] for part in astuple(batch)))


def places(lengths: Tensor, window: int, draws: torch.Generator) -> Tensor:
    """Frames (clips, window) of a window somewhere in each clip of `lengths` (clips,); shorter clips are overrun."""
    room = (lengths - window + 1).clamp_min(1)
    start = (torch.rand(len(lengths), generator=draws).to(lengths.device) * room).long()
    return start[:, None] + torch.arange(window, device=lengths.device)
