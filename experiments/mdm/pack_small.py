"""Packs a run of small.yaml into the folder that `thetafit generate` reads: half-precision weights, words, statistics.

python experiments/mdm/pack_small.py outputs/.../last.ckpt models/assets/small_mdm
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from models.mdm.checkpoint import load_checkpoint, save_checkpoint
from models.mdm.normalization import Statistics
from models.mdm.takes import Takes, load_takes
from models.mdm.words import Vocabulary

FPS = 20
TAKES = 20_000
RIDGE = 3.0  # takes' worth of doubt about what a word adds to the length


def word_seconds(takes: Takes, vocabulary: Vocabulary) -> dict[str, float]:
    """Seconds that each word of a sentence adds to the motion, and "" any: by ridge regression over the takes.

    With a standard deviation more, so that few motions are cut short; one that is done early stands still.
    """
    rows = np.zeros((len(takes), len(vocabulary.words) + 1))
    rows[:, 0] = 1
    for row, text in zip(rows, takes.texts, strict=True):
        row[vocabulary.read(str(text))[0]] = 1
    doubt = RIDGE * np.eye(rows.shape[1])
    true = takes.lengths / FPS
    seconds = np.linalg.solve(rows.T @ rows + doubt, rows.T @ true)
    seconds[0] += np.std(rows @ seconds - true)
    return {word: round(float(value), 3) for word, value in zip(("", *vocabulary.words), seconds, strict=True)}


def pack(weights: Path, folder: Path) -> None:
    """Write model.pt, args.json, words.json, Mean.npy and Std.npy from a run's model*.pt and what lies beside it."""
    model = load_checkpoint(weights)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "model.pt", model.denoiser, model.args)
    state = {name: value.half() for name, value in model.denoiser.state_dict().items() if not name.endswith(".pe")}
    torch.save(state, folder / "model.pt")
    Statistics.load(weights.parent).save(folder)
    vocabulary = Vocabulary.load(weights.parent)
    Vocabulary(vocabulary.words, word_seconds(load_takes(0, TAKES), vocabulary)).save(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    pack(**vars(parser.parse_args()))
