"""train.py: the same numbers as `thetafit fit`, stacked configs, overrides, refused typos, the whole config logged."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import train
from fitting.runner import guarded
from tests.runs import FAST, ROOT, fit, process, report, save_joints, save_results

CONFIG = str(ROOT / "experiments" / "fit.yaml")


def predict(source: Path, out: Path, *options: str) -> int:
    """The exit code of `python train.py predict -c experiments/fit.yaml` in this process, small and on the CPU."""
    words = ["predict", "-c", CONFIG, "--data.sources", f"[{source}]", "--output.folder", str(out)]
    words += ["--output.formats", "[npz]", "--model.preset", "quick", "--trainer.accelerator", "cpu", *options]
    try:
        return guarded(train.main, words)
    except SystemExit as end:
        return int(end.code)


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns when it is called from a program that has arguments of its own."""
    monkeypatch.setattr(sys, "argv", ["train.py"])


def test_same_numbers_as_the_command(tmp_path: Path) -> None:
    source = save_results(tmp_path / "results.npy")
    assert predict(source, tmp_path / "lightning") == 0
    assert fit(source, "--out", tmp_path / "command", *FAST) == 0
    ours, theirs = report(tmp_path / "command")["clips"], report(tmp_path / "lightning")["clips"]
    assert ours == theirs and len(ours) == 2
    for clip in ours:
        with (
            np.load(tmp_path / "command" / clip["files"][0]) as one,
            np.load(tmp_path / "lightning" / clip["files"][0]) as other,
        ):
            assert all(np.array_equal(one[key], other[key]) for key in one.files)
    curves = [(tmp_path / name / "logs" / "losses.csv").read_text() for name in ("command", "lightning")]
    assert curves[0] == curves[1]


def test_the_script_runs_and_logs_its_config(tmp_path: Path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    mine = tmp_path / "mine.yaml"
    mine.write_text("model:\n  init_args:\n    preset: quick\noutput:\n  formats: [npz]\n")
    words = [
        sys.executable,
        str(ROOT / "train.py"),
        "predict",
        "-c",
        CONFIG,
        "-c",
        str(mine),
        "--trainer.accelerator",
        "cpu",
    ]
    done = process([*words, "--data.sources", f"[{source}]", "--output.folder", str(out)], cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "walk" in done.stdout and "Tip" not in done.stdout + done.stderr
    config = yaml.safe_load((out / "logs" / "config.yaml").read_text())
    assert config["model"]["init_args"]["preset"] == "quick"
    assert config["output"]["formats"] == ["npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "out", "walk.npy"]


def test_resume_is_the_same_journal(tmp_path: Path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    assert fit(source, "--out", out, *FAST) == 0
    before = (out / "walk.npz").stat().st_mtime_ns
    assert predict(source, out, "--output.resume", "true") == 0
    assert (out / "walk.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "options, word",
    [
        (["--model.presett", "quick"], "presett"),
        (["--trainer.acelerator", "cpu"], "acelerator"),
        (["--model.preset", "sloppy"], "sloppy"),
        (["--output.formats", "[gbl]"], "gbl"),
        (["--model.body", "nobody.npz"], "nobody.npz"),
        (["--data.sources", "[nothing.npy]"], "nothing.npy"),
    ],
)
def test_what_does_not_exist_is_refused(
    options: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert predict(save_joints(tmp_path / "walk.npy"), tmp_path / "out", *options) == 2
    assert word in capsys.readouterr().err
