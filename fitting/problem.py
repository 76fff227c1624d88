"""What is fitted: the targets of a batch of clips and the constants that terms read."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitting.belief import Belief
from fitting.contact import Contact
from fitting.mixture import Mixture
from fitting.noise import Noise
from fitting.rig import Rig
from fitting.window import averaged

TORSO = (1, 2, 16, 17)  # hips and shoulders
CALM = 0.1  # seconds: deviation of the window over which very noisy targets are averaged


@dataclass
class Problem:
    """Targets of N = clips x frames frames; metres, y up."""

    rig: Rig
    targets: Tensor  # (N, observed, 3)
    confidence: Tensor  # (N, observed), 0 where nothing was seen
    mask: Tensor  # (clips, frames), false on padding
    fps: Tensor  # (clips,)
    mixture: Mixture | None  # None: no term asks for it
    limits: Tensor | None  # (fitted x 3, 2) radians
    mean_pose: Tensor  # (69,) rotation vectors of the body joints where a fit starts
    guess: Tensor | None = None  # (N, 3) translation that the torso asks for
    noise: Noise | None = None  # None: the joints are taken as they are
    contact: Contact | None = None  # None: no term asks for it
    belief: Belief | None = None  # None: the start is not learned

    @property
    def fitted_dims(self) -> Tensor:
        return fitted_dims(self.rig)

    def part(self, clips: slice | Tensor, frames: slice = slice(None)) -> "Problem":
        """The problem of some of the clips, or of some frames of them."""
        rows = torch.arange(self.mask.numel(), device=self.mask.device).view(self.mask.shape)[clips, frames].flatten()
        return replace(
            self,
            targets=self.targets[rows],
            confidence=self.confidence[rows],
            mask=self.mask[clips, frames],
            fps=self.fps[clips],
            guess=None if self.guess is None else self.guess[rows],
            noise=None if self.noise is None else self.noise.clips(clips),
            contact=None if self.contact is None else self.contact.rows(rows),
            belief=None if self.belief is None else self.belief.rows(rows),
        )

    def calmed(self) -> "Problem":
        """The problem with targets averaged in time, as far as they are noisy: for a start, not for the fit."""
        if self.noise is None:
            return self
        targets = self.targets.unflatten(0, self.mask.shape).flatten(2)
        width = CALM * self.fps * self.noise.share
        return replace(self, targets=averaged(targets, self.mask, width).view_as(self.targets))

    @property
    def trust(self) -> Tensor | float:
        """Factor (N,) of the weight of what was measured."""
        return 1.0 if self.noise is None else self.noise.trust.repeat_interleave(self.mask.shape[1])


def fitted_dims(rig: Rig) -> Tensor:
    """Indices of the fitted joints' rotation vectors among the 69 numbers of a body pose."""
    joints = torch.tensor(rig.fitted, device=rig.rest_template.device)
    return (3 * (joints - 1)[:, None] + torch.arange(3, device=joints.device)).flatten()
