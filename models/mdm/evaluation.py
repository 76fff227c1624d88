"""Evaluation of a checkpoint on a test set, as published tables have it: the LightningModule of `train.py test`.

Motion is judged by the text-to-motion evaluators (evaluators.py) with the metrics of motion_metrics.py. True and
generated motion are treated alike: same normalisation, zero after their last frame, a sentence's length up to its end.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning import LightningModule
from torch import Tensor

from models.errors import InputError
from models.mdm.checkpoint import load_checkpoint
from models.mdm.data import TextMotionBatch
from models.mdm.evaluators import Evaluators, evaluator_statistics
from models.mdm.generate import LONGEST, Generator
from models.mdm.module import derived_seed
from models.mdm.motion_metrics import (
    GROUP,
    diversity,
    frechet_distance,
    interval,
    matching_distance,
    multimodality,
    r_precision,
    random_pairs,
    text_distances,
)
from models.mdm.text import text_encoder
from models.mdm.word_vectors import WordVectors
from models.mdm.words import WordText

PAIRS, VARIANT_PAIRS = 300, 10  # of diversity; of multimodality, for each sentence
CHOICE, SAMPLE, VARIANT, PAIR = range(4)  # what a seed is for
TRUE, MADE = "test set", "generated"
Table = dict[str, dict[str, tuple[float, float]]]  # whose motion -> metric -> mean, half width of its 95 % interval


class Evaluation(LightningModule):
    """FID, R-precision, distance to the text, diversity and multimodality of a checkpoint, and of the test set."""

    def __init__(
        self,
        model: str,
        evaluators: str,
        statistics: str,
        glove: str,
        clip: str | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        samples: int = 1024,
        replications: int = 20,
        sentences: int = 100,
        variants: int = 30,
        seed: int = 0,
    ):
        """model: weights with args.json beside them; evaluators: finest.tar; statistics: the folder of the evaluators'
        own, t2m_mean.npy and t2m_std.npy (kit_...); glove: the folder of the word vectors; clip: CLIP's weights.
        guidance, steps: as Generator has them. samples: motions a replication; sentences, variants: of multimodality,
        how many and how many motions of each. Raises InputError for what is missing or does not belong together.
        """
        super().__init__()
        self.save_hyperparameters()
        if samples < GROUP or replications < 1 or sentences < 1 or variants < 2:
            raise InputError(
                f"samples {samples}, replications {replications}, sentences {sentences}, variants {variants}: at "
                f"least {GROUP}, 1, 1 and 2 are needed"
            )
        checkpoint = load_checkpoint(model)
        self.generator = Generator(checkpoint, guidance, steps)
        config = checkpoint.denoiser.config
        if config.condition != "text" or config.context_len:
            raise InputError(f"{model}: evaluated are networks that make motion of a sentence and nothing else")
        self.judge, self.words = Evaluators.load(evaluators), WordVectors.load(glove)
        if self.judge.features != config.features or self.judge.word_width != self.words.vectors.shape[1]:
            raise InputError(
                f"{evaluators} judges {self.judge.features} channels by words of {self.judge.word_width} numbers; the "
                f"checkpoint makes {config.features} channels, {glove} has {self.words.vectors.shape[1]} numbers a word"
            )
        self.norm = evaluator_statistics(statistics, config.features)
        of_words = config.text_encoder == "words"
        self.encoder = WordText(Path(model).parent) if of_words else text_encoder(config.text_encoder, clip)

    def on_test_start(self) -> None:
        """Draw what is generated. Raises InputError for a test set of other features, or of fewer than 32 motions."""
        crops = self.trainer.datamodule.crops["test"]
        self.features, count = crops.statistics, len(crops)
        if len(self.features.mean) != self.judge.features or count < GROUP:
            raise InputError(
                f"{crops.folder}: {count} stretches of {len(self.features.mean)} channels to test on; expected are "
                f"{GROUP} or more, of {self.judge.features} channels"
            )
        given = self.hparams
        self.generator = replace(self.generator, device=self.device)
        self.chosen = [self._choose(count, given.samples, CHOICE, r) for r in range(given.replications)]
        self.varied = self._choose(count, given.sentences, VARIANT)
        self.true, self.text, self.variants = [], [], []
        self.made: list[list[Tensor]] = [[] for _ in self.chosen]

    def test_step(self, batch: TextMotionBatch, batch_idx: int) -> None:
        """Embed a batch of the test set, and what is generated of its sentences."""
        first, seed = sum(map(len, self.true)), self.hparams.seed
        lengths = batch.lengths.cpu()
        self.true.append(self._embed(batch.motion.cpu(), lengths))
        self.text.append(self.judge.embed_text(*self.words(batch.tokens)))
        for replication, chosen in enumerate(self.chosen):
            rows = [row for row in range(len(lengths)) if first + row in chosen]
            seeds = [derived_seed(seed, SAMPLE, replication, first + row) for row in rows]
            self.made[replication].append(self._generate(batch, rows, seeds))
        for row in range(len(lengths)):
            if first + row in self.varied:
                seeds = [derived_seed(seed, VARIANT, first + row, k) for k in range(self.hparams.variants)]
                self.variants.append(self._generate(batch, [row] * len(seeds), seeds))

    def on_test_epoch_end(self) -> None:
        """Print the table, log it, write it into the run's folder, evaluation.json."""
        true, text, variants = torch.cat(self.true), torch.cat(self.text), torch.stack(self.variants)
        values: dict[str, list[dict[str, float]]] = {TRUE: [], MADE: []}
        for replication, chosen in enumerate(self.chosen):
            draws = torch.Generator().manual_seed(derived_seed(self.hparams.seed, PAIR, replication))
            values[TRUE].append(scores(true, text, draws))
            made = torch.cat(self.made[replication])
            pairs = random_pairs(variants.shape[1], VARIANT_PAIRS, draws)
            more = {"FID": frechet_distance(true, made), "multimodality": multimodality(variants, *pairs)}
            values[MADE].append(scores(made, text[sorted(chosen)], draws) | more)
        table = {
            whose: {name: interval([row[name] for row in rows]) for name in rows[0]} for whose, rows in values.items()
        }
        print(as_text(table))
        for logger in self.loggers:
            logger.log_metrics({f"{who}/{name}": mean for who, row in table.items() for name, (mean, _) in row.items()})
        note = {"settings": dict(self.hparams), "motions": len(true), "mean and half interval": table}
        path = Path(self.trainer.default_root_dir) / "evaluation.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    def _choose(self, count: int, wanted: int, *purpose: int) -> set[int]:
        """So many different ones of the test set's motions, all where there are fewer."""
        draws = torch.Generator().manual_seed(derived_seed(self.hparams.seed, *purpose))
        return set(torch.randperm(count, generator=draws)[:wanted].tolist())

    def _generate(self, batch: TextMotionBatch, rows: Sequence[int], seeds: Sequence[int]) -> Tensor:
        """Embeddings (rows, D) of motion generated of a batch's sentences, as long as theirs.

        A network that attends to padding was trained on whole windows: it makes one, which is cut.
        """
        lengths, config = batch.lengths.cpu()[list(rows)], self.generator.checkpoint.denoiser.config
        motion = torch.zeros(len(rows), LONGEST, config.features)
        for length in lengths.unique().tolist():
            same = (lengths == length).nonzero()[:, 0].tolist()
            text = self.encoder.encode([batch.texts[rows[i]] for i in same])
            frames = length if config.mask_frames else LONGEST
            motion[same, :length] = self.generator([seeds[i] for i in same], frames, text)[:, :length]
        return self._embed(motion, lengths)

    def _embed(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (batch, D) of motion (batch, T, features), normalised by the test set's statistics."""
        shown = torch.arange(motion.shape[1]) < lengths[:, None]
        motion = self.norm.normalize(self.features.denormalize(motion)) * shown[..., None]
        return self.judge.embed_motion(motion, lengths)


def scores(motion: Tensor, text: Tensor, draws: torch.Generator) -> dict[str, float]:
    """R-precision, distance to the text and diversity of embeddings (N, D) of equal rank, in groups drawn at random."""
    order = torch.randperm(len(motion), generator=draws)
    distances = text_distances(text[order], motion[order])
    top = {f"R top {k}": float(value) for k, value in enumerate(r_precision(distances), 1)}
    pairs = random_pairs(len(motion), PAIRS, draws)
    return top | {"MM-dist": matching_distance(distances), "diversity": diversity(motion, *pairs)}


def as_text(table: Table) -> str:
    """A line a kind of motion, a column a metric, mean +- half interval."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [" " * 12 + "".join(f"{name:>18}" for name in names)]
    for whose, row in table.items():
        cells = ["{:.4g} +- {:.2g}".format(*row[name]) if name in row else "-" for name in names]
        lines.append(f"{whose:<12}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)
