"""Weights in PyTorch's files, read as data: state dicts, and TorchScript archives without running them.

torch.jit.load runs what an archive contains, and torch.load refuses archives when it may load weights only. But such an
archive is a zip with a pickle of the module tree and one member a storage, and that much can be read as plain data.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from models.safe_pickle import UnsafePickle, describe_start, read_bytes

STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


def read_weights(path: str | Path, skip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU, of a state dict (torch.save) or a TorchScript archive (torch.jit.save).

    Of an archive, tensors whose names start with one of `skip` stay unread. Raises InputError for a file that is
    missing, cut or something else, UnsafePickle for one that asks for more than tensors. Nothing is executed.
    """
    weights = read_plain(path, skip)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path}: holds a {type(weights).__name__}, not a state dict of names and tensors.")
    return dict(weights)


def read_plain(path: str | Path, skip: tuple[str, ...] = ()) -> Any:
    """As `read_weights`, whatever tensors and plain containers the file holds, such as a dict of state dicts."""
    path = Path(path)
    if _is_torchscript(path):
        return _read_torchscript(path, skip)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        start = read_bytes(path)[:64]
        if not start.startswith((b"PK", b"\x80")):
            raise InputError(f"{path}: no PyTorch file; {describe_start(start)}.") from None
        reason = str(error).partition("\n")[0]
        raise UnsafePickle(f"{path}: refused, it holds more than weights ({reason}). Nothing was executed.") from None
    except Exception as error:  # a broken file can raise nearly anything
        start = describe_start(read_bytes(path)[:64])
        raise InputError(f"{path}: no whole PyTorch file ({error}); {start}.") from None


def _is_torchscript(path: Path) -> bool:
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


@dataclass(frozen=True)
class _Storage:
    """Where an archive keeps numbers: a member of the zip and their type."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _View:
    """A tensor of the archive: numbers of a storage from `offset` on, in steps of `strides`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Module:
    """An archived module: its attributes, and nothing of what it does."""

    def __init__(self, *args: Any):
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _view(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _View:
    return _View(storage, offset, shape, strides)


def _ignored(*_: Any) -> None:
    """In place of lists of numbers and type tags, which weights are not made of."""


class _Unpickler(pickle._Unpickler):
    """Knows modules, tensors and ordered dicts, each as data, and refuses every other name."""

    def __init__(self, data: bytes, source: Path):
        super().__init__(io.BytesIO(data))
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle":
            return _ignored
        known = {"torch._utils._rebuild_tensor_v2": _view, "collections.OrderedDict": OrderedDict}
        if f"{module}.{name}" not in known:
            raise UnsafePickle(f"{self.source}: refused, because it asks for {module}.{name}. Nothing was executed.")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(key, dtype)


def _read_torchscript(path: Path, skip: tuple[str, ...]) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            top = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            module = _Unpickler(archive.read(f"{top}data.pkl"), path).load()
            views = {name: view for name, view in _views(module).items() if not name.startswith(skip)}
            return {name: _tensor(archive, top, view) for name, view in views.items()}
    except UnsafePickle:
        raise
    except Exception as error:  # a broken archive can raise nearly anything
        raise InputError(
            f"{path}: no whole TorchScript archive ({type(error).__name__}: {error}). Is it cut?"
        ) from None


def _views(module: _Module, prefix: str = "") -> dict[str, _View]:
    """The tensors of a module and of those inside it under their state-dict names."""
    views = {}
    for name, value in module.attributes.items():
        if isinstance(value, _View):
            views[prefix + name] = value
        elif isinstance(value, _Module):
            views |= _views(value, f"{prefix}{name}.")
    return views


def _tensor(archive: zipfile.ZipFile, top: str, view: _View) -> Tensor:
    """Numbers of the archive, which checks their sums; PyTorch checks that the view stays inside them."""
    numbers = bytearray(archive.read(f"{top}data/{view.storage.key}"))
    flat = torch.frombuffer(numbers, dtype=view.storage.dtype)
    if math.prod(view.shape) > len(flat):
        raise InputError(f"a tensor {view.shape} in it has {len(flat)} numbers")
    return flat.as_strided(view.shape, view.strides, view.offset).clone()
