"""What every training run leaves besides its own files: curves.html, and on W&B the weights and what they came from."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from fitting.page.curves import write_curves
from fitting.tracking.runs import wandb_runs
from fitting.tracking.shown import log_weights
from fitting.training import Checkpoints, weights_file

SETTINGS = ("config.yaml",)  # in a run's folder and no product


class TrackedRun(Callback):
    """Draws the curves after every validation and at the end, and logs the products when the run is over."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            draw(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Here, because modules write files when training has ended."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        draw(trainer)
        for run in wandb_runs(trainer.loggers):
            log_weights(run, products(trainer), pl_module.hparams, data_files(trainer))


def draw(trainer: Trainer) -> None:
    """curves.html of what is logged so far."""
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            logger.save()
    write_curves(Path(trainer.default_root_dir))


def data_files(trainer: Trainer) -> list[Path]:
    """The files in the lists among the data's settings."""
    lists = [value for value in trainer.datamodule.hparams.values() if isinstance(value, list)]
    named = {Path(each) for value in lists for each in value if isinstance(each, str)}
    return sorted(path for path in named if path.is_file())


def products(trainer: Trainer) -> dict[Path, list[str]]:
    """The last and the best weights, and other files of numbers or settings in the run's folder; with their aliases."""
    folder, found = Path(trainer.default_root_dir), {}
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoints):
            for name, step in callback.steps.items():
                found.setdefault(weights_file(folder, step), []).append(name)
    others = [path for pattern in ("*.npz", "*.yaml") for path in sorted(folder.glob(pattern))]
    return found | {path: [] for path in others if path.name not in SETTINGS}
