"""How good the small model is: actions, copies, feet, and what fewer evaluations cost in FID. One thread.

    python experiments/benchmarks/small_model.py models/assets/small_mdm           # the table of docs/evaluation.md
    python experiments/benchmarks/small_model.py FOLDER --only curve --samples 256
    python experiments/benchmarks/small_model.py FOLDER --json experiments/benchmarks/results/small_model.json

actions: every action of models/keyed_takes.py in other words than the training's, five seeds each, named by the
recogniser. nearest: mean joint distance to the nearest training take. feet: speed of planted feet. curve: FID on the
recogniser's features against held-out takes, for the sentences and lengths of those. The takes are made first and kept.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import machine  # noqa: E402
from fitting import metrics  # noqa: E402
from fitting.generate import Model, Request, open_model  # noqa: E402
from models.keyed_sentences import spoken  # noqa: E402
from models.keyed_takes import ACTIONS  # noqa: E402
from models.mdm.denoiser import Condition  # noqa: E402
from models.mdm.diffusion import Schedule, spaced, spaced_in_lambda  # noqa: E402
from models.mdm.features import features_to_joints  # noqa: E402
from models.mdm.generate import FPS, GUIDANCE, LONGEST  # noqa: E402
from models.mdm.module import derived_seed  # noqa: E402
from models.mdm.motion_metrics import frechet_distance  # noqa: E402
from models.mdm.recogniser import NAMES, Recogniser, named  # noqa: E402
from models.mdm.sampling import ancestral, conditioned, ddim, dpm_solver, guided, seeded_noise  # noqa: E402
from models.mdm.takes import HELD_OUT, Takes, load_takes  # noqa: E402
from models.mdm.words import SYNONYMS  # noqa: E402

PARTS = ("actions", "nearest", "feet", "curve")
SEEDS = 5
TRAINING, HELD = 20_000, 512  # takes
COARSE = 4  # every fourth frame is compared with all takes, the nearest EXACT then in every frame
EXACT = 8
SIMILAR = 0.8  # a take is compared that has at least this share of a sample's frames
NEAR = 20.0  # mm from a take: a copy


def sample(model: Model, texts: Sequence[str], seeds: Sequence[int]) -> list[Tensor]:
    """Features (frames, 263), not normalised, of each sentence, as long as `thetafit generate` makes it."""
    frames = [model.generator.frames(model.seconds(text)) for text in texts]
    made: dict[int, Tensor] = {}
    for length in sorted(set(frames)):
        same = [i for i, count in enumerate(frames) if count == length]
        motion = model.generator([seeds[i] for i in same], length, model.encoder.encode([texts[i] for i in same]))
        made |= dict(zip(same, model.statistics.denormalize(motion), strict=True))
    return [made[i] for i in range(len(texts))]


def clips(takes: Takes, most: int | None = None) -> list[Tensor]:
    """The features (frames, 263) of the first takes, of all by default."""
    return list(islice(each_clip(takes), most))


def each_clip(takes: Takes) -> Iterator[Tensor]:
    """As `clips`, one after the other."""
    for part in np.split(takes.features, takes.lengths.cumsum()[:-1]):
        yield torch.from_numpy(part[:LONGEST].astype(np.float32))


@torch.no_grad()
def judged(judge: Callable[[Tensor, Tensor], Tensor], motions: Sequence[Tensor]) -> Tensor:
    """What the judge says of motions, a row each."""
    rows = []
    for start in range(0, len(motions), 64):
        part = motions[start : start + 64]
        mask = torch.arange(max(map(len, part))) < torch.tensor([len(motion) for motion in part])[:, None]
        rows.append(judge(pad_sequence(part, batch_first=True), mask))
    return torch.cat(rows)


# Actions ------------------------------------------------------------------------------------------------------------


def prompts(paraphrased: bool, seeds: int = SEEDS) -> Iterator[tuple[str, str, int]]:
    """Action, sentence, seed: so many of each action, in the words of the takes or in others where some are known."""
    for action, known in ACTIONS.items():
        for seed in range(seeds):
            random = np.random.default_rng([seed, NAMES.index(action)])
            phrase = str(random.choice(known.phrases))
            if paraphrased:
                phrase = re.sub(r"[a-z]+", lambda word: other_word(word[0], random), phrase)  # noqa: B023
            yield action, f"the person {spoken(phrase, 'present', random)}", derived_seed(7, seed)


def other_word(word: str, random: np.random.Generator) -> str:
    """A word that no sentence of the takes holds and that means the same to the model; the word itself without one."""
    return str(random.choice(SYNONYMS[word].split())) if word in SYNONYMS else word


def act(model: Model, judge: Recogniser, paraphrased: bool) -> tuple[dict, list[Tensor]]:
    """Share of samples of which the recogniser names the action, and of each action that it misses; the samples."""
    actions, texts, seeds = zip(*prompts(paraphrased), strict=True)
    motions = sample(model, texts, seeds)
    found = [action in names for action, names in zip(actions, named(judged(judge, motions)), strict=True)]
    share = {name: float(np.mean([hit for a, hit in zip(actions, found, strict=True) if a == name])) for name in NAMES}
    missed = {name: value for name, value in share.items() if value < 1}
    return {"samples": len(found), "named": float(np.mean(found)), "missed": missed}, motions


def exact(judge: Recogniser, takes: Takes) -> float:
    """Share of true takes of which the recogniser names all actions and no other."""
    found = named(judged(judge, clips(takes)))
    return float(np.mean([set(names) == set(a.split("|")) for names, a in zip(found, takes.actions, strict=True)]))


# Copies -------------------------------------------------------------------------------------------------------------


def posed(motion: Tensor) -> Tensor:
    """Joints (frames, 21, 3) seen from the root, heading taken out: the nearest that two motions can be laid."""
    local = motion[:, 4:67].unflatten(1, (21, 3)).clone()
    local[..., 1] -= motion[:, 3:4]
    return local


class Nearest:
    """Training takes to look for copies in."""

    def __init__(self, takes: Takes):
        self.motions = [posed(motion) for motion in each_clip(takes)]
        self.lengths = torch.tensor([len(motion) for motion in self.motions])
        self.coarse = pad_sequence([motion[::COARSE] for motion in self.motions], batch_first=True)

    def __call__(self, motion: Tensor) -> float:
        """Mean joint distance, in mm, to the nearest take, over the frames that both have."""
        motion = posed(motion)
        some = (self.lengths >= SIMILAR * len(motion)).nonzero()[:, 0]
        steps = motion[::COARSE]
        both = torch.arange(len(steps)) * COARSE < self.lengths[some, None]
        distance = (self.coarse[some][:, : len(steps)] - steps).norm(dim=-1).mean(-1)
        rough = (distance * both).sum(1) / both.sum(1)
        best = some[rough.argsort()[:EXACT]].tolist()
        return 1000 * min(mean_distance(motion, self.motions[index]) for index in best)


def mean_distance(one: Tensor, other: Tensor) -> float:
    """Over the frames that both motions (frames, 21, 3) have."""
    frames = min(len(one), len(other))
    return float((one[:frames] - other[:frames]).norm(dim=-1).mean())


def copies(motions: Sequence[Tensor], nearest: Nearest, names: Sequence[str]) -> dict:
    """The least and the median distance, the share that is too near, and whose."""
    found = [nearest(motion) for motion in motions]
    near = [name for name, distance in zip(names, found, strict=True) if distance <= NEAR]
    share = len(near) / len(found)
    return {"least mm": min(found), "median mm": float(np.median(found)), "too near": share, "whose": sorted(set(near))}


# Feet ---------------------------------------------------------------------------------------------------------------


def feet(motions: Sequence[Tensor]) -> dict:
    """Mean speed of planted feet, m/s: a foot joint under 5 cm and slower than 0.5 m/s (docs/metrics.md)."""
    speeds = []
    for motion in motions:
        joints, fps = features_to_joints(motion).numpy(), FPS["humanml"]
        contact = metrics.planted(joints, fps, metrics.floor_height(joints))
        speeds.append(metrics.planted_speed(joints, fps, contact))
    speeds = [speed for speed in speeds if speed is not None]
    return {"planted m/s": float(np.mean(speeds)), "worst m/s": max(speeds)}


# Curve --------------------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A way to sample: levels of the schedule, in which of them the text is guided (timesteps), how steps are made."""

    name: str
    levels: Schedule
    interval: tuple[int, int] | None  # None: nowhere
    run: Callable

    @property
    def evaluations(self) -> int:
        """Network evaluations of a sample; a guided one is two."""
        low, high = self.interval or (1, 0)
        return len(self.levels) + sum(bool(low <= t <= high) for t in self.levels.timesteps)


def ways(schedule: Schedule) -> list[Way]:
    """The reference's way first: all levels in turn, guided everywhere."""
    last = int(schedule.timesteps[-1])
    guidance = {"": (0, last), ", guided midway": (last // 4, 3 * last // 4), ", guided early": (last // 2, last)}
    found = [Way(f"ancestral {len(schedule)}", schedule, guidance[""], ancestral)]
    found += [Way(f"ancestral {len(schedule)}, plain", schedule, None, ancestral)]
    for steps in (20, 10, 5):
        few = schedule.keep(spaced(len(schedule), (steps,)))
        found += [Way(f"ancestral {steps}", few, guidance[""], ancestral)]
        found += [Way(f"DDIM {steps}", few, guidance[""], lambda denoise, x, levels, noise: ddim(denoise, x, levels))]
        few = schedule.keep(spaced_in_lambda(schedule, steps))
        for where, interval in (guidance | {", plain": None}).items():
            run = lambda denoise, x, levels, noise: dpm_solver(denoise, x, levels)  # noqa: E731
            found.append(Way(f"DPM-Solver++ {steps}{where}", few, interval, run))
    return found


def sample_way(model: Model, way: Way, scale: float, takes: Takes, count: int) -> list[Tensor]:
    """Features for the first sentences of the takes, as long as those."""
    network, made = model.generator.checkpoint.denoiser, []
    order = np.argsort(takes.lengths[:count], kind="stable")
    for rows in np.array_split(order, -(-count // 32)):
        lengths = torch.from_numpy(np.minimum(takes.lengths[rows], LONGEST))
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        condition = Condition(text=model.encoder.encode(takes.texts[rows].tolist()).tensor, mask=mask)
        noise = seeded_noise([derived_seed(9, int(row)) for row in rows])
        plain = way.interval is None
        denoise = conditioned(network, condition) if plain else guided(network, condition, scale, way.interval)
        start = noise(torch.empty(*mask.shape, network.config.features))
        found = model.statistics.denormalize(way.run(denoise, start, way.levels, noise))
        made += [motion[:length] for motion, length in zip(found, lengths, strict=True)]
    return made


def curve(model: Model, judge: Recogniser, scale: float, count: int, training: Takes, takes: Takes) -> list[dict]:
    """FID against evaluations for every way, and that of as many true training takes, which is not 0: few raise it."""
    truth = judged(judge.features, clips(takes))
    others = judged(judge.features, clips(training, count))
    rows = [{"way": "true takes", "evaluations": 0, "FID": frechet_distance(truth, others)}]
    print(f"  {'way':<32} evaluations, FID, CPU s a sample; as many true takes: FID {rows[0]['FID']:.3f}", flush=True)
    for way in ways(model.generator.checkpoint.schedule):
        began = time.process_time()
        made = sample_way(model, way, scale, takes, count)
        spent = (time.process_time() - began) / count
        distance = frechet_distance(truth, judged(judge.features, made))
        rows.append({"way": way.name, "evaluations": way.evaluations, "FID": distance, "CPU s a sample": spent})
        print(f"  {way.name:<32} {way.evaluations:>4} {distance:>9.3f} {spent:>8.3f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the model's folder")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--samples", type=int, default=256, help="of each way of the curve, 512 at most")
    parser.add_argument("--guidance", type=float, help="by default the model's")
    parser.add_argument("--steps", type=int, help="of actions, nearest and feet; by default the model's")
    parser.add_argument("--recogniser", type=Path, help="other weights than those that come along")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    request = Request([], str(args.model / "model.pt"), guidance=args.guidance, steps=args.steps)
    model, judge = open_model(request, "cpu"), Recogniser.load(args.recogniser)
    training, takes = load_takes(0, TRAINING), load_takes(HELD_OUT, HELD)
    scale = GUIDANCE if args.guidance is None else args.guidance
    figures = {"machine": machine(), "steps": args.steps, "guidance": scale, "takes named exactly": exact(judge, takes)}
    if set(args.only) - {"curve"}:
        figures |= sample_figures(model, judge, training, takes, args.only)
    if "curve" in args.only:
        figures["curve"] = curve(model, judge, scale, args.samples, training, takes)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def sample_figures(model: Model, judge: Recogniser, training: Takes, takes: Takes, parts: Sequence[str]) -> dict:
    """What is measured on samples of the actions, each beside held-out takes; printed as it comes."""
    figures: dict = {}
    figures["actions in other words"], motions = act(model, judge, paraphrased=True)
    names, true = [action for action, _, _ in prompts(paraphrased=True)], clips(takes, len(motions))
    if "actions" in parts:
        figures["actions in the takes' words"], _ = act(model, judge, paraphrased=False)
    print(json.dumps(figures, indent=1), flush=True)
    if "feet" in parts:
        figures["feet"] = {"samples": feet(motions), "takes": feet(true)}
        print(json.dumps(figures["feet"]), flush=True)
    if "nearest" in parts:
        nearest = Nearest(training)
        of_takes = copies(true, nearest, takes.actions[: len(true)].tolist())
        figures["nearest"] = {"samples": copies(motions, nearest, names), "takes": of_takes}
        print(json.dumps(figures["nearest"], indent=1), flush=True)
    return figures


if __name__ == "__main__":
    main()
