"""A fit asks nothing of the network: run where every connection fails, and says so if one is tried."""

from pathlib import Path

import pytest

from tests.runs import ROOT, command, process, report, save_joints

BLOCK = """
import socket

def refuse(*arguments, **_):
    raise SystemExit(f"tried to reach the network: {arguments}")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
socket.getaddrinfo = socket.gethostbyname = socket.socket.sendto = refuse
"""


def blocked(folder: Path) -> dict[str, str]:
    """The environment of a Python in which every connection ends the program; an empty home."""
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text(BLOCK)
    return {"PYTHONPATH": f"{folder / 'block'}:{ROOT}", "HOME": str(folder / "home"), "cwd": str(folder)}


def test_the_block_blocks(tmp_path: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    done = process([command()[0], "-c", code], **blocked(tmp_path))
    assert done.returncode != 0 and "tried to reach the network" in done.stderr


def test_fit_needs_no_network(tmp_path: Path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    done = process(command("fit", source, "--out", out, "--preset", "quick"), **blocked(tmp_path))
    assert done.returncode == 0, done.stderr
    (clip,) = report(out)["clips"]
    assert len(clip["files"]) == 5  # smpl_params, npz, glb, film and poster


def test_fit_with_wandb_needs_no_network(tmp_path: Path) -> None:
    """In a network namespace without any interface, since W&B's own process is no Python."""
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    if process(["unshare", "-rn", "true"]).returncode:
        pytest.skip("no right to make a network namespace here")
    environment = {"HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "cwd": str(tmp_path)}
    words = command("fit", source, "--out", out, "--preset", "quick", "--formats", "npz", "--logger", "wandb")
    done = process(["unshare", "-rn", *words], **environment)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("logs/wandb/offline-run-*/*.wandb"))
