"""rot2xyz: every form of rotation gives the body's own joints; MDM's layout and habits against its golden outputs."""

import numpy as np
import pytest
import torch

from models.body import BodyModel
from models.errors import InputError
from models.rot2xyz import mdm_rot2xyz, rot2xyz
from models.rotations import axis_angle_to_matrix, axis_angle_to_quaternion, axis_angle_to_rot6d


@pytest.fixture(scope="module")
def golden(reference) -> dict[str, torch.Tensor]:
    with np.load(reference / "golden" / "rot2xyz.npz") as file:
        return {key: torch.tensor(file[key]) for key in file.files}


@pytest.fixture(scope="module")
def small_body(reference) -> BodyModel:
    return BodyModel.load(reference / "golden" / "small_body.npz")


FORMS = {
    "rotvec": lambda thetas: thetas,
    "rotmat": lambda thetas: axis_angle_to_matrix(thetas).flatten(-2),
    "rotquat": axis_angle_to_quaternion,
    "rot6d": axis_angle_to_rot6d,
}


@pytest.mark.parametrize("pose_rep", FORMS)
@pytest.mark.parametrize("jointstype", ["smpl", "vertices"])
def test_every_form_of_rotation_gives_the_same_body(pose_rep, jointstype):
    torch.manual_seed(0)
    body = BodyModel.load(dtype=torch.float64)
    thetas, betas, transl = (torch.randn(*shape).double() / 2 for shape in ((2, 3, 24, 3), (2, 10), (2, 3, 3)))
    expected = body.joints(betas, thetas, transl) if jointstype == "smpl" else body.vertices(betas, thetas, transl)
    found = rot2xyz(FORMS[pose_rep](thetas), betas, transl, body, pose_rep, jointstype)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


# golden array -> the arguments that made it, beside x and the body
CASES = {
    "out_smpl": {},
    "out_vertices": {"jointstype": "vertices"},
    "out_smpl_novertstrans": {"vertstrans": False},
    "out_vertices_novertstrans": {"jointstype": "vertices", "vertstrans": False},
    "out_vertices_beta1p5": {"jointstype": "vertices", "beta": 1.5},
}


@pytest.mark.parametrize("name", CASES)
def test_mdm(name, golden, small_body):
    close(mdm_rot2xyz(golden["x"], small_body, **CASES[name]), golden[name])


@pytest.mark.parametrize("jointstype", ["smpl", "vertices"])
def test_mdm_masked_frames_hold_the_path_alone(jointstype, golden, small_body):
    found = mdm_rot2xyz(golden["x"], small_body, jointstype=jointstype, mask=golden["mask"])
    close(found, golden[f"out_{jointstype}_masked"])


def test_mdm_given_betas(golden, small_body):
    found = mdm_rot2xyz(golden["x"], small_body, jointstype="vertices", betas=golden["betas"])
    close(found, golden["out_vertices_betas"])


def test_mdm_without_translation(golden, small_body):
    close(mdm_rot2xyz(golden["x"][:, :-1], small_body, translation=False), golden["out_smpl_notranslation"])


@pytest.mark.parametrize("pose_rep", ["rotvec", "rotmat"])
def test_mdm_other_rotations(pose_rep, golden, small_body):
    x = FORMS[pose_rep](golden["axis_angle"]).permute(0, 2, 3, 1)
    close(mdm_rot2xyz(x, small_body, pose_rep, translation=False), golden[f"out_smpl_{pose_rep}"])


def test_mdm_given_global_rotation(golden, small_body):
    turn = torch.tensor([0.3, -0.2, 0.1])
    x = golden["x"][:, 1:-1]
    close(mdm_rot2xyz(x, small_body, translation=False, glob_rot=turn), golden["out_smpl_globrot"])


def test_mdm_leaves_positions_alone(golden, small_body):
    assert mdm_rot2xyz(golden["out_smpl"], small_body, "xyz") is golden["out_smpl"]


def test_errors_name_what_is_known():
    body, betas, transl = BodyModel.load(), torch.zeros(10), torch.zeros(3)
    with pytest.raises(InputError, match="pose_rep 'euler': known are rotvec, rotmat, rotquat, rot6d"):
        rot2xyz(torch.zeros(2, 24, 3), betas, transl, body, "euler")
    with pytest.raises(InputError, match="jointstype 'vibe': known are smpl, vertices"):
        rot2xyz(torch.zeros(2, 24, 6), betas, transl, body, jointstype="vibe")
    with pytest.raises(InputError, match=r"rot6d of shape \(2, 22, 6\): expected \(..., 24, 6\)"):
        rot2xyz(torch.zeros(2, 22, 6), betas, transl, body)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
