"""train.py fit: what a run leaves, exact resuming, what is refused before the first step."""

import json
import logging
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

from fitting.cli import main as thetafit
from fitting.training import Checkpoints, Samples, resume_path
from models.errors import InputError
from tests.clip import save_archive
from tests.training import CONFIGS, data_set, fit, losses, save_weights, tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return save_archive(tmp_path_factory.mktemp("clip") / "ViT-B-32.pt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A network to start fine-tunings from."""
    return save_weights(tmp_path_factory.mktemp("weights") / "model000000100.pt")


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """LightningCLI warns in a program with arguments of its own; caches go to a folder of the test."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def short(tmp_path) -> Path:
    """A config to put on top: a checkpoint every third step, samples every sixth, all losses logged."""
    checkpoints = {"class_path": "fitting.training.Checkpoints", "init_args": {"every": 3, "keep": 6}}
    samples = {"class_path": "fitting.training.Samples", "init_args": {"every": 6, "count": 2, "films": 1, "levels": 4}}
    trainer = {"callbacks": [checkpoints, samples], "log_every_n_steps": 1, "val_check_interval": 2}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({"trainer": trainer | {"check_val_every_n_epoch": None}}))
    return path


def test_what_a_run_leaves_and_goes_on_from(data, short, tmp_path):
    """Losses, weights, best and last: a run broken off between two validations equals an unbroken one."""
    config, options = CONFIGS / "unconstrained.yaml", [*tiny(), "--model.lr", "0.003", "-c", short]
    assert fit(config, data, tmp_path / "whole", *options, "--trainer.max_steps", 9) == 0
    assert fit(config, data, tmp_path / "broken", *options, "--trainer.max_steps", 3) == 0
    assert fit(config, data, tmp_path / "broken", *options, "--trainer.max_steps", 9, "--ckpt_path", "last") == 0
    whole, broken = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert list(whole) == list(range(9)) and whole == broken
    assert losses(tmp_path / "whole", "val/loss") == losses(tmp_path / "broken", "val/loss")
    states = [torch.load(tmp_path / run / "model000000009.pt", weights_only=True) for run in ("whole", "broken")]
    for form in ("model", "model_avg"):
        assert all(torch.equal(value, states[1][form][name]) for name, value in states[0][form].items())
    kept = {path.name for path in (tmp_path / "whole").glob("*") if path.is_file()}
    best = min(losses(tmp_path / "whole", "val/loss").items(), key=lambda item: float(item[1]))[0] + 1
    expected = {f"model{step:09d}.pt" for step in (6, 9, best)}
    expected |= {"config.yaml", "args.json", "Mean.npy", "Std.npy", "last.ckpt", "best.ckpt", "curves.html"}
    assert kept == expected
    assert losses(tmp_path / "whole", "samples/speed").keys() == {6}


def test_samples_are_filmed_and_collapsed_ones_named(data, short, tmp_path, caplog):
    """Untrained networks are. Steps are the optimiser's, also where several batches make one."""
    options = [*tiny(), "-c", short, "--trainer.max_steps", 6, "--trainer.accumulate_grad_batches", 2]
    with caplog.at_level(logging.WARNING, logger="thetafit"):
        assert fit(CONFIGS / "unconstrained.yaml", data, tmp_path / "run", *options) == 0
    (film,) = (tmp_path / "run" / "samples" / "step000000006").iterdir()
    with av.open(str(film)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert film.name == "sample00.mp4" and frames == 60
    assert any("samples of step 6 are" in record.message for record in caplog.records)
    assert not (tmp_path / "run" / "model000000000.pt").exists()


def test_generate_takes_the_folder_as_it_is(data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    assert fit(CONFIGS / "unconstrained.yaml", data, run, *tiny(), "--trainer.max_steps", 1) == 0
    words = ["generate", "--model", run / "model000000001.pt", "--seconds", 0.4, "--steps", 2, "--out", out]
    assert thetafit([*map(str, words), "--device", "cpu"]) == 0
    assert (out / "results.npy").is_file()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--data.context_len", 20, "--data.pred_len", 40], "context_len and pred_len are 20 and 40"),
        (["--model.options.dataset", "kit"], "263 features a frame, the network takes 251"),
        (["--model.options.unconstrained", "false"], "encoder of texts"),
        (["--model.options.latent_dims", 8], "latent_dims"),
        (["--model.freeze", "[gru.*]"], "'gru.*' matches no parameter"),
        (["--model.init_from", "nowhere.pt"], "nowhere.pt"),
        (["--model.encoder", "models.mdm.text.text_encoder", "--model.encoder.name", "clip"], "ViT-B-32.pt"),
        (["--ckpt_path", "last"], "no such checkpoint"),
        (["--data.stats", "elsewhere"], "elsewhere"),
    ],
)
def test_what_would_fail_is_refused_at_the_start(options, words, data, tmp_path, capsys):
    run = tmp_path / "run"
    assert fit(CONFIGS / "unconstrained.yaml", data, run, *tiny(), "--trainer.max_steps", 1, *options) == 2
    assert words in capsys.readouterr().err
    assert not list(run.glob("*.pt")) and not list(run.glob("*.ckpt"))


def test_an_encoder_of_another_width_is_refused(data, tmp_path, capsys):
    options = [*tiny(), "--trainer.max_steps", 1, "--model.encoder", "tests.training.Tokens"]
    assert fit(CONFIGS / "unconstrained.yaml", data, tmp_path, *options, "--model.options.unconstrained", "false") == 2
    assert "768 wide" in capsys.readouterr().err


def test_other_statistics_than_the_weights_were_trained_with_are_refused(data, clip, weights, tmp_path, capsys):
    start = tmp_path / "start"
    start.mkdir()
    for name in (weights.name, "args.json"):
        (start / name).write_bytes((weights.parent / name).read_bytes())
    np.save(start / "Mean.npy", np.zeros(263, np.float32))
    np.save(start / "Std.npy", np.ones(263, np.float32))
    options = ["--model.init_from", start / weights.name, "--model.encoder.weights", clip, "--trainer.max_steps", 1]
    assert fit(CONFIGS / "finetune.yaml", data, tmp_path / "one", *options) == 2
    assert f"set data.stats to {start}" in capsys.readouterr().err
    assert fit(CONFIGS / "finetune.yaml", data, tmp_path / "two", *options, "--data.stats", start) == 0
    assert (np.load(tmp_path / "two" / "Std.npy") == 1).all()
    assert json.loads((tmp_path / "two" / "args.json").read_text())["layers"] == 8


def test_a_run_is_not_written_over_another(tmp_path):
    torch.save({"state_dict": {}, "optimizer_states": []}, tmp_path / "last.ckpt")
    assert resume_path(tmp_path, "last") == str(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="--ckpt_path last"):
        resume_path(tmp_path, None)
    (tmp_path / "other" / "logs" / "version_0").mkdir(parents=True)
    assert resume_path(tmp_path / "other", None) is None  # refused before its first step
    (tmp_path / "other" / "logs" / "version_0" / "metrics.csv").touch()
    with pytest.raises(InputError, match="left no last.ckpt.*--trainer.default_root_dir"):
        resume_path(tmp_path / "other", None)


@pytest.mark.parametrize(
    "content, words",
    [(b"", "the file is empty"), (b"\x93NUMPY", "no PyTorch file.*npy"), ({"weight": 1}, "weights, but")],
)
def test_what_is_no_state_of_a_training_is_named(content, words, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=f"model.pt: .*{words}"):
        resume_path(tmp_path, str(path))


def test_numbers_that_make_no_sense():
    with pytest.raises(InputError, match="every 0"):
        Checkpoints(every=0)
    with pytest.raises(InputError, match="count 1"):
        Samples(count=1)
