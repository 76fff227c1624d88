"""NAME_amass.npz as other programs read it: aitviewer's SMPLSequence.from_amass, the SMPL add-ons for Blender."""

import numpy as np
import pytest
import smplx
import torch

from fitting.export import export
from fitting.recordings import Reader
from fitting.result import FitResult
from models.body import BodyModel
from models.rotations import axis_angle_to_matrix
from tests.bodies import smpl_arrays, smplh_arrays
from tests.fits import smooth_fit

FRAMES = 6
Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])


@pytest.fixture(scope="module", params=["smpl", "smplh"])
def body(request, tmp_path_factory) -> BodyModel:
    path = tmp_path_factory.mktemp("body") / f"{request.param}.npz"
    np.savez(path, **{"smpl": smpl_arrays, "smplh": smplh_arrays}[request.param]())
    return BodyModel.load(path)


@pytest.fixture(scope="module")
def fit(body) -> FitResult:
    fit = smooth_fit(FRAMES)
    fit.body = body
    return fit


@pytest.fixture(scope="module")
def file(fit, tmp_path_factory) -> dict[str, np.ndarray]:
    (path,) = export(fit, tmp_path_factory.mktemp("written"), ["amass"])
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def test_what_the_readers_ask_for_is_there(file):
    """Keys and kinds: aitviewer takes gender.item(), mocap_framerate.tolist() and betas of one axis; the add-ons
    str(gender), int() of the rate, every keyed bone's row of poses."""
    assert file["gender"].item() == str(file["gender"]) == "neutral"
    assert file["mocap_framerate"].tolist() == 20.0 and int(file["mocap_frame_rate"]) == 20
    assert file["betas"].shape == (16,) and file["trans"].shape == (FRAMES, 3)
    assert file["poses"].dtype == np.float32 and file["mocap_time_length"] == FRAMES / 20


def test_aitviewer_shows_our_body(fit, file, body, tmp_path):
    """SMPL-H by smplx with flat hands and no components, columns cut at 3, 66, 111 and 156, then z up to y up."""
    (tmp_path / "smplh").mkdir()
    np.savez(tmp_path / "smplh" / "SMPLH_FEMALE.npz", **smplh_arrays())
    options = {"gender": "female", "use_pca": False, "flat_hand_mean": True, "num_betas": 10, "ext": "npz"}
    model = smplx.create(str(tmp_path), "smplh", **options)
    poses = torch.tensor(file["poses"])
    shown = model(
        global_orient=poses[:, :3], body_pose=poses[:, 3:66], left_hand_pose=poses[:, 66:111],
        right_hand_pose=poses[:, 111:156], transl=torch.tensor(file["trans"]),
        betas=torch.tensor(file["betas"][None, :10]).expand(FRAMES, -1),
    )  # fmt: skip
    joints = shown.joints[:, :22].detach().numpy() @ Y_UP.T
    np.testing.assert_allclose(joints, fit.joints().numpy(), atol=2e-6)
    if body.num_joints == 52:  # fingers as the body has them at rest
        np.testing.assert_allclose(shown.vertices.detach().numpy() @ Y_UP.T, fit.vertices().numpy(), atol=5e-6)


def test_the_add_on_turns_our_bones(fit, file):
    """Rows of axis-angle by bone, SMPL-X's 55 or SMPL-H's 52; its root stands a quarter turn about x back from z up."""
    rows = file["poses"].reshape(FRAMES, -1, 3)
    assert rows.shape[1] == (52 if fit.body.num_joints == 52 else 55)
    rotations = axis_angle_to_matrix(torch.tensor(rows))
    rotations[:, 0] = torch.tensor(Y_UP, dtype=torch.float32) @ rotations[:, 0]
    torch.testing.assert_close(rotations[:, :22], axis_angle_to_matrix(fit.thetas[:, :22]), atol=1e-5, rtol=0)
    if rows.shape[1] == 55:
        assert not rows[:, 22:].any(), "SMPL's hand joints are no finger's, and no jaw's"


def test_we_read_it_ourselves(fit, tmp_path):
    """On the body of mean shape, as `thetafit prepare --up z` does with AMASS' recordings."""
    fit = smooth_fit(FRAMES)
    fit.betas = torch.zeros_like(fit.betas)
    (path,) = export(fit, tmp_path, ["amass"])
    recordings, failed = Reader(BodyModel.load(), up="z").read(path)
    np.testing.assert_allclose(recordings[0].joints, fit.joints(), atol=1e-5)
    assert not failed and recordings[0].fps == 20


def test_shapes_of_the_embedded_body_are_not_passed_off_as_smpls(tmp_path):
    (path,) = export(smooth_fit(FRAMES), tmp_path, ["amass"])
    with np.load(path) as file:
        assert not file["betas"].any()
