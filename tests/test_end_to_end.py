"""From a motion file to written files: all hold one and the same body, and it stands where the input stands."""

import numpy as np
import pytest
import torch

from models.body import BodyModel
from models.safe_pickle import load_npy
from tests.runs import fit, keyed_joints, report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder and input joints of a fit of the keyed walk through the command line, one file a format."""
    folder = tmp_path_factory.mktemp("run")
    joints = keyed_joints(20, start=60)
    np.save(folder / "walk.npy", joints)
    out = folder / "out"
    assert fit(folder / "walk.npy", "--out", out, "--formats", "smpl_params,npz,obj,glb") == 0
    return out, joints


def parameters(folder) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict]:
    with np.load(folder / "walk.npz") as file:
        content = dict(file)
    thetas = torch.tensor(content["poses"]).unflatten(1, (24, 3))
    return torch.tensor(content["betas"]), thetas, torch.tensor(content["trans"]), content


def test_forward_kinematics_of_the_npz_gives_its_joints(written):
    betas, thetas, transl, content = parameters(written[0])
    joints = BodyModel.load().joints(betas, thetas, transl)[:, :22].numpy()
    assert np.abs(joints - content["joints"]).max() < 1e-5
    np.testing.assert_array_equal(content["joints_input"], written[1])


def test_vertices_in_the_files_are_the_skinning_of_the_parameters(written):
    betas, thetas, transl, _ = parameters(written[0])
    vertices = BodyModel.load().vertices(betas, thetas, transl).numpy()
    params = load_npy(written[0] / "walk_smpl_params.npy")
    assert np.abs(params["vertices"].transpose(2, 0, 1) - vertices).max() < 1e-5
    for frame in (0, 19):
        lines = (written[0] / "walk_obj" / f"frame{frame:03d}.obj").read_text().splitlines()
        obj = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], dtype=float)
        assert np.abs(obj - vertices[frame]).max() < 5e-5


def test_report_says_what_the_files_say(written):
    clip = report(written[0])["clips"][0]
    _, _, _, content = parameters(written[0])
    error = np.linalg.norm(content["joints"] - content["joints_input"], axis=-1) * 1000
    assert clip["mpjpe_mm"] == pytest.approx(error.mean(), abs=1e-3)
    assert clip["max_joint_error_mm"] == pytest.approx(error.max(), abs=1e-3)
    assert clip["mpjpe_mm"] < 3


def test_the_mesh_stands_where_the_joints_stand(written):
    """Feet at the input's floor, and every frame's pelvis within the fit's error of the input's."""
    betas, thetas, transl, content = parameters(written[0])
    vertices = BodyModel.load().vertices(betas, thetas, transl).numpy()
    assert abs(vertices[..., 1].min() - written[1][..., 1].min()) < 0.1
    assert np.linalg.norm(content["joints"][:, 0] - written[1][:, 0], axis=-1).max() < 0.03
    params = load_npy(written[0] / "walk_smpl_params.npy")
    np.testing.assert_allclose(params["root_translation"].T, content["joints"][:, 0], atol=1e-5)
