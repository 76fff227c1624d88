"""Tuning of a fit: weights, widths, trust in joints and the pose prior moved down the error of the mesh.

RUN/config.yaml                   every setting
RUN/logs/version_N/metrics.csv    the errors and every number that is learned
RUN/tuned.yaml, tuned_prior.npz   what `thetafit fit --preset RUN/tuned.yaml` takes; the best so far
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from lightning import LightningModule
from torch import Tensor

from fitting.data import Motion, collate
from fitting.export.atomic import atomic_path
from fitting.knobs import Knobs
from fitting.layer import fit_layer
from fitting.preset import save_preset
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from fitting.truth import FPS, Truth
from models.body import BodyModel
from models.errors import InputError

TOGETHER = 8  # clips of an ordinary fit
MESH_EVERY = 5  # frames: every fifth one's vertices are compared
Learned = Literal["numbers", "confidence", "means", "spread"]
NAME = "tuned"


class Tuning(LightningModule):
    """The numbers of a preset's last stage and its prior, learned from motion with known parameters.

    Loss: mean distance in metres of the mesh's vertices from the truth's, and `pull` times the squared changes, which
    have no unit (fitting/knobs.py). The fit is differentiated by the implicit function theorem (fitting/layer.py).
    """

    def __init__(
        self,
        preset: str = "careful",
        body: str | None = None,
        prior: str | None = None,
        learn: Sequence[Learned] = ("numbers", "confidence", "means", "spread"),
        lr: float = 0.05,
        pull: float = 1e-5,
    ):
        """preset, body, prior: where it starts, as for a fit; learn: what moves; lr: Adam's step, of numbers without
        units. Raises InputError for an lr that is not above, or a pull that is below, zero, for nothing to learn, and
        for a preset of one shape a frame.
        """
        super().__init__()
        if not learn or lr <= 0 or pull < 0:
            raise InputError(f"learn {learn}: at least one; lr {lr}: above 0; pull {pull}: at least 0")
        self.save_hyperparameters()
        self.fitter = SMPLify3D(body, preset, prior)
        if self.fitter.preset.shape == "frame":
            raise InputError(f"preset {preset!r} has one shape a frame; one shape a clip can be tuned: try careful.")
        self.precise = BodyModel.load(body, dtype=torch.float64)
        self.knobs = Knobs(self.fitter.preset, self.fitter.prior)
        for name, parameter in self.knobs.named_parameters():
            parameter.requires_grad_(name in learn)
        self.before = self.lowest = math.inf

    def setup(self, stage: str) -> None:
        """Raises InputError where the data have another body, and for a validation that would never come."""
        data, interval = self.trainer.datamodule, self.trainer.val_check_interval
        if data.body != self.hparams.body:
            raise InputError(
                f"--model.body {self.hparams.body} and --data.body {data.body}: the fit and the truth are compared on "
                "one body; give both the same"
            )
        if isinstance(interval, int) and interval > data.steps:
            raise InputError(
                f"--data.steps {data.steps} end before the first validation, after {interval}: give more, or "
                f"--trainer.val_check_interval {data.steps}"
            )

    def training_step(self, batch: Truth, batch_idx: int) -> Tensor:
        """Mean distance of the fit's vertices from the true ones in metres, and the pull towards the start."""
        learned = [parameter for parameter in self.knobs.parameters() if parameter.requires_grad]
        fitter = self.knobs.applied(self.fitter)
        thetas, betas, transl = fit_layer(batch.observed(self.precise), fps=FPS, module=fitter, tensors=learned)
        some = slice(batch_idx % MESH_EVERY, None, MESH_EVERY)
        found = self.precise.vertices(betas[:, None], thetas[:, some], transl[:, some])
        error = (found - batch.frames(some).vertices(self.precise)).norm(dim=-1).mean()
        change = sum(parameter.square().sum() for parameter in learned)
        self.log("train/vertex_mm", 1000 * error, prog_bar=True, batch_size=len(batch.thetas))
        self.log("train/change", change, batch_size=len(batch.thetas))
        self.log_dict({f"learned/{name}": value for name, value in self.knobs.table().items()})
        return error + self.hparams.pull * change

    def on_train_start(self) -> None:
        """The error before anything is learned, on the validation clips. What a run before left is removed."""
        if self.trainer.is_global_zero:
            for name in (f"{NAME}.yaml", f"{NAME}_prior.npz"):
                Path(self.trainer.default_root_dir, name).unlink(missing_ok=True)
        (clips,) = self.trainer.datamodule.val_dataloader()
        self.before = self.lowest = mean_errors_mm(self.fitter, clips)["vertex_mm"]
        print(f"{len(clips)} validation clips: vertices {self.before:.2f} mm with preset {self.hparams.preset}")

    def validation_step(self, clips: list[Truth], batch_idx: int) -> None:
        """val/vertex_mm, val/joint_mm: mean errors of the ordinary fit over the validation clips."""
        found = mean_errors_mm(self.knobs.applied(self.fitter), clips)
        self.log_dict({f"val/{name}": value for name, value in found.items()}, prog_bar=True, batch_size=len(clips))

    def on_validation_epoch_end(self) -> None:
        """Write the preset where it is the best so far."""
        error = float(self.trainer.callback_metrics["val/vertex_mm"])
        if error < self.lowest and not self.trainer.sanity_checking:
            self.lowest = error
            if self.trainer.is_global_zero:
                self.save(Path(self.trainer.default_root_dir))
        print(f"step {self.global_step}: vertices {error:.2f} mm", flush=True)

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write tuned.yaml and tuned_prior.npz."""
        with atomic_path(folder / f"{NAME}_prior.npz") as temporary:
            self.knobs.prior(self.fitter.prior).save(temporary)
        preset = replace(self.knobs.preset(self.fitter.preset), prior=f"{NAME}_prior.npz")
        save_preset(preset, folder / f"{NAME}.yaml", self._notes())

    def _notes(self) -> list[str]:
        """Where the preset came from."""
        data, factors = self.trainer.datamodule, self.knobs.table()
        return [
            f"Tuned from preset {self.hparams.preset} by `python train.py fit`; every setting: config.yaml beside it.",
            f"{self.global_step} steps on {data.sources('train')}.",
            f"Vertices of {len(data.clips['val'])} validation clips: {self.before:.2f} -> {self.lowest:.2f} mm.",
            "Factors of the last stage's numbers:",
            *(f"  {name} {factors[name]:.3g}" for name in self.knobs.names),
        ]

    def on_train_end(self) -> None:
        """Say where no preset was written."""
        if self.lowest == self.before:
            print(f"No validation was better than preset {self.hparams.preset}: there is no {NAME}.yaml.")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learned = [parameter for parameter in self.knobs.parameters() if parameter.requires_grad]
        return torch.optim.Adam(learned, lr=self.hparams.lr, betas=(0.9, 0.95))


@torch.no_grad()
def refit(fitter: SMPLify3D, clips: Sequence[Truth]) -> list[FitResult]:
    """The ordinary fit of each clip's joints."""
    motions = [
        Motion(f"clip{i}", joints=clip.observed(fitter.body)[0].float().numpy(force=True), fps=FPS)
        for i, clip in enumerate(clips)
    ]
    batches = [motions[i : i + TOGETHER] for i in range(0, len(motions), TOGETHER)]
    return [result for batch in batches for result in fitter.fit(collate(batch))]


def errors_mm(result: FitResult, truth: Truth) -> tuple[Tensor, Tensor]:
    """Distances in millimetres of a fit's vertices (frames, V) and joints (frames, 22) from the truth's."""
    vertices = (result.vertices() - truth.vertices(result.body)[0]).norm(dim=-1)
    return 1000 * vertices, 1000 * (result.joints() - truth.joints(result.body)[0]).norm(dim=-1)


def mean_errors_mm(fitter: SMPLify3D, clips: Sequence[Truth]) -> dict[str, float]:
    """vertex_mm and joint_mm of the ordinary fit, every clip weighing alike."""
    errors = [errors_mm(result, clip) for result, clip in zip(refit(fitter, clips), clips, strict=True)]
    vertex, joint = torch.tensor([[part.mean() for part in parts] for parts in errors]).mean(0).tolist()
    return {"vertex_mm": vertex, "joint_mm": joint}
