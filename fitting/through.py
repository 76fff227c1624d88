"""Training MDM through the fit: losses on the mesh of the motion that it samples, beside the diffusion loss.

A few sentences of each batch are sampled in ten guided levels, as `thetafit generate` does it with a model that reads
words, and a window of each motion goes features -> joints -> fit -> mesh -> losses, whose gradient comes all the way
back into the last evaluation of the network (fitting/mesh_objective.py). What was predicted earlier in a sample is
taken as given. Source of that cut: Clark et al., Directly Fine-Tuning Diffusion Models on Differentiable Rewards, 2024
(DRaFT-K, here K = 1).
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from fitting.contact import BALLS, floor_under
from fitting.mesh_losses import weighted_mean
from fitting.mesh_objective import MeshLosses
from models.errors import InputError
from models.mdm.data import TextMotionBatch
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.diffusion import spaced_in_lambda
from models.mdm.generate import FEW, FPS, GUIDANCE
from models.mdm.losses import masked_l2
from models.mdm.module import MDM, derived_seed, plain_attention
from models.mdm.sampling import dpm_solver

PACE = 4  # frames
MESH = 3  # whose draws a seed is for, after those of models.mdm.module


class ThroughFit(MDM):
    """MDM with losses on the mesh of what it samples; HumanML3D's features alone."""

    def __init__(
        self,
        mesh_weights: dict[str, float],
        keep_weight: float = 2.0,
        pace_weight: float = 1.0,
        preset: str = "quick",
        clips: int = 4,
        window: int = 32,
        **kwargs: Any,
    ) -> None:
        """mesh_weights, preset: as of MeshLosses; clips: how many sentences of a batch are sampled; window: frames of
        each that are fitted. keep_weight: of the squared distance, in normalised features, to what the network that
        training began with would predict at the same place of the sample; pace_weight: of pace_change against what
        that network samples from the same noise, without which the easiest foot that does not slip is that of a person
        who hardly moves. The rest is MDM's.

        Raises InputError for no clip, a window below 4, weights below 0 or not finite, no network to begin with
        (init_from), a data set without 22 joints, and what MDM refuses.
        """
        super().__init__(**kwargs)
        if clips < 1 or window < 4:
            raise InputError(f"clips {clips} is at least 1, window {window} at least 4")
        for name, weight in {"keep_weight": keep_weight, "pace_weight": pace_weight}.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"{name} {weight:g} is a weight: 0 or more, such as 10")
        if self.hparams.init_from is None:
            raise InputError("training through the fit tunes a model that samples already: give its weights, init_from")
        if self.options["dataset"] != "humanml":
            raise InputError(
                f"losses on the mesh need the 22 joints of humanml, not dataset {self.options['dataset']!r}"
            )
        self.mesh = MeshLosses(mesh_weights, preset)
        self.levels = self.schedule.keep(spaced_in_lambda(self.schedule, FEW))
        self.beginning = copy.deepcopy(self.denoiser).requires_grad_(False).eval()

    def training_step(self, batch: TextMotionBatch, batch_idx: int) -> Tensor:
        """The diffusion loss and the weighted losses on the mesh; each of these is logged by name, not weighted."""
        loss = super().training_step(batch, batch_idx)
        seed = derived_seed(self.hparams.seed, MESH, self.trainer.fit_loop.epoch_loop.total_batch_idx)
        few, noise = first(batch, self.hparams.clips), self._draw(batch.motion, seed)[2]
        noise = noise[: len(few.mask)]
        self.denoiser.eval()  # whoever samples drops nothing out
        found, last, strayed = self.sampled(few, noise, seed)
        self.denoiser.train()
        joints = self._to_joints(found)
        usual = self._to_joints(last if self.refines else self.usual(few, noise))
        terms = self.mesh(*self._window(joints, few.mask, seed))
        terms |= self.mesh.of_joints(joints, few.mask, FPS["humanml"])  # whole clips where no fit is needed
        anchors = {"keep": strayed, "pace": pace_change(joints, usual, few.mask)}
        weighted = (getattr(self.hparams, f"{name}_weight") * value for name, value in anchors.items())
        total = (sum(weighted) + self.mesh.total(terms)).mean()
        values = {name: value.mean() for name, value in (terms | anchors).items()} | {"loss": total}
        self.log_dict({f"mesh/{name}": value for name, value in values.items()}, batch_size=len(found))
        return loss + total

    @property
    def refines(self) -> bool:
        """Whether only what acts at the last level is trained: then samples come there as they always did."""
        trained = [name for name, parameter in self.denoiser.named_parameters() if parameter.requires_grad]
        return all(name.startswith("refine.") for name in trained)

    def sampled(self, few: TextMotionBatch, noise: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Motion sampled from noise, normalised, with the gradient of the network's last evaluation; what the network
        that training began with predicts there; and how far two predictions stray from that network's, (clips,): the
        last, and one of an earlier level, without which the sample's beginning would drift unseen.

        In single precision: bfloat16 rounds positions to millimetres, feet that slide at 0.04 m/s.
        """
        condition, wanted, strayed = self.condition(few), [], []
        last, *earlier = self.levels.timesteps.tolist()
        drawn = earlier[seed % len(earlier)]

        def denoise(x: Tensor, timestep: int) -> Tensor:
            if timestep not in (last, drawn):
                return self.predicted(self.denoiser, x, timestep, condition, follow=False)
            found = self.predicted(self.denoiser, x, timestep, condition, follow=True)
            wanted.append(self.predicted(self.beginning, x, timestep, condition, follow=False))
            strayed.append(masked_l2(found, wanted[-1], few.mask))
            return found if timestep == last else found.detach()

        with plain_attention(self.device), torch.autocast(self.device.type, enabled=False):
            found = dpm_solver(denoise, noise, self.levels)
        return found, wanted[-1], sum(strayed)

    def usual(self, few: TextMotionBatch, noise: Tensor) -> Tensor:
        """What the network that training began with samples from this noise, normalised."""
        condition = self.condition(few)
        with plain_attention(self.device), torch.autocast(self.device.type, enabled=False):
            return dpm_solver(
                lambda x, timestep: self.predicted(self.beginning, x, timestep, condition, follow=False),
                noise,
                self.levels,
            )

    def predicted(self, network: Denoiser, x: Tensor, timestep: int, condition: Condition, follow: bool) -> Tensor:
        """Predicted x_0 under the guidance that sampling has, where the network learned to go without its condition."""
        timesteps = torch.full((len(x),), timestep, device=x.device)
        with torch.set_grad_enabled(follow):
            found = network.rough(x, timesteps, condition)
            if network.config.condition != "none" and network.config.condition_drop > 0:
                plain = network.rough(x, timesteps, condition, x.new_zeros(len(x)))
                found = plain + GUIDANCE * (found - plain)
            return network.refined(found, timesteps, condition)

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
    """By what share the mean speed of joints (clips, frames, J, 3) is off that of the wanted ones, over all clips.

    Speeds over PACE frames: between neighbours jitter would pass for pace.
    """
    real = mask[:, PACE:, None]
    ways = (x[:, PACE:] - x[:, :-PACE] for x in (found, wanted))
    speeds = [weighted_mean((way.square().sum(-1) + 1e-12).sqrt(), real) for way in ways]
    return (speeds[0].mean() / speeds[1].mean().clamp_min(1e-4) - 1).abs()


def first(batch: TextMotionBatch, count: int) -> TextMotionBatch:
    """The first clips of a batch."""
    return TextMotionBatch(*(None if part is None else part[:count] for part in vars(batch).values()))


def places(lengths: Tensor, window: int, draws: torch.Generator) -> Tensor:
    """Frames (clips, window) of a window somewhere in each clip of `lengths` (clips,); shorter clips are overrun."""
    room = (lengths - window + 1).clamp_min(1)
    start = (torch.rand(len(lengths), generator=draws).to(lengths.device) * room).long()
    return start[:, None] + torch.arange(window, device=lengths.device)
