"""The W&B run of a folder: what it is called, where it keeps its files, and how a later start goes on with it."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitting.folder import check_folder

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, WandbLogger
    from wandb import Run

PROJECT = "thetafit"
ID_FILE = Path("wandb", "run-id")  # below the folder that W&B writes into
# What W&B's variables say counts more than what follows from the folder.
VARIABLES = {"name": "WANDB_NAME", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "id": "WANDB_RUN_ID"}


def run_settings(home: Path, files: Path, job: str, goes_on: bool) -> dict[str, str]:
    """Project, name, group, job_type and id of the run of a folder, without those that W&B's variables say.

    home: the run's folder, after which it is named; its group is the folder above. files: where W&B's own go; goes_on:
    the run is the one that was there before, if there was one.
    """
    whole = home.absolute()
    settings = {"name": whole.name, "group": whole.parent.name, "job_type": job, "id": run_id(files, goes_on)}
    settings = {key: value for key, value in settings.items() if value and VARIABLES[key] not in os.environ}
    return {"project": os.environ.get("WANDB_PROJECT", PROJECT)} | settings


def run_id(files: Path, goes_on: bool) -> str:
    """The id of the run before, where it goes on and there was one, else a new one."""
    kept = files / ID_FILE
    if goes_on and kept.is_file():
        return kept.read_text().strip()
    return secrets.token_hex(4)


def keep_ids(loggers: list["Logger"]) -> None:
    """Write the id of every W&B run, which this starts, beside its files, for run_id."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            kept = Path(logger.save_dir) / ID_FILE
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(f"{logger.experiment.id}\n")


def wandb_logger(home: Path, files: Path, job: str, goes_on: bool = False) -> "WandbLogger":
    """The W&B run of folder `home`, see run_settings; offline without an account, never asking for one.

    Raises what check_folder does.
    """
    from lightning.pytorch.loggers import WandbLogger

    offline_without_account()
    check_folder(files)
    return WandbLogger(save_dir=files, **run_settings(home, files, job, goes_on))


def wandb_runs(loggers: list["Logger"]) -> list["Run"]:
    """The W&B runs among the loggers; on other ranks than 0 Lightning's stand-ins, which do nothing."""
    from lightning.pytorch.loggers import WandbLogger

    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def finish(loggers: list["Logger"]) -> None:
    """End the W&B runs, so that the next one of this process is one of its own."""
    for run in wandb_runs(loggers):
        run.finish()


def offline_without_account() -> None:
    """Where nobody chose WANDB_MODE: offline if nobody is logged in, or if the account cannot be reached."""
    import wandb

    if "WANDB_MODE" in os.environ:
        return
    try:
        known = wandb.login(prompt=False)
    except wandb.errors.Error:
        known = False
    if not known:
        os.environ["WANDB_MODE"] = "offline"
        wandb.teardown()  # it has read its environment already


def complete(logger: Any, home: Path, files: Path, job: str, goes_on: bool) -> None:
    """Give a WandbLogger of a config, jsonargparse's namespace, what run_settings says and the config does not."""
    given, more = logger.init_args, dict(logger.get("dict_kwargs") or {})
    if given.save_dir == ".":  # W&B's default
        given.save_dir = str(files)
    for key, value in run_settings(home, Path(given.save_dir), job, goes_on).items():
        if key not in given:
            more.setdefault(key, value)
        elif given[key] is None:
            given[key] = value
    logger.dict_kwargs = more
