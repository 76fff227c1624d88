"""What a trained network believes of a clip's rotations, before anything is solved."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Belief:
    """By frame of the batch, N = clips x frames, and SMPL joint, root first.

    rotations (N, 24, 3, 3): local; the root's turns its joint from the frame that the trunk at rest, laid on the
    targets (Kabsch), has. precision (N, 24): 1 / rad^2, of the joint's turn about its bone, which no joint shows.
    """

    rotations: Tensor
    precision: Tensor

    def rows(self, rows: Tensor) -> "Belief":
        return Belief(self.rotations[rows], self.precision[rows])
