"""Bad input, with real broken files: each ends with a message that says what was found and what would work."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fitting.data import load_motions
from models.errors import InputError
from tests.person import features, person, results, statistics


def refusal(source: Path | str, **arguments) -> str:
    """The message of the one failure that a source ends with."""
    motions, failures = load_motions(source, **arguments)
    assert not motions and len(failures) == 1, (motions, failures)
    assert failures[0].source == str(source)
    return failures[0].message


def says(message: str, words: str) -> None:
    assert re.search(words, message, re.DOTALL), f"{words!r} not in: {message}"


def npy(content) -> bytes:
    stream = io.BytesIO()
    np.save(stream, content)
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "nothing")
    return stream.getvalue()


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return stream.getvalue()


def broken(frame: int, value: float) -> np.ndarray:
    joints = person()
    joints[frame, 20, 1] = value
    return joints


def padded() -> np.ndarray:
    joints = person()
    joints[9:] = 0
    return joints


# Files that are no motion -------------------------------------------------------------------------------------------

FILES = {
    "empty.npy": (b"", "empty file"),
    "notes.npy": (b"frame 0: 0.1 0.2 0.3\n", "text file that begins with 'frame 0"),
    "noise.npy": (b"\x00\x01\xfe\xff" * 30, "unknown: its first bytes"),
    "picture.npy": (png(), "PNG image"),
    "page.npy": (b"<!DOCTYPE html><html></html>", "web page.*download"),
    "pointer.npy": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "walk.bvh": (b"HIERARCHY\nROOT Hips\n", r"BVH.*forward kinematics.*\(frames, 22, 3\)"),
    "walk.glb": (b"glTF\x02\x00\x00\x00", "GLB scene"),
    "film.mp4": (b"\x00\x00\x00\x18ftypisom", "film.*sampleSS_repRR.mp4.*results.npy"),
    "model.pt": (zipped("archive/data.pkl"), "PyTorch file"),
    "model.npz": (zipped("archive/data.pkl"), "PyTorch file"),
    "things.npz": (zipped("readme.txt"), "zip archive without arrays.*readme.txt"),
    "results.txt": (b"a person walks\n", "text file that begins with 'a person walks'"),
    "walk.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_array_is_named(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    says(message, words)
    says(message, r"\(frames, 22, 3\)|save|unpack")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["walk.npy", "results.npy", "walk.npz", "walk.pkl"])
def test_truncated(tmp_path, name, kept):
    whole = {
        "walk.npy": npy(person()),
        "results.npy": npy(results()),
        "walk.npz": npz(joints=person()),
        "walk.pkl": pickle.dumps(results()),
    }[name]
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    says(refusal(tmp_path / name), "cut|broken")


class Attack:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["results.npy", "clip.pkl", "clip.npz"])
def test_a_pickle_that_wants_to_run_code(tmp_path, name):
    content = {"motion": person(), "extra": Attack(tmp_path / "ran")}
    if name.endswith(".npz"):
        np.savez(tmp_path / name, motion=np.array(content, dtype=object))
    else:
        (tmp_path / name).write_bytes(pickle.dumps(content) if name.endswith(".pkl") else npy(content))
    says(refusal(tmp_path / name), "it has no `motion`" if name.endswith(".npz") else r"refused.*mkdir")
    assert not (tmp_path / "ran").exists()


def test_a_file_without_permission_is_named(tmp_path):
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    says(refusal(tmp_path / "loop.npy"), "no such file|cannot be read")


# Sources ------------------------------------------------------------------------------------------------------------


def test_missing_file_names_the_nearest(tmp_path):
    np.save(tmp_path / "results.npy", results())
    says(refusal(tmp_path / "result.npy"), "no such file.*results.npy")
    says(refusal(tmp_path / "nowhere" / "deep" / "results.npy"), f"folder .*deep does not exist, only {tmp_path}$")
    says(refusal(tmp_path / "*.npz"), "nothing matches")


def test_film_without_results(tmp_path):
    (tmp_path / "sample01_rep02.mp4").touch()
    says(refusal(tmp_path / "sample01_rep02.mp4"), "clip of the results.npy beside it")


def test_a_clip_that_results_do_not_hold(tmp_path):
    np.save(tmp_path / "results.npy", results(2, 1))
    _, (failure,) = load_motions(tmp_path / "sample01_rep00.mp4")
    says(failure.message, "sample 1, repetition 0 is not in it.*sample00_rep00, sample00_rep01")
    says(refusal(tmp_path / "results.npy", samples=(0, 7, 9)), "sample 7, 9 is not in it.*sample00_rep00")


def test_folders_without_motion(tmp_path):
    says(refusal(tmp_path), "no motion.*no files at all")
    (tmp_path / "a.bvh").touch()
    (tmp_path / "b.bvh").touch()
    np.save(tmp_path / "Mean.npy", statistics()[0])
    says(refusal(tmp_path), "no motion.*2 .bvh, 1 .npy")


# Contents -----------------------------------------------------------------------------------------------------------

smpl = {"smpl_poses": np.zeros((9, 72)), "smpl_trans": np.zeros((9, 3)), "smpl_scaling": np.ones(1)}
CONTENTS = {
    # dicts and objects
    "dict without motion": ({"pose": 1, "joint": 2}, "no `motion`; it has pose, joint"),
    "empty dict": ({}, "no keys at all"),
    "AIST parameters": (smpl, "SMPL parameters.*BodyModel.*smpl_scaling"),
    "body model": ({"v_template": 0, "shapedirs": 0}, "body model.*--body"),
    "text": ("walk", r"\(\) <U4: not an array of numbers"),
    "list of texts": (["walk", "run"], r"array \(2,\) <U4"),
    "objects": (np.array([person(), "walk"], dtype=object), "2 objects.*neither a dict nor a list of arrays"),
    "ragged motion": ({"motion": [[1, 2], [3]]}, "`motion` is no array"),
    "text as motion": ({"motion": "walk"}, "not an array of numbers"),
    "fps": ({"motion": person(), "fps": "fast"}, "`fps` should be a number above 0 and up to 1000; it is 'fast'"),
    # shapes
    "21 joints of another order": (person()[:, :21], r"not in the order of skeleton 'kit'.*Found: array .12, 21, 3."),
    "BODY_25": (np.ones((9, 25, 3)), "25 joints.*BODY_25"),
    "BODY_25, frames last": (np.ones((1, 25, 3, 9)), "25 joints.*BODY_25"),
    "Human3.6M": (np.ones((9, 17, 3)), "17 joints.*Human3.6M.*--skeleton h36m"),
    "45 joints": (np.ones((9, 45, 3)), r"45 joints.*joints\[:, :24\]"),
    "odd count": (np.ones((9, 23, 3)), "23 joints. Skeletons that can be fitted"),
    "KIT features": (np.zeros((9, 251)), "normalised"),
    "statistics": (statistics()[0], "statistics.*--stats"),
    "parameters": (np.zeros((9, 75)), r"\(9, 75\).*SMPL parameters.*BodyModel"),
    "flattened": (person().reshape(12, 66), r"reshape\(-1, 22, 3\)"),
    "flat keypoints": (person()[..., :2], "2-D"),
    "other order": (person().transpose(0, 2, 1), "axes in another order"),
    "matrices": (np.zeros((9, 23, 3, 3)), "rotations without the root's path"),
    "rot6d": (np.zeros((9, 24, 6)), "rotations without the root's path"),
    "image": (np.zeros((48, 64, 3), np.uint8), "image"),
    "contacts": (np.zeros(9, bool), "bool.*contacts"),
    "complex": (person().astype(complex), "not an array of numbers"),
    "scalar": (np.float32(1), r"\(\) float32"),
    "no frames": (person()[:0], "no frames"),
    "no clips": (person()[None][:0], "no clips"),
    "no features": (features()[:0], "no frames"),
    # numbers
    "nearly nothing": (
        person() * np.where(np.arange(22) < 2, 1, np.nan)[:, None],
        "too little.*has pelvis, left_hip; of all joints 91%",
    ),
    "another order": (
        person()[:, np.random.default_rng(0).permutation(22)],
        "not in the order of skeleton 'humanml3d'",
    ),
    "confidence": ({"motion": person(), "confidence": np.ones((12, 3))}, r"`confidence` is \(12, 3\).*\(1, 12, 22\)"),
    "confidence in percent": ({"motion": person(), "confidence": np.full((12, 22), 90)}, "to 90.*0 .unseen. to 1"),
    "Inf": (broken(4, np.inf), r"Inf in 1 of 12 frames \(4, counted from 0\)"),
    "NaN in features": (features() * np.where(np.arange(12) > 9, np.nan, 1)[:, None], r"2 of 12 frames \(10-11"),
    "zeros": (np.zeros((9, 22, 3)), "all 9 frames are zeros"),
    "padding": (padded(), r"3 of 12 frames are all zeros \(9-11, .*padding"),
    "centimetres": (100 * person(), "not in metres.*in centimetres: multiply by 0.01"),
    "millimetres": (1000 * person(), "not in metres.*in millimetres: multiply by 0.001"),
    "inches": (person() / 0.0254, "in inches: multiply by 0.0254"),
    "normalised size": (person() / 50, "not in metres: the bones add up to .*multiply by about"),
    "x up": (person()[..., [1, 0, 2]] * [1, -1, 1], "--up x"),
    "z down": (person()[..., [0, 2, 1]] * [1, 1, -1], "--up=-z"),
    "z up": (person()[..., [0, 2, 1]] * [1, -1, 1], "--up z"),
    "flat rotations": (np.zeros((25, 6, 9)), "joint 0 has no rotation in frame 0"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_contents(tmp_path, case):
    content, words = CONTENTS[case]
    np.save(tmp_path / "clip.npy", content)
    says(refusal(tmp_path / "clip.npy"), words)


def test_parameters_in_an_npz(tmp_path):
    np.savez(tmp_path / "amass.npz", poses=np.zeros((9, 156)), trans=np.zeros((9, 3)), gender="male")
    says(refusal(tmp_path / "amass.npz"), "it has poses, trans, gender: SMPL parameters.*an npz with `joints`")


def test_every_message_about_a_shape_shows_it_and_what_would_do(tmp_path):
    for shape in [(7,), (9, 40), (9, 23, 3), (2, 9, 23, 3), (2, 3, 9, 5), (2, 2, 2, 2, 2)]:
        np.save(tmp_path / "clip.npy", np.ones(shape))
        message = refusal(tmp_path / "clip.npy")
        assert str(shape) in message and "22" in message, message


# results.npy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"lengths": np.array([12, 12])}, "`lengths` should be 6 whole numbers"),
        ({"lengths": "long"}, "`lengths` should be 6 whole numbers.*'long'"),
        ({"lengths": np.full(6, 1.5)}, "`lengths` should be 6 whole numbers"),
        ({"num_samples": 4}, "holds 6 clips, but num_samples 4 x num_repetitions 2"),
        ({"num_samples": "many"}, "`num_samples` should be a whole number; it is 'many'"),
        ({"num_samples": 0}, "num_samples 0"),
    ],
)
def test_results_that_contradict_themselves(tmp_path, change, words):
    np.save(tmp_path / "results.npy", results() | change)
    says(refusal(tmp_path / "results.npy"), words)


@pytest.mark.parametrize(
    "length, words", [(197, "length is 197, but the array has 12 frames"), (0, "length is 0"), (-3, "is -3")]
)
def test_a_length_beyond_array_and_mdm_refuses_that_clip(tmp_path, length, words):
    np.save(tmp_path / "results.npy", results(1, 2) | {"lengths": np.array([length, 12])})
    motions, (failure,) = load_motions(tmp_path / "results.npy")
    assert [m.name for m in motions] == ["sample01_rep00"]
    says(failure.message, f"sample00_rep00: .*{words}.*Found: `motion` .2, 22, 3, 12.")


def test_a_long_clip_may_not_be_longer_still(tmp_path):
    motion = person(300).transpose(1, 2, 0)
    np.save(tmp_path / "clip.npy", {"motion": motion, "length": 301})
    says(refusal(tmp_path / "clip.npy"), "length is 301, but the array has 300 frames")


def test_texts_that_do_not_belong_are_left_out(tmp_path, caplog):
    np.save(tmp_path / "results.npy", results() | {"text": ["one"]})
    motions, failures = load_motions(tmp_path / "results.npy")
    assert [m.text for m in motions] == [""] * 6 and not failures
    assert "`text` does not hold one text a clip" in caplog.text


# Statistics ---------------------------------------------------------------------------------------------------------


def normalised(folder: Path) -> Path:
    mean, std = statistics()
    np.save(folder / "walk.npy", (features() - mean) / std)
    return folder / "walk.npy"


def test_normalised_features_without_statistics(tmp_path):
    says(refusal(normalised(tmp_path)), r"normalised.*--stats DIR.*Mean.npy and Std.npy.*Found: array \(12, 263\)")


def refused_statistics(tmp_path: Path, **arrays: np.ndarray) -> str:
    folder = tmp_path / "stats"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    with pytest.raises(InputError) as error:
        load_motions(normalised(tmp_path), stats=folder)
    return str(error.value)


def evaluators(std: np.ndarray) -> np.ndarray:
    """The evaluator's std: root and contacts 25 times smaller."""
    return np.concatenate((std[:4] / 25, std[4:259], std[259:] / 25))


def test_the_evaluators_statistics_by_name(tmp_path):
    mean, std = statistics()
    says(refused_statistics(tmp_path, t2m_mean=mean, t2m_std=evaluators(std)), "evaluator.*25 times smaller.*Mean.npy")


def test_the_evaluators_statistics_by_content(tmp_path):
    mean, std = statistics()
    says(refused_statistics(tmp_path, Mean=mean, Std=evaluators(std)), "evaluator.*25 times smaller.*Mean.npy")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"Mean": np.zeros((22, 3))}, r"Mean.npy: expected 263 numbers.*found \(22, 3\) float64"),
        ({"Std": np.zeros(263)}, "every Std above 0"),
        ({"Mean": np.zeros(251)}, "Mean.npy has 251 numbers, Std.npy 263"),
        ({"Mean": np.full(263, np.nan)}, "NaN"),
    ],
)
def test_statistics_that_are_none(tmp_path, change, words):
    mean, std = statistics()
    says(refused_statistics(tmp_path, **({"Mean": mean, "Std": std} | change)), words)


def test_features_are_never_z_up(tmp_path):
    np.save(tmp_path / "walk.npy", features())
    says(refusal(tmp_path / "walk.npy", up="z"), "y up by definition")


# Real files that are no motion --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, words",
    [
        ("mocap_cmu/12_01_walk.bvh", "BVH"),
        ("smpl_params/aist_gBR_sBM_cAll_d04_mBR0_ch01.pkl", "SMPL parameters"),
        ("generated/mdm_smpl_fit/motion_input.npz", "SMPL parameters"),
        ("generated/omnicontrol_theta/video5.npy", "SMPL parameters"),
        ("generated/mdm_norm263/gen263D.npy", "--stats"),
        ("smpl_joints45/smpl_keypoints.npy", r"45 joints.*\[:, :24\]"),
        ("smpl_joints45/left_foot_contact.npy", "contacts"),
        ("humanml3d/stats/t2m_std.npy", "statistics"),
        ("humanml3d/captions.csv", "text file"),
    ],
)
def test_real_files_that_are_no_motion(reference, path, words):
    says(refusal(reference / "data" / path), words)


def test_the_real_z_up_clip(reference, tmp_path):
    joints = np.load(reference / "data" / "smpl_joints45" / "smpl_keypoints.npy")[:, :24]
    np.save(tmp_path / "walk.npy", joints)
    says(refusal(tmp_path / "walk.npy"), "--up z")
    motions, failures = load_motions(tmp_path / "walk.npy", up="z")
    assert not failures and motions[0].skeleton.name == "smpl"


def test_the_published_evaluator_statistics(reference, tmp_path):
    stats = reference / "data" / "humanml3d" / "stats"
    published = {"Mean": np.load(stats / "t2m_mean.npy"), "Std": np.load(stats / "t2m_std.npy")}
    says(refused_statistics(tmp_path, **published), "evaluator")
