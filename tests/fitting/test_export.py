"""What the exporters write: keys, shapes, every file in agreement with the parameters, and nothing half written."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from fitting.export import FORMATS, export, per_clip, targets
from fitting.export.atomic import atomic_path
from models.body import BodyModel
from models.errors import InputError
from models.rotations import rot6d_to_matrix
from models.safe_pickle import load_npy
from tests.fits import smooth_fit

FRAMES = 12


@pytest.fixture(scope="module")
def fit():
    return smooth_fit(FRAMES)


@pytest.fixture(scope="module")
def folder(fit, tmp_path_factory) -> Path:
    """A folder with every format that needs no video library."""
    folder = tmp_path_factory.mktemp("written")
    export(fit, folder, ["smpl_params", "npz", "glb", "obj"])
    return folder


@pytest.fixture(scope="module")
def params(folder) -> dict:
    return np.load(folder / "sample00_rep00_smpl_params.npy", allow_pickle=True)[()]


@pytest.fixture(scope="module")
def arrays(folder):
    return np.load(folder / "sample00_rep00.npz", allow_pickle=False)


def test_smpl_params_has_the_reference_keys_and_ours(params):
    shapes = {key: value.shape for key, value in params.items() if isinstance(value, np.ndarray)}
    assert shapes == {
        "motion": (25, 6, FRAMES),
        "thetas": (24, 6, FRAMES),
        "root_translation": (3, FRAMES),
        "faces": (13776, 3),
        "vertices": (6890, 3, FRAMES),
        "betas": (10,),
        "transl": (3, FRAMES),
    }
    assert params["faces"].dtype == np.uint32 and params["vertices"].dtype == np.float32
    assert (params["text"], params["length"], params["fps"]) == ("a person turns", FRAMES, 20.0)
    assert params["body"] == "mh_neutral"


def test_smpl_params_is_consistent_with_itself(params):
    """The whole mesh follows from thetas, betas and transl of the file, and row 24 of motion is the pelvis."""
    body = BodyModel.load()
    rotations = rot6d_to_matrix(torch.tensor(params["thetas"]).permute(2, 0, 1))
    betas, transl = torch.tensor(params["betas"]), torch.tensor(params["transl"]).T
    rest_pelvis = body.rest_joints(betas)[0]
    torch.testing.assert_close(torch.tensor(params["root_translation"]).T, rest_pelvis + transl, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotations, body.full_rotations(smooth_fit(FRAMES).thetas), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(params["motion"][:24], params["thetas"])
    np.testing.assert_array_equal(params["motion"][24], np.vstack([params["root_translation"], np.zeros((3, FRAMES))]))


def test_smpl_params_is_read_by_old_numpy_and_by_the_restricted_reader(folder, params):
    path = folder / "sample00_rep00_smpl_params.npy"
    assert b"numpy._core" not in path.read_bytes()  # numpy before 1.26 has no such module
    again = load_npy(path)
    assert again.keys() == params.keys()
    np.testing.assert_array_equal(again["vertices"], params["vertices"])


def test_npz_is_amass_style_and_holds_no_objects(arrays, fit):
    shapes = {key: arrays[key].shape for key in arrays}
    words = {"gender": (), "text": (), "body": (), "mocap_framerate": (), "mocap_frame_rate": ()}
    joints = {"joints": (FRAMES, 22, 3), "joints_input": (FRAMES, 22, 3), "filled": (FRAMES, 22)}
    joints |= {"shows": (22,), "skeleton": ()}
    assert shapes == words | joints | {"poses": (FRAMES, 72), "trans": (FRAMES, 3), "betas": (10,)}
    assert str(arrays["gender"]) == "neutral" and str(arrays["text"]) == fit.motion.text
    assert float(arrays["mocap_framerate"]) == float(arrays["mocap_frame_rate"]) == 20.0


def test_files_hold_the_kinematics_and_the_skinning_of_the_parameters(folder, arrays, params):
    """Joints and vertices of every file within 0.01 mm of what poses, betas and trans of the npz give."""
    body = BodyModel.load()
    thetas = torch.tensor(arrays["poses"]).unflatten(1, (24, 3))
    betas, transl = torch.tensor(arrays["betas"]), torch.tensor(arrays["trans"])
    np.testing.assert_allclose(arrays["joints"], body.joints(betas, thetas, transl)[:, :22], atol=1e-5)
    vertices = body.vertices(betas, thetas, transl).numpy()
    np.testing.assert_allclose(np.moveaxis(params["vertices"], -1, 0), vertices, atol=1e-5)
    frames = sorted((folder / "sample00_rep00_obj").iterdir())
    assert [frame.name for frame in frames] == [f"frame{i:03d}.obj" for i in range(FRAMES)]
    for i, frame in enumerate(frames):
        mesh = trimesh.load(frame, process=False, maintain_order=True)
        np.testing.assert_allclose(mesh.vertices, vertices[i], atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, params["faces"])


def test_rotation_input_has_no_input_joints(fit, tmp_path):
    fit = smooth_fit(3)
    fit.motion.joints = None
    export(fit, tmp_path, ["npz"])
    assert "joints_input" not in np.load(tmp_path / "sample00_rep00.npz")


def test_one_frame_is_a_clip(tmp_path):
    fit = smooth_fit(1)
    export(fit, tmp_path, ["smpl_params", "npz", "obj"])
    assert np.load(tmp_path / "sample00_rep00.npz")["poses"].shape == (1, 72)
    assert np.load(tmp_path / "sample00_rep00_smpl_params.npy", allow_pickle=True)[()]["motion"].shape == (25, 6, 1)
    assert [path.name for path in (tmp_path / "sample00_rep00_obj").iterdir()] == ["frame000.obj"]


def test_names_are_the_documented_ones():
    names = [path.name for path in targets("walk", "out", [name for name in FORMATS if name != "html"])]
    assert names == [
        "walk_smpl_params.npy", "walk.npz", "walk_amass.npz", "walk.glb", "walk_mesh.mp4", "walk_poster.png",
        "walk_mesh.gif", "walk_obj", "walk_ply", "walk_rest.obj", "walk.pc2", "walk.mdd", "walk.bvh", "walk.fbx",
        "walk.usdc", "walk.abc", "walk_joints.npy", "walk_features.npy", "walk_hik.json", "walk_qpos.csv",
        "walk_mjcf.xml",
    ]  # fmt: skip
    assert [path.name for path in targets("walk", "out", ["mp4"])] == ["walk_mesh.mp4", "walk_poster.png"]


def test_a_page_is_about_a_run(fit, tmp_path):
    with pytest.raises(InputError, match="whole run.*--formats html"):
        export(fit, tmp_path, ["html"])
    assert per_clip(["npz", "html", "obj"]) == ["npz", "glb", "obj"]


def test_unknown_format_lists_the_known_ones(fit, tmp_path):
    with pytest.raises(InputError, match="'gbl'.*smpl_params, npz, amass, glb, mp4, gif, png, obj.*bvh"):
        export(fit, tmp_path, ["npz", "gbl"])
    assert not list(tmp_path.iterdir())


def test_a_shorter_clip_leaves_no_frames_of_the_longer_one(tmp_path):
    export(smooth_fit(3), tmp_path, ["obj"])
    export(smooth_fit(2), tmp_path, ["obj"])
    assert len(list((tmp_path / "sample00_rep00_obj").iterdir())) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "clip.npz"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


KILLED = """
import sys
from fitting.export import export
from tests.fits import smooth_fit
export(smooth_fit(200), sys.argv[1], ["obj"])
"""


def test_a_killed_run_leaves_nothing_half_and_the_next_one_tidies_up(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob(".*/frame*.obj"))) < 5 and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [f".sample00_rep00_obj.tmp-{process.pid}"]
    export(smooth_fit(2), tmp_path, ["obj"])
    assert [path.name for path in tmp_path.iterdir()] == ["sample00_rep00_obj"]
    assert len(list((tmp_path / "sample00_rep00_obj").iterdir())) == 2


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    others = tmp_path / f".clip.tmp-{os.getppid()}.npz"
    others.touch()
    with atomic_path(tmp_path / "clip.npz") as temporary:
        temporary.touch()
    assert others.exists() and (tmp_path / "clip.npz").exists()


def test_a_full_disk_is_said(tmp_path):
    with pytest.raises(InputError, match="no space left to write .*clip.npz.*MB are free"):
        with atomic_path(tmp_path / "clip.npz") as temporary:
            temporary.write_bytes(b"begun")
            Path("/dev/full").write_bytes(bytes(2**16))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_said(fit, tmp_path):
    (tmp_path / "out").touch()
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InputError, match="cannot write .*a file stands where a folder is needed.*Name a place"):
            export(fit, folder, ["npz"])


def test_a_folder_in_the_place_of_the_file_is_said(fit, tmp_path):
    (tmp_path / "sample00_rep00.npz").mkdir()
    with pytest.raises(InputError, match="a folder stands where the file should go"):
        export(fit, tmp_path, ["npz"])


def test_an_unwritable_folder_is_said(fit, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:  # root may write anywhere: be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="cannot write .*this user may not write there"):
            export(fit, tmp_path / "out", ["npz"])
    finally:
        os.seteuid(user)


def test_other_failures_pass_through(tmp_path):
    with pytest.raises(OSError, match="Input/output error") as caught, atomic_path(tmp_path / "clip.npz"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(caught.value, InputError)
