"""Which timesteps a training step looks at: all alike, or more often those with a large loss."""

import torch
from torch import Tensor, nn

REMEMBERED = 10  # losses kept of each timestep
UNIFORM_SHARE = 0.001  # of draws that stay uniform, so that no timestep is forgotten


class TimestepSampler(nn.Module):
    """Draws timesteps, and the weights that keep the expected loss what uniform draws would give.

    loss_aware: timestep t is drawn in proportion to sqrt(mean of its last losses squared) once every timestep has been
    seen ten times; until then, otherwise, and always in eval mode, uniformly. The losses are buffers: a run resumes
    with what it knew. Source: Nichol and Dhariwal, Improved Denoising Diffusion, 2021, section 3.3.
    """

    def __init__(self, steps: int, loss_aware: bool = False) -> None:
        super().__init__()
        self.steps, self.loss_aware = steps, loss_aware
        self.register_buffer("losses", torch.zeros(steps, REMEMBERED, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """(steps,), float64."""
        uniform = torch.full_like(self.losses[:, 0], 1 / self.steps)
        if not self.loss_aware or bool((self.seen < REMEMBERED).any()):
            return uniform
        sizes = self.losses.square().mean(1).sqrt()
        return (1 - UNIFORM_SHARE) * sizes / sizes.sum() + UNIFORM_SHARE * uniform

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Timesteps (count,) int64 and the weight of each one's loss (count,) float32."""
        if not (self.loss_aware and self.training):
            device = self.losses.device
            return torch.randint(self.steps, (count,), generator=generator, device=device), torch.ones(
                count, device=device
            )
        probabilities = self.probabilities()
        timesteps = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        return timesteps, (1 / (self.steps * probabilities[timesteps])).float()

    def learn(self, timesteps: Tensor, losses: Tensor) -> None:
        """Remembers losses (count,) of timesteps (count,), the oldest forgotten."""
        for timestep, loss in zip(timesteps.tolist(), losses.tolist(), strict=True):
            self.losses[timestep, self.seen[timestep] % REMEMBERED] = loss
            self.seen[timestep] += 1
