"""Does a fit that was tuned on some motion recover the mesh of other motion better?

    python experiments/benchmarks/tuned_weights.py --json experiments/benchmarks/results/tuned_weights.json
    python experiments/benchmarks/tuned_weights.py --only keyed    # the case that is tuned on keyed motion

Both need the reference folder: it holds the motion that is tested on.

The twenty known cuts of tests/known.py come from thirteen files. Preset `careful` is tuned by
experiments/fitter/weights.yaml on the cuts of every second file and tested on the others, the other way round, and
tuned on keyed motion and tested on all cuts. Millimetres, means over clips; core vertices leave out what neck, head and
hands carry. `noisy` has 4 cm of noise on every coordinate. The run folders, presets in them, are kept below --out. A
JSON that is there keeps its other cases.
Options that are not known here go to train.py.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.known_poses import write  # noqa: E402
from experiments.benchmarks.peers import HIDDEN  # noqa: E402
from experiments.benchmarks.solver import REFERENCE, machine  # noqa: E402
from fitting.smplify3d import SMPLify3D  # noqa: E402
from fitting.truth import Truth, read_truth  # noqa: E402
from fitting.tune import errors_mm, refit  # noqa: E402
from models.body import BodyModel  # noqa: E402
from tests.known import CUTS  # noqa: E402

CONFIG = ROOT / "experiments" / "fitter" / "weights.yaml"
FILES = list(dict.fromkeys(file for file, _, _ in CUTS))
NOISE = 0.04  # metres


def cases(paths: list[Path]) -> dict[str, tuple[list[Path], list[Path]]]:
    """Name -> truths to tune on, truths to test on; nothing to tune on: keyed motion."""
    halves = [[path for path, cut in zip(paths, CUTS, strict=True) if FILES.index(cut[0]) % 2 == i] for i in (0, 1)]
    return {"even": (halves[0], halves[1]), "odd": (halves[1], halves[0]), "keyed": ([], paths)}


def tune(paths: list[Path], folder: Path, options: list[str]) -> Path:
    """Run the config on these truths; the tuned preset."""
    words = ["fit", "-c", str(CONFIG), "--trainer.default_root_dir", str(folder.resolve())]
    if paths:
        words += ["--data.train", json.dumps([str(path.resolve()) for path in paths])]
        words += ["--data.keyed", "0", "--data.val_keyed", "0"]
    subprocess.run([sys.executable, "train.py", *words, *options], cwd=ROOT, check=True)
    return folder / "tuned.yaml"


def measured(preset: str, clips: list[Truth]) -> dict[str, float]:
    """Mean errors of a preset on clips."""
    fitter = SMPLify3D(preset=preset)
    core = ~torch.isin(fitter.body.weights.argmax(1), torch.tensor(HIDDEN))
    rows = []
    for result, clip in zip(refit(fitter, clips), clips, strict=True):
        vertices, joints = errors_mm(result, clip)
        rows.append([float(vertices.mean()), float(vertices[:, core].mean()), float(joints.mean())])
    means = torch.tensor(rows).mean(0).tolist()
    return dict(zip(("vertices", "core_vertices", "joints"), (round(value, 2) for value in means), strict=True))


def noisy(clip: Truth, seed: int) -> Truth:
    random = torch.Generator().manual_seed(seed)
    return replace(clip, noise=NOISE * torch.randn(clip.noise.shape, generator=random, dtype=clip.noise.dtype))


def compare(preset: Path, clips: list[Truth]) -> dict:
    """Errors of careful and of the tuned preset, and what is won of the vertices' and the core's."""
    sets: dict[str, Callable] = {"clean": lambda: clips, "noisy": lambda: [noisy(c, i) for i, c in enumerate(clips)]}
    row: dict = {"tuned": preset.read_text().splitlines()[1].removeprefix("# "), "tested_on": len(clips)}
    for name, made in sets.items():
        before, after = (measured(str(which), made()) for which in ("careful", preset))
        won = {key: f"{1 - after[key] / before[key]:.1%}" for key in before}
        row[name] = {"careful": before, "tuned": after, "won": won}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tuned"), metavar="DIR", help="run folders")
    parser.add_argument("--only", choices=["even", "odd", "keyed"], help="one case, instead of all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args, options = parser.parse_known_args()
    if not (REFERENCE / "data").is_dir():
        sys.exit(f"{REFERENCE / 'data'}: no such folder; it holds the motion that is tested on (THETAFIT_REFERENCE)")
    torch.set_num_threads(1)
    write(args.out / "known", 0.0, 0)
    body = BodyModel.load()
    for name, (learned, tested) in cases(sorted((args.out / "known" / "truth").glob("*.npz"))).items():
        if args.only in (None, name):
            preset = tune(learned, args.out / name, options)
            row = compare(preset, [read_truth(str(path), body) for path in tested])
            print(name, json.dumps(row, indent=1), flush=True)
            if args.json:
                keep(args.json, name, row | {"machine": machine()})


def keep(path: Path, name: str, row: dict) -> None:
    """Put a case's figures into the file, beside those of other cases."""
    cases = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(cases | {name: row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
