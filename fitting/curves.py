"""Loss curves, every term at every iteration of each stage and clip, to CSV and to loggers; the config beside them."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fitting.export.atomic import atomic_path
from fitting.tracking.runs import keep_ids

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

ABOUT = 3  # the first columns of a row say what it is about: clip, stage, iteration
Losses = dict[str, dict[str, list[float]]]  # stage -> term -> energy before the first and after each iteration


def curve_rows(clip: str, losses: Losses) -> Iterator[dict]:
    """One row an iteration: clip, stage, iteration, the energy of each of the stage's terms, and their total."""
    for stage, terms in losses.items():
        terms = {name: values for name, values in terms.items() if name != "total"}
        for iteration, energies in enumerate(zip(*terms.values(), strict=True)):
            named = dict(zip(terms, energies, strict=True))
            yield {"clip": clip, "stage": stage, "iteration": iteration, **named, "total": sum(energies)}


def write_csv(path: Path, rows: Iterable[dict]) -> None:
    """The rows as CSV: clip, stage, iteration, a column a term (empty where a stage lacks the term), total."""
    rows = list(rows)
    terms = dict.fromkeys(name for row in rows for name in list(row)[ABOUT:-1])
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, ["clip", "stage", "iteration", *terms, "total"], restval="")
        writer.writeheader()
        writer.writerows(rows)


def log_curves(loggers: list["Logger"], rows: Iterable[dict]) -> None:
    """The rows to every logger, as `clip/stage/term` over the iteration."""
    for row in rows:
        energies = {f"{row['clip']}/{row['stage']}/{term}": row[term] for term in list(row)[ABOUT:]}
        for logger in loggers:
            logger.log_metrics(energies, step=row["iteration"])


def log_config(folder: Path, loggers: list["Logger"], config: str) -> None:
    """The whole config, as YAML text, to folder/config.yaml and to every logger, whose runs start here."""
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(config)
    keep_ids(loggers)
    for logger in loggers:
        logger.log_hyperparams({"config": yaml.safe_load(config)})
