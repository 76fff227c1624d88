"""Runs of the commands in tests: small motion files, the command line in this process or in one of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from fitting.cli import main
from models.keyed import walk_joints

ROOT = Path(__file__).parent.parent
FAST = ("--preset", "quick", "--formats", "npz", "--device", "cpu")


def keyed_joints(frames: int = 12, start: int = 0) -> np.ndarray:
    """(frames, 22, 3) metres, y up: a piece of the keyed walk."""
    return walk_joints()[start : start + frames]


def save_joints(path: Path, frames: int = 12, start: int = 0) -> Path:
    """The piece as a .npy of joints."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, keyed_joints(frames, start))
    return path


def save_results(path: Path, lengths: tuple[int, ...] = (12, 8)) -> Path:
    """A results.npy of one repetition, a sample a length, padded with what MDM leaves there: more motion."""
    longest = max(lengths)
    motion = np.stack([keyed_joints(longest, start=10 * i) for i in range(len(lengths))]).transpose(0, 2, 3, 1)
    content = {"motion": motion, "text": [f"text {i}" for i in range(len(lengths))], "lengths": np.array(lengths)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(content | {"num_samples": len(lengths), "num_repetitions": 1}, dtype=object))
    return path


def fit(*arguments: object) -> int:
    """The exit code of `thetafit fit ARGUMENTS`, also of one that its parser refuses."""
    try:
        return main(["fit", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code)


def command(*arguments: object) -> list[str]:
    """`thetafit ARGUMENTS` as a process' command line."""
    return [sys.executable, "-m", "fitting.cli", *map(str, arguments)]


def process(words: list[str], timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run in a process of its own, without standard input, from a folder that is not the clone's."""
    folder = environment.pop("cwd", None)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    options = {"capture_output": True, "text": True, "timeout": timeout, "stdin": subprocess.DEVNULL}
    return subprocess.run(words, cwd=folder, env=variables, **options)


def report(folder: Path) -> dict:
    """report.json of an output folder."""
    return json.loads((folder / "report.json").read_text())


def heed_interrupts() -> None:
    """In a new process: Ctrl-C ends it, although a suite that runs in the background hands on that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
