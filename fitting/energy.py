"""The energy of a batch of clips: a list of weighted terms, its value by term and clip, its normal equations."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fitting.problem import Problem
from fitting.rig import Posed, State
from fitting.terms import Normal, Term
from fitting.terms.base import band_width

MANY = 4096  # frames from which normal equations and factors share their memory


@dataclass
class Energy:
    """Terms by name on a problem. unknowns: "rigid" = transl and root move; "all" = pose and betas too.

    Terms are worked out part by part (`Posed.parts`): so the derivatives of a long clip are never in memory all
    together, and what is worked on stays in a core's cache. Parts share as many frames as a term ties to a frame, so
    that each of its residuals lies in exactly one part.
    """

    terms: dict[str, Term]
    problem: Problem
    unknowns: str = "all"
    _cut: dict[int, list[Problem]] = field(default_factory=dict, init=False, repr=False)

    def evaluate(self, state: State) -> tuple[Posed, Tensor]:
        """The posed frames, and the energy of each term in each frame (terms, clips, frames), zero on padding."""
        posed, mask = self.problem.rig.posed(state), self.problem.mask
        values = posed.transl.new_zeros(len(self.terms), *mask.shape)
        for shared in self.ties:
            for clips, frames, part, problem in self._parts(posed, shared):
                for i, term in enumerate(self.terms.values()):
                    if term.ties_frames == shared:
                        values[i, clips, frames] += term.energy(part, problem).view_as(problem.mask)
        return posed, torch.where(mask, values, 0)

    def normal(self, posed: Posed, room: Normal | None = None) -> Normal:
        """Normal equations of all frames; padding gets the identity and a zero gradient.

        room: normal equations that are not needed any more; where they have the size, their memory is used again.
        """
        rig = posed.rig
        size = 6 if self.unknowns == "rigid" else 6 + 3 * len(rig.fitted) + rig.num_betas
        if room is None or room.gradient.shape != (posed.count, size):
            room = self._room(posed, size)
        normal = Normal(room.matrix, room.gradient, spare=room.spare)
        for shared in self.ties:
            for clips, frames, part, problem in self._parts(posed, shared):
                start = clips.start * posed.frames + frames.start
                rows = slice(start, start + part.count)
                own = Normal(normal.matrix[rows], normal.gradient[rows])
                if shared == 0:  # the first to write here
                    own.matrix.zero_(), own.gradient.zero_()
                for term in self.terms.values():
                    if term.ties_frames == shared:
                        term.add_to(own, part, problem, self.unknowns)
                part.forget()
                if own.next1 is not None:
                    _add_couplings(normal, own, posed, clips, frames)
        posed.forget()
        self._fill_padding(normal, size if self.unknowns == "rigid" else size - rig.num_betas)
        return normal

    def _room(self, posed: Posed, size: int) -> Normal:
        """Memory of the normal equations; for many frames that are tied, such that a band may be written over it."""
        new, body = posed.transl.new_empty, size - posed.rig.num_betas
        gradient, floats = new(posed.count, size), posed.count * size**2
        if posed.count < MANY or self.ties == [0] or gradient.device.type != "cpu":
            return Normal(new(posed.count, size, size), gradient)
        spare = new(max(floats, posed.count * body * band_width(body)))
        return Normal(spare[-floats:].view(posed.count, size, size), gradient, spare=spare)

    @property
    def ties(self) -> list[int]:
        """Numbers of frames that a term ties to a frame, 0 first."""
        return sorted({0, *(term.ties_frames for term in self.terms.values())})

    def _fill_padding(self, normal: Normal, size: int) -> None:
        if not self.problem.mask.all():
            padding = ~self.problem.mask.flatten()
            normal.matrix[padding] = 0
            normal.gradient[padding] = 0
            normal.matrix.diagonal(dim1=1, dim2=2)[padding, :size] = 1

    def _parts(self, posed: Posed, shared: int) -> list[tuple[slice, slice, Posed, Problem]]:
        """Clips, frames, pose and problem of each part; the parts of the problem are cut once."""
        parts = posed.parts(shared)
        if shared not in self._cut:
            cuts = (
                [self.problem.part(clips, frames) for clips, frames, _ in parts] if len(parts) > 1 else [self.problem]
            )
            self._cut[shared] = cuts
        return [(*part, problem) for part, problem in zip(parts, self._cut[shared], strict=True)]

    def clips(self, index: Tensor) -> "Energy":
        """The same energy of some of the clips."""
        return Energy(self.terms, self.problem.part(index), self.unknowns)


def _add_couplings(normal: Normal, own: Normal, posed: Posed, clips: slice, frames: slice) -> None:
    """Add what a part says of neighbouring frames to the couplings of all."""
    if normal.next1 is None:
        room = own.next1.new_zeros(2, posed.clips, posed.frames, *own.next1.shape[2:])
        normal.next1, normal.next2 = room[0, :, 1:], room[1, :, 2:]
    for whole, part in ((normal.next1, own.next1), (normal.next2, own.next2)):
        whole[clips, frames.start : frames.start + part.shape[1]] += part
