"""Lightning runs from a config:

    python train.py predict -c experiments/fit.yaml --data.sources '[results.npy]' --output.folder outputs
    python train.py predict -c experiments/fit.yaml -c mine.yaml --model.preset quick
    python train.py fit -c experiments/mdm/bandai.yaml --trainer.max_steps 500
    python train.py fit -c experiments/mdm/bandai.yaml --ckpt_path last

`predict` fits motion files as `thetafit fit` does, with the same numbers. `fit` trains: all that a run leaves is in its
folder, trainer.default_root_dir, and --ckpt_path last goes on with it where it keeps checkpoints (docs/training.md).
Of stacked configs the later one wins, dotted options win over configs, and a name that does not exist is refused.
"""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from fitting.curves import log_config
from fitting.folder import check_folder
from fitting.runner import guarded
from fitting.tracking.runs import complete, finish, offline_without_account
from fitting.tracking.training import TrackedRun
from fitting.training import resume_path
from fitting.writer import FitWriter
from models.errors import InputError

RUNS = "outputs"  # where runs go whose config names no trainer.default_root_dir


class LogConfig(SaveConfigCallback):
    """Writes the whole config into the run's folder and to every logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        writer = writer_of(trainer)
        folder = writer.logs if writer else Path(trainer.default_root_dir)
        log_config(folder, trainer.loggers, self.parser.dump(self.config, skip_unset=False))


class Run(LightningCLI):
    """LightningCLI for any module and data; where clips are fitted, with a FitWriter under `output`."""

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=LogConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={"enable_progress_bar": sys.stdout.isatty(), "callbacks": [TrackedRun()]},
            seed_everything_default=0,
            args=args,
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        self.preparing = subcommand  # add_arguments_to_parser is not told
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        if self.preparing == "predict":
            parser.add_lightning_class_args(FitWriter, "output")

    def before_instantiate_classes(self) -> None:
        """A run that writes no clips has a folder. W&B's run is that of the folder, and its files go there."""
        config = self.config[self.subcommand]
        trainer, fits = config.trainer, self.subcommand == "predict"
        if not fits:
            folder = trainer.default_root_dir or str(Path(RUNS, self.subcommand))
            sweep = "WANDB_SWEEP_ID" in os.environ  # its runs are started with one command, and have a folder each
            trainer.default_root_dir = str(Path(folder, os.environ["WANDB_RUN_ID"])) if sweep else folder
        home = Path(config.output.folder if fits else trainer.default_root_dir)
        goes_on = config.output.resume if fits else config.get("ckpt_path") is not None
        job = {"predict": "fit", "fit": "train"}.get(self.subcommand, self.subcommand)
        for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
            if "WandbLogger" in str(getattr(logger, "class_path", "")):
                complete(logger, home, home / "logs" if fits else home, job, goes_on)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises, once a level
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    def after_instantiate_classes(self) -> None:
        if any(isinstance(logger, WandbLogger) for logger in self.trainer.loggers):
            offline_without_account()

    def before_fit(self) -> None:
        """Losses go to a CSV in any case. Raises InputError where another run is, or none to go on with."""
        folder, given = Path(self.trainer.default_root_dir), self.config.fit.trainer.logger
        self.config_init.fit.ckpt_path = resume_path(folder, self.config_init.fit.ckpt_path)
        check_folder(folder)
        others = [] if given in (None, True) else self.trainer.loggers  # without a choice Lightning takes its own
        self.trainer.loggers = [CSVLogger(folder, name="logs"), *others]


def writer_of(trainer: Trainer) -> FitWriter | None:
    """The run's FitWriter, if it fits clips."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, FitWriter)), None)


def main(args: ArgsType = None) -> int:
    """Run a config; returns the exit code, as `thetafit fit` does."""
    trainer = Run(args).trainer
    finish(trainer.loggers)
    writer = writer_of(trainer)
    return writer.exit_code if writer else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
