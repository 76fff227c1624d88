"""Does the small model learn a new action from 20 clips, and keep the old ones? A fine-tuning, measured.

    python experiments/benchmarks/new_action.py experiments/mdm/small_finetune.yaml
    python experiments/benchmarks/new_action.py experiments/mdm/small_lora.yaml --out outputs/new_action_lora

The action, hands behind the head, is said in a word that the model does not know ("surrenders"). The recogniser names
the old actions; the new one is told by a linear layer on its features, fitted on true performances that the model never
sees.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import train  # noqa: E402
from experiments.benchmarks.small_model import SEEDS, act, clips, judged, sample  # noqa: E402
from fitting.generate import Model, Request, open_model  # noqa: E402
from fitting.prepare import prepare_files  # noqa: E402
from models import keyed_actions  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.errors import InputError  # noqa: E402
from models.keyed_script import perform  # noqa: E402
from models.keyed_sentences import sentence  # noqa: E402
from models.keyed_takes import MANNERS, in_manner  # noqa: E402
from models.mdm.features import joints_to_features  # noqa: E402
from models.mdm.module import derived_seed  # noqa: E402
from models.mdm.recogniser import Recogniser  # noqa: E402
from models.mdm.takes import HELD_OUT, load_takes  # noqa: E402

SCRIPT = keyed_actions.gesture("hands_behind_head", beat=(1.8, 2.6))
PHRASES = ("[surrender]", "[surrender] with the hands behind the head", "[surrender] to someone")
CLIPS, TRUE, OLD = 25, 300, 512  # clips, 20 of them to learn from; others for the judge; takes for the judge
SMALL = ROOT / "models" / "assets" / "small_mdm" / "model.pt"


def performance(seed: int) -> tuple[Tensor, str]:
    """Joints (frames, 22, 3) at 20 frames a second, and the sentence."""
    rng = np.random.default_rng([seed, 57])
    manner = MANNERS[str(rng.choice(list(MANNERS)))]
    text = sentence([PHRASES], manner.words, rng)
    motion = perform(in_manner(SCRIPT(rng), manner, rng), text, 20, np.zeros(10))
    return BodyModel.load().joints(motion.betas, motion.thetas, motion.transl)[:, :22], text


def write_clips(folder: Path) -> Path:
    """A data set of CLIPS performances, made as a user makes it."""
    source = folder / "takes"
    source.mkdir(parents=True)
    rows = ["clip,caption"]
    for seed in range(CLIPS):
        joints, text = performance(seed)
        np.save(source / f"take{seed:02d}.npy", joints.float().numpy())
        rows.append(f"take{seed:02d},{text}")
    (source / "captions.csv").write_text("\n".join(rows) + "\n")
    reading = {"fps": 20.0, "up": "y", "stats": None}
    prepare_files([str(source / "*.npy")], str(folder / "set"), str(source / "captions.csv"), None, reading)
    return folder / "set"


class Judge:
    """Tells the new action from the old ones: logistic regression on the recogniser's features, by Newton's method."""

    def __init__(self, recogniser: Recogniser):
        self.recogniser = recogniser
        new = [joints_to_features(performance(10_000 + seed)[0]).float() for seed in range(TRUE)]
        old = clips(load_takes(HELD_OUT, OLD))
        half = TRUE // 2, OLD // 2
        rows = torch.cat((self._features(new[: half[0]]), self._features(old[: half[1]])))
        wanted = torch.cat((torch.ones(half[0]), torch.zeros(half[1]))).double()
        self.weights = torch.zeros(rows.shape[1], dtype=torch.float64)
        for _ in range(20):
            share = (rows @ self.weights).sigmoid()
            curvature = (rows * (share * (1 - share))[:, None]).T @ rows + 0.1 * torch.eye(rows.shape[1])
            slope = rows.T @ (share - wanted) + 0.1 * self.weights
            self.weights -= torch.linalg.solve(curvature, slope)
        self.held_out = float(self(new[half[0] :]).double().mean()), float(self(old[half[1] :]).double().mean())

    def _features(self, motions: list[Tensor]) -> Tensor:
        rows = judged(self.recogniser.features, motions).double()
        return torch.cat((rows, torch.ones(len(rows), 1)), 1)

    def __call__(self, motions: list[Tensor]) -> Tensor:
        """Whether each is the new action."""
        return self._features(motions) @ self.weights > 0


def measured(model: Model, recogniser: Recogniser, judge: Judge) -> dict[str, Any]:
    """Share of samples that perform the new action, and of those of the old ones that the recogniser names."""
    rng = np.random.default_rng(1)
    texts = [sentence([PHRASES], MANNERS["usual"].words, rng) for _ in range(8 * SEEDS)]
    figures: dict[str, Any] = {"old actions": act(model, recogniser, paraphrased=False)[0]["named"]}
    try:
        motions = sample(model, texts, [derived_seed(8, i) for i in range(len(texts))])
        figures["new action"] = float(judge(motions).double().mean())
    except InputError as error:  # it does not know the word yet
        figures["new action"] = str(error)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/new_action"), help="a folder to make")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recogniser = Recogniser.load()
    judge = Judge(recogniser)
    if args.out.exists():
        parser.error(f"{args.out} holds an earlier run: name another folder with --out")
    data, run = write_clips(args.out), args.out / "run"
    began = time.perf_counter()
    options = {"--data.own": data, "--trainer.default_root_dir": run}
    train.main(["fit", "-c", str(args.config), *(str(part) for pair in options.items() for part in pair)])
    figures: dict[str, Any] = {"config": args.config.name, "training s": time.perf_counter() - began}
    figures["judge, held out: new named, old named new"] = judge.held_out
    weights = max(run.glob("model*.pt"))
    for name, file in (("before", SMALL), ("after", weights)):
        figures[name] = measured(open_model(Request([], str(file)), "cpu"), recogniser, judge)
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
