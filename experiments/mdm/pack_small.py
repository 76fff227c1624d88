"""Packs a run of small.yaml into the folder that `thetafit generate` reads: half-precision weights, words, statistics.

python experiments/mdm/pack_small.py outputs/.../last.ckpt models/assets/small_mdm
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.mdm.checkpoint import save_checkpoint
from models.mdm.module import MDM
from models.mdm.takes import Takes, load_takes, statistics
from models.mdm.words import Vocabulary, WordText

FPS = 20
RIDGE = 3.0  # takes' worth of doubt about what a word adds to the length


def word_seconds(takes: Takes, vocabulary: Vocabulary) -> dict[str, float]:
    """Seconds that each word of a sentence adds to the motion, and "" any: by ridge regression over the takes."""
    rows = np.zeros((len(takes), len(vocabulary.words) + 1))
    rows[:, 0] = 1
    for row, text in zip(rows, takes.texts, strict=True):
        row[vocabulary.read(str(text))[0]] = 1
    doubt = RIDGE * np.eye(rows.shape[1])
    seconds = np.linalg.solve(rows.T @ rows + doubt, rows.T @ (takes.lengths / FPS))
    return {word: round(float(value), 3) for word, value in zip(("", *vocabulary.words), seconds, strict=True)}


def averaged(module: MDM) -> dict[str, Tensor]:
    """The running average of the weights in half precision, without the table of positions."""
    state = (module.average or module.denoiser).state_dict()
    return {name: value.half() for name, value in state.items() if not name.endswith(".pe")}


def pack(checkpoint: Path, folder: Path) -> None:
    """Write model.pt, args.json, words.json, Mean.npy and Std.npy."""
    module = MDM.load_from_checkpoint(checkpoint, encoder=WordText(), map_location="cpu", weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "model.pt", module.denoiser, module.options)
    torch.save(averaged(module), folder / "model.pt")
    takes = load_takes(0, 20_000)
    statistics(takes).save(folder)
    vocabulary = Vocabulary()
    Vocabulary(vocabulary.words, word_seconds(takes, vocabulary)).save(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    pack(**vars(parser.parse_args()))
