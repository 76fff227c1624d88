"""Training MDM through the fit: losses on the mesh of the motion that it predicts, beside the diffusion loss.

At low noise the predicted x_0 is what sampling ends with. A few clips of each batch are noised so little, and a window
of the motion predicted for each goes features -> joints -> fit -> mesh -> losses, whose gradient comes all the way back
(fitting/mesh_objective.py).
"""

import math
from typing import Any

import torch
from torch import Tensor

from fitting.contact import BALLS, floor_under
from fitting.mesh_losses import weighted_mean
from fitting.mesh_objective import MeshLosses
from models.errors import InputError
from models.mdm.data import TextMotionBatch
from models.mdm.generate import FPS
from models.mdm.losses import masked_l2
from models.mdm.module import MDM, derived_seed, plain_attention

MESH = 3  # whose draws a seed is for, after those of models.mdm.module


class ThroughFit(MDM):
    """MDM with losses on the mesh; HumanML3D's features alone."""

    def __init__(
        self,
        mesh_weights: dict[str, float],
        keep_weight: float = 2.0,
        pace_weight: float = 1.0,
        preset: str = "quick",
        below: float = 0.1,
        clips: int = 4,
        window: int = 32,
        guidance: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """mesh_weights, preset: as of MeshLosses; below: the share of the noise levels, from the cleanest, at which
        motion is looked at; clips: how many of a batch; window: frames of each; guidance: scale of the classifier-free
        guidance under which they are predicted, as sampling will (1: none). keep_weight: of the diffusion loss of
        just these; pace_weight: of pace_change, without which the easiest foot that does not slip is that of a person
        who hardly moves. The rest is MDM's.

        Raises InputError for numbers out of range, a data set without 22 joints, and what MDM refuses.
        """
        super().__init__(**kwargs)
        if not 0 < below <= 1 or clips < 1 or window < 4:
            raise InputError(
                f"below {below} is a share in (0, 1], clips {clips} at least 1, window {window} at least 4"
            )
        if self.options["dataset"] != "humanml":
            raise InputError(
                f"losses on the mesh need the 22 joints of humanml, not dataset {self.options['dataset']!r}"
            )
        self.mesh = MeshLosses(mesh_weights, preset)

    def training_step(self, batch: TextMotionBatch, batch_idx: int) -> Tensor:
        """The diffusion loss and the weighted losses on the mesh; each of these is logged by name, not weighted."""
        loss = super().training_step(batch, batch_idx)
        seed = derived_seed(self.hparams.seed, MESH, self.trainer.fit_loop.epoch_loop.total_batch_idx)
        few = first(batch, self.hparams.clips)
        clean = self._clean(batch, few, seed)
        kept = masked_l2(clean, few.motion, few.mask)
        joints = self._to_joints(clean)
        pace = pace_change(joints, self._to_joints(few.motion), few.mask)
        terms = self.mesh(*self._window(joints, few.mask, seed))
        anchors = self.hparams.keep_weight * kept + self.hparams.pace_weight * pace
        total = (anchors + self.mesh.total(terms)).mean()
        values = {f"mesh/{name}": value.mean() for name, value in (terms | {"keep": kept, "pace": pace}).items()}
        self.log_dict(values | {"mesh/loss": total}, batch_size=len(kept))
        return loss + total

    def _clean(self, batch: TextMotionBatch, few: TextMotionBatch, seed: int) -> Tensor:
        """Motion as it is predicted for the first clips of a batch at low noise, normalised.

        In single precision: bfloat16 rounds positions to millimetres, feet that slide at 0.04 m/s.
        """
        timesteps, _, noise, _ = self._draw(batch.motion, seed)
        low, clips = math.ceil(self.hparams.below * len(self.schedule)), slice(len(few.mask))
        with plain_attention(self.device), torch.autocast(self.device.type, enabled=False):
            given = few, timesteps[clips] * low // len(self.schedule), noise[clips]
            found = self._predicted(self.denoiser, *given)
            if self.hparams.guidance == 1:
                return found
            plain = self._predicted(self.denoiser, *given, torch.zeros(len(found), device=found.device))
            return plain + self.hparams.guidance * (found - plain)

    def _window(self, joints: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor, float, Tensor]:
        """Joints (clips, window, 22, 3) somewhere in each clip, their mask, their rate, and the whole clips' floor."""
        lengths = mask.sum(1)
        feet = joints.detach()[:, :, BALLS]
        floor = floor_under(feet, mask[..., None].expand(feet.shape[:3]))
        draws = torch.Generator().manual_seed(derived_seed(seed, self.global_rank))
        frames = places(lengths, self.hparams.window, draws)
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        window = joints[rows, frames.clamp_max(joints.shape[1] - 1)]
        return window, frames < lengths[:, None], FPS["humanml"], floor


def pace_change(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """By what share the mean speed of joints (clips, frames, J, 3) differs from that of the wanted ones, (clips,)."""
    real = mask[:, 1:, None]
    speeds = [weighted_mean((x.diff(dim=1).square().sum(-1) + 1e-12).sqrt(), real) for x in (found, wanted)]
    return (speeds[0] / speeds[1].clamp_min(1e-4) - 1).abs()


def first(batch: TextMotionBatch, count: int) -> TextMotionBatch:
    """The first clips of a batch."""
    return TextMotionBatch(*(None if part is None else part[:count] for part in vars(batch).values()))


def places(lengths: Tensor, window: int, draws: torch.Generator) -> Tensor:
    """Frames (clips, window) of a window somewhere in each clip of `lengths` (clips,); shorter clips are overrun."""
    room = (lengths - window + 1).clamp_min(1)
    start = (torch.rand(len(lengths), generator=draws).to(lengths.device) * room).long()
    return start[:, None] + torch.arange(window, device=lengths.device)
