"""Tuning as a run: what it is given, what it logs and writes, that the error falls; the sweep over it."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import train
from fitting.cli import main as thetafit
from fitting.knobs import last_stage
from fitting.preset import load_preset
from fitting.runner import guarded
from fitting.smplify3d import SMPLify3D
from fitting.truth import TruthData, clip_of, in_mirror, keyed_truth, read_truth, stood_up
from fitting.tune import mean_errors_mm
from models.body import EMBEDDED, BodyModel
from models.errors import InputError
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from tests.runs import ROOT, save_joints

FOLDER = ROOT / "experiments" / "fitter"
TINY = ("--data.keyed=1", "--data.val_keyed=1", "--data.frames=10", "--data.clips=1", "--model.preset=quick")


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """LightningCLI warns in a program with arguments of its own; W&B keeps to itself."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


def fit(*words: str) -> int:
    """The exit code of `python train.py fit -c experiments/fitter/weights.yaml WORDS`."""
    try:
        return guarded(train.main, ["fit", "-c", str(FOLDER / "weights.yaml"), *words])
    except SystemExit as end:
        return int(end.code)


def test_a_run_lowers_the_error_and_its_preset_is_taken(tmp_path):
    """Four steps on one clip, validated on it: less error, a preset with a prior beside it, every number a curve."""
    run = ("--trainer.default_root_dir=run", "--data.val_keyed=0", "--data.steps=4", "--trainer.val_check_interval=4")
    assert fit(*TINY, *run) == 0
    preset = load_preset("run/tuned.yaml")
    assert preset.prior == "run/tuned_prior.npz"
    clips = [keyed_truth(0)]
    before, after = (mean_errors_mm(SMPLify3D(preset=name), clips) for name in ("quick", "run/tuned.yaml"))
    assert after["vertex_mm"] < before["vertex_mm"]
    rows = list(csv.DictReader(next(Path("run").glob("logs/*/metrics.csv")).open()))
    (logged,) = [float(row["val/vertex_mm"]) for row in rows if row["val/vertex_mm"]]
    assert logged == pytest.approx(after["vertex_mm"], abs=1e-3)
    numbers = ("pose_prior.weight", "confidence.neck", "spread.head", "means.head")
    assert {f"learned/{name}" for name in numbers} <= set(rows[0])
    assert "1 performances of the project's own" in Path("run/tuned.yaml").read_text()
    terms = last_stage(preset)[1].terms
    assert terms["pose_prior"].weight != load_preset("quick").stages["pose"].terms["pose_prior"].weight
    assert (terms["joints"].confidence != 1).any()
    source = save_joints(tmp_path / "walk.npy")
    assert thetafit(["fit", str(source), "--out", "out", "--preset", "run/tuned.yaml", "--formats", "npz"]) == 0


def test_runs_of_a_sweep_have_a_folder_each(monkeypatch, capsys):
    """W&B's agent starts them with one command; a second run in a folder is refused, and what is there stays."""
    run = ("--trainer.default_root_dir=run", "--data.steps=1", "--trainer.val_check_interval=1")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    for number in ("one", "two"):
        monkeypatch.setenv("WANDB_RUN_ID", number)
        assert fit(*TINY, *run) == 0
        assert [len([*Path("run", name).glob("logs/*/metrics.csv")]) for name in ("one", number)] == [1, 1]
    before = Path("run/two/config.yaml").stat().st_mtime_ns
    assert fit(*TINY, *run) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert Path("run/two/config.yaml").stat().st_mtime_ns == before


def test_what_is_not_learned_stays():
    run = ("--trainer.default_root_dir=run", "--data.val_keyed=0", "--data.steps=1", "--trainer.val_check_interval=1")
    assert fit(*TINY, *run, "--model.learn=[means]", "--model.lr=0.001") == 0
    stage = load_preset("run/tuned.yaml").stages["pose"]
    assert stage.terms["limits"] == load_preset("quick").stages["pose"].terms["limits"]
    assert (stage.terms["joints"].confidence == 1).all()


@pytest.mark.parametrize(
    "options, word",
    [
        (["--data.keyed=0"], "nothing to tune on"),
        (["--data.train=[none.npz]"], "none.npz"),
        (["--data.frames=4"], "frames"),
        (["--data.frames=1000"], "at most 100"),
        (["--data.train=[short.npz]", "--data.keyed=0", "--data.val_keyed=0"], "12 frames"),
        (["--data.up=x"], "up"),
        (["--data.train=[short.npz]", "--data.up=z", "--data.frames=10"], "stands along z, read with z up"),
        (["--model.lr=-1"], "lr"),
        (["--model.learn=[sigmas]"], "sigmas"),
        (["--model.preset=sloppy"], "sloppy"),
        (["--model.preset=reference"], "one shape a frame"),
        (["--data.keyed=-1"], "keyed -1"),
        (["--data.val_keyed=-1"], "val_keyed -1"),
        ([*TINY, "--data.steps=1"], "--trainer.val_check_interval 1"),
        ([*TINY, f"--data.body={EMBEDDED}"], "--model.body None and --data.body"),
    ],
)
def test_what_cannot_be_tuned_is_named(options, word, capsys):
    poses, trans = np.zeros((12, 72)), np.zeros((12, 3))
    np.savez("short.npz", poses=poses, trans=trans, mocap_framerate=20.0)
    assert fit("--trainer.default_root_dir=run", *options) == 2
    assert word in capsys.readouterr().err


def test_a_preset_of_a_run_before_does_not_stay(tmp_path, capsys):
    """A step so small that nothing is won leaves no preset, whatever lay there."""
    for name in ("tuned.yaml", "tuned_prior.npz"):
        (tmp_path / name).touch()
    run = (f"--trainer.default_root_dir={tmp_path}", "--data.steps=1", "--trainer.val_check_interval=1")
    assert fit(*TINY, *run, "--model.lr=1e-300") == 0
    assert "there is no tuned.yaml" in capsys.readouterr().out and not list(tmp_path.glob("tuned*"))


def test_the_mirror_shows_the_same_person(body):
    """Joints of the other side, x negated."""
    clip = keyed_truth(3).frames(slice(0, 20))
    clip.betas.zero_()
    sides = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
    expected = clip.joints(body)[:, :, sides] * torch.tensor([-1.0, 1, 1])
    assert (in_mirror(clip).joints(body) - expected).norm(dim=-1).max() < 0.02  # the body's own sides differ a little


def test_z_up_is_stood_up(body):
    """(x, y, z) -> (x, z, -y) of every joint."""
    clip = keyed_truth(1)
    orient, transl = clip.thetas[0, :, 0], clip.transl[0]
    pelvis = body.rest_joints(clip.betas[0].float())[0].double()
    lay = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    lying = matrix_to_axis_angle(lay @ axis_angle_to_matrix(orient)), (transl + pelvis) @ lay.T - pelvis
    stood = stood_up(*lying, pelvis)
    thetas = clip.thetas[0].clone()
    thetas[:, 0] = stood[0]
    found = clip_of(thetas, clip.betas[0], stood[1])
    torch.testing.assert_close(found.joints(body), clip.joints(body), rtol=0, atol=1e-5)


def test_windows_are_the_same_at_every_call_and_half_are_noisy():
    data = TruthData(keyed=3, frames=20, clips=2, steps=20, noise=0.05)
    data.setup()
    windows = data.train_dataloader().dataset
    assert len(windows) == 40 and windows[7].thetas.shape == (1, 20, 24, 3)
    for one, other in zip(vars(windows[7]).values(), vars(windows[7]).values(), strict=True):
        assert torch.equal(one, other)
    levels = torch.tensor([float(windows[i].noise.std()) for i in range(40)])
    assert 0.2 < (levels == 0).float().mean() < 0.8 and 0.02 < levels.max() < 0.06


def test_reads_what_a_fit_wrote(body, tmp_path):
    source = save_joints(tmp_path / "walk.npy")
    assert thetafit(["fit", str(source), "--out", "out", "--preset", "quick", "--formats", "npz"]) == 0
    clip = read_truth("out/walk.npz", body)
    with np.load("out/walk.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(clip.joints(body)[0].numpy(), file["joints"], atol=1e-5)


def test_the_sweep_runs_a_step(tmp_path):
    """The sweep's own command, W&B's logger offline included, with settings that the config has."""
    search = runpy.run_path(str(FOLDER / "search.py"))
    sweep = search["read_sweep"](FOLDER / "sweep.yaml")
    random = np.random.default_rng(0)
    settings = {name: search["draw"](parameter, random) for name, parameter in sweep["parameters"].items()}
    command = search["words"](sweep, settings, tmp_path / "run", [])
    assert command[:4] == [sys.executable, "train.py", "fit", "-c"] and (ROOT / command[4]).is_file()
    assert command[-2] == "--trainer.logger=false"  # what search.py adds, and W&B's agent does not
    words = [word for word in command[5:] if word != "--trainer.logger=false"]
    assert fit(*words, *TINY[:3], TINY[4], "--data.steps=1", "--trainer.val_check_interval=1") == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for name, value in settings.items():
        part, option = name.split(".")
        assert config[part]["init_args"][option] == pytest.approx(value), name
    assert search["best"](tmp_path / "run", sweep["metric"]) > 0 and (tmp_path / "run" / "wandb").is_dir()


def test_a_search_lists_its_trials(tmp_path):
    search = runpy.run_path(str(FOLDER / "search.py"))["search"]
    options = [*TINY, "--data.steps=1", "--trainer.val_check_interval=1"]
    assert search(FOLDER / "sweep.yaml", tmp_path / "search", 1, 0, options) == 0
    (row,) = csv.DictReader((tmp_path / "search" / "search.csv").open())
    assert row["trial"] == "trial00" and float(row["val/vertex_mm"]) > 0 and 0.01 <= float(row["model.lr"]) <= 0.2


def test_a_search_does_not_mix_with_an_earlier_one(tmp_path):
    search = runpy.run_path(str(FOLDER / "search.py"))["search"]
    (tmp_path / "trial00").mkdir()
    with pytest.raises(InputError, match="trials of an earlier search"):
        search(FOLDER / "sweep.yaml", tmp_path, 1, 0, [])
    with pytest.raises(InputError, match="--trials 0"):
        search(FOLDER / "sweep.yaml", tmp_path / "new", 0, 0, [])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"parameters": ["a"]}, "parameters"),
        ({"metric": {"goal": "minimize"}}, "with a name"),
        ({"command": "python"}, "a list"),
        ({"parameters": {"a": 3}}, "no value can be drawn from 3"),
        ({"parameters": {"a": {"values": []}}}, "no value"),
        ({"parameters": {"a": {"min": "low", "max": 1.0}}}, "no value"),
    ],
)
def test_a_sweep_of_another_form_is_refused(changes, message, tmp_path):
    sweep = yaml.safe_load((FOLDER / "sweep.yaml").read_text())
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep | changes))
    with pytest.raises(InputError, match=message):
        runpy.run_path(str(FOLDER / "search.py"))["read_sweep"](tmp_path / "sweep.yaml")


def test_draws_follow_their_distribution():
    draw, random = runpy.run_path(str(FOLDER / "search.py"))["draw"], np.random.default_rng(0)
    logs = [np.log10(draw({"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0}, random)) for _ in range(500)]
    assert min(logs) > -4 and max(logs) < 0 and np.mean(logs) == pytest.approx(-2, abs=0.2)
    assert {draw({"min": 1, "max": 3}, random) for _ in range(50)} == {1, 2, 3}
    assert {draw({"values": ["a", "b"]}, random) for _ in range(50)} == {"a", "b"}
    with pytest.raises(InputError, match="beta"):
        draw({"distribution": "beta", "min": 0, "max": 1}, random)
