"""The restricted unpickler: data of every kind comes back as pickle gives it, and attacks really tried do not run."""

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from models.errors import InputError
from models.safe_pickle import UnsafePickle, load_npy, load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_same(found: object, expected: object) -> None:
    """Equal in value and type, all the way down."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.flags.writeable
        if expected.dtype == object:
            assert_same(found.tolist(), expected.tolist())
        else:
            np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        assert_same(list(found.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


DATA = {
    "plain": [None, True, -7, 10**30, 1.5, 2 + 1j, "é", b"\xff\x00", b"", {1, 2}, frozenset("ab"), (1, (2, [3]))],
    "dicts": {"text": ["a", "b"], 3: OrderedDict(b=1, a={"x": np.float32(2)})},
    "arrays": [
        np.arange(6).reshape(2, 3),
        np.ones((2, 3), np.float32).T,
        np.zeros((0, 3)),
        np.array(2.5),
        np.eye(2) > 0,
    ],
    "views": [np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2], np.arange(5)[::-1]],
    "orders": [np.arange(4, dtype=">f8"), np.arange(4, dtype="<u2"), np.arange(4, dtype=">i4").T],
    "text arrays": [np.array(["a", "bcd"]), np.array([b"x", b"yz"])],
    "object arrays": [np.array([None, {"x": np.ones(2)}, "s"], object), np.array([[1, "a"], [[], ()]], object).T],
    "scalars": [np.float32(0.1), np.int64(-3), np.bool_(True), np.complex64(1j), np.str_("é"), np.dtype(">f4")],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", DATA)
def test_data_comes_back(tmp_path, kind, protocol):
    content = pickle.dumps(DATA[kind], protocol)
    assert_same(load_pickle(written(tmp_path / "a.pkl", content)), DATA[kind])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_old_and_new_numpy_names(tmp_path, protocol):
    array = {"a": np.arange(6.0).reshape(2, 3), "b": np.float64(3)}
    content = pickle.dumps(array, protocol)
    if protocol < 4:  # later protocols write the length of the name before it
        content = content.replace(b"numpy._core", b"numpy.core")
    assert_same(load_pickle(written(tmp_path / "a.pkl", content)), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array"])
def test_sparse_matrices_come_back(tmp_path, form, protocol):
    matrix = getattr(sparse, form)(np.random.default_rng(0).integers(-1, 2, (5, 7)) * 1.5)
    found = load_pickle(written(tmp_path / "a.pkl", pickle.dumps(matrix, protocol)))
    assert type(found) is type(matrix)
    assert_same(found.toarray(), matrix.toarray())


def test_shared_and_cyclic_parts_are_made_once(tmp_path):
    array, ring = np.ones(3), []
    ring.append(ring)
    found = load_pickle(written(tmp_path / "a.pkl", pickle.dumps([array, array, ring])))
    assert found[0] is found[1]
    assert found[2][0] is found[2]
    folded = []
    for _ in range(60):  # 2^60 lists when every mention were made anew
        folded = [folded, folded]
    assert len(load_pickle(written(tmp_path / "b.pkl", pickle.dumps(folded)))) == 2


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.ones((3, 2), ">f4").T, np.array("é"), np.zeros((0, 22, 3))]
)
def test_npy_arrays(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert_same(load_npy(tmp_path / "a.npy"), array)


def test_npy_objects(tmp_path):
    """A dict saved by np.save comes back as the dict, as `np.load(..., allow_pickle=True).item()` gives it."""
    results = {"motion": np.ones((2, 22, 3, 5), np.float32), "text": ["a", "b"], "lengths": np.array([5, 3])}
    np.save(tmp_path / "results.npy", results)
    assert_same(load_npy(str(tmp_path / "results.npy")), results)
    ragged = np.array([np.ones(2), np.ones(3), None], object)
    np.save(tmp_path / "ragged.npy", ragged)
    assert_same(load_npy(tmp_path / "ragged.npy"), ragged)


def test_real_files(reference):
    for path in sorted((reference / "data").rglob("*.npy")):
        expected = np.load(path, allow_pickle=True)
        assert_same(load_npy(path), expected.item() if expected.ndim == 0 else expected)
    for path in [*(reference / "golden").glob("*.pkl"), *(reference / "data").rglob("*.pkl")]:
        with path.open("rb") as file:
            assert_same(load_pickle(path), pickle.load(file, encoding="latin1"))


class Calls:
    """An object whose unpickling calls `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    """The opcode that pushes a string."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def attacks(victim: Path) -> dict[str, tuple[str, bytes]]:
    """What the message must name, and a pickle that creates the file `victim` when a plain `pickle.loads` reads it."""
    shell, code = f"touch {victim}", f"open({str(victim)!r}, 'w').close()"
    run = Calls(os.system, shell)
    sparse_matrix = sparse.csc_matrix(np.eye(2))
    sparse_matrix.extra = run
    objects = {
        "shell": ("posix.system", run),
        "subprocess": ("subprocess.check_call", Calls(subprocess.check_call, ["touch", str(victim)])),
        "eval": ("builtins.eval", Calls(eval, code)),
        "exec": ("builtins.exec", Calls(exec, code)),
        "open": ("io.open", Calls(open, str(victim), "w")),
        "bound method": ("builtins.getattr", Calls(victim.touch)),
        "numpy function": ("numpy.savetxt", Calls(np.savetxt, str(victim), np.ones(2))),
        "numpy method": ("builtins.getattr", Calls(np.ndarray.tofile, np.ones(2), str(victim))),
        "memmap": ("numpy.memmap", Calls(np.memmap, str(victim), "uint8", "w+", 0, (1,))),
        "in a results dict": ("posix.system", {"motion": np.ones(2), "text": [run]}),
        "in an object array": ("posix.system", np.array([1, run], object)),
        "in a sparse matrix": ("posix.system", sparse_matrix),
    }
    written_out = {
        "old instance": ("os.system", b"(" + text(shell) + b"ios\nsystem\n."),
        "old object": ("os.system", b"(cos\nsystem\n" + text(shell) + b"o."),
        "dotted name": (
            "pathlib.os.system",
            b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + text(shell) + b"\x85R.",
        ),
    }
    return {kind: (name, pickle.dumps(value)) for kind, (name, value) in objects.items()} | written_out


KINDS = tuple(attacks(Path("victim")))


@pytest.mark.parametrize("kind", KINDS)
def test_attacks_are_refused_and_named(tmp_path, kind):
    victim = tmp_path / "victim"
    name, content = attacks(victim)[kind]
    for path in (written(tmp_path / "a.pkl", content), written(tmp_path / "a.npy", npy_around(content))):
        with pytest.raises(UnsafePickle) as error:
            (load_pickle if path.suffix == ".pkl" else load_npy)(path)
        assert not victim.exists()
        assert str(error.value).startswith(
            f"{path}: refused, because this pickle asks for {name}. Nothing was executed"
        )
    pickle.loads(content)
    assert victim.exists(), "the attack above was none"


def npy(header: dict, data: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def npy_around(content: bytes) -> bytes:
    """A .npy file of a 0-d object array with the pickle `content` as its data."""
    return npy({"descr": "|O", "fortran_order": False, "shape": ()}, content)


def state_of(array: np.ndarray, **changes: object) -> bytes:
    """A pickle of `array` with parts of its state (shape, dtype, data) forged."""
    make, args, (version, shape, dtype, fortran, data) = array.__reduce__()
    state = {"shape": shape, "dtype": dtype, "data": data} | changes

    class Forged:
        def __reduce__(self):
            return make, args, (version, state["shape"], state["dtype"], fortran, state["data"])

    return pickle.dumps(Forged(), protocol=2)


def sparse_with(**changes: object) -> bytes:
    matrix = sparse.csc_matrix(np.eye(3))
    matrix.__dict__.update(changes)
    return pickle.dumps(matrix)


def class_with_state(state: bytes) -> bytes:
    """Opcodes that set the state of a class, not of an object."""
    return b"\x80\x02cnumpy\ndtype\n" + state + b"b."


NESTED = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
OUTSIDE = {"indices": np.array([0, 1, 10**6], np.int32), "indptr": np.array([0, 1, 2, 10**9], np.int32)}
FORGED = {
    "array larger than its data": (state_of(np.ones(3), shape=(2**40,)), "takes 8796093022208 bytes, 24 are there"),
    "negative shape": (state_of(np.ones(3), shape=(-3,)), "is it cut"),
    "pointers as bytes": (state_of(np.array([None]), data=b"\x41" * 8), r"shape \(1,\) comes with 8 objects"),
    "record type": (pickle.dumps(np.zeros(2, [("a", "f8")])), "'V8' is not accepted"),
    "subclass of array": (pickle.dumps(np.ma.array([1, 2])), "asks for numpy.ma"),
    "sparse indices outside": (sparse_with(indices=OUTSIDE["indices"]), "no whole pickle .*indices"),
    "sparse pointers outside": (sparse_with(indptr=OUTSIDE["indptr"]), "no whole pickle"),
    "state on a class": (class_with_state(b"}" + text("path") + text("numpy.ndarray") + b"s"), "no whole pickle"),
    "attributes on a class": (class_with_state(b"N}" + text("path") + text("x") + b"s\x86"), "no whole pickle"),
    "a class": (pickle.dumps([np.ndarray]), "the class ndarray itself"),
    "an array never filled": (pickle.dumps(np.ones(2), 2)[:-1].rpartition(b"(K\x01")[0] + b".", "no whole pickle"),
    "memo index outside": (b"\x80\x02j\xff\xff\xff\xff.", "no whole pickle"),
    "bytes of 100 TB": (b"\x80\x05\x8e" + (10**14).to_bytes(8, "little") + b"abc", "no whole pickle"),
    "bytearray of 100 TB": (b"\x80\x05\x96" + (10**14).to_bytes(8, "little") + b"abc", "no whole pickle"),
    "5000 lists in each other": (NESTED, "no whole pickle .RecursionError"),
    "reference outside": (b"\x80\x02" + text("a") + b"Q.", "data outside"),
    "extension registry": (b"\x80\x02\x82\x01.", "no whole pickle"),
    "text": (b"hello", "it starts with b'hello'"),
    "empty": (b"", "the file is empty"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_and_broken_pickles_end_in_a_message(tmp_path, kind):
    content, message = FORGED[kind]
    path = written(tmp_path / "a.pkl", content)
    with pytest.raises(InputError, match=message) as error:
        load_pickle(path)
    assert str(error.value).startswith(f"{path}: ")


def test_an_object_type_that_denies_it_in_its_flags(tmp_path):
    """numpy would then take the bytes for pointers and crash; here the flags are not looked at."""
    dtype = pickle.dumps(np.dtype(object), 2)
    assert dtype.count(b"K?") == 1
    path = written(tmp_path / "a.pkl", dtype.replace(b"K?", b"K\x00"))
    assert load_pickle(path) == np.dtype(object)


def test_a_forged_memo_index_takes_no_memory(tmp_path):
    """The unpickler in C makes a table of 4 billion entries."""
    assert load_pickle(written(tmp_path / "a.pkl", b"\x80\x02]r\xff\xff\xff\xff.")) == []


def test_torch_tensors_become_arrays(tmp_path):
    """MDM's own smpl_params.npy has its vertices as a tensor."""
    numbers = torch.arange(24.0).reshape(4, 6)
    tensors = {"plain": numbers, "view": numbers[1:, ::2].T, "whole": numbers.long(), "none": numbers[:0]}
    np.save(tmp_path / "a.npy", np.array(tensors, dtype=object))
    for key, array in load_npy(tmp_path / "a.npy").items():
        np.testing.assert_array_equal(array, tensors[key].numpy())


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path):
    class Forged:
        def __reduce__(self):
            storage = torch.ones(3)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (1000,), (1,), False, OrderedDict())

    with pytest.raises(InputError, match="no whole pickle"):
        load_pickle(written(tmp_path / "a.pkl", pickle.dumps(Forged())))


def test_other_things_of_torch_are_refused_with_advice(tmp_path):
    with pytest.raises(UnsafePickle, match=r"asks for torch.*save tensors as numpy arrays, tensor.numpy\(\)"):
        load_pickle(written(tmp_path / "a.pkl", pickle.dumps(torch.nn.Linear(1, 1))))


def test_every_cut_and_many_flipped_bytes_end_in_a_message(tmp_path):
    whole = pickle.dumps({"motion": np.arange(4.0), "text": ["a", "b"], "n": np.int64(3)}, 2)
    path = tmp_path / "a.pkl"
    for end in range(len(whole)):
        with pytest.raises(InputError):
            load_pickle(written(path, whole[:end]))
    rng = np.random.default_rng(0)
    for _ in range(500):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] = rng.integers(256)
        with suppress(InputError):  # any other error, and any crash, fails
            load_pickle(written(path, bytes(flipped)))


FLOATS = {"descr": "<f4", "fortran_order": False, "shape": (2, 3)}
BROKEN_NPY = {
    "cut data": (npy(FLOATS, bytes(23)), r"is it cut\? An array \(2, 3\) of float32 takes 24 bytes, 23 are there"),
    "cut header": (npy(FLOATS, b"")[:40], "the .npy header is broken or cut"),
    "cut magic": (b"\x93NUMPY", "the .npy header is broken or cut"),
    "claims 4 TB": (npy(FLOATS | {"shape": (2**40,)}, bytes(24)), "takes 4398046511104 bytes, 24 are there"),
    "claims a huge nothing": (npy(FLOATS | {"shape": (0, 2**62, 2**62)}, b""), "too|large|big"),
    "header of 1 GB": (b"\x93NUMPY\x02\x00\x00\x00\x00\x40{}", "the .npy header is broken or cut"),
    "record type": (npy(FLOATS | {"descr": [("a", "<f4")]}, bytes(24)), "numbers and strings are"),
    "dates": (npy(FLOATS | {"descr": "<M8[s]"}, bytes(48)), "datetime64.* is not accepted"),
    "cut dict": (npy_around(pickle.dumps({"motion": np.ones(9)})[:60]), "no whole pickle .* Is it cut"),
    "npz": (b"PK\x03\x04rest", "a zip archive, as .npz and torch files are"),
    "pickle": (pickle.dumps({}), "a pickle"),
    "film": (b"\x00\x00\x00\x20ftypisom", "it starts with .*ftypisom"),
    "empty": (b"", "the file is empty. Expected is what np.save writes"),
}


@pytest.mark.parametrize("kind", BROKEN_NPY)
def test_broken_npy_files_end_in_a_message(tmp_path, kind):
    content, message = BROKEN_NPY[kind]
    path = written(tmp_path / "a.npy", content)
    with pytest.raises(InputError, match=message) as error:
        load_npy(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("load", [load_npy, load_pickle])
def test_missing_file_and_folder(tmp_path, load):
    with pytest.raises(InputError, match=f"results.npy: no such file. Looked in {tmp_path}"):
        load(tmp_path / "results.npy")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_no_name_in_a_pickle_is_imported(tmp_path):
    assert not {"chumpy", "antigravity"} & set(sys.modules)
    for name in (b"cchumpy.ch\nCh\n)\x81.", b"cantigravity\nfly\n)R."):
        with pytest.raises(InputError):
            load_pickle(written(tmp_path / "a.pkl", b"\x80\x02" + name))
    assert not {"chumpy", "antigravity"} & set(sys.modules)
