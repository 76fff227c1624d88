"""Training MDM: the LightningModule.

What a training step draws (timesteps, noise, dropped conditions) follows from the seed, the number of the step and a
sample's place in the whole batch, so a resumed run goes on as if unbroken, and several processes do what one would.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, save_checkpoint
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.diffusion import noise_schedule
from models.mdm.features import denormalize, features_to_joints
from models.mdm.finetune import check_statistics, freeze_parts, start_from
from models.mdm.lora import LAYERS, add_adapters, merged
from models.mdm.losses import GeometricWeights, loss_terms
from models.mdm.normalization import Statistics
from models.mdm.timesteps import TimestepSampler
from models.mdm.words import WordText
from models.optimizer import Decay, adamw

TRAINING, VALIDATION, DROPOUT = range(3)  # whose draws a seed is for


class Encoder(Protocol):
    """Text to embeddings, as models.mdm.text.TextEncoder does it."""

    def encode(self, texts: Sequence[str]) -> Any:
        """An object with tensor (batch, width) or (tokens, batch, width), and mask (batch, tokens), True = no token.

        The mask may be None.
        """


class Batch(Protocol):
    """motion (batch, frames, features) normalised; mask (batch, frames); texts, one each; prefix or None."""

    motion: Tensor
    mask: Tensor
    texts: list[str]
    prefix: Tensor | None


def derived_seed(*numbers: int) -> int:
    """A seed that follows from the numbers, unlike that of any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def known_options(given: dict[str, Any]) -> dict[str, Any]:
    """Options completed with defaults, a GRU's time axis among them; InputError for names that do not exist."""
    options = DEFAULTS | OURS | {"gru_over_time": True}
    if unknown := sorted(set(given) - set(options)):
        raise InputError(f"unknown options {', '.join(unknown)}; known are {', '.join(options)}")
    return options | given


def plain_attention(device: torch.device) -> AbstractContextManager:
    """On a CPU attention by matrix products: torch's fused kernel is half as fast in training on clips this short."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


class MDM(LightningModule):
    """A denoiser in training, with the running average of its weights."""

    def __init__(
        self,
        options: dict[str, Any] | None = None,
        encoder: Encoder | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        beta2: float = 0.999,
        warmup: int = 0,
        decay: Decay = "none",
        ema: float = 0.9999,
        timesteps: Literal["uniform", "loss_aware"] = "uniform",
        seed: int = 0,
        ema_warmup: bool = True,
        init_from: str | None = None,
        freeze: Sequence[str] = (),
        lora_rank: int = 0,
        lora_alpha: float = 16.0,
        lora_layers: Sequence[str] = LAYERS,
    ) -> None:
        """options: of network, diffusion and loss, by the reference's names (checkpoint.DEFAULTS, OURS); encoder: of
        texts, not needed without them. ema: share of the average that a step keeps, 0 for no average; ema_warmup: keep
        less of the first steps, so that a short run's average is of its end.

        init_from: weights to start from, with their args.json, which `options` are then laid over; freeze: names of
        parameters that stay as they are, with * and [0-3]; lora_rank: above 0 the network stays as it is, and adapters
        of that rank, weighed by lora_alpha / lora_rank, are trained on the weights that match lora_layers.
        The rest is AdamW's and of the learning rate.
        Raises InputError for options that do not exist, weights that do not fit, patterns that match nothing.
        """
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"])
        self.encoder = encoder
        self.options = known_options(options or {})
        if init_from is None:
            self.denoiser = Denoiser(config_of(self.options))
        else:
            self.denoiser, self.options = start_from(init_from, options or {})
        self._choose_trained(freeze, lora_rank, lora_alpha, lora_layers)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False).eval() if ema else None
        self.schedule = noise_schedule(self.options["noise_schedule"], self.options["diffusion_steps"])
        self.register_buffer("alpha_bar", torch.from_numpy(self.schedule.alpha_bar), persistent=False)
        self.sampler = TimestepSampler(len(self.schedule), timesteps == "loss_aware")
        self.geometric = GeometricWeights(*(self.options[f"lambda_{name}"] for name in ("vel", "rcxyz", "fc")))
        self.statistics: Statistics | None = None  # the data's

    def _choose_trained(self, freeze: Sequence[str], rank: int, alpha: float, layers: Sequence[str]) -> None:
        """Freeze parts of the network, or all of it but adapters."""
        if rank < 0 or (rank and freeze):
            raise InputError(f"lora_rank {rank}: at least 0, and with adapters all else is frozen: leave out `freeze`")
        freeze_parts(self.denoiser, freeze)
        if rank and self.denoiser.config.refine and not self.denoiser.refine.out.weight.any():
            raise InputError(
                "lora_rank freezes all but adapters, so the convolutions of `refine`, which begin with nothing, "
                "would stay so: leave out one of the two"
            )
        if rank:
            add_adapters(self.denoiser, rank, alpha, layers)

    def setup(self, stage: str) -> None:
        self.statistics = getattr(self.trainer.datamodule, "statistics", None)

    def on_fit_start(self) -> None:
        """Raises InputError where training could not teach the network what it takes, or its data do not fit it."""
        config = self.denoiser.config
        if config.condition == "text" and self.encoder is None:
            raise InputError("a network of sentences needs an encoder of texts; set `unconstrained` to train without")
        if config.condition == "action" or config.goals:
            raise InputError("actions and goals are not trained here: batches carry texts; weights that have them load")
        data = self.trainer.datamodule
        if data is not None:
            if isinstance(self.encoder, WordText):
                self.encoder.learn(getattr(data, "captions", ()), self.options["words"])
            if self.hparams.init_from is not None:
                check_statistics(self.hparams.init_from, data.statistics)
            self._check_data(next(iter(data.val_dataloader())))

    def _check_data(self, batch: Batch) -> None:
        """What of a batch does not fit the network is named before training starts."""
        config, prefix = self.denoiser.config, batch.prefix
        given = 0 if prefix is None else prefix.shape[1], 0 if prefix is None else batch.motion.shape[1]
        wanted = config.context_len, config.pred_len if config.context_len else 0
        if given != wanted:
            raise InputError(
                f"the data's context_len and pred_len are {given[0]} and {given[1]}, the network's {wanted[0]} and "
                f"{wanted[1]}; data.context_len, data.pred_len and the model's options say the same"
            )
        if batch.motion.shape[-1] != config.features:
            raise InputError(
                f"the data have {batch.motion.shape[-1]} features a frame, the network takes {config.features}, those "
                f"of dataset {self.options['dataset']!r}: set the model's option `dataset` to that of the data"
            )
        if config.condition == "text":
            width = self.encoder.encode(batch.texts[:1]).tensor.shape[-1]
            if width != self.denoiser.embed_text.in_features:
                raise InputError(
                    f"the encoder's embeddings are {width} wide; a network with text_encoder_type "
                    f"{config.text_encoder!r} takes {self.denoiser.embed_text.in_features}"
                )

    def condition(self, batch: Batch) -> Condition:
        """What a batch is trained under."""
        if self.denoiser.config.condition == "none":
            return Condition(prefix=batch.prefix, mask=batch.mask)
        embedding = self.encoder.encode(batch.texts)
        padding = None if embedding.mask is None else embedding.mask.to(self.device)
        return Condition(embedding.tensor.to(self.device), padding, prefix=batch.prefix, mask=batch.mask)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean of the samples' losses, each weighted as its timestep was drawn; every term is logged."""
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        timesteps, weights, noise, keep = self._draw(batch.motion, derived_seed(self.hparams.seed, TRAINING, step))
        torch.manual_seed(derived_seed(self.hparams.seed, DROPOUT, step, self.global_rank))
        with plain_attention(self.device):
            terms = self._terms(self.denoiser, batch, timesteps, noise, keep)
        losses = sum(terms.values())
        if self.sampler.loss_aware:
            gathered = self.all_gather((timesteps, losses.detach()))
            processes = self.trainer.world_size
            self.sampler.learn(*(values.view(processes, -1).T.flatten() for values in gathered))
        self.log_dict({f"train/{name}": value.mean() for name, value in terms.items()}, batch_size=len(losses))
        self.log("train/loss", losses.mean(), prog_bar=True, batch_size=len(losses))
        return (losses * weights).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The loss of the averaged weights, with the same timesteps and noise every time."""
        seed = derived_seed(self.hparams.seed, VALIDATION, batch_idx)
        timesteps, _, noise, _ = self._draw(batch.motion, seed)
        losses = sum(self._terms(self.result, batch, timesteps, noise, None).values())
        self.log("val/loss", losses.mean(), prog_bar=True, sync_dist=True, batch_size=len(losses))

    def _draw(self, motion: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Timesteps, their weights, noise and kept conditions of this process's part of the whole batch.

        Processes take turns through the data, sample by sample, as distributed samplers deal it out.
        """
        draws, processes = torch.Generator(motion.device).manual_seed(seed), self.trainer.world_size
        whole = processes * len(motion)
        timesteps, weights = self.sampler.draw(whole, draws)
        noise = torch.randn(whole, *motion.shape[1:], generator=draws, device=motion.device, dtype=motion.dtype)
        keep = torch.rand(whole, generator=draws, device=motion.device) >= self.denoiser.config.condition_drop
        mine = slice(self.global_rank, None, processes)
        return timesteps[mine], weights[mine], noise[mine], keep[mine].to(motion.dtype)

    def _terms(
        self, network: Denoiser, batch: Batch, timesteps: Tensor, noise: Tensor, keep: Tensor | None
    ) -> dict[str, Tensor]:
        found = self._predicted(network, batch, timesteps, noise, keep)
        to_joints = None if self.statistics is None else self._to_joints
        return loss_terms(found, batch.motion, batch.mask, self.geometric, to_joints)

    def _predicted(
        self, network: Denoiser, batch: Batch, timesteps: Tensor, noise: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """x_0 as the network finds it in the batch's motion with so much noise."""
        signal = self.alpha_bar[timesteps][:, None, None]
        x = signal.sqrt().to(noise) * batch.motion + (1 - signal).sqrt().to(noise) * noise
        return network(x, timesteps, self.condition(batch), keep)

    def _to_joints(self, motion: Tensor) -> Tensor:
        """Joints (batch, frames, 22, 3), metres, of normalised features, in single precision."""
        mean, std = (part.to(motion.device) for part in (self.statistics.mean, self.statistics.std))
        return features_to_joints(denormalize(motion.float(), mean, std))

    def configure_optimizers(self) -> dict[str, Any]:
        given = self.hparams
        parameters = [p for p in self.denoiser.parameters() if p.requires_grad]
        total = int(self.trainer.estimated_stepping_batches) if given.decay != "none" else 1
        return adamw(parameters, total, given.lr, given.weight_decay, given.warmup, given.beta2, given.decay)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, then the average's."""
        super().optimizer_step(*args, **kwargs)
        self.update_average()

    @torch.no_grad()
    def update_average(self) -> None:
        """average <- share average + (1 - share) weights; share: ema, with warm-up at most (1 + step) / (10 + step)."""
        if self.average is None:
            return
        share, step = self.hparams.ema, self.global_step
        if self.hparams.ema_warmup:
            share = min(share, (1 + step) / (10 + step))
        for kept, new in zip(self.average.parameters(), self.denoiser.parameters(), strict=True):
            if new.requires_grad:
                kept.lerp_(new, 1 - share)

    @property
    def result(self) -> Denoiser:
        """The network that training is for: the averaged one, if there is an average."""
        return self.denoiser if self.average is None else self.average

    def export(self, path: str | Path) -> None:
        """Writes weights, adapters merged, and options in the reference's form; words.json where words are read."""
        average = None if self.average is None else merged(self.average).state_dict()
        save_checkpoint(path, merged(self.denoiser), self.options, average)
        if isinstance(self.encoder, WordText):
            self.encoder.vocabulary.save(Path(path).parent)
