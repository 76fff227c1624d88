"""The energy of a batch of clips: a list of weighted terms, its value by term and clip, its normal equations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed, State
from fitting.terms import Normal, Term


@dataclass
class Energy:
    """Terms by name on a problem. unknowns: "rigid" = transl and root move; "all" = pose and betas too."""

    terms: dict[str, Term]
    problem: Problem
    unknowns: str = "all"

    def evaluate(self, state: State) -> tuple[Posed, Tensor]:
        """The posed frames, and the energy of each term in each frame (terms, clips, frames), zero on padding."""
        posed = self.problem.rig.posed(state)
        mask = self.problem.mask
        values = [torch.where(mask, term.energy(posed, self.problem).view_as(mask), 0) for term in self.terms.values()]
        return posed, torch.stack(values)

    def normal(self, posed: Posed) -> Normal:
        """Normal equations of all frames; padding gets the identity and a zero gradient."""
        rig = posed.rig
        size = 6 if self.unknowns == "rigid" else 6 + 3 * len(rig.fitted) + rig.num_betas
        normal = Normal(posed.transl.new_zeros(posed.count, size, size), posed.transl.new_zeros(posed.count, size))
        for term in self.terms.values():
            term.add_to(normal, posed, self.problem, self.unknowns)
        if not self.problem.mask.all():
            padding = ~self.problem.mask.flatten()
            normal.matrix[padding] = 0
            normal.gradient[padding] = 0
            frame = size if self.unknowns == "rigid" else size - rig.num_betas
            normal.matrix.diagonal(dim1=1, dim2=2)[padding, :frame] = 1
        return normal

    def clips(self, index: Tensor) -> "Energy":
        """The same energy of some of the clips."""
        return Energy(self.terms, self.problem.clips(index), self.unknowns)
