"""Edit masks: the reference's channels, any joints and frames."""

import pytest
import torch

from models.errors import InputError
from models.mdm.edit_masks import LOWER_BODY, frames_between, in_between, joint_channels, upper_body
from models.skeleton import SKELETONS
from tests.mdm import golden

JOINTS = SKELETONS["humanml3d"].joints


def test_masks_of_the_reference(reference):
    file = golden(reference, "edit_masks")
    upper = [name for name in JOINTS if name not in LOWER_BODY]
    assert torch.equal(upper_body(), file["hml_lower_body_mask"])
    assert torch.equal(joint_channels(upper), file["hml_upper_body_mask"])
    assert torch.equal(joint_channels(["pelvis"]), file["hml_root_mask"])


@pytest.mark.parametrize("width, skeleton", [(263, "humanml3d"), (251, "kit")])
def test_every_channel_belongs_to_one_joint(width, skeleton):
    owners = sum(joint_channels([name], width).int() for name in SKELETONS[skeleton].joints)
    assert owners.shape == (width,) and (owners == 1).all()


def test_channels_of_a_wrist():
    mask = joint_channels(["left_wrist"])
    index = JOINTS.index("left_wrist")
    expected = [4 + 3 * (index - 1) + i for i in range(3)]
    expected += [67 + 6 * (index - 1) + i for i in range(6)] + [193 + 3 * index + i for i in range(3)]
    assert mask.nonzero()[:, 0].tolist() == expected


def test_in_between_of_the_reference(reference):
    file = golden(reference, "diffusion_loops")
    expected = file["in_between_mask"][:, 0, 0, :, None]
    assert torch.equal(in_between(torch.tensor([16, 16]), 16), expected)


def test_in_between_counts_padding_as_known():
    mask = in_between(torch.tensor([10, 19]), 20)[..., 0]
    assert (~mask[0]).nonzero()[:, 0].tolist() == list(range(2, 7))
    assert (~mask[1]).nonzero()[:, 0].tolist() == list(range(4, 14))


def test_frames_and_joints_combine():
    mask = ~joint_channels(["left_wrist"]) | frames_between(0, 3, frames=8)
    assert mask.shape == (8, 263) and mask[:3].all() and (~mask[3:]).sum() == 5 * 12


def test_names_and_widths_that_do_not_exist():
    with pytest.raises(InputError, match="tail.*pelvis"):
        joint_channels(["tail"])
    with pytest.raises(InputError, match="263.*251"):
        joint_channels(["pelvis"], 150)
