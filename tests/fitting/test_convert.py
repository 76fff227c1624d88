"""`thetafit convert`: any result to any format without fitting again, folder to folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fitting.cli import main
from fitting.convert import read_result
from fitting.export import export
from fitting.tracks import Bodies
from models.body import BodyModel
from tests.bodies import smpl_arrays
from tests.fits import smooth_fit
from tests.person import features, person, statistics
from tests.runs import save_results


def convert(*arguments: object) -> int:
    try:
        return main(["convert", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder: walk as npz and smpl_params, deep/turn as smpl_params alone."""
    export(smooth_fit(6, name="walk"), tmp_path / "out", ["npz", "smpl_params"])
    export(smooth_fit(5, seed=1, name="turn"), tmp_path / "out" / "deep", ["smpl_params"])
    return tmp_path / "out"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_tree_and_each_clip_is_written_once(results, tmp_path):
    assert convert(results, "--to", "bvh,glb", "--out", tmp_path / "to") == 0
    assert files(tmp_path / "to") == ["deep/turn.bvh", "deep/turn.glb", "walk.bvh", "walk.glb"]


@pytest.mark.parametrize("source", ["walk.npz", "walk_smpl_params.npy", "deep/turn_smpl_params.npy"])
def test_parameters_mesh_and_words_are_those_of_the_source(results, tmp_path, source):
    assert convert(results / source, "--to", "npz,smpl_params", "--out", tmp_path / "to") == 0
    name = Path(source).name.removesuffix("_smpl_params.npy").removesuffix(".npz")
    again = read_result(tmp_path / "to" / f"{name}.npz", Bodies(None))
    fit = smooth_fit(6) if name == "walk" else smooth_fit(5, seed=1)
    assert (again.vertices() - fit.vertices()).abs().max() < 1e-5
    assert torch.equal(again.betas, fit.betas) and again.fps == fit.fps and again.motion.text == fit.motion.text


def test_npz_to_npz_keeps_every_array(results, tmp_path):
    assert convert(results / "walk.npz", "--to", "npz", "--out", tmp_path / "to") == 0
    before, after = np.load(results / "walk.npz"), np.load(tmp_path / "to" / "walk.npz")
    assert set(before) == set(after)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key], err_msg=key)


def test_a_shape_for_each_frame_survives(tmp_path):
    fit = smooth_fit(4, name="many")
    fit.betas = fit.betas + torch.arange(4.0)[:, None] / 10
    export(fit, tmp_path, ["npz", "smpl_params"])
    for source in ("many.npz", "many_smpl_params.npy"):
        assert convert(tmp_path / source, "--to", "npz", "--out", tmp_path / "to") == 0
        np.testing.assert_array_equal(np.load(tmp_path / "to" / "many.npz")["betas"], fit.betas)


def test_another_rate(results, tmp_path):
    assert convert(results / "walk.npz", "--to", "npz", "--out-fps", "40", "--out", tmp_path / "to") == 0
    after = np.load(tmp_path / "to" / "walk.npz")
    assert after["poses"].shape == (11, 72) and after["mocap_frame_rate"] == 40
    np.testing.assert_array_equal(after["trans"][::2], np.load(results / "walk.npz")["trans"])


def test_a_fit_to_another_body_needs_that_body(tmp_path, capsys):
    np.savez(tmp_path / "taller.npz", **{**smpl_arrays(), "v_template": 1.1 * smpl_arrays()["v_template"]})
    fit = smooth_fit(3, name="tall")
    fit.body = BodyModel.load(tmp_path / "taller.npz")
    export(fit, tmp_path / "out", ["npz"])
    export(fit, tmp_path / "params", ["smpl_params"])
    for source in ("out", "params"):
        assert convert(tmp_path / source, "--to", "ply", "--out", tmp_path / "to") == 2
        assert "fitted to the body taller: give that body's file with --body FILE" in capsys.readouterr().out
        body = tmp_path / "taller.npz"
        assert convert(tmp_path / source, "--to", "npz", "--body", body, "--out", tmp_path / "to") == 0
        capsys.readouterr()
    again = read_result(tmp_path / "to" / "tall.npz", Bodies(str(tmp_path / "taller.npz")))
    assert (again.vertices() - fit.vertices()).abs().max() < 1e-5


def test_motions_become_joints_and_features_and_back(tmp_path):
    np.save(tmp_path / "walk.npy", person(12))
    assert convert(tmp_path / "walk.npy", "--to", "features", "--out", tmp_path / "to") == 0
    written = np.load(tmp_path / "to" / "walk_features.npy")
    assert written.shape == (11, 263)
    mean, std = statistics()
    np.savez(tmp_path / "ignored.npz", a=mean)
    np.save(tmp_path / "to" / "normal_features.npy", (features(40) - mean) / std)
    for name, values in (("Mean", mean), ("Std", std)):
        np.save(tmp_path / f"{name}.npy", values)
    assert convert(tmp_path / "to", "--to", "joints", "--stats", tmp_path, "--out", tmp_path / "back") == 0
    assert files(tmp_path / "back") == ["normal_features_joints.npy", "walk_features_joints.npy"]
    back = np.load(tmp_path / "back" / "walk_features_joints.npy")
    moved = back[:, 0] - back[0, 0]  # the person walked along +z, from wherever
    assert moved[-1, 2] > 0.4 and abs(moved[-1, 0]) < 0.1 * moved[-1, 2]


def test_joints_of_a_motion_at_another_rate(tmp_path):
    np.save(tmp_path / "walk.npy", person(12))
    assert convert(tmp_path / "walk.npy", "--to", "joints", "--out-fps", "10", "--out", tmp_path / "to") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "to" / "walk_joints.npy"), person(12)[::2])


def test_a_motion_that_was_never_fitted_is_sent_to_fit(tmp_path, capsys):
    source = save_results(tmp_path / "results.npy")
    assert convert(source, "--to", "glb,joints", "--out", tmp_path / "to") == 2
    text = capsys.readouterr().out
    assert f"thetafit fit {source} --formats glb" in text and "not a fit, so glb cannot" in text
    assert main(["render", str(source), "--out", str(tmp_path / "film.mp4")]) == 2
    assert f"{source}: it holds joints, not a fit, so mp4 cannot" in capsys.readouterr().err
    assert convert(source, "--to", "joints", "--out", tmp_path / "to") == 0
    assert files(tmp_path / "to") == ["sample00_rep00_joints.npy", "sample01_rep00_joints.npy"]


def test_nothing_that_is_read_or_was_written_is_overwritten(results, tmp_path, capsys):
    before = (results / "walk.npz").read_bytes()
    assert convert(results / "walk.npz", "--to", "npz", "--out", results) == 2
    assert (results / "walk.npz").read_bytes() == before and "would be overwritten" in capsys.readouterr().out
    export(smooth_fit(3, name="walk"), tmp_path / "other", ["npz"])
    assert convert(results / "walk.npz", tmp_path / "other", "--to", "bvh", "--out", tmp_path / "to") == 1
    assert "would be overwritten" in capsys.readouterr().out and files(tmp_path / "to") == ["walk.bvh"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("absent.npz", "--to", "glb"), "no such file or folder"),
        ((".", "--to", "glb"), "no result of a fit is in it, and the folder has no motion"),
        ((".", "--to", "gbl"), "unknown format 'gbl'"),
        ((".", "--to", ""), "no format given"),
        ((".", "--to", "glb", "--out-fps", "0"), "no frame rate"),
        ((".", "--to", "glb", "--body", "absent.pkl"), "absent.pkl: no such file"),
    ],
)
def test_bad_arguments_end_with_a_message_and_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert convert(*arguments) == 2
    assert said in capsys.readouterr().err and files(tmp_path) == []


def test_a_broken_file_is_named_and_the_others_are_converted(results, tmp_path, capsys):
    broken = results / "broken.npz"
    content = bytearray((results / "walk.npz").read_bytes())
    content[200:400] = bytes(200)
    broken.write_bytes(content)
    assert convert(results, "--to", "bvh", "--out", tmp_path / "to") == 1
    assert f"{broken}: not converted." in capsys.readouterr().out
    assert files(tmp_path / "to") == ["deep/turn.bvh", "walk.bvh"]


def test_mdms_own_parameters_take_the_body_given(tmp_path):
    """MDM's smpl_params.npy has no betas and names no body."""
    fit = smooth_fit(4, name="clip")
    export(fit, tmp_path, ["smpl_params"])
    content = np.load(tmp_path / "clip_smpl_params.npy", allow_pickle=True).item()
    for key in ("betas", "transl", "fps", "body"):
        del content[key]
    content["vertices"] = torch.from_numpy(content["vertices"])
    np.save(tmp_path / "clip_smpl_params.npy", np.array(content, dtype=object))
    assert convert(tmp_path / "clip_smpl_params.npy", "--to", "npz", "--out", tmp_path / "to") == 0
    again = np.load(tmp_path / "to" / "clip.npz")
    assert not again["betas"].any() and str(again["body"]) == "mh_neutral"
    np.testing.assert_allclose(again["joints"][:, 0], fit.joints()[:, 0], atol=1e-5)
