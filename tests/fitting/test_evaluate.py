"""`thetafit evaluate`: the numbers of written fits, alone, in folders and against a truth; bad input ends with 2."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks.known_poses import write
from fitting.cli import main
from fitting.evaluate import TRUTH_KEYS, evaluate_files
from fitting.report import METRIC_KEYS, clip_report
from fitting.result import FitResult
from models.body import EMBEDDED, BodyModel
from tests.fits import smooth_fit


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def saved(path: Path, seed: int = 0, frames: int = 12) -> FitResult:
    """A made-up fit to joints that stand 10 mm beside its own, written as path.npz."""
    result = smooth_fit(frames, seed)
    result.motion.joints = result.motion.joints + np.float32([0.01, 0, 0])
    result.save(path, ("npz",))
    return result


def change(path: Path, out: Path, **arrays) -> Path:
    """A copy of an npz with some arrays replaced, or left out where None."""
    with np.load(path) as file:
        content = dict(file) | arrays
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **{key: value for key, value in content.items() if value is not None})
    return out


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    saved(tmp_path / "walk")
    return tmp_path / "walk.npz"


def test_the_file_has_the_numbers_of_the_report(tmp_path: Path, capsys) -> None:
    report = clip_report(saved(tmp_path / "walk"), [])
    assert evaluate(tmp_path / "walk.npz", "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["truth"] is None
    for name in METRIC_KEYS:
        assert clip[name] == (None if report[name] is None else pytest.approx(report[name], rel=1e-4, abs=1e-4)), name
    assert clip["mpjpe_mm"] == pytest.approx(10, abs=1e-3)
    printed = capsys.readouterr().out
    assert "walk, 12 frames" in printed and "joint error (MPJPE), mm" in printed and "10.0" in printed


def test_a_fit_is_its_own_truth_and_its_input_is_10_mm_off(walk: Path, tmp_path: Path, capsys) -> None:
    assert evaluate(walk, "--truth", walk, "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    truth = clip["truth"]
    assert truth.keys() == set(TRUTH_KEYS)
    assert truth["mpjpe_mm"] == truth["vertex_error_mm"] == truth["acceleration_error_out"] == 0
    assert truth["rotation_error_degrees"] == pytest.approx(0, abs=1e-4)
    for name, true in (("acceleration_out", "acceleration_true"), ("jerk_out", "jerk_true")):
        assert clip[name] == pytest.approx(truth[true])
    assert clip["rotation_jitter_degrees"] == pytest.approx(truth["rotation_jitter_degrees_true"])
    assert truth["mpjpe_in_mm"] == pytest.approx(10, abs=1e-3)
    assert truth["pa_mpjpe_in_mm"] == pytest.approx(0, abs=1e-3)
    assert "against the truth" in capsys.readouterr().out


def test_errors_against_a_truth_that_is_off_by_known_amounts(walk: Path, tmp_path: Path) -> None:
    """Moved by 30 mm, and one shoulder of 22 joints turned by 0.2 rad: 0.52 degrees on average."""
    with np.load(walk) as file:
        poses, moved = file["poses"].copy(), file["trans"] + np.float32([0, 0.03, 0])
    poses[:, 3:] = 0
    still = change(walk, tmp_path / "still.npz", poses=poses, joints=None, trans=moved)
    body = BodyModel.load()
    result = smooth_fit(12, 0)
    result.thetas[:, 1:] = 0
    result.thetas[:, 16, 0] = 0.2
    result.save(tmp_path / "turned", ("npz",))
    assert evaluate_files([str(tmp_path / "turned.npz")], str(still), None, str(tmp_path / "out.json")) == 0
    truth = json.loads((tmp_path / "out.json").read_text())["clips"][0]["truth"]
    assert truth["rotation_error_degrees"] == pytest.approx(np.degrees(0.2) / 22, rel=1e-3)
    ours = result.joints().numpy(), result.vertices().numpy()
    result.thetas[:, 16, 0] = 0
    theirs = result.joints().numpy(), body.vertices(result.betas, result.thetas, result.transl).numpy()
    for key, fit, true in zip(("mpjpe_mm", "vertex_error_mm"), ours, theirs, strict=True):
        expected = 1000 * np.linalg.norm(fit - true - [0, 0.03, 0], axis=-1).mean()
        assert truth[key] == pytest.approx(expected, rel=1e-4)


def test_a_truth_of_joints_alone_serves(walk: Path, tmp_path: Path) -> None:
    truth = change(walk, tmp_path / "joints.npz", poses=None, trans=None, betas=None)
    assert evaluate(walk, "--truth", truth, "--json", tmp_path / "out.json") == 0
    errors = json.loads((tmp_path / "out.json").read_text())["clips"][0]["truth"]
    assert errors["mpjpe_mm"] == 0 and errors["vertex_error_mm"] is None and errors["rotation_error_degrees"] is None


def test_a_folder_is_every_result_below_it_and_truths_go_by_name(tmp_path: Path, capsys) -> None:
    for i, name in enumerate(("walk", "more/jump")):
        saved(tmp_path / "out" / name, seed=i)
        saved(tmp_path / "true" / name, seed=i)
    np.savez(tmp_path / "out" / "other.npz", a=np.zeros(3))
    assert evaluate(tmp_path / "out", "--truth", tmp_path / "true", "--json", tmp_path / "out.json") == 0
    clips = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert [clip["name"] for clip in clips] == ["more/jump", "walk"]
    assert all(clip["truth"]["mpjpe_mm"] == 0 for clip in clips)
    printed = capsys.readouterr().out
    assert "mean of 2 clips" in printed and "more/jump" in printed


def test_rotations_without_an_input_have_the_numbers_that_need_none(walk: Path, tmp_path: Path) -> None:
    alone = change(walk, tmp_path / "alone.npz", joints_input=None)
    assert evaluate(alone, "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["jerk_out"] > 0 and clip["rotation_jitter_degrees"] > 0
    assert clip["mpjpe_mm"] is None and clip["penetration_mm"] is None


def test_gaps_of_the_input_are_left_out(walk: Path, tmp_path: Path) -> None:
    with np.load(walk) as file:
        given = file["joints_input"].copy()
    given[3:6, 20] = np.nan
    assert evaluate(change(walk, tmp_path / "gaps.npz", joints_input=given), "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["mpjpe_mm"] == pytest.approx(10, abs=1e-3) and clip["jerk_in"] > 0


def test_another_body_is_measured_with_its_file_only(walk: Path, tmp_path: Path, capsys) -> None:
    licensed = change(walk, tmp_path / "licensed.npz", body=np.array("licensed"))
    shutil.copy(EMBEDDED, tmp_path / "body.npz")
    shutil.copy(EMBEDDED, tmp_path / "licensed_body.npz")
    assert evaluate(licensed, "--json", tmp_path / "out.json") == 0
    assert "body licensed: give its file with --body" in capsys.readouterr().out
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["mpjpe_mm"] == pytest.approx(10, abs=1e-3) and clip["penetration_mm"] is None
    licensed = change(walk, tmp_path / "licensed.npz", body=np.array("licensed_body"))
    assert evaluate(licensed, "--body", tmp_path / "licensed_body.npz", "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["penetration_mm"] is not None and "No mesh" not in capsys.readouterr().out


def test_joints_that_the_body_does_not_give_are_not_measured_on_its_mesh(walk: Path, tmp_path: Path, capsys) -> None:
    with np.load(walk) as file:
        joints = file["joints"] * 1.1
    assert evaluate(change(walk, tmp_path / "long.npz", joints=joints)) == 0
    assert "No mesh was measured for body mh_neutral" in capsys.readouterr().out


def test_known_poses_with_noise(reference: Path, tmp_path: Path) -> None:
    """4 cm a coordinate is 0.04 x sqrt(8 / pi) = 64 mm a joint; the truth is its own."""
    assert write(tmp_path, noise=0.04, seed=0) == 20
    truth = tmp_path / "truth" / "19_12_01_walk.npz"
    noisy = np.load(tmp_path / "joints" / "19_12_01_walk.npy", allow_pickle=False)
    result = change(truth, tmp_path / "noisy.npz", joints_input=noisy)
    assert evaluate(result, "--truth", truth, "--json", tmp_path / "out.json") == 0
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert clip["truth"]["mpjpe_in_mm"] == pytest.approx(clip["mpjpe_mm"]) == pytest.approx(63.8, abs=1)
    # a second difference of white noise has the deviation sqrt(1 + 4 + 1)
    expected = 0.0638 * np.sqrt(6) * 20**2
    assert clip["truth"]["acceleration_error_in"] == pytest.approx(expected, rel=0.05)
    assert clip["truth"]["mpjpe_mm"] == 0 and clip["truth"]["pa_mpjpe_in_mm"] < 63.8


BAD = {
    "missing": (lambda walk, folder: [folder / "none.npz"], "no such file"),
    "empty folder": (lambda walk, folder: [(folder / "empty")], "no result of a fit is in it"),
    "not an npz": (lambda walk, folder: [folder / "walk_smpl_params.npy"], "walk.npz lies beside it"),
    "no archive": (lambda walk, folder: [folder / "text.npz"], "cannot be read"),
    "no result": (lambda walk, folder: [change(walk, folder / "a.npz", trans=None)], "it has no trans"),
    "pickle": (lambda walk, folder: [change(walk, folder / "a.npz", poses=np.array([{}]))], "plain arrays"),
    "shape": (lambda walk, folder: [change(walk, folder / "a.npz", poses=np.zeros((12, 150)))], "(12, 150)"),
    "frames": (lambda walk, folder: [change(walk, folder / "a.npz", poses=np.zeros((9, 72)))], "9 of poses"),
    "NaN": (lambda walk, folder: [change(walk, folder / "a.npz", joints=np.full((12, 22, 3), np.nan))], "not finite"),
    "fps": (lambda walk, folder: [change(walk, folder / "a.npz", mocap_frame_rate=np.array(0.0))], "above 0"),
    "input": (
        lambda walk, folder: [change(walk, folder / "a.npz", joints_input=np.zeros((12, 5, 3)))],
        "5 joints",
    ),
    "body": (lambda walk, folder: [walk, "--body", walk], "no body"),
    "truth missing": (lambda walk, folder: [walk, "--truth", folder / "none.npz"], "no such file"),
    "one truth": (lambda walk, folder: [walk, change(walk, folder / "a.npz"), "--truth", walk], "one file for 2"),
    "other truths": (lambda walk, folder: [walk, "--truth", folder / "empty"], "missing: "),
    "longer truth": (lambda walk, folder: [walk, "--truth", folder / "longer.npz"], "its truth"),
    "faster truth": (
        lambda walk, folder: [walk, "--truth", change(walk, folder / "a.npz", mocap_frame_rate=np.array(30.0))],
        "at 30",
    ),
    "no truth": (
        lambda walk, folder: [walk, "--truth", change(walk, folder / "a.npz", joints=None, poses=None)],
        "no truth that can be used",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_teaches_and_ends_with_2(case: str, walk: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "walk_smpl_params.npy", np.zeros(3))
    saved(tmp_path / "longer", frames=13)
    arguments, message = BAD[case]
    assert evaluate(*arguments(walk, tmp_path)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
