"""Lightning runs from a config:

    python train.py predict -c experiments/fit.yaml --data.sources '[results.npy]' --output.folder outputs
    python train.py predict -c experiments/fit.yaml -c mine.yaml --model.preset quick

`predict` fits motion files as `thetafit fit` does, with the same numbers; `fit` trains a module that learns.
Of stacked configs the later one wins, dotted options win over configs, and a name that does not exist is refused.
"""

import sys

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from fitting.curves import log_config, offline_without_account
from fitting.runner import guarded
from fitting.writer import FitWriter
from models.errors import InputError


class LogConfig(SaveConfigCallback):
    """Writes the whole config into the run's folder and to every logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        log_config(writer_of(trainer).logs, trainer.loggers, self.parser.dump(self.config, skip_unset=False))


class Run(LightningCLI):
    """LightningCLI for any module and data, with a FitWriter under `output`."""

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=LogConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={"enable_progress_bar": sys.stdout.isatty()},
            seed_everything_default=0,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(FitWriter, "output")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises
            if isinstance(error.__cause__, InputError):
                raise error.__cause__ from None
            raise

    def after_instantiate_classes(self) -> None:
        if any(isinstance(logger, WandbLogger) for logger in self.trainer.loggers):
            offline_without_account()


def writer_of(trainer: Trainer) -> FitWriter:
    """The run's FitWriter."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, FitWriter))


def main(args: ArgsType = None) -> int:
    """Run a config; returns the exit code, as `thetafit fit` does."""
    return writer_of(Run(args).trainer).exit_code


if __name__ == "__main__":
    sys.exit(guarded(main))
