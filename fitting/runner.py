"""One run of the fit through Lightning: what the commands and train.py have in common."""

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fitting.curves import log_config
from fitting.data import MotionData
from fitting.device import device_of
from fitting.smplify3d import SMPLify3D
from fitting.tracking.runs import finish, wandb_logger
from fitting.writer import FitWriter
from models.errors import InputError


def fit_files(
    sources: list[str],
    out: str,
    *,
    formats: list[str],
    out_fps: float | None,
    resume: bool,
    logger: str,
    device: str,
    devices: int,
    model: dict,
    reading: dict,
    config: str,
) -> int:
    """Fit all sources through one Trainer.predict into the folder `out`; returns the exit code.

    devices: so many processes share the clips; model: arguments of SMPLify3D; reading: of MotionData; config: the whole
    command as YAML, logged as it is.
    """
    if logger not in ("csv", "wandb"):
        raise InputError(f"unknown logger {logger!r}. --logger takes csv, or wandb for W&B beside the CSV.")
    writer = FitWriter(out, formats, resume, out_fps)
    module, data = SMPLify3D(**model), MotionData(sources, **reading)
    loggers = [wandb_logger(writer.folder, writer.logs, "fit", resume)] if logger == "wandb" else []
    trainer = predictor(device, devices, [writer, ConfigLog(writer, config)], loggers)
    trainer.predict(module, datamodule=data, return_predictions=False)
    finish(loggers)
    return writer.exit_code


class ConfigLog(Callback):
    """Logs the config once the writer has accepted the input and the folder."""

    def __init__(self, writer: FitWriter, config: str) -> None:
        self.writer = writer
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            log_config(self.writer.logs, trainer.loggers, self.config)


def predictor(device: str, devices: int, callbacks: list[Callback], loggers: list) -> Trainer:
    """A Trainer for Trainer.predict on auto, cpu, cuda or cuda:N. Raises InputError for a device that is not here."""
    if devices < 1 or (":" in device and devices > 1):
        one = f" The device {device} is one." if ":" in device else ""
        raise InputError(f"--devices takes a number of processes from 1, each with a device of its own.{one}")
    chosen = device_of(device)
    try:
        return Trainer(
            accelerator=chosen.type,
            devices=devices if chosen.index is None else [chosen.index],
            strategy="ddp" if devices > 1 else "auto",
            callbacks=callbacks,
            logger=loggers or False,
            enable_progress_bar=sys.stdout.isatty(),
            enable_checkpointing=False,
            enable_model_summary=False,
            inference_mode=False,  # L-BFGS and Adam need derivatives
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise InputError(f"device {device!r} cannot be used here ({error}). --device cpu works everywhere.") from error


def settle() -> None:
    """One thread unless OMP_NUM_THREADS asks for more, and silence about hardware, products and data loaders.

    The arrays are small: on a busy machine two threads wait for each other, and the demo took five times as long.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # else Lightning shares the cores out among several processes
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def guarded(run: Callable[..., int], *arguments: Any) -> int:
    """The exit code of run(*arguments): bad input ends with its message on stderr and 2, Ctrl-C with 130.

    One of several processes ends here and does not return, see end_process.
    """
    settle()
    try:
        code = run(*arguments)
    except InputError as error:
        print(f"thetafit: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("thetafit: stopped by Ctrl-C", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # who read the output has gone, as `head` does; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        end_process(code)
    return code


def end_process(code: int) -> NoReturn:
    """What an interpreter does at its end, less the taking apart of modules.

    Threads of gloo outlive that and ask for the interpreter afterwards: one run in ten then aborted with all work done.
    """
    atexit._run_exitfuncs()  # Lightning's and W&B's last words
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
