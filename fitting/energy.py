"""The energy of a batch of clips: a list of weighted terms, its value by term and clip, its normal equations."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed, State
from fitting.terms import Normal, Term


@dataclass
class Energy:
    """Terms by name on a problem. unknowns: "rigid" = transl and root move; "all" = pose and betas too.

    Terms of single frames are worked out part by part (`Posed.parts`): so the derivatives of a long clip are never in
    memory all together, and what is worked on stays in a core's cache.
    """

    terms: dict[str, Term]
    problem: Problem
    unknowns: str = "all"
    _cut: list[Problem] | None = field(default=None, init=False, repr=False)

    def evaluate(self, state: State) -> tuple[Posed, Tensor]:
        """The posed frames, and the energy of each term in each frame (terms, clips, frames), zero on padding."""
        posed, mask = self.problem.rig.posed(state), self.problem.mask
        values = posed.transl.new_zeros(len(self.terms), *mask.shape)
        for clips, frames, part, problem in self._parts(posed):
            for i, term in enumerate(self.terms.values()):
                if not term.ties_frames:
                    values[i, clips, frames] = term.energy(part, problem).view_as(problem.mask)
        for i, term in enumerate(self.terms.values()):
            if term.ties_frames:
                values[i] = term.energy(posed, self.problem).view_as(mask)
        return posed, torch.where(mask, values, 0)

    def normal(self, posed: Posed, room: Normal | None = None) -> Normal:
        """Normal equations of all frames; padding gets the identity and a zero gradient.

        room: normal equations that are not needed any more; where they have the size, their memory is used again.
        """
        rig = posed.rig
        size = 6 if self.unknowns == "rigid" else 6 + 3 * len(rig.fitted) + rig.num_betas
        if room is None or room.gradient.shape != (posed.count, size):
            room = Normal(posed.transl.new_empty(posed.count, size, size), posed.transl.new_empty(posed.count, size))
        normal, start = Normal(room.matrix, room.gradient), 0
        for _, _, part, problem in self._parts(posed):
            rows = slice(start, start := start + part.count)
            own = Normal(normal.matrix[rows].zero_(), normal.gradient[rows].zero_())
            for term in self.terms.values():
                if not term.ties_frames:
                    term.add_to(own, part, problem, self.unknowns)
            part.forget()
        for term in self.terms.values():
            if term.ties_frames:
                term.add_to(normal, posed, self.problem, self.unknowns)
        posed.forget()
        self._fill_padding(normal, size if self.unknowns == "rigid" else size - rig.num_betas)
        return normal

    def _fill_padding(self, normal: Normal, size: int) -> None:
        if not self.problem.mask.all():
            padding = ~self.problem.mask.flatten()
            normal.matrix[padding] = 0
            normal.gradient[padding] = 0
            normal.matrix.diagonal(dim1=1, dim2=2)[padding, :size] = 1

    def _parts(self, posed: Posed) -> list[tuple[slice, slice, Posed, Problem]]:
        """Clips, frames, pose and problem of each part; the parts of the problem are cut once."""
        if len(posed.parts) == 1:
            return [(*posed.parts[0], self.problem)]
        if self._cut is None:
            self._cut = [self.problem.part(clips, frames) for clips, frames, _ in posed.parts]
        return [(*part, problem) for part, problem in zip(posed.parts, self._cut, strict=True)]

    def clips(self, index: Tensor) -> "Energy":
        """The same energy of some of the clips."""
        return Energy(self.terms, self.problem.part(index), self.unknowns)
