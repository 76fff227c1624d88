"""W&B offline, read back from its files: the whole way from weights to metrics, a training, ids, names, modes.

Every run is in a process of its own, since W&B reads its surroundings once.
"""

import csv
import hashlib
import json
import os
import sys
from base64 import b64decode
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from fitting.tracking.artifacts import EACH, artifact_name, motions, weights
from fitting.tracking.runs import ID_FILE, offline_without_account, run_id, run_settings
from fitting.tracking.training import products
from fitting.truth import keyed_truth
from models.skeleton import SMPL_JOINTS
from tests.runs import ROOT, command, process, report, save_joints
from tests.training import CONFIGS, arguments, data_set, tiny
from tests.wandb_runs import MADE, USED, OfflineRun, offline_runs

# Runs what follows without an account, a choice of mode, or W&B's service of another run of this process.
NOBODY = ("env", "-u", "WANDB_MODE", "-u", "WANDB_API_KEY", "-u", "WANDB_SERVICE")
SMALL = ROOT / "models" / "assets" / "small_mdm"
WAY = """
from fitting.cli import main
words = ["--out", "walks/motion", "--seconds", "1", "--steps", "2", "--device", "cpu", "--logger", "wandb"]
assert main(["generate", "a person walks", "a person jumps", *words]) == 0
fit = ["fit", "walks/motion/results.npy", "--out", "walks/fit", "--preset", "quick", "--device", "cpu"]
fit += ["--formats", "npz,glb,mp4,smpl_params", "--logger", "wandb"]
assert main(fit) == 0
assert main([*fit, "--resume"]) == 0
assert main(["evaluate", "walks/fit", "--json", "walks/numbers/numbers.json", "--logger", "wandb"]) == 0
words[1] = "walks/edit"
assert main(["edit", "walks/motion/results.npy", "a person waves", *words[:2], *words[4:]]) == 0
"""


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of generate, fit, the fit again with --resume, and evaluate, by somebody without an account."""
    folder = tmp_path_factory.mktemp("way")
    done = process([*NOBODY, sys.executable, "-c", WAY], cwd=str(folder), HOME=str(folder / "home"))
    assert done.returncode == 0, done.stderr
    return folder / "walks"


def runs(way: Path) -> list[OfflineRun]:
    """generate, fit, the fit gone on with, evaluate."""
    return [run for folder in ("motion", "fit/logs", "numbers") for run in offline_runs(way / folder)]


def test_names_groups_and_ids(way: Path) -> None:
    about = [run.about for run in runs(way)]
    assert [(each["name"], each["job"]) for each in about] == [
        ("motion", "generate"), ("fit", "fit"), ("fit", "fit"), ("numbers", "evaluate"),
    ]  # fmt: skip
    assert {each["group"] for each in about} == {"walks"} and {each["project"] for each in about} == {"thetafit"}
    ids = [each["id"] for each in about]
    assert ids[1] == ids[2] and len(set(ids)) == 3, "--resume goes on with the fit's run, and with no other"


def test_each_run_is_made_from_what_the_one_before_made(way: Path) -> None:
    """By contents: the digests are equal, and inputs are references, of which nothing is copied."""
    generate, fit, again, evaluate = runs(way)
    for kind, maker, user in (("motion", generate, fit), ("fit", fit, evaluate), ("fit", again, evaluate)):
        made, used = maker.artifact(MADE, kind), user.artifact(USED, kind)
        assert (made.name, made.digest) == (used.name, used.digest)
        assert all(entry.ref.startswith("file:///") and not entry.local_path for entry in used.manifest.contents)
        assert all(Path(entry.local_path).is_file() and not entry.ref for entry in made.manifest.contents)
        assert user.config["inputs"][0]["digest"] == used.digest
    model = generate.artifact(USED, "model")
    assert {entry.path for entry in model.manifest.contents} == {path.name for path in SMALL.iterdir()}
    (entry,) = (entry for entry in model.manifest.contents if entry.path == "model.pt")
    assert b64decode(entry.digest) == hashlib.md5((SMALL / "model.pt").read_bytes()).digest()


def test_an_edit_is_made_from_motion_and_weights(way: Path) -> None:
    generate, (edit,) = runs(way)[0], offline_runs(way / "edit")
    assert edit.about["job"] == "edit" and len(edit.media("films")) == 1
    assert edit.artifact(USED, "motion").digest == generate.artifact(MADE, "motion").digest
    assert edit.artifact(USED, "model").digest == generate.artifact(USED, "model").digest


def test_result_folders_are_artifacts(way: Path) -> None:
    _, fit, _, evaluate = runs(way)
    files = {name for clip in report(way / "fit")["clips"] for name in clip["files"]}
    paths = {entry.path for entry in fit.artifact(MADE, "fit").manifest.contents}
    assert paths == {name for name in files if not name.endswith("_smpl_params.npy")} and len(paths) == 8
    metrics = fit.artifact(MADE, "metrics")
    assert {entry.path for entry in metrics.manifest.contents} == {"report.json", "losses.csv", "joint_errors.csv"}
    assert all(Path(entry.local_path).is_relative_to(fit.folder) for entry in metrics.manifest.contents)
    assert json.loads(metrics.metadata)["inputs"] == fit.config["inputs"]
    assert [entry.path for entry in evaluate.artifact(MADE, "metrics").manifest.contents] == ["numbers.json"]
    assert not list((way.parent / "home").rglob("staging/*")), "copies wait in the run's folder"


def test_films_bodies_and_numbers_are_shown(way: Path) -> None:
    generate, fit, _, evaluate = runs(way)
    for run in (generate, fit):
        assert len(run.media("films")) == 2
        for film in run.media("films"):
            with av.open(str(film)) as container:
                assert next(container.decode(video=0)).width > 100
    bodies = {path.read_bytes() for path in fit.media("bodies")}
    assert bodies == {path.read_bytes() for path in (way / "fit").glob("*.glb")} and len(bodies) == 2
    clips = report(way / "fit")["clips"]
    for run in (fit, evaluate):
        (table,) = (json.loads(path.read_text()) for path in run.media("clips"))
        column = table["columns"].index("mpjpe_mm")
        assert [row[column] for row in table["data"]] == pytest.approx([clip["mpjpe_mm"] for clip in clips])
        assert run.summary["mean/mpjpe_mm"] == pytest.approx(np.mean([clip["mpjpe_mm"] for clip in clips]))


def test_joint_errors_are_those_of_the_files(way: Path) -> None:
    """Histograms on W&B, the same in joint_errors.csv, recomputed here from the written joints."""
    _, fit, again, _ = runs(way)
    rows = {row.pop("joint"): row for row in csv.DictReader((way / "fit/logs/joint_errors.csv").open())}
    assert list(rows) == list(SMPL_JOINTS[:22])
    written = [np.load(path) for path in sorted((way / "fit").glob("*.npz"))]
    errors = np.concatenate([1000 * np.linalg.norm(each["joints"] - each["joints_input"], axis=-1) for each in written])
    for run in (fit, again):
        for number, name in enumerate(rows):
            histogram = run.logged(f"joint_error_mm/{name}")
            assert histogram["_type"] == "histogram" and sum(histogram["values"]) == len(errors)
            assert histogram["values"] == [int(count) for count in rows[name].values()]
            below = histogram["values"][: histogram["bins"].index(10)]
            assert abs(sum(below) - (errors[:, number] < 10).sum()) <= 1  # the file has single precision


def test_curves_and_config_are_those_of_the_folder(way: Path) -> None:
    fit, logged, expected = runs(way)[2], {}, {}
    for row in fit.rows:
        step = row["trainer/global_step"]
        logged |= {(name, step): value for name, value in row.items() if name.startswith("sample")}
    for row in csv.DictReader((way / "fit" / "logs" / "losses.csv").open()):
        clip, stage, iteration = (row.pop(name) for name in ("clip", "stage", "iteration"))
        expected |= {(f"{clip}/{stage}/{term}", int(iteration)): float(value) for term, value in row.items() if value}
    assert len(expected) > 20 and logged == pytest.approx(expected, rel=1e-6)
    assert fit.config["config"] == yaml.safe_load((way / "fit" / "logs" / "config.yaml").read_text())


def test_train_py(tmp_path: Path) -> None:
    """A training: terms, films, last and best weights, gone on with under its id in a group of one's own; and a fit."""
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short()))
    options = [*tiny(), "-c", tmp_path / "short.yaml", "--trainer.logger", "WandbLogger"]
    words = arguments(CONFIGS / "unconstrained.yaml", data_set(tmp_path / "data"), tmp_path / "mdm" / "run", *options)
    goes_on = ["--trainer.max_steps", "4", "--ckpt_path", "last", "--trainer.logger.dict_kwargs.group", "mine"]
    code = f"import sys; sys.argv = ['train.py']; from train import main\nassert main({words}) == 0\n"
    code += f"assert main({words + goes_on}) == 0\n"
    fit = ["predict", "-c", str(ROOT / "experiments" / "fit.yaml"), "--output.folder", str(tmp_path / "fit")]
    fit += ["--data.sources", f"[{save_joints(tmp_path / 'walk.npy')}]", "--output.formats", "[npz]"]
    code += f"assert main({fit + ['--trainer.logger', 'WandbLogger', '--trainer.logger.name', 'mine']}) == 0"
    done = process([sys.executable, "-c", code], WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    first, second = offline_runs(tmp_path / "mdm" / "run")
    assert first.about["id"] == second.about["id"] and first.about["job"] == "train"
    assert (first.about["name"], first.about["group"], second.about["group"]) == ("run", "mdm", "mine")
    assert {"train/features", "train/loss", "val/loss", "samples/speed"} <= first.summary.keys()
    assert len(first.media("samples")) == 1 and first.media("samples")[0].is_file()
    made = [record for how, record in second.artifacts if how == MADE]
    aliases = {alias for record in made for alias in record.aliases}
    assert {"last", "best"} <= aliases and {record.type for record in made} == {"model"}
    last = next(record for record in made if "last" in record.aliases)
    assert {entry.path for entry in last.manifest.contents} == {"model000000004.pt", "args.json", "Mean.npy", "Std.npy"}
    assert (tmp_path / "mdm" / "run" / "curves.html").is_file()
    (run,) = offline_runs(tmp_path / "fit" / "logs")
    assert (run.about["name"], run.about["group"], run.about["job"]) == ("mine", tmp_path.name, "fit")
    assert run.artifact(MADE, "fit") and run.artifact(USED, "motion")


def short() -> dict:
    """Two steps, each with a validation, and a film after the second."""
    checkpoints = {"class_path": "fitting.training.Checkpoints", "init_args": {"every": 2}}
    samples = {"class_path": "fitting.training.Samples", "init_args": {"every": 2, "count": 2, "films": 1, "levels": 2}}
    trainer = {"max_steps": 2, "callbacks": [checkpoints, samples], "log_every_n_steps": 1, "val_check_interval": 1}
    return {"trainer": trainer | {"check_val_every_n_epoch": None}}


def test_the_id_is_kept_for_who_goes_on(tmp_path: Path) -> None:
    (tmp_path / ID_FILE).parent.mkdir()
    (tmp_path / ID_FILE).write_text("before\n")
    assert run_id(tmp_path, goes_on=True) == "before"
    assert run_id(tmp_path, goes_on=False) != "before"
    assert len({run_id(tmp_path / "elsewhere", goes_on=True) for _ in range(2)}) == 2


def test_variables_of_wandb_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B reads its own variables where it is told nothing else."""
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    monkeypatch.setenv("WANDB_PROJECT", "walks")
    settings = run_settings(tmp_path / "walk", tmp_path, "fit", False)
    assert settings.keys() == {"project", "name", "job_type", "id"}
    assert settings["project"] == "walks" and settings["name"] == "walk"


def test_many_files_are_one_artifact(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / f"{i}.npy" for i in range(EACH)]
    assert [list(content.files) for content in motions(paths)] == [[f"{i}.npy"] for i in range(EACH)]
    (content,) = motions([*paths, tmp_path / "b" / "0.npy"])
    assert list(content.files) == [*(f"a/{i}.npy" for i in range(EACH)), "b/0.npy"]


def test_weights_without_options_beside_them_are_a_file(tmp_path: Path) -> None:
    assert list(weights(SMALL / "model.pt").files) == ["model.pt", "args.json", "Mean.npy", "Std.npy", "words.json"]
    content = weights(tmp_path / "my start.npz")
    assert (content.name, list(content.files)) == ("my-start", ["my start.npz"])
    assert artifact_name("prior/ä") == "prior--"


def test_products_of_a_training_without_checkpoints(tmp_path: Path) -> None:
    """What a module writes into the run's folder itself: the recogniser's npz; not the settings."""
    from lightning.pytorch import Trainer

    for name in ("config.yaml", "recogniser.npz", "last.ckpt"):
        (tmp_path / name).touch()
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False)
    assert products(trainer) == {tmp_path / "recogniser.npz": []}


def test_without_an_account_wandb_is_offline(tmp_path: Path) -> None:
    code = "import os; from fitting.tracking.runs import offline_without_account as f; f()"
    code += "; print(os.environ['WANDB_MODE'])"
    (tmp_path / "home").mkdir()
    done = process([*NOBODY, command()[0], "-c", code], HOME=str(tmp_path / "home"))
    assert done.stdout.split() == ["offline"]


def test_a_chosen_mode_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    offline_without_account()
    assert os.environ["WANDB_MODE"] == "disabled"


def test_a_tuning_shows_what_it_learns_and_from_what(tmp_path: Path) -> None:
    clip = keyed_truth(0)
    arrays = {"poses": clip.thetas[0].flatten(1), "trans": clip.transl[0], "betas": clip.betas[0]}
    np.savez(tmp_path / "mine.npz", **arrays, mocap_framerate=20.0)
    words = ["fit", "-c", "experiments/fitter/weights.yaml", "--model.preset=quick", "--trainer.logger=WandbLogger"]
    words += [f"--data.train=[{tmp_path}/mine.npz]", "--data.keyed=0", "--data.val_keyed=0", "--data.frames=10"]
    words += ["--data.clips=1", "--data.steps=1", "--trainer.val_check_interval=1", "--model.lr=0.001"]
    home = {"HOME": str(tmp_path / "home"), "cwd": str(ROOT)}
    done = process([*NOBODY, sys.executable, "train.py", *words, f"--trainer.default_root_dir={tmp_path}/run"], **home)
    assert done.returncode == 0, done.stderr
    (run,) = offline_runs(tmp_path / "run")
    assert run.logged("train/vertex_mm") > 0 and run.logged("learned/spread.head") > 0
    assert run.artifact(USED, "motion").name == "motion"
    assert {record.name for how, record in run.artifacts if how == MADE} == {"tuned", "tuned_prior"}
    assert [Path(given["file"]).name for given in run.config["inputs"]] == ["mine.npz"]
