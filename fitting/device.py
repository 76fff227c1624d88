"""The device that --device names."""

import torch

from models.errors import InputError


def device_of(name: str) -> torch.device:
    """auto (a GPU where there is one), cpu, cuda or cuda:N. Raises InputError for another, and for one not here."""
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") and not (kind == "cuda" and number.isdecimal()):
        raise InputError(f"unknown device {name!r}. --device takes auto, cpu, cuda or cuda:N, N from 0.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} is not here; {torch.cuda.device_count()} GPUs are. --device cpu works.")
    return torch.device(name)
