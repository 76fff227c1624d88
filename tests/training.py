"""Small trainings for tests: a data set of keyed motion, `train.py fit` in this process, an encoder of no weights."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

import train
from fitting.prepare import prepare_files
from fitting.runner import guarded
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, save_checkpoint
from models.mdm.denoiser import Denoiser
from models.mdm.text import TextEmbedding
from tests.runs import ROOT, save_joints

CONFIGS = ROOT / "experiments" / "mdm"
TINY = {"latent_dim": 16, "ff_size": 32, "layers": 1, "heads": 2}
CAPTIONS = ("a person walks", "a person bends down", "a person reaches for something")


class Tokens:
    """As DistilBERT embeds: three tokens a text, the third of them padding; the same numbers for the same text."""

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        rows = [torch.randn(3, 768, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        return TextEmbedding(torch.stack(rows, 1), torch.tensor([[False, False, True]] * len(texts)))


def data_set(folder: Path, clips: int = 8) -> Path:
    """`thetafit prepare` of pieces of the keyed walk, 63 frames each."""
    for i in range(clips):
        save_joints(folder / "takes" / f"take{i}.npy", frames=64, start=4 * i)
    rows = [f"take{i},{CAPTIONS[i % len(CAPTIONS)]}" for i in range(clips)]
    (folder / "captions.csv").write_text("\n".join(["clip,caption", *rows]))
    assert prepare_files([str(folder / "takes")], str(folder / "set"), str(folder / "captions.csv"), None, {}) == 0
    return folder / "set"


def save_weights(path: Path) -> Path:
    """A tiny network to start fine-tunings from, eight layers as the paper's."""
    options = TINY | {"layers": 8, "diffusion_steps": 50}
    torch.manual_seed(0)
    save_checkpoint(path, Denoiser(config_of(DEFAULTS | OURS | options)), options)
    return path


def fit(config: str | Path, data: Path, run: Path, *options: object) -> int:
    """The exit code of `python train.py fit -c CONFIG OPTIONS`, two clips a step, on the CPU."""
    try:
        return guarded(train.main, arguments(config, data, run, *options))
    except SystemExit as end:
        return int(end.code)


def arguments(config: str | Path, data: Path, run: Path, *options: object) -> list[str]:
    """What `fit` gives train.py."""
    words = ["fit", "-c", str(config), "--data.folder", str(data), "--trainer.default_root_dir", str(run)]
    return [*words, "--data.batch_size", "2", "--data.workers", "0", "--trainer.accelerator", "cpu", *map(str, options)]


def tiny(**more: object) -> list[str]:
    """Options for a tiny network."""
    return [word for name, value in (TINY | more).items() for word in (f"--model.options.{name}", str(value))]


def losses(run: Path, name: str = "train/loss") -> dict[int, str]:
    """Step -> value of a curve, from all starts of a run."""
    files = sorted(run.glob("logs/*/metrics.csv"))
    return {int(row["step"]): row[name] for file in files for row in csv.DictReader(file.open()) if row[name]}
