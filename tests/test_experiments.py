"""Every config of experiments/ takes a step on small data made here, and does with it what it says.

Each config is found by itself and run once, in this process; the tests below look at what the runs left.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

import train
from experiments import results_table
from fitting.runner import guarded
from models.mdm.checkpoint import load_checkpoint
from models.mdm.evaluation import MADE, TRUE, as_text
from models.mdm.recogniser import Recogniser
from models.mdm.takes import HELD_OUT, UNIT, load_takes, read_takes
from models.mdm.words import Vocabulary
from tests.clip import save_archive
from tests.models.test_evaluation import save_all, save_dataset
from tests.runs import ROOT, save_joints
from tests.training import data_set, save_weights, tiny

EXPERIMENTS = ROOT / "experiments"
SWEEPS = {"fitter/sweep.yaml"}  # for `wandb sweep`, not for train.py; tests/fitting/test_tune.py runs it
FOUND = sorted({path.relative_to(EXPERIMENTS).as_posix() for path in EXPERIMENTS.rglob("*.yaml")} - SWEEPS)
SMALL = ROOT / "models" / "assets" / "small_mdm"

SET = "--data.folder {set} --data.batch_size 2 --data.workers 0"
TAKES = "--data.count 24 --data.held_out 8 --data.batch_size 8"
TINY = " ".join(tiny())
CLIP = "--model.encoder.weights {clip}"
# Each config's subcommand and what it is completed with. Words in braces are places of `ground`; a `fit` is given its
# folder, the CPU and one step besides.
ROWS = {
    "fit.yaml": "predict --data.sources [{walk}] --output.folder {run} --output.formats [npz]"
    " --trainer.accelerator cpu",
    "fitter/start.yaml": "fit --data.takes 2 --data.variations 0 --data.count 2 --data.noisy 2 --data.held_out 4"
    " --data.batch_size 2 --data.frames 8",
    "fitter/weights.yaml": "fit --data.keyed 1 --data.val_keyed 1 --data.frames 10 --data.clips 1 --data.steps 1"
    " --trainer.val_check_interval 1"
    " --model.preset quick",
    "mdm/bandai.yaml": f"fit {SET} {TINY}",
    "mdm/dip.yaml": f"fit {SET} {TINY} --model.encoder tests.training.Tokens",
    "mdm/evaluate.yaml": "test --model.model {judge}/model.pt --model.evaluators {judge}/finest.tar"
    " --model.statistics {judge} --model.glove {judge} --model.samples 32 --model.replications 2 --model.sentences 2"
    " --model.variants 3 --model.steps 2 --data.folder {judged}"
    " --trainer.default_root_dir {run} --trainer.accelerator cpu",
    "mdm/finetune.yaml": f"fit {SET} {CLIP} --model.init_from {{weights}}",
    "mdm/lora.yaml": f"fit {SET} {CLIP} --model.init_from {{weights}}",
    "mdm/recogniser.yaml": f"fit {TAKES}",
    "mdm/scratch.yaml": f"fit {SET} {TINY} {CLIP} --model.options.diffusion_steps 50",
    "mdm/small.yaml": f"fit {TAKES}",
    "mdm/small_finetune.yaml": f"fit {TAKES} --data.own {{own}}",
    "mdm/small_lora.yaml": f"fit {TAKES} --data.own {{own}}",
    "mdm/steps50.yaml": f"fit {SET} {TINY} {CLIP}",
    "mdm/through.yaml": f"fit {TAKES} --model.clips 2 --model.window 8",
    "mdm/through_lora.yaml": f"fit {TAKES} --model.clips 2 --model.window 8",
    "mdm/unconstrained.yaml": f"fit {SET} {TINY}",
}
STEP = "--trainer.default_root_dir {run} --trainer.accelerator cpu --trainer.max_steps 1"


class Run(NamedTuple):
    """A config's run: its exit code, its folder, what it printed."""

    code: int
    folder: Path
    said: str


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """The places that ROWS names: motion, data sets, weights. The user's cache is one of this test."""
    folder = tmp_path_factory.mktemp("ground")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(sys, "argv", ["train.py"])  # LightningCLI warns in a program with arguments of its own
        load_takes(0, 24), load_takes(HELD_OUT, 8)
        for name in ("clip", "judge"):
            (folder / name).mkdir()
        save_all(folder / "judge")
        yield {
            "walk": save_joints(folder / "walk.npy"),
            "set": data_set(folder / "data"),
            "own": somersaults(folder / "own"),
            "clip": save_archive(folder / "clip" / "ViT-B-32.pt"),
            "weights": save_weights(folder / "model000000100.pt"),
            "judge": folder / "judge",
            "judged": save_dataset(folder / "judged"),
        }


def somersaults(folder: Path) -> Path:
    """Clips of one's own, of a person who somersaults, as the captions have it."""
    made = data_set(folder, clips=5)
    for text in (made / "texts").glob("*.txt"):
        text.write_text("a person somersaults#a/DET person/NOUN somersaults/VERB#0.0#0.0\n")
    return made


@pytest.fixture(scope="module")
def ran(ground, tmp_path_factory) -> Callable[[str], Run]:
    """Runs a config, each once."""
    done: dict[str, Run] = {}

    def of(name: str) -> Run:
        if name not in done:
            done[name] = run(name, ground, tmp_path_factory.mktemp("run"))
        return done[name]

    return of


def run(name: str, ground: dict[str, Path], folder: Path) -> Run:
    """One run of a config with its row, into the folder."""
    config, swept = started(EXPERIMENTS / name)
    subcommand, *words = ROWS[config].split()
    words = [*words, *(STEP.split() if subcommand == "fit" else ())]
    words = [word.format(run=folder, **ground) for word in words]
    with redirect_stdout(StringIO()) as said:
        code = guarded(train.main, [subcommand, "-c", str(EXPERIMENTS / config), *swept, *words])
    return Run(code, folder, said.getvalue())


def started(path: Path) -> tuple[str, list[str]]:
    """The config that a file is, or that a W&B sweep starts; and what the sweep sets, each at its first or least."""
    text = yaml.safe_load(path.read_text())
    if "program" not in text:
        return path.relative_to(EXPERIMENTS).as_posix(), []
    config = text["command"][text["command"].index("-c") + 1]
    values = {
        name: given["values"][0] if "values" in given else given["min"] for name, given in text["parameters"].items()
    }
    return Path(config).relative_to("experiments").as_posix(), [f"--{name}={value}" for name, value in values.items()]


@pytest.mark.parametrize("name", FOUND)
def test_every_config_takes_a_step(name, ran):
    config, _ = started(EXPERIMENTS / name)
    assert config in ROWS, (
        f"experiments/{config} has no row in ROWS of tests/test_experiments.py. Add one: its subcommand of train.py "
        f"(fit, predict, test), then the options that let it take a step on small data, such as {TAKES!r}."
    )
    code, folder, _ = ran(name)
    assert code == 0
    configs = [yaml.safe_load(path.read_text()) for path in (*folder.glob("config.yaml"), *folder.glob("logs/*.yaml"))]
    own = yaml.safe_load((EXPERIMENTS / config).read_text())
    assert [each["model"]["class_path"] for each in configs] == [own["model"]["class_path"]]


def test_a_sweep_is_its_config_with_the_first_values(tmp_path):
    parameters = {"model.lr": {"min": 0.01, "max": 0.2}, "data.clips": {"values": [2, 4]}}
    command = ["python", "${program}", "fit", "-c", "experiments/mdm/small.yaml", "${args}"]
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"program": "train.py", "command": command, "parameters": parameters})
    )
    assert started(tmp_path / "sweep.yaml") == ("mdm/small.yaml", ["--data.clips=2", "--model.lr=0.01"])


def test_every_row_has_its_config():
    assert not set(ROWS) - set(FOUND), "rows of configs that do not exist"


def test_every_config_is_on_the_page():
    """experiments/README.md has a row of each config, with its command."""
    page = (EXPERIMENTS / "README.md").read_text()
    missing = [name for name in FOUND if f"| `{name}` |" not in page]
    assert not missing, f"experiments/README.md lacks {', '.join(missing)} in the table under `## Configs`"


def test_the_table_of_results_is_that_of_the_files():
    page = results_table.PAGE.read_text(encoding="utf-8")
    assert page == results_table.updated(page), "python experiments/results_table.py writes it anew"
    assert page.count(results_table.table()) == 1, "the marks of the table are gone"


def test_a_result_without_a_row_is_named(tmp_path, monkeypatch):
    (tmp_path / "new.json").write_text("{}")
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    with pytest.raises(KeyError, match="new.json has no row in ROWS"):
        results_table.table()


@pytest.mark.parametrize("name", ["mdm/finetune.yaml", "mdm/lora.yaml"])
def test_what_is_frozen_stays(name, ran, ground):
    trained = load_checkpoint(ran(name).folder / "model000000001.pt").denoiser.state_dict()
    start = load_checkpoint(ground["weights"]).denoiser.state_dict()
    moved = {key for key, value in trained.items() if not torch.equal(value, start[key])}
    lower, upper = (f"seqTransEncoder.layers.{layer}.linear1.weight" for layer in (0, 7))
    assert (lower in moved) == (name == "mdm/lora.yaml") and upper in moved


def test_the_small_config_trains_what_ships(ran):
    folder = ran("mdm/small.yaml").folder
    trained, shipped = load_checkpoint(folder / "model000000001.pt"), load_checkpoint(SMALL / "model.pt")
    assert trained.denoiser.config == shipped.denoiser.config
    assert Vocabulary.load(folder).words == Vocabulary.load(SMALL).words
    assert sum(file.stat().st_size for file in SMALL.iterdir()) < 8e6


@pytest.mark.parametrize("name, most", [("mdm/small_finetune.yaml", 1.0), ("mdm/small_lora.yaml", 0.02)])
def test_a_fine_tuning_learns_words_and_leaves_a_model(name, most, ran):
    _, folder, said = ran(name)
    share = float(said.split("parameters are trained, ")[1].split("%")[0]) / 100
    assert 0 < share <= most
    words = json.loads((folder / "words.json").read_text())["words"]
    assert words[-1] == "somersaults" and Vocabulary.load(folder).number("somersaulting") == len(words)
    before, after = (load_checkpoint(path).denoiser for path in (SMALL / "model.pt", folder / "model000000001.pt"))
    assert not torch.equal(*(n.state_dict()["seqTransDecoder.layers.0.linear1.weight"] for n in (before, after)))


def test_own_clips_are_read_as_often_as_asked(ground):
    takes = read_takes(ground["own"], times=3)
    names = (ground["own"] / "train.txt").read_text().split()
    assert len(takes) == 3 * len(names) and (takes.lengths % UNIT == 0).all()
    assert set(takes.texts) == {"a person somersaults"}


def test_the_recogniser_is_what_ships(ran):
    """The same network, in a file that loads and is small."""
    trained = Recogniser.load(ran("mdm/recogniser.yaml").folder / "recogniser.npz").state_dict()
    shipped = Recogniser.load().state_dict()
    assert {name: value.shape for name, value in trained.items()} == {name: v.shape for name, v in shipped.items()}
    assert (ROOT / "models" / "assets" / "recogniser.npz").stat().st_size < 1.2e6


def test_an_evaluation_prints_its_table_and_the_same_again(ran, ground, tmp_path):
    first, second = ran("mdm/evaluate.yaml"), run("mdm/evaluate.yaml", ground, tmp_path)
    tables = [json.loads((each.folder / "evaluation.json").read_text()) for each in (first, second)]
    tables = [table["mean and half interval"] for table in tables]
    assert tables[0] == tables[1] and tables[0][MADE]["FID"][0] > 1e-5
    names = ["R top 1", "R top 2", "R top 3", "MM-dist", "diversity", "FID", "multimodality"]
    assert list(tables[0][MADE]) == names and list(tables[0][TRUE]) == names[:5]
    assert as_text(tables[0]) in first.said
