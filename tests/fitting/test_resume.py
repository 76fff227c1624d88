"""A killed run leaves whole files or none, and --resume goes on without fitting again what is done."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runs import FAST, command, fit, heed_interrupts, process, report, save_joints

CLIPS = 6
# OBJ is slow to write, so that the kill strikes in the middle of a clip.
SLOW = ("--preset", "quick", "--formats", "npz,obj", "--device", "cpu")


def sources(folder: Path, frames: int = 12) -> list[Path]:
    return [save_joints(folder / f"walk{i}.npy", frames, start=10 * i) for i in range(CLIPS)]


def stamps(out: Path) -> dict[str, int]:
    """When each npz below a folder was written."""
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*.npz")}


def ended_in_the_middle(words: list[str], out: Path, by: signal.Signals) -> tuple[int, str, str]:
    """A signal as soon as a clip is finished and another one is being written: exit code, stdout, stderr."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    running = subprocess.Popen(words, preexec_fn=heed_interrupts, **pipes)
    until = time.monotonic() + 120
    while time.monotonic() < until and running.poll() is None:
        if list(out.glob("logs/clips/**/[!.]*.json")) and list(out.glob("**/.*tmp-*")):
            break
        time.sleep(0.001)
    running.send_signal(by)
    said = running.communicate()
    return running.returncode, *said


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL does not exist on Windows")
def test_a_killed_run_leaves_whole_files_and_resume_finishes_it(tmp_path: Path) -> None:
    files, out, straight = sources(tmp_path), tmp_path / "out", tmp_path / "straight"
    words = command("fit", *files, "--out", out, *SLOW)
    assert ended_in_the_middle(words, out, signal.SIGKILL)[0] == -signal.SIGKILL, "the run ended before it"
    done = {path.stem for path in out.glob("logs/clips/**/[!.]*.json")}
    assert 0 < len(done) < CLIPS and not (out / "report.json").exists()
    for path in out.rglob("walk*.npz"):
        with np.load(path) as arrays:
            assert arrays["poses"].shape == (12, 72)
    for path in out.rglob("walk*_obj"):
        assert len(list(path.glob("frame*.obj"))) == 12
    before = {name: stamp for name, stamp in stamps(out).items() if Path(name).stem in done}

    resumed = process([*words, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(done)} of {CLIPS} clips are done already" in resumed.stdout
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert not list(out.rglob(".*tmp-*"))

    assert fit(*files, "--out", straight, *SLOW) == 0
    assert [clip["name"] for clip in report(out)["clips"]] == [clip["name"] for clip in report(straight)["clips"]]
    curves = [list(csv.reader((folder / "logs" / "losses.csv").open())) for folder in (out, straight)]
    assert {row[0] for row in curves[0]} == {row[0] for row in curves[1]}
    for name in after:  # clips that were fitted in another company differ by rounding
        with np.load(out / name) as one, np.load(straight / name) as other:
            assert np.allclose(one["joints"], other["joints"], atol=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are interrupted otherwise on Windows")
def test_ctrl_c_says_that_resume_goes_on(tmp_path: Path) -> None:
    words = command("fit", *sources(tmp_path), "--out", tmp_path / "out", *SLOW)
    code, said, errors = ended_in_the_middle(words, tmp_path / "out", signal.SIGINT)
    assert code != 0 and "Traceback" not in errors
    assert said.splitlines()[-1].startswith("Stopped by Ctrl-C") and "--resume" in said.splitlines()[-1]


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    """A source of one clip and the output of its fit."""
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    assert fit(source, "--out", out, *FAST) == 0
    return source, out


def test_resume_leaves_alone_what_is_done(finished: tuple[Path, Path]) -> None:
    source, out = finished
    before, clips = stamps(out), report(out)["clips"]
    assert fit(source, "--out", out, *FAST, "--resume") == 0
    assert stamps(out) == before and report(out)["clips"] == clips


def test_without_resume_everything_is_fitted_again(finished: tuple[Path, Path]) -> None:
    source, out = finished
    before = stamps(out)
    assert fit(source, "--out", out, *FAST) == 0
    assert stamps(out) != before


@pytest.mark.parametrize("change", ["input", "preset", "fps", "missing file", "broken journal"])
def test_what_changed_is_fitted_again(change: str, finished: tuple[Path, Path]) -> None:
    source, out = finished
    before, options = stamps(out), []
    if change == "input":
        save_joints(source, start=1)
    elif change == "missing file":
        (out / "walk.npz").unlink()
    elif change == "broken journal":
        (out / "logs" / "clips" / "walk.json").write_text('{"finger')
    else:
        options = {"preset": ["--preset", "careful"], "fps": ["--fps", "30"]}[change]
    assert fit(source, "--out", out, *FAST, *options, "--resume") == 0
    assert stamps(out) != before
