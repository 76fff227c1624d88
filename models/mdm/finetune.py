"""Where a fine-tuning starts from, and which parts of the network it leaves as they are."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, load_checkpoint
from models.mdm.denoiser import Denoiser
from models.mdm.normalization import Statistics

# What may be another in a fine-tuning than in the training before: no weight has its shape or meaning from it, or, of
# `refine`, what comes new changes nothing at first.
FREE = {"dropout", "condition_drop", "mask_frames", "time_token", "context_len", "pred_len", "refine"}


def start_from(path: str | Path, options: dict[str, Any]) -> tuple[Denoiser, dict[str, Any]]:
    """The network of weights file `path`, and its args.json with `options` over it.

    Raises InputError for what load_checkpoint refuses, and for options that make another network than the file's.
    """
    checkpoint = load_checkpoint(path)
    complete = {name: checkpoint.args[name] for name in DEFAULTS | OURS} | options
    config, own = config_of(complete), checkpoint.denoiser.config
    others = {name: value for name, value in asdict(config).items() if value != getattr(own, name) and name not in FREE}
    if own.refine not in (0, config.refine):
        others["refine"] = config.refine
    if others:
        wrong = ", ".join(f"{name} is {getattr(own, name)} there, {value} here" for name, value in others.items())
        raise InputError(
            f"init_from {path}: {wrong}. Options that are left out are taken from the args.json beside the weights"
        )
    network = Denoiser(config)
    network.load_state_dict(checkpoint.denoiser.state_dict(), strict=config.refine == own.refine)
    return network, complete


def check_statistics(path: str | Path, of_data: Statistics) -> None:
    """Raises InputError where Mean.npy and Std.npy beside weights file `path`, if any, are others than the data's."""
    folder = Path(path).parent
    if not (folder / "Mean.npy").is_file():
        return
    own = Statistics.load(folder)
    if not (torch.allclose(own.mean, of_data.mean) and torch.allclose(own.std, of_data.std)):
        raise InputError(
            f"the data are normalised by other numbers than {path} was trained with, so the network would see a "
            f"stranger's motion: set data.stats to {folder}"
        )


def freeze_parts(network: nn.Module, patterns: Sequence[str]) -> None:
    """Leaves parameters whose names match as they are. Raises InputError where a pattern matches none, or all match."""
    parameters = dict(network.named_parameters())
    for name in matching(parameters, patterns):
        parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise InputError(f"freeze {', '.join(patterns)}: that is the whole network, nothing would be trained")


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any of the patterns (*, ?, [0-3]). Raises InputError for a pattern that matches none."""
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:: max(len(names) // 6, 1)])
            raise InputError(f"{pattern!r} matches no parameter of this network; it has names such as {some}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
