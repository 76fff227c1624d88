"""Runs through the fit: what a step moves and logs, resume, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from fitting.runner import guarded
from models.mdm.checkpoint import load_checkpoint
from models.mdm.takes import HELD_OUT, load_takes
from tests.training import CONFIGS, losses
from train import main

SMALL = CONFIGS.parents[1] / "models" / "assets" / "small_mdm"


@pytest.fixture(scope="module", autouse=True)
def takes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        load_takes(0, 24), load_takes(HELD_OUT, 8)
        yield


def step(name: str, run: Path, *options: object) -> int:
    """The exit code of one step of a config."""
    few = ["--data.count", 24, "--data.held_out", 8, "--data.batch_size", 8, "--trainer.max_steps", 1]
    words = ["fit", "-c", CONFIGS / f"{name}.yaml", "--trainer.default_root_dir", run, *few, *options]
    return guarded(main, [str(word) for word in words])


@pytest.mark.parametrize(
    "name, options, moving",
    [
        ("through", [], "refine"),
        ("through", ["--model.freeze", "[]", "--model.options.dropout", 0.3], "seqTransDecoder"),
        ("through_lora", [], "seqTransDecoder"),
    ],
)
def test_a_step_through_the_fit_moves_the_network_and_logs_every_term(name, options, moving, tmp_path):
    few = ["--model.clips", 2, "--model.window", 8, "--trainer.log_every_n_steps", 1, "--trainer.max_steps", 2]
    assert step(name, tmp_path, "--model.init_from", SMALL / "model.pt", *few, *options) == 0
    before, after = (load_checkpoint(path).denoiser for path in (SMALL / "model.pt", tmp_path / "model000000002.pt"))
    old, new = before.state_dict(), after.state_dict()
    moved = {key.split(".")[0] for key in new if key not in old or not torch.equal(new[key], old[key])}
    assert moving in moved and (options or len(moved) == 1)
    for term in ("slip", "bones", "keep", "pace", "loss"):
        first, second = map(float, losses(tmp_path, f"mesh/{term}").values())
        assert second > 0 and (first < 1e-6) == (term in ("keep", "pace"))  # it begins as what it is held to


def test_a_run_through_the_fit_goes_on_as_if_unbroken(tmp_path):
    few = ["--model.clips", 2, "--model.window", 6, "--trainer.log_every_n_steps", 1, "--trainer.precision", 32]
    every = [
        "--trainer.callbacks",
        json.dumps([{"class_path": "fitting.training.Checkpoints", "init_args": {"every": 1}}]),
    ]
    assert step("through", tmp_path / "whole", *few, *every, "--trainer.max_steps", 2) == 0
    assert step("through", tmp_path / "broken", *few, *every) == 0
    assert step("through", tmp_path / "broken", *few, *every, "--trainer.max_steps", 2, "--ckpt_path", "last") == 0
    for name in ("mesh/slip", "mesh/bones", "mesh/loss", "train/loss"):
        assert losses(tmp_path / "whole", name) == losses(tmp_path / "broken", name)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--model.clips", 0], "clips 0 is at least 1"),
        (["--model.init_from", "null"], "init_from"),
        (["--model.mesh_weights", "{slid: 1}"], "slid; known are slip"),
        (["--model.mesh_weights", "{slip: .nan}"], "expected: 0 or more"),
        (["--model.pace_weight", -1], "pace_weight -1 is a weight"),
        (["--model.preset", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_would_fail_through_the_fit_is_refused(options, words, tmp_path, capsys):
    assert step("through", tmp_path, *options) == 2
    assert words in capsys.readouterr().err
