"""Random search over a W&B sweep file on this machine, one run after the other, without an account.

    python experiments/fitter/search.py -c experiments/fitter/sweep.yaml --trials 8
    python experiments/fitter/search.py -c experiments/fitter/sweep.yaml --trials 8 --data.steps 20   # for every run

Each trial runs the file's own command with settings drawn from its parameters, in OUT/trial00, OUT/trial01, ...;
OUT/search.csv has their settings and the best value that the sweep's metric reached. Options that it does not know go
to every run.
"""

import argparse
import csv
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fitting.export.atomic import atomic_path  # noqa: E402
from fitting.runner import guarded  # noqa: E402
from models.errors import InputError  # noqa: E402

DISTRIBUTIONS = "value, values, {min, max} of whole numbers or not, and distribution: uniform, log_uniform_values"


def read_sweep(path: Path) -> dict[str, Any]:
    """A sweep file. Raises InputError for another form, and for parameters from which nothing can be drawn."""
    try:
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a sweep file ({error}); experiments/fitter/sweep.yaml is one.") from None
    match sweep:
        case {"program": str(), "command": [*_], "metric": {"name": str()}, "parameters": {**parameters}}:
            for parameter in parameters.values():
                draw(parameter, np.random.default_rng(0))
            return sweep
    raise InputError(
        f"{path}: a sweep file has program, command (a list), metric (with a name) and parameters (names with how they "
        "are drawn), as experiments/fitter/sweep.yaml has."
    )


def draw(parameter: Any, random: np.random.Generator) -> Any:
    """One value of a sweep's parameter. Raises InputError for a distribution that is not known here."""
    kind = parameter.get("distribution", "uniform") if isinstance(parameter, dict) else None
    match parameter:
        case {"value": value}:
            return value
        case {"values": [_, *_] as values}:
            return values[random.integers(len(values))]
        case {"min": int(low), "max": int(high)} if "distribution" not in parameter and low <= high:
            return int(random.integers(low, high + 1))
        case {"min": int() | float() as low, "max": int() | float() as high} if kind == "uniform":
            return float(random.uniform(low, high))
        case {"min": int() | float() as low, "max": int() | float() as high} if (
            kind == "log_uniform_values" and min(low, high) > 0
        ):
            return float(math.exp(random.uniform(math.log(low), math.log(high))))
    raise InputError(f"no value can be drawn from {parameter}; known are {DISTRIBUTIONS}.")


def words(sweep: dict[str, Any], settings: dict[str, Any], folder: Path, options: list[str]) -> list[str]:
    """The sweep's command as W&B's agent would run it, but in `folder`, without W&B, and with more options."""
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    given = {"${env}": [], "${program}": [sweep["program"]], "python": [sys.executable], "${args}": arguments}
    command = [word for part in sweep["command"] for word in given.get(part, [part])]
    return [*command, *options, "--trainer.logger=false", f"--trainer.default_root_dir={folder}"]


def best(folder: Path, metric: dict[str, str]) -> float:
    """The best value of the metric in a run's CSVs; raises InputError where none was logged."""
    rows = [row for file in folder.glob("logs/*/metrics.csv") for row in csv.DictReader(file.open())]
    values = [float(row[metric["name"]]) for row in rows if row.get(metric["name"])]
    if not values:
        raise InputError(f"{folder}: the run logged no {metric['name']}, by which the trials are compared.")
    return min(values, key=lambda value: value * direction(metric))


def search(path: Path, out: Path, trials: int, seed: int, options: list[str]) -> int:
    """Run the trials and write OUT/search.csv after each; the exit code is 0, or that of a run that failed.

    Raises InputError for no trials, and where an earlier search's lie.
    """
    if trials < 1:
        raise InputError(f"--trials {trials}: at least 1")
    if any(out.glob("trial*")):
        raise InputError(f"{out} holds trials of an earlier search: choose another --out, or remove them")
    sweep, random, rows = read_sweep(path), np.random.default_rng(seed), []
    metric, environment = sweep["metric"], {**os.environ, "WANDB_MODE": "offline"}
    for number in range(trials):
        settings = {name: draw(parameter, random) for name, parameter in sweep["parameters"].items()}
        folder = (out / f"trial{number:02d}").resolve()
        done = subprocess.run(words(sweep, settings, folder, options), cwd=ROOT, env=environment)
        if done.returncode:
            return done.returncode
        rows.append({"trial": folder.name, metric["name"]: best(folder, metric), **settings})
        print(rows[-1], flush=True)
        write(out / "search.csv", sorted(rows, key=lambda row: row[metric["name"]] * direction(metric)))
    return 0


def direction(metric: dict[str, str]) -> int:
    """1 where less of the metric is better, else -1."""
    return 1 if metric.get("goal", "minimize") == "minimize" else -1


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table, the best first."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="a sweep file of W&B's form")
    parser.add_argument("--trials", type=int, default=8, metavar="N", help="how many runs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/search"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    args, options = parser.parse_known_args()
    return guarded(search, args.config, args.out, args.trials, args.seed, options)


if __name__ == "__main__":
    sys.exit(main())
