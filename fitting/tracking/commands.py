"""W&B runs of the commands that are no Lightning runs: generate, edit, evaluate."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fitting.tracking.runs import finish, keep_ids, wandb_logger
from fitting.tracking.shown import log_evaluation, log_generation

if TYPE_CHECKING:
    from wandb import Run


@contextmanager
def run_of(folder: Path, job: str) -> Iterator["Run"]:
    """A W&B run about a folder, in which its files go too."""
    logger = wandb_logger(folder, folder, job)
    keep_ids([logger])
    yield logger.experiment
    finish([logger])


def track_generation(folder: Path, motion: str | None) -> None:
    """Log generated motion by its folder's generate.json. motion: the file that was edited, if it was."""
    settings = json.loads((folder / "generate.json").read_text(encoding="utf-8"))
    if motion is not None:
        settings["motion"] = motion
    with run_of(folder, "generate" if motion is None else "edit") as run:
        run.config.update({"config": settings})
        log_generation(run, folder, settings)


def track_evaluation(results: Sequence[str], entries: list[dict], written: Path) -> None:
    """Log the numbers of result files and folders, as they were written."""
    with run_of(written.parent, "evaluate") as run:
        run.config.update({"config": {"results": list(results)}})
        log_evaluation(run, [Path(result) for result in results], entries, written)
