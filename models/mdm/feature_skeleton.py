"""What HumanML3D's and KIT-ML's features take for granted about their skeletons: axes, lengths, feet, heading.

Source: EricGuo5513/HumanML3D, paramUtil.py and motion_representation.ipynb.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.skeleton import SMPL_PARENTS


@dataclass(frozen=True)
class FeatureSkeleton:
    """One of the two feature forms.

    name: key of SKELETONS; joints: how many; width: channels of a frame; parents: of every joint, -1 for the root;
    axes: of joints 1.., the axis along which the bone ending there points at rest; limbs: joints whose chain starts
    from the root's rotation though they hang on another joint; facing: right and left hip, right and left shoulder;
    legs: the two bones that give the size; feet: joints of the four contact channels; still: squared displacement to
    the next frame, in squared file units, below which a foot is in contact; lengths: bones of the data set's uniform
    skeleton, None where none is known.
    """

    name: str
    joints: int
    width: int
    parents: tuple[int, ...]
    axes: tuple[str, ...]
    limbs: tuple[int, int]
    facing: tuple[int, int, int, int]
    legs: tuple[int, int]
    feet: tuple[int, int, int, int]
    still: float
    lengths: tuple[float, ...] | None = None

    @property
    def rotation_parents(self) -> list[int]:
        """Of joints 1.., the joint whose rotation the stored one is relative to."""
        return [0 if j in self.limbs else parent for j, parent in enumerate(self.parents) if j > 0]

    def rest_directions(self, like: Tensor) -> Tensor:
        """Unit vectors (J - 1, 3) along the bones at rest, in the type and on the device of `like`."""
        signs = [[(axis[1] == letter) * (1.0 if axis[0] == "+" else -1.0) for letter in "xyz"] for axis in self.axes]
        return torch.tensor(signs).to(like)


_KIT_PARENTS = (-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19)  # the files' own tree
_T2M_AXES = "+x -x +y -y -y +y -y -y +y +z +z +y +x -x +z -y -y -y -y -y -y"
_KIT_AXES = "+y +y +y +y +x -y -y -x -y -y +x -y -y +z +z -x -y -y +z +z"
# Metres, measured on a published clip: in HumanML3D every clip has the bones of the first frame of 000021.
_T2M_LENGTHS = (
    0.103074, 0.109883, 0.131568, 0.393623, 0.390188, 0.143190, 0.432433, 0.425643, 0.057365, 0.143382, 0.149419,
    0.219360, 0.137487, 0.143383, 0.103039, 0.131614, 0.122984, 0.256840, 0.263092, 0.266012, 0.269876,
)  # fmt: skip

FEATURE_SKELETONS = {
    "humanml3d": FeatureSkeleton(
        "humanml3d",
        22,
        263,
        SMPL_PARENTS[:22],
        tuple(_T2M_AXES.split()),
        limbs=(13, 14),
        facing=(2, 1, 17, 16),
        legs=(5, 8),
        feet=(7, 10, 8, 11),
        still=0.002,
        lengths=_T2M_LENGTHS,
    ),
    "kit": FeatureSkeleton(
        "kit",
        21,
        251,
        _KIT_PARENTS,
        tuple(_KIT_AXES.split()),
        limbs=(5, 8),
        facing=(11, 16, 5, 8),
        legs=(17, 18),
        feet=(19, 20, 14, 15),
        still=0.05,
    ),
}
