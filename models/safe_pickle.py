"""Pickles and .npy files read as data: arrays, plain containers, chumpy, scipy sparse and torch arrays, nothing else.

Nothing that a pickle names is imported. What it asks for is either a plain container, or becomes a `_Record` that only
remembers name, arguments and state; the table `_READERS` says how an array is made of a record. A name outside that
table ends the reading before anything of the file has been used. NumPy's own `__setstate__` is not used either: it
believes flags in the file that say whether bytes are pointers.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from models.errors import InputError

_KNOWN_STARTS = {
    b"\x93NUMPY": "a .npy file",
    b"PK\x03\x04": "a zip archive, as .npz and torch files are",
    b"\x89HDF": "an HDF5 file",
    b"\x80": "a pickle",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"<": "a web page or other markup: the download went wrong",
}


class UnsafePickle(InputError):
    """A pickle asks for something that is not plain data; the message names it. Nothing was executed."""


def load_pickle(path: str | Path) -> Any:
    """What the pickle at `path` holds, chumpy arrays and tensors as numpy arrays. Python-2 pickles are read as latin1.

    Raises InputError when the file is missing or no whole pickle, UnsafePickle when it asks for more than plain data.
    """
    return _unpickle(read_bytes(path), path)


def load_npy(path: str | Path) -> Any:
    """The array in the .npy file at `path`; of a 0-d object array (np.save of a dict) the object itself.

    Raises InputError when the file is missing, cut or no .npy file, UnsafePickle when it asks for more than plain data.
    """
    data = read_bytes(path)
    if not data.startswith(b"\x93NUMPY"):
        raise InputError(f"{path}: no .npy file: {describe_start(data)}. Expected is what np.save writes.")
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except Exception as error:
        raise InputError(f"{path}: the .npy header is broken or cut ({error}); save the array again.") from None
    if dtype.hasobject:
        value = _unpickle(data[stream.tell() :], path)
        return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    try:
        return _array_of_bytes(memoryview(data)[stream.tell() :], shape, dtype, fortran)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def read_bytes(path: str | Path) -> bytes:
    """The file's content; InputError when there is no such file or it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Looked in {Path(path).absolute().parent}.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None


def describe_start(data: bytes) -> str:
    """A clause for error messages: what the first bytes of a file look like."""
    if not data:
        return "the file is empty"
    known = next((f" ({what})" for start, what in _KNOWN_STARTS.items() if data.startswith(start)), "")
    return f"it starts with {data[:12]!r}{known}"


class _Record:
    """What the pickle wanted to call or to make, as data: `path` of the name, `args`, and `state` set afterwards."""

    path = ""

    def __new__(cls, *args):
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Knows plain containers; turns the names in `_READERS` into records; refuses every other name.

    The unpickler written in Python: one in C takes 64 GB for a forged memo index, and arrays are few opcodes anyway.
    """

    def __init__(self, data: bytes, source: str | Path):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.source = source

    def find_class(self, module: str, name: str) -> type:
        path = _old_path(module, name)
        if path in _PLAIN:
            return _PLAIN[path]
        if path in _READERS:
            return type(name, (_Record,), {"path": path})
        advice = "load it where it was made and save its arrays with np.savez"
        if module.partition(".")[0] == "torch":
            advice = "save tensors as numpy arrays, tensor.numpy()"
        raise UnsafePickle(
            f"{self.source}: refused, because this pickle asks for {module}.{name}. Nothing was executed. Accepted are "
            f"numpy arrays and numbers, lists, dicts, strings, tensors, chumpy and scipy sparse arrays. If you trust "
            f"the file, {advice}."
        )

    def persistent_load(self, pid: Any):
        raise UnsafePickle(f"{self.source}: refused: it refers to data outside the pickle. Nothing was executed.")


def _old_path(module: str, name: str) -> str:
    """One spelling for names that Python 2, NumPy 2 and newer SciPy spell differently."""
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    module = module.replace("numpy._core", "numpy.core", 1) if module.startswith("numpy._core") else module
    module = re.sub(r"^scipy\.sparse(\._?(csc|csr|coo))?$", "scipy.sparse", module)
    return f"{module}.{name}"


def _unpickle(data: bytes, source: str | Path) -> Any:
    try:
        return _Builder()(_Unpickler(data, source).load())
    except UnsafePickle:
        raise
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # a broken stream of opcodes can raise nearly anything
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{source}: no whole pickle ({reason}); {describe_start(data)}. Is it cut?") from None


class _Builder:
    """Makes the value that the unpickled containers and records describe; shared and cyclic parts are made once."""

    def __init__(self):
        self.made: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if id(value) in self.made:
            return self.made[id(value)]
        if isinstance(value, list):
            made = self.made[id(value)] = []
            made.extend(map(self, value))
        elif isinstance(value, dict):
            made = self.made[id(value)] = type(value)()
            made.update((self(key), self(item)) for key, item in value.items())
        elif isinstance(value, tuple | set | frozenset):
            made = self.made[id(value)] = type(value)(map(self, value))
        elif isinstance(value, _Record):
            made = self.made[id(value)] = _READERS[value.path](self, value)
        elif isinstance(value, type):
            raise InputError(f"the pickle holds the class {value.__name__} itself, not an object of it")
        else:
            made = value
        return made


def _dtype(build: _Builder, record: _Record) -> np.dtype:
    code = build(record.args[0])
    if not re.fullmatch(r"[<>=|]?([biufcSU]\d+|O\d?|\?)", code):
        raise InputError(f"the array type {code!r} is not accepted: numbers, strings and objects are")
    order = record.state[1] if record.state else "="
    return np.dtype(code).newbyteorder(order) if order in "<>" else np.dtype(code)


def _array(build: _Builder, record: _Record) -> np.ndarray:
    """numpy._reconstruct(ndarray, (0,), "b"), then the state (version, shape, dtype, fortran order, data)."""
    if not _is_class(record.args[0], "numpy.ndarray"):
        raise InputError("the pickle holds a subclass of numpy.ndarray; plain arrays are accepted")
    shape, dtype, fortran, data = (build(part) for part in record.state[-4:])
    if dtype.kind != "O":
        return _array_of_bytes(data, shape, dtype, fortran)
    if len(data) != math.prod(shape):
        raise InputError(f"an object array of shape {shape} comes with {len(data)} objects")
    array = np.empty(len(data), object)
    array[:] = data
    return array.reshape(shape)  # objects are listed row by row even when they lie column by column


def _array_of_bytes(data: bytes | str, shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> np.ndarray:
    if dtype.kind not in "biufcSU":
        raise InputError(f"an array of type {dtype} is not accepted: numbers and strings are")
    data = data.encode("latin1") if isinstance(data, str) else data
    expected = math.prod(shape) * dtype.itemsize
    if not 0 <= expected <= len(data):
        raise InputError(f"is it cut? An array {shape} of {dtype} takes {expected} bytes, {len(data)} are there")
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C").copy("K")


def _array_from_buffer(build: _Builder, record: _Record) -> np.ndarray:
    """numpy's form in pickle protocol 5: (buffer, dtype, shape, order)."""
    data, dtype, shape, order = (build(part) for part in record.args[:4])
    return _array_of_bytes(data, shape, dtype, order == "F")


def _scalar(build: _Builder, record: _Record) -> Any:
    dtype, data = (build(part) for part in record.args)
    return _array_of_bytes(data, (), dtype, False)[()]


def _bytes(build: _Builder, record: _Record) -> bytes:
    """bytes() and bytearray(content), or _codecs.encode(text, "latin1") as protocols before 3 spell bytes."""
    content = record.args[0] if record.args else b""
    return bytes(content.encode("latin1") if isinstance(content, str) else memoryview(content))


def _instance(build: _Builder, record: _Record) -> Any:
    """copyreg._reconstructor(cls, object, None): how protocols 0 and 1 make an object of cls."""
    kind, _, content = record.args
    if content is not None or not (isinstance(kind, type) and issubclass(kind, _Record)):
        raise InputError("the pickle makes an object from something that is not plain data")
    made = kind()
    made.state = record.state
    return _READERS[kind.path](build, made)


def _chumpy(build: _Builder, record: _Record) -> np.ndarray:
    if "x" not in record.state:
        raise InputError("a chumpy array in the pickle has no value `x`")
    return np.asarray(build(record.state["x"]))


def _chumpy_select(build: _Builder, record: _Record) -> np.ndarray:
    """chumpy.reordering.Select: some entries of the flattened array `a`, in another shape."""
    picked = np.asarray(build(record.state["a"])).ravel()[build(record.state["idxs"])]
    shape = build(record.state.get("preferred_shape"))
    return picked if shape is None else picked.reshape(shape)


def _compressed(make: Callable) -> Callable[[_Builder, _Record], Any]:
    def read(build: _Builder, record: _Record):
        state = build(record.state)
        matrix = make((state["data"], state["indices"], state["indptr"]), shape=state["_shape"])
        matrix.check_format(full_check=True)  # indices out of range would write outside the array later
        return matrix

    return read


def _coordinates(build: _Builder, record: _Record):
    state = build(record.state)
    coords = state["coords"] if "coords" in state else (state["row"], state["col"])
    return sparse.coo_matrix((state["data"], tuple(coords)), shape=state["_shape"])


def _storage(build: _Builder, record: _Record) -> torch.Tensor:
    """torch.storage._load_from_bytes(content of torch.save): torch's own restricted reader, (numbers,)."""
    content = torch.load(io.BytesIO(build(record.args[0])), map_location="cpu", weights_only=True)
    return torch.tensor([], dtype=content.dtype).set_(content)


def _tensor(build: _Builder, record: _Record) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...); as_strided refuses what lies outside."""
    numbers, offset, size, stride = (build(part) for part in record.args[:4])
    return numbers.as_strided(size, stride, offset).numpy().copy()


def _no_value(build: _Builder, record: _Record):
    raise InputError(f"the pickle makes an object of {record.path} by itself")


def _is_class(value: Any, path: str) -> bool:
    return isinstance(value, type) and issubclass(value, _Record) and value.path == path


_PLAIN = {f"builtins.{kind.__name__}": kind for kind in (list, tuple, dict, set, frozenset, complex, object)}
_PLAIN["collections.OrderedDict"] = OrderedDict
_READERS = {
    "numpy.ndarray": _no_value,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _instance,
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "chumpy.ch.Ch": _chumpy,
    "chumpy.reordering.Select": _chumpy_select,
    "scipy.sparse.csc_matrix": _compressed(sparse.csc_matrix),
    "scipy.sparse.csr_matrix": _compressed(sparse.csr_matrix),
    "scipy.sparse.coo_matrix": _coordinates,
    "scipy.sparse.csc_array": _compressed(sparse.csc_array),
    "scipy.sparse.csr_array": _compressed(sparse.csr_array),
}
