"""Training of the learned start on motion with known parameters: the LightningModule and its data.

What the joints of a clip show is worked out as a fit does it (SMPLify3D.problem), so that noise, gaps and padding look
in training as they do in use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from fitting.data import Batch
from fitting.denoiser_training import NoisyBatch, Part, Variations, disturbed, unseen_for_a_while
from fitting.known_motion import UNSEEN, KnownMotion, chances, keyed_motions, read_motions
from fitting.learned import OBSERVED, PoseNetwork, believe, on_trunk
from fitting.problem import Problem
from fitting.smplify3d import SMPLify3D
from fitting.truth import mirrored_motion
from models.body import BodyModel
from models.errors import InputError
from models.optimizer import adamw
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

HELD_OUT = 1_000_000  # the first seed of takes that are not trained on
NOISE = 0.04  # metres: the largest deviation that is added
PACE = (0.75, 1.35)  # of the speed that a motion has
LIKELIHOOD = 0.05  # weight of the precision's loss beside the mean angle


@dataclass
class KnownBatch:
    """A batch: what is seen of it, and its rotations (clips, frames, 24, 3, 3)."""

    batch: Batch
    rotations: Tensor


class Crops(Dataset):
    """Random parts of motions, drawn by `chances`, disturbed. What item i is depends on (seed, i) alone."""

    def __init__(self, kinds: Sequence[Sequence[KnownMotion]], count: int, frames: int, seed: int, betas: int = 10):
        self.count, self.frames, self.seed, self.betas = count, frames, seed, betas
        self.motions = [motion for kind in kinds for motion in kind]
        self.chances = chances(kinds)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """thetas (L, 24, 3), path (L, 3), betas (B,), what is added to the joints (L, 22, 3) and fps."""
        random = np.random.default_rng((self.seed, index))
        motion = self.motions[random.choice(len(self.motions), p=self.chances)]
        longest = self.frames if random.random() < 0.8 else int(random.integers(1, self.frames + 1))
        start = int(random.integers(max(len(motion.thetas) - longest, 0) + 1))
        part = slice(start, start + longest)
        thetas, path = motion.taken(part), motion.path[part]
        if random.random() < 0.5:
            thetas, path = mirrored_motion(thetas, path)
        betas = torch.as_tensor(random.normal(0, 1, self.betas), dtype=torch.float32)
        fps = motion.fps * random.uniform(*PACE)
        return thetas, path, betas, disturbance(len(thetas), random), fps


def disturbance(frames: int, random: np.random.Generator) -> Tensor:
    """Noise (frames, 22, 3) of one deviation, none in half of all clips; in a third, NaN: joints unseen for a while."""
    level = max(random.uniform(-NOISE, NOISE), 0)
    out = random.normal(0, 1, (frames, OBSERVED, 3)) * level
    out[~unseen_for_a_while(frames, random)] = np.nan
    return torch.as_tensor(out, dtype=torch.float32)


class Collate:
    """Crops to a batch, padded to the longest: joints of the embedded body."""

    def __init__(self, body: BodyModel):
        self.body = body

    def __call__(self, crops: list[tuple[Tensor, Tensor, Tensor, Tensor, float]]) -> KnownBatch:
        *parts, betas, added, fps = zip(*crops, strict=True)
        thetas, path = (pad_sequence(list(part), batch_first=True) for part in parts)
        lengths = torch.tensor([len(part) for part in parts[0]])
        mask = torch.arange(thetas.shape[1]) < lengths[:, None]
        joints = self.body.joints(torch.stack(betas)[:, None], thetas, path)[..., :OBSERVED, :]
        joints = torch.where(mask[..., None, None], joints + pad_sequence(list(added), batch_first=True), 0)
        return KnownBatch(Batch(joints, mask, [], torch.tensor(fps)), axis_angle_to_matrix(thetas))


def spread(counts: Sequence[int], size: int) -> list[list[int]]:
    """Whole batches of the items of sets that lie one behind the other, each set's evenly among the others'."""
    batches, first = [], 0
    for count in counts:
        starts = range(first, first + count - size + 1, size)
        batches += [((i + 0.5) / len(starts), list(range(start, start + size))) for i, start in enumerate(starts)]
        first += count
    return [batch for _, batch in sorted(batches)]


class KnownData(LightningDataModule):
    """Batches of motion with known parameters: the project's own, and what files hold."""

    def __init__(
        self,
        takes: int = 1200,
        variations: int = 8,
        sources: list[str] | None = None,
        up: str = "y",
        fits: list[str] | None = None,
        count: int = 19_200,
        noisy: int = 200_000,
        held_out: int = 64,
        frames: int = 64,
        batch_size: int = 32,
        seed: int = 0,
    ):
        """takes: performed sentences; variations: of each keyed motion; count: crops in an epoch, of `frames` frames,
        from which rotations are learned; noisy: others, from which the denoiser learns.

        sources: files of SMPL parameters, folders and globs: AMASS-style npz, AIST++ pkl; up: their axis that points
        up, "y" (AIST++) or "z" (AMASS). fits: the same of fits, y up, whose hands, feet and head are a prior's.
        held_out: crops of other takes to validate on.
        Raises InputError for nothing to learn from, numbers below one, less crops than a batch and another axis.
        """
        super().__init__()
        self.takes, self.variations, self.sources, self.fits = takes, variations, sources or [], fits or []
        if takes + variations + len(self.sources) + len(self.fits) < 1:
            raise InputError(
                "nothing to learn from: give --data.takes or --data.variations, --data.sources or --data.fits"
            )
        if min(frames, batch_size) < 1 or min(max(count, noisy), held_out) < batch_size or up not in ("y", "z"):
            raise InputError(
                f"frames {frames} and batch_size {batch_size} must be at least 1, count {count} or noisy {noisy}, and "
                f"held_out {held_out}, at least batch_size; up {up!r}: y or z"
            )
        self.up = up
        self.count, self.noisy, self.held_out, self.frames = count, noisy, held_out, frames
        self.batch_size, self.seed = batch_size, seed
        self.save_hyperparameters(logger=False)
        self.known = Collate(BodyModel.load())

    def setup(self, stage: str | None = None) -> None:
        """Perform and read the motion. Raises InputError for sources that hold none (`read_motions`)."""
        kinds = [
            keyed_motions(0, self.takes, self.variations),
            read_motions(self.sources, self.known.body, self.up),
            read_motions(self.fits, self.known.body, unknown=UNSEEN),
        ]
        kinds, others = [kind for kind in kinds if kind], [keyed_motions(HELD_OUT, self.held_out // 4, 0)]
        self.train = [
            Crops(kinds, self.count, self.frames, self.seed),
            Variations(kinds, self.noisy, self.frames, self.seed),
        ]
        self.val = [make(others, self.held_out, self.frames, HELD_OUT) for make in (Crops, Variations)]

    def collate(self, items: list[Any]) -> KnownBatch | NoisyBatch:
        return disturbed(items, self.known.body) if isinstance(items[0], Part) else self.known(items)

    def _loader(self, sets: Sequence[Dataset]) -> DataLoader:
        batches = spread([len(part) for part in sets], self.batch_size)
        return DataLoader(ConcatDataset(sets), batch_sampler=batches, collate_fn=self.collate)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)


class StartTraining(LightningModule):
    """Training of fitting.learned.PoseNetwork and, on batches of their own, of its denoiser."""

    def __init__(self, lr: float = 2e-3, weight_decay: float = 0.01, warmup: int = 100, init_from: str | None = None):
        """Of AdamW, with a cosine decay to 0. init_from: weights of a training to go on from."""
        super().__init__()
        self.save_hyperparameters()
        self.network = PoseNetwork.load(init_from).train().requires_grad_() if init_from else PoseNetwork()
        self.fitter = SMPLify3D(preset="careful")

    def training_step(self, known: KnownBatch | NoisyBatch, batch_idx: int) -> Tensor:
        """The loss of a batch: of joints (a share of the noise), or of rotations (radians) and their precision."""
        if isinstance(known, NoisyBatch):
            loss, metres = known.loss(self.network.denoiser, self.fitter.body.rest_template)
            values = {"train/noise": loss, "train/mm": 1000 * metres}
            self.log_dict(values, batch_size=len(known.joints))
            return loss
        angle, likelihood = self._errors(known, calm=batch_idx % 2 == 0)
        loss = angle + LIKELIHOOD * likelihood
        degrees = float(angle.detach().rad2deg())
        self.log_dict(
            {"train/loss": loss, "train/degrees": degrees, "train/likelihood": likelihood},
            batch_size=len(known.rotations),
        )
        return loss

    def validation_step(self, known: KnownBatch | NoisyBatch, batch_idx: int) -> None:
        """val/degrees: mean angle between rotations and the truth, over all joints; val/mm: of joints without noise."""
        if isinstance(known, NoisyBatch):
            _, metres = known.loss(self.network.denoiser, self.fitter.body.rest_template)
            self.log("val/mm", 1000 * metres, prog_bar=True, batch_size=len(known.joints))
            return
        angle, likelihood = self._errors(known, calm=True)
        losses = {"val/degrees": angle.rad2deg(), "val/likelihood": likelihood}
        self.log_dict(losses, prog_bar=True, batch_size=len(known.rotations))

    def _errors(self, known: KnownBatch, calm: bool) -> tuple[Tensor, Tensor]:
        """Mean angle to the truth in radians, and minus the log likelihood of a turn about a bone, up to a constant.

        calm: on targets averaged in time as far as they are noisy, as preset careful starts; quick does not.
        """
        with torch.no_grad():
            problem = self.fitter.problem(known.batch)[1]
            problem = problem.calmed() if calm else problem
            truth = local_truth(problem, known.rotations.flatten(0, 1))
        belief = believe(self.network, problem)
        error = matrix_to_axis_angle(belief.rotations.mT @ truth)[problem.mask.flatten()]
        angle = (error.square().sum(-1) + 1e-6).sqrt().mean()
        rig = problem.rig
        fitted = list(rig.fitted)
        turn = (error.detach()[:, fitted] * rig.bones).sum(-1)
        precision = belief.precision[problem.mask.flatten()][:, fitted]
        return angle, 0.5 * (precision * turn.square() - precision.log()).mean()

    def configure_optimizers(self) -> dict[str, Any]:
        given, total = self.hparams, int(self.trainer.estimated_stepping_batches)
        return adamw(self.network.parameters(), total, given.lr, given.weight_decay, given.warmup)

    def on_fit_end(self) -> None:
        """Write the weights, learned_start.npz in the run's folder."""
        if self.global_rank == 0:
            self.network.save(Path(self.trainer.default_root_dir) / "learned_start.npz")


def local_truth(problem: Problem, rotations: Tensor) -> Tensor:
    """Local rotations (N, 24, 3, 3) as a Belief has them: the root's from the frame of the trunk."""
    trunk = on_trunk(problem).root.flatten(0, 1)
    return torch.cat((trunk.mT[:, None] @ rotations[:, :1], rotations[:, 1:]), 1)
