"""SMPL parameters from files: AMASS', AIST++'s and our own; what is none is refused and not run."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from models.errors import InputError
from models.parameters import read_parameters

RANDOM = np.random.default_rng(0)


def saved(folder: Path, width: int = 72, frames: int = 8, **changes) -> Path:
    """An AMASS-style npz; a change of None leaves an array out."""
    arrays = {
        "poses": RANDOM.normal(0, 0.3, (frames, width)),
        "trans": RANDOM.normal(0, 1, (frames, 3)),
        "betas": RANDOM.normal(0, 1, 16),
        "mocap_framerate": np.array(120.0),
        "gender": np.array("neutral"),
    } | changes
    np.savez(folder / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "a.npz"


@pytest.mark.parametrize("width, joints", [(72, 24), (156, 22), (165, 22)])
def test_amass(width, joints, tmp_path):
    """The first 22 joints of SMPL-H and SMPL-X are SMPL's; their fingers are not its hands."""
    path = saved(tmp_path, width)
    found = read_parameters(path)
    with np.load(path) as file:
        np.testing.assert_array_equal(found.thetas[:, :joints].reshape(8, -1), file["poses"][:, : 3 * joints])
        np.testing.assert_array_equal(found.transl, file["trans"])
        np.testing.assert_array_equal(found.betas, file["betas"])
    assert found.thetas.shape == (8, 24, 3) and not found.thetas[:, joints:].any()
    assert found.fps == 120 and found.name == "a"


def test_every_sixth_frame(tmp_path):
    found = read_parameters(saved(tmp_path, frames=13))
    fewer = found.every(20)
    np.testing.assert_array_equal(fewer.thetas, found.thetas[::6])
    assert len(fewer.transl) == 3 and fewer.fps == 20
    assert read_parameters(saved(tmp_path, mocap_framerate=np.array(15.0))).every(20).fps == 15


def test_a_shape_for_each_frame_is_averaged(tmp_path):
    betas = RANDOM.normal(0, 1, (8, 10))
    np.testing.assert_allclose(read_parameters(saved(tmp_path, betas=betas)).betas, betas.mean(0))
    assert not read_parameters(saved(tmp_path, betas=None)).betas.any()


def test_aist(reference: Path):
    """Centimetres by the file's scaling, 60 frames a second; a person about a metre above the floor."""
    found = read_parameters(reference / "data" / "smpl_params" / "aist_gBR_sBM_cAll_d04_mBR0_ch01.pkl")
    assert found.fps == 60 and found.thetas.shape[1:] == (24, 3) and len(found.thetas) == len(found.transl)
    assert 0.5 < np.median(found.transl[:, 1]) < 2 and not found.betas.any()


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"trans": None}, "no SMPL parameters"),
        ({"mocap_framerate": None}, "mocap_framerate"),
        ({"mocap_framerate": np.array(-1.0)}, "above 0"),
        ({"poses": np.zeros((8, 60))}, r"\(8, 60\)"),
        ({"trans": np.zeros((7, 3))}, r"\(7, 3\)"),
        ({"trans": np.full((8, 3), np.nan)}, "finite"),
        ({"poses": np.array(["no"])}, "finite"),
        ({"betas": np.array(0.5)}, r"betas are \(\)"),
        ({"betas": np.zeros((8, 1, 10))}, r"betas are \(8, 1, 10\)"),
        ({"betas": np.zeros(0)}, r"betas are \(0,\)"),
        ({"betas": np.array(["slim"])}, "`betas`.*finite"),
        ({"betas": np.full(10, np.nan)}, "`betas`.*finite"),
        ({"smpl_scaling": np.array(0.0)}, "`smpl_scaling`.*above 0"),
        ({"smpl_scaling": np.array("cm")}, "`smpl_scaling`.*above 0"),
        ({"smpl_scaling": np.ones(8)}, "`smpl_scaling`.*above 0"),
    ],
)
def test_what_is_wrong_is_named(changes, word, tmp_path):
    with pytest.raises(InputError, match=word):
        read_parameters(saved(tmp_path, **changes))


def test_other_files_are_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "trap.pkl").write_bytes(pickle.dumps({"smpl_poses": Trap(), "smpl_trans": 0}))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("trap.pkl", "text.npz", "none.npz"):
        with pytest.raises(InputError):
            read_parameters(tmp_path / name)
    assert not (tmp_path / "ran").exists()
