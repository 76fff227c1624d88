"""`thetafit fit` from motion files to the output folder: names, numbers, exit codes, messages."""

import csv
import os
import pickle
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fitting.cli import build_parser, comma_numbers, main
from fitting.demo import CLIP, SENTENCE
from fitting.export import FORMATS
from fitting.runner import guarded
from fitting.writer import expectation
from models.body import BodyModel
from tests.runs import FAST, ROOT, command, fit, keyed_joints, process, report, save_joints, save_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a results.npy with samples of 12 and 8 frames."""
    folder = tmp_path_factory.mktemp("results")
    source = save_results(folder / "results.npy", (12, 8))
    assert fit(source, "--out", folder / "out", *FAST) == 0
    return folder / "out"


def test_clips_are_named_as_the_reference_names_them(results: Path) -> None:
    clips = report(results)["clips"]
    assert [clip["name"] for clip in clips] == ["sample00_rep00", "sample01_rep00"]
    assert [clip["frames"] for clip in clips] == [12, 8]
    assert [clip["text"] for clip in clips] == ["text 0", "text 1"]
    assert all((results / file).is_file() for clip in clips for file in clip["files"])
    assert sorted(path.name for path in results.iterdir()) == [
        "logs",
        "report.html",
        "report.json",
        "sample00_rep00.npz",
        "sample01_rep00.npz",
    ]


def test_error_recomputed_from_the_file_is_the_reports(results: Path) -> None:
    for clip in report(results)["clips"]:
        with np.load(results / clip["files"][0]) as file:
            betas, poses, transl = (torch.as_tensor(file[name]) for name in ("betas", "poses", "trans"))
            joints = BodyModel.load().joints(betas, poses.unflatten(-1, (24, 3)), transl)[:, :22].numpy()
            errors = 1000 * np.linalg.norm(joints - file["joints_input"], axis=-1)
        assert clip["mpjpe_mm"] == pytest.approx(errors.mean(), abs=1e-3)
        assert clip["max_joint_error_mm"] == pytest.approx(errors.max(), abs=1e-2)
        assert clip["mpjpe_mm"] < 5


def test_terms_of_the_csv_sum_to_its_total_and_the_last_total_is_the_energy(results: Path) -> None:
    rows = list(csv.DictReader((results / "logs" / "losses.csv").open()))
    last = defaultdict(dict)
    for row in rows:
        clip, stage, iteration, total = (row.pop(name) for name in ("clip", "stage", "iteration", "total"))
        assert sum(float(value) for value in row.values() if value) == pytest.approx(float(total), rel=1e-5)
        last[clip][stage] = (int(iteration), float(total))
    for clip in report(results)["clips"]:
        stages = last[clip["name"]]
        iteration, total = list(stages.values())[-1]
        assert list(stages) == ["pose"]
        assert iteration == clip["iterations"]
        assert total == pytest.approx(clip["energy"], rel=1e-5)


def test_the_whole_config_is_written(results: Path) -> None:
    config = yaml.safe_load((results / "logs" / "config.yaml").read_text())
    assert config["preset"] == "quick" and config["formats"] == "npz" and config["up"] is None


def test_several_sources_get_a_folder_each(tmp_path: Path) -> None:
    sources = [save_joints(tmp_path / name / "walk.npy", start=start) for name, start in (("a", 0), ("b", 20))]
    assert fit(*sources, "--out", tmp_path / "out", *FAST) == 0
    files = [file for clip in report(tmp_path / "out")["clips"] for file in clip["files"]]
    assert len(set(files)) == 2 and all("/" in file for file in files)
    starts = [np.load(tmp_path / "out" / file)["trans"][0] for file in files]
    assert np.abs(starts[0] - starts[1]).max() > 0.1


def test_another_source_does_not_overwrite_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = (save_joints(tmp_path / name / "walk.npy", start=start) for name, start in (("a", 0), ("b", 20)))
    assert fit(first, "--out", tmp_path / "out", *FAST) == 0
    before = (tmp_path / "out" / "walk.npz").read_bytes()
    assert fit(second, "--out", tmp_path / "out", *FAST) == 2
    assert "would overwrite it" in capsys.readouterr().err
    assert (tmp_path / "out" / "walk.npz").read_bytes() == before
    assert fit(first, "--out", tmp_path / "out", *FAST) == 0  # its own may be made again


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    assert fit(save_joints(tmp_path / "pose.npy", frames=1), "--out", tmp_path / "out", *FAST) == 0
    (clip,) = report(tmp_path / "out")["clips"]
    assert clip["frames"] == 1 and clip["mpjpe_mm"] < 5 and clip["jerk_out"] is None


def test_a_bad_file_among_good_ones_is_reported_and_the_others_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = save_joints(tmp_path / "good.npy")
    bad = tmp_path / "bad.npy"
    np.save(bad, keyed_joints() * np.nan)
    assert fit(bad, good, "--out", tmp_path / "out", *FAST) == 1
    assert "bad.npy" in capsys.readouterr().out
    by_name = {clip["name"]: clip for clip in report(tmp_path / "out")["clips"]}
    assert by_name["good"]["files"] and not by_name["bad"]["files"]
    assert "NaN" in by_name["bad"]["message"]


class Danger:
    """A pickle that wants to run code."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("danger",)


def save_object(path: Path, content: object) -> None:
    np.save(path, np.array(content, dtype=object))


BAD = {
    "absent": (lambda path: None, "absent"),
    "empty folder": (lambda path: path.mkdir(), "folder"),
    "text": (lambda path: path.write_text("not a motion"), "text"),
    "empty": (lambda path: path.touch(), "0 bytes"),
    "truncated": (lambda path: (save_joints(path), path.write_bytes(path.read_bytes()[:-100])), "cut"),
    "code": (lambda path: path.write_bytes(pickle.dumps(Danger())), "mkdir"),
    "code in a npy": (lambda path: save_object(path, {"motion": Danger()}), "mkdir"),
    "dict without motion": (lambda path: save_object(path, {"moves": keyed_joints()}), "motion"),
    "17 joints": (lambda path: np.save(path, keyed_joints()[:, :17]), "17"),
    "infinite": (
        lambda path: np.save(path, keyed_joints() + np.where(np.arange(12) == 5, np.inf, 0)[:, None, None]),
        "5",
    ),
    "zeros": (lambda path: np.save(path, np.zeros((12, 22, 3))), "zeros"),
    "centimetres": (lambda path: np.save(path, keyed_joints() * 100), "centimetres"),
    "millimetres": (lambda path: np.save(path, keyed_joints() * 1000), "millimetres"),
    "lengths": (
        lambda path: save_object(path, {"motion": keyed_joints().transpose(1, 2, 0)[None], "lengths": [300]}),
        "300",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_ends_with_2_and_one_message(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    make, found = BAD[kind]
    make(tmp_path / "bad.npy")
    assert fit("bad.npy", "--out", "out", *FAST) == 2
    assert_one_message(capsys.readouterr().err, "bad.npy", found if kind != "absent" else "bad.npy")
    assert not (tmp_path / "danger").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.npz"))


ARGUMENTS = {
    "format": (("--formats", "npz,gbl"), ("'gbl'", "glb")),
    "preset": (("--preset", "sloppy"), ("sloppy", "careful")),
    "logger": (("--logger", "neptune"), ("neptune", "wandb")),
    "device": (("--device", "abacus"), ("abacus", "cuda:N")),
    "numbered cpu": (("--device", "cpu:1"), ("cpu:1", "cuda:N")),
    "skeleton": (("--skeleton", "dog"), ("dog", "humanml3d")),
    "axis": (("--up", "w"), ("w", "-y")),
    "number": (("--samples", "0,two"), ("--samples", "two")),
    "option": (("--frams", "3"), ("--frams",)),
    "body": (("--body", __file__), (Path(__file__).name,)),
    "absent body": (("--body", "nobody.npz"), ("nobody.npz",)),
    "prior": (("--prior", __file__), (Path(__file__).name,)),
    "out": (("--out", __file__), (Path(__file__).name,)),
    "out below a file": (("--out", f"{__file__}/out"), (Path(__file__).name,)),
    "out where nothing can be": (("--out", "/proc/out"), ("cannot write /proc/out",)),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_wrong_arguments_end_with_2_and_say_what_would_work(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options, words = ARGUMENTS[kind]
    assert fit(save_joints(tmp_path / "walk.npy"), "--out", tmp_path / "out", *FAST, *options) == 2
    assert_one_message(capsys.readouterr().err, *words)


def assert_one_message(err: str, *words: str) -> None:
    assert "Traceback" not in err
    assert not [word for word in words if word not in err], err


@pytest.mark.parametrize("mount, word", [("size=32k", "no space left"), ("ro", "read-only")])
def test_folder_that_takes_nothing(mount: str, word: str, tmp_path: Path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    out.mkdir()
    inside = ["unshare", "-rm", "bash", "-c", f'mount -t tmpfs -o {mount} tmpfs "$0" && exec "$@"', str(out)]
    if process([*inside, "true"]).returncode:
        pytest.skip("no right to mount a file system here")
    done = process([*inside, *command("fit", source, "--out", out, *FAST)])
    assert done.returncode == 2, done.stdout + done.stderr
    assert_one_message(done.stderr, word, "Name a place" if word == "read-only" else "another folder")


def test_no_room_for_the_meshes_is_said_before_the_fit(tmp_path: Path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    out.mkdir()
    inside = ["unshare", "-rm", "bash", "-c", 'mount -t tmpfs -o size=500k tmpfs "$0" && exec "$@"', str(out)]
    if process([*inside, "true"]).returncode:
        pytest.skip("no right to mount a file system here")
    done = process([*inside, *command("fit", source, "--out", out, *FAST, "--formats", "smpl_params")])
    assert done.returncode == 2, done.stdout + done.stderr
    assert_one_message(done.stderr, "MB free", "--formats")


def test_a_run_over_a_minute_says_so_first() -> None:
    assert expectation(clips=1, frames=60, preset="careful", formats=["npz"]) is None
    said = expectation(clips=100, frames=19600, preset="careful", formats=["npz", "mp4"])
    assert said is not None and "100 clips, 19600 frames" in said and "min" in said


def test_help_names_every_format_and_option(capsys: pytest.CaptureFixture) -> None:
    assert fit("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in FORMATS)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "demo" in capsys.readouterr().out


def test_demo_goes_from_a_sentence_to_a_film(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    (clip,) = report(tmp_path)["clips"]
    assert clip["text"] == SENTENCE and clip["name"] == CLIP and 60 < clip["frames"] <= 196 and clip["mpjpe_mm"] < 30
    for suffix in (".mp4", "_mesh.mp4", "_poster.png", ".glb", ".npz"):
        assert (tmp_path / f"{CLIP}{suffix}").stat().st_size > 1000
    assert f"{CLIP}_mesh.mp4" in said and "converged" in said


def test_parser_knows_both_commands() -> None:
    parser = build_parser()
    assert parser.parse_args(["demo", "--out", "x"]).demo.out == "x"
    config = parser.parse_args(["fit", "a", "b", "--samples", "0,2"]).fit
    assert config.sources == ["a", "b"] and comma_numbers(config.samples) == [0, 2] and comma_numbers(None) is None


def test_output_inside_the_source_folder_is_no_input_of_the_next_run(tmp_path: Path) -> None:
    save_joints(tmp_path / "walk.npy")
    for out in (tmp_path, tmp_path / "out", tmp_path / "out"):
        assert fit(tmp_path, "--out", out, *FAST) == 0
        assert [clip["name"] for clip in report(out)["clips"]] == ["walk"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--formats", ""), "no format given"),
        (("--formats", " , "), "smpl_params, npz"),
        (("--samples", ""), "such as 0,2"),
        (("--samples", "1,,2"), "such as 0,2"),
    ],
)
def test_empty_lists_are_refused(arguments: tuple[str, str], words: str, tmp_path: Path, capsys) -> None:
    assert fit(save_joints(tmp_path / "walk.npy"), "--out", tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_empty_name_is_not_the_folder_one_is_in(tmp_path: Path, capsys) -> None:
    assert fit("", "--out", tmp_path) == 2
    assert "empty name" in capsys.readouterr().err


def test_a_reader_that_goes_ends_a_run_without_a_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = command("inspect", save_joints(tmp_path / "walk.npy"))
    done = subprocess.run(words, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == ""


def test_ctrl_c_ends_a_run_without_a_traceback(capsys: pytest.CaptureFixture) -> None:
    def interrupted() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert guarded(interrupted) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "thetafit: stopped by Ctrl-C\n"


def test_console_script_is_the_same_main() -> None:
    text = (ROOT / "setup.cfg").read_text()
    assert "thetafit = fitting.cli:main" in text
    assert (
        subprocess.run(command("--version"), cwd=ROOT, capture_output=True, text=True).stdout.strip().endswith("0.1.0")
    )
