"""What a training run leaves in its folder: checkpoints, weights in the reference's form, samples and their check.

    RUN/config.yaml                           every setting
    RUN/logs/version_N/metrics.csv            losses, a file each time it was started
    RUN/curves.html                           the same as pictures
    RUN/last.ckpt, best.ckpt                  to go on from; at the lowest validation loss
    RUN/model000050000.pt, args.json,         what `thetafit generate --model` takes
        Mean.npy, Std.npy, words.json
    RUN/samples/step000010000/sample00.mp4    stick figures

RUN is trainer.default_root_dir.
"""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fitting.export.atomic import atomic_path
from fitting.generate import SKELETON_NAMES
from models.errors import InputError
from models.mdm.checkpoint import Checkpoint
from models.mdm.collapse import against_data, complaints
from models.mdm.data import UNIT
from models.mdm.features import features_to_joints
from models.mdm.generate import FPS, Generator, sample_seeds
from models.mdm.module import MDM
from models.mdm.normalization import Statistics
from models.skeleton import SKELETONS
from models.torch_files import read_plain

log = logging.getLogger("thetafit")
FILM_SIZE = 256  # pixels
LAST, BEST = "last", "best"


def resume_path(folder: Path, given: str | None) -> str | None:
    """The checkpoint that a run in `folder` goes on from: `last`, a file, or None for a new run.

    Raises InputError where there is no such file or it is none, and where a new run would write over another one.
    """
    last = folder / f"{LAST}.ckpt"
    if given is None and (last.exists() or any(folder.glob("logs/*/metrics.csv"))):
        way = "Go on with it: --ckpt_path last. Or" if last.exists() else f"It left no {LAST}.ckpt to go on from:"
        raise InputError(
            f"{folder} holds a run already. {way} start anew elsewhere, --trainer.default_root_dir ANOTHER, "
            "or delete that folder"
        )
    path = last if given == LAST else given
    if path is not None and not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; without --ckpt_path a new run starts, in another folder")
    content = path and read_plain(path)
    if content is not None and not (isinstance(content, dict) and "optimizer_states" in content):
        raise InputError(f"{path}: weights, but no state of a training to go on from, as {LAST}.ckpt of a run has")
    return path and str(path)


class Checkpoints(CheckpointCallback):
    """last.ckpt every so many steps, best.ckpt at the lowest val/loss, and the weights of each in the reference's form.

    Every file appears whole or not at all. model*.pt of every `keep`-th step stay, as the reference's do, because a low
    loss is not yet good motion: evaluate them. Others stay as long as they are the last or the best.
    """

    def __init__(self, every: int = 1000, keep: int = 50_000) -> None:
        """Raises InputError for numbers below one."""
        if min(every, keep) < 1:
            raise InputError(f"every {every} and keep {keep}: numbers of steps, at least 1")
        self.every, self.keep = every, keep
        self.steps: dict[str, int] = {}
        self.lowest = math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"steps": dict(self.steps), "lowest": self.lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.lowest = dict(state["steps"]), state["lowest"]

    def on_train_start(self, trainer: Trainer, pl_module: MDM) -> None:
        """Writes the statistics of the data, without which weights are of no use."""
        if trainer.is_global_zero:
            trainer.datamodule.statistics.save(Path(trainer.default_root_dir))

    def on_train_batch_end(self, trainer: Trainer, pl_module: MDM, *_: Any) -> None:
        if trainer.global_step and trainer.global_step % self.every == 0:
            self._save(trainer, pl_module, LAST)

    def on_validation_end(self, trainer: Trainer, pl_module: MDM) -> None:
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self.lowest and not trainer.sanity_checking:
            self.lowest = loss
            self._save(trainer, pl_module, BEST)

    def on_train_end(self, trainer: Trainer, pl_module: MDM) -> None:
        self._save(trainer, pl_module, LAST)

    def _save(self, trainer: Trainer, module: MDM, name: str) -> None:
        """Write NAME.ckpt and the weights, unless this step's are written; remove the weights that they replace."""
        folder, step, before = Path(trainer.default_root_dir), trainer.global_step, self.steps.get(name)
        if step == before:
            return
        self.steps[name] = step
        partial = folder / f".{name}.ckpt.part"
        trainer.save_checkpoint(partial)
        if not trainer.is_global_zero:
            return
        os.replace(partial, folder / f"{name}.ckpt")
        with atomic_path(weights_file(folder, step)) as temporary:
            module.export(temporary)
        if before is not None and before % self.keep and before not in self.steps.values():
            weights_file(folder, before).unlink(missing_ok=True)


def weights_file(folder: Path, step: int) -> Path:
    """As the reference names it."""
    return folder / f"model{step:09d}.pt"


class Lines(Callback):
    """Where no bar shows a run's progress: what is trained, and a line a validation."""

    def on_fit_start(self, trainer: Trainer, pl_module: MDM) -> None:
        if trainer.is_global_zero:
            sizes = [(p.numel(), p.requires_grad) for p in pl_module.denoiser.parameters()]
            trained, whole = sum(size for size, own in sizes if own), sum(size for size, _ in sizes)
            print(f"{trainer.default_root_dir}: {trained} of {whole} parameters are trained, {trained / whole:.1%}")

    def on_validation_end(self, trainer: Trainer, pl_module: MDM) -> None:
        if trainer.progress_bar_callback is None and trainer.is_global_zero and not trainer.sanity_checking:
            losses = {name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith("/loss")}
            said = ", ".join(f"{name} {value:.4f}" for name, value in sorted(losses.items()))
            print(f"step {trainer.global_step}: {said}", flush=True)


@dataclass
class Example:
    """A validation clip: motion (frames, F) normalised, its text, and for prefix models the frames before."""

    motion: Tensor
    text: str
    prefix: Tensor | None


class Samples(Callback):
    """Every so many steps: motion for sentences of the validation clips, as films, and held against those clips.

    Speed and spread as shares of the data's go to the loggers; frozen, exploding or equal motion is warned of.
    """

    def __init__(self, every: int = 10_000, count: int = 8, films: int = 3, levels: int | None = 20, seed: int = 0):
        """count: samples, the first `films` of them filmed; levels: of noise, by DPM-Solver++, None for every one.

        Raises InputError for numbers too small: a spread needs two samples.
        """
        if every < 1 or count < 2 or films < 0:
            raise InputError(f"every {every} must be at least 1, count {count} at least 2, films {films} at least 0")
        self.every, self.count, self.films, self.levels, self.seed = every, count, films, levels, seed
        self.examples: list[Example] = []
        self.done = 0

    def on_fit_start(self, trainer: Trainer, pl_module: MDM) -> None:
        """Choose the clips, from the training's where there are too few to validate on. Raises InputError for levels
        that the network has not, and where there is one clip in all.
        """
        self._generator(pl_module)
        data = trainer.datamodule
        self.examples = examples(data.val_dataloader(), self.count)
        self.examples += examples(data.train_dataloader(), self.count - len(self.examples))
        if len(self.examples) < 2:
            raise InputError("there is one clip in all; samples are held against two or more: leave Samples out")

    def on_train_batch_end(self, trainer: Trainer, pl_module: MDM, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every == 0 and step != self.done and trainer.is_global_zero:
            self.done = step
            self._look(trainer, pl_module)

    def _generator(self, module: MDM) -> Generator:
        checkpoint = Checkpoint(module.result, module.schedule, module.options)
        return Generator(checkpoint, steps=self.levels, device=module.device)

    def _look(self, trainer: Trainer, module: MDM) -> None:
        training = module.result.training
        module.result.eval()
        motions = self._sample(module)
        module.result.train(training)
        dataset, statistics = module.options["dataset"], trainer.datamodule.statistics
        samples, data = (
            [joints_of(motion, statistics, dataset) for motion in each]
            for each in (motions, [example.motion for example in self.examples])
        )
        shares = against_data(samples, data, FPS[dataset])
        for logger in trainer.loggers:
            logger.log_metrics({f"samples/{name}": value for name, value in shares.items()}, step=trainer.global_step)
        for complaint in complaints(shares):
            log.warning("samples of step %d are %s", trainer.global_step, complaint)
        self._film(trainer, samples, dataset, module.denoiser.config.condition == "text")

    def _sample(self, module: MDM) -> list[Tensor]:
        """A motion an example, as long as it, on the CPU."""
        generator, motions = self._generator(module), []
        for seed, example in zip(sample_seeds(self.seed, len(self.examples), 1), self.examples, strict=True):
            with_text = module.denoiser.config.condition == "text"
            text = module.encoder.encode([example.text]) if with_text else None
            motions.append(generator([seed], len(example.motion), text, example.prefix)[0])
        return motions

    def _film(self, trainer: Trainer, samples: list[Tensor], dataset: str, of_text: bool) -> None:
        from fitting.render.film import save_film  # here, because it loads the video library
        from fitting.render.sticks import StickFigure

        folder = Path(trainer.default_root_dir) / "samples" / f"step{trainer.global_step:09d}"
        films, captions = [], [example.text if of_text else "" for example in self.examples[: self.films]]
        for number, (joints, text) in enumerate(zip(samples, captions, strict=False)):
            films.append(folder / f"sample{number:02d}.mp4")
            with atomic_path(films[-1]) as temporary:
                save_film(
                    StickFigure(joints, SKELETONS[SKELETON_NAMES[dataset]], FPS[dataset], text), temporary, FILM_SIZE
                )
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and films:
                kinds = ["mp4"] * len(films)
                logger.log_video("samples", [str(film) for film in films], caption=captions, format=kinds)


def examples(loader: DataLoader, count: int) -> list[Example]:
    """So many clips from all over a loader, or all that it has."""
    clips = len(loader) * loader.batch_size
    return list(islice(_rows(loader), 0, None, max(clips // max(count, 1), 1)))[:count]


def _rows(loader: DataLoader) -> Iterator[Example]:
    for batch in loader:
        for row, (motion, length, text) in enumerate(zip(batch.motion, batch.lengths, batch.texts, strict=True)):
            whole = max(int(length) // UNIT, 1) * UNIT
            yield Example(motion[:whole].clone(), text, None if batch.prefix is None else batch.prefix[row])


def joints_of(motion: Tensor, statistics: Statistics, dataset: str) -> Tensor:
    """Normalised features (frames, F) to joints (frames, J, 3) in metres."""
    return features_to_joints(statistics.denormalize(motion)) * SKELETONS[SKELETON_NAMES[dataset]].unit
