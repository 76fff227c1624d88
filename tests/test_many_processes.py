"""Several processes fit as one does: clips shared out, one report, the same numbers; and what a killed one leaves."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fitting.data import Motion, Share
from fitting.runner import predictor
from models.errors import InputError
from tests.runs import FAST, ROOT, command, fit, process, report, save_joints

LENGTHS = (40, 12, 30, 12, 20)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo and SIGKILL as Linux has them")


def sources(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> list[Path]:
    return [save_joints(folder / f"walk{i}.npy", frames, start=10 * i) for i, frames in enumerate(lengths)]


def two(files: list[Path], out: Path, *options: str) -> list[str]:
    """The arguments of Python for train.py as two processes on the CPU."""
    given = f"[{','.join(map(str, files))}]"
    words = ["predict", "-c", ROOT / "experiments" / "fit.yaml", "--data.sources", given, "--output.folder", out]
    words += ["--model.preset", "quick", "--trainer.accelerator", "cpu", "--trainer.devices", 2]
    return [str(word) for word in (ROOT / "train.py", *words, "--trainer.strategy", "ddp", *options)]


def start_and_wait_for_a_clip(files: list[Path], out: Path) -> tuple[subprocess.Popen, int]:
    """A run of two processes, one clip finished and the others not: it, and the id of its second process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *two(files, out, "--output.formats", "[npz,obj]")]  # OBJ is slow to write
    running = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(out.glob("logs/clips/**/[!.]*.json")):
        assert running.poll() is None and time.monotonic() < until, "no clip was finished"
        time.sleep(0.005)
    return running, int(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0])


def finished(out: Path) -> dict[str, int]:
    """Clips in the journal, and when the npz of each was written."""
    clips = [path.relative_to(out / "logs" / "clips").with_suffix("") for path in out.glob("logs/clips/**/[!.]*.json")]
    return {str(clip): (out / f"{clip}.npz").stat().st_mtime_ns for clip in clips}


def alive(pid: int) -> bool:
    """Whether a process still does something; one that has ended and waits to be taken note of does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end(pid: int) -> None:
    until = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until, "a process hangs"
        time.sleep(0.05)


def same_numbers(out: Path, other: Path) -> None:
    """Two runs have the same clips in the same order, and joints within 1e-5 m."""
    clips = report(out)["clips"]
    assert [clip["name"] for clip in clips] == [clip["name"] for clip in report(other)["clips"]]
    for file in (file for clip in clips for file in clip["files"] if file.endswith(".npz")):
        with np.load(out / file) as one, np.load(other / file) as two:
            assert np.abs(one["joints"] - two["joints"]).max() < 1e-5, file
            assert np.abs(one["poses"] - two["poses"]).max() < 1e-3, file


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_every_group_goes_to_one_process_and_frames_are_even(processes: int) -> None:
    lengths = (300, 200, 200, 100, 60, 40)
    groups = [[Motion("clip", joints=np.zeros((length, 22, 3)))] for length in lengths]
    shares = [list(Share(groups, processes, rank)) for rank in range(processes)]
    assert sorted(index for share in shares for index in share) == list(range(len(groups)))
    frames = [sum(lengths[index] for index in share) for share in shares]
    assert max(frames) - min(frames) <= max(lengths)
    assert processes > 3 or max(frames) <= 1.1 * max(300, sum(lengths) / processes)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    files = [*sources(tmp_path), tmp_path / "notes.npy"]
    files[-1].write_text("not an array")
    assert fit(*files, "--out", tmp_path / "one", *FAST) == 1
    done = process(command("fit", *files, "--out", tmp_path / "two", *FAST, "--devices", 2))
    assert done.returncode == 1, done.stderr
    written = Counter(line.split()[0] for line in done.stdout.splitlines() if " converged " in line)
    assert written == {f"walk{i}/walk{i}": 1 for i in range(len(LENGTHS))}
    assert done.stdout.count("report.html") == 1 and done.stdout.count("not read") == 1
    same_numbers(tmp_path / "one", tmp_path / "two")
    curves = [(tmp_path / name / "logs" / "losses.csv").read_text().splitlines() for name in ("one", "two")]
    assert [row.split(",")[:3] for row in curves[0]] == [row.split(",")[:3] for row in curves[1]]


@pytest.mark.parametrize("end", ["SIGKILL of the second", "SIGTERM of the first"])
def test_a_killed_rank_ends_the_run(end: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running, second = start_and_wait_for_a_clip(sources(tmp_path, (120,) * 8), out)
    if end == "SIGKILL of the second":
        os.kill(second, signal.SIGKILL)
        assert running.wait(timeout=60) != 0
    else:
        running.terminate()
        assert running.wait(timeout=60) == 128 + signal.SIGTERM
        assert len(finished(out)) < 8
    wait_for_the_end(second)
    assert finished(out) and not (out / "report.json").exists()
    half_written = [path.name for path in out.rglob(".*tmp-*.npz")]  # SIGKILL leaves no time to tidy
    assert not [name for name in half_written if not (end.startswith("SIGKILL") and f"tmp-{second}." in name)]


def test_without_rank_0_the_others_end_and_resume_does_the_rest(tmp_path: Path) -> None:
    """The rest is one clip, so that one of the two processes that resume has nothing to do."""
    files, out = sources(tmp_path, (250, 20)), tmp_path / "out"
    running, second = start_and_wait_for_a_clip(files, out)
    running.kill()
    running.wait()
    wait_for_the_end(second)
    before = finished(out)
    assert before.keys() == {"walk1/walk1"} and not (out / "report.json").exists()

    resumed = process([*TORCHRUN, *two(files, out, "--output.formats", "[npz,obj]", "--output.resume", "true")])
    assert resumed.returncode == 0, resumed.stderr
    assert "1 of 2 clips are done already" in resumed.stdout
    after = finished(out)
    assert len(after) == 2 and {name: after[name] for name in before} == before
    assert not list(out.rglob(".*tmp-*"))
    assert fit(*files, "--out", tmp_path / "one", *FAST) == 0
    same_numbers(tmp_path / "one", out)


def test_bad_folder_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    done = process([sys.executable, *two(sources(tmp_path, (12,)), tmp_path / "out")])
    assert done.returncode == 2
    assert done.stderr.count("a file stands where a folder is needed") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("device, devices", [("cpu", 0), ("cuda:1", 2)])
def test_devices_that_make_no_sense(device: str, devices: int) -> None:
    with pytest.raises(InputError, match="--devices"):
        predictor(device, devices, [], [])
