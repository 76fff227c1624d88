"""What losses on the mesh do to a model of the project's actions: trained through the fit, and guided. One thread.

    python experiments/benchmarks/through_fit.py before=models/assets/small_mdm/model.pt \\
        tuned=outputs/mdm/through/model000001200.pt --json experiments/benchmarks/results/through_fit.json
    python experiments/benchmarks/through_fit.py guided=models/assets/small_mdm/model.pt --mesh-guidance 0.2 --json ...

300 fixed sentences and seeds, the 56 actions in other words than the training's; every model gets the same. The
recogniser names the action; planted feet, bones, speed and jerk are those of the generated joints (docs/metrics.md);
the losses on the mesh are those of fitting/mesh_losses.py on a `quick` fit of each motion. FID is against held-out
takes, for the sentences and lengths of 128 of them, without guidance by the mesh. A JSON that is there keeps its rows.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from experiments.benchmarks.small_model import (  # noqa: E402
    HELD,
    Way,
    clips,
    feet,
    judged,
    prompts,
    sample,
    sample_way,
)
from experiments.benchmarks.solver import machine  # noqa: E402
from fitting import fit, metrics  # noqa: E402
from fitting.generate import Model, Request, open_model  # noqa: E402
from fitting.mesh_objective import TERMS, MeshLosses  # noqa: E402
from models.mdm.features import features_to_joints  # noqa: E402
from models.mdm.generate import FPS, GUIDANCE  # noqa: E402
from models.mdm.motion_metrics import frechet_distance  # noqa: E402
from models.mdm.recogniser import Recogniser, named  # noqa: E402
from models.mdm.sampling import dpm_solver  # noqa: E402
from models.mdm.takes import HELD_OUT, Takes, load_takes  # noqa: E402
from models.skeleton import SMPL_PARENTS  # noqa: E402

COUNT, ROUNDS, SENTENCES = 300, 6, 128  # prompts, seeds of each action that they are taken from, and sentences of takes
RATE = FPS["humanml"]


def fixed_prompts(count: int) -> list[tuple[str, str, int]]:
    """Action, sentence and seed of the first prompts, all actions once, then all with the next seed."""
    rows = list(prompts(paraphrased=True, seeds=ROUNDS))
    return [row for start in range(ROUNDS) for row in rows[start::ROUNDS]][:count]


def motion_figures(joints: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over motions (frames, 22, 3)."""
    return {
        "bone length change %": mean(metrics.bone_length_change_percent(clip, SMPL_PARENTS[:22]) for clip in joints),
        "joint speed m/s": mean(metrics.speeds(clip, RATE).mean() for clip in joints),
        "jerk m/s^3": mean(metrics.jerk(clip, RATE) for clip in joints),
    }


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def mesh_figures(joints: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over motions of every loss on the mesh."""
    losses, rows = MeshLosses(dict.fromkeys(TERMS, 1.0)), []
    for clip in joints:
        result = fit(clip, fps=RATE, preset="quick")
        fitted = tuple(torch.as_tensor(part)[None].float() for part in (result.thetas, result.betas, result.transl))
        given = torch.as_tensor(clip)[None].float()
        terms = losses.of_fit(given, fitted, torch.ones(given.shape[:2], dtype=torch.bool), RATE)
        rows.append([float(terms[name]) for name in TERMS])
    return dict(zip(TERMS, np.mean(rows, 0).tolist(), strict=True))


def distance(model: Model, judge: Recogniser, takes: Takes) -> float:
    """FID for the first sentences of the takes against all of them, sampled as `thetafit generate` does it."""
    last = len(model.generator.checkpoint.schedule) - 1
    way = Way("", model.generator.levels, (0, last), lambda d, x, levels, _: dpm_solver(d, x, levels))
    motions = sample_way(model, way, GUIDANCE, takes, SENTENCES)
    return frechet_distance(judged(judge.features, clips(takes)), judged(judge.features, motions))


def measured(
    request: Request, rows: Sequence[tuple[str, str, int]], judge: Recogniser, takes: Takes
) -> dict[str, object]:
    """All figures of a model."""
    actions, texts, seeds = zip(*rows, strict=True)
    began = time.process_time()
    model = open_model(request, "cpu")
    motions = sample(model, texts, seeds)
    spent = (time.process_time() - began) / len(rows)
    found = named(judged(judge, motions))
    joints = [features_to_joints(motion).numpy() for motion in motions]
    return {
        "samples": len(rows),
        "mesh guidance": request.mesh_guidance,
        "CPU s a sample": spent,
        "named": mean(action in names for action, names in zip(actions, found, strict=True)),
        "FID": None if request.mesh_guidance else distance(model, judge, takes),
        **feet(motions),
        **motion_figures(joints),
        "mesh": mesh_figures(joints),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=WEIGHTS")
    parser.add_argument("--mesh-guidance", type=float, help="guide all of them by losses on the mesh at this scale")
    parser.add_argument("--mesh-steps", type=int, default=Request.mesh_steps)
    parser.add_argument("--samples", type=int, default=COUNT)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, rows = Recogniser.load(), fixed_prompts(args.samples)
    takes = load_takes(HELD_OUT, HELD)
    figures = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for name, weights in (model.split("=", 1) for model in args.models):
        request = Request([], weights, mesh_guidance=args.mesh_guidance, mesh_steps=args.mesh_steps)
        figures[name] = measured(request, rows, judge, takes) | {"machine": machine()}
        print(name, json.dumps(figures[name], indent=1), flush=True)
        if args.json:
            args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
