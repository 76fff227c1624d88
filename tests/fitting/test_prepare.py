"""`thetafit prepare`: one motion from three kinds of files, cuts, splits, captions, and what cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fitting.captions import caption, caption_of_name, lines, read_captions, within
from fitting.cli import main
from fitting.prepare import cuts, split
from models.body import BodyModel
from models.bvh import POSITIONS, Bvh, write_bvh
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.mdm.clips import parse_captions
from models.mdm.data import TextMotionData
from models.mdm.feature_skeleton import FEATURE_SKELETONS
from models.mdm.features import canonicalize, features_to_joints, joints_to_features, rescale_bones
from models.mdm.normalization import Statistics
from models.rotations import axis_angle_to_matrix
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS

TURN = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up to z up: (x, y, z) -> (x, -z, y)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def walk() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """thetas (L, 24, 3), transl (L, 3) and joints (L, 22, 3) of the keyed walk on the body of mean shape, 20 fps."""
    motion, body = walk_and_pick_up(), BodyModel.load()
    return motion.thetas, motion.transl, body.joints(torch.zeros(10), motion.thetas, motion.transl)[:, :22]


def write_walk(path: Path, walk, turn: np.ndarray | None = None, **more) -> Path:
    """The walk as joints (.npy), SMPL parameters (.npz) or BVH."""
    thetas, transl, joints = walk
    if path.suffix == ".npy":
        np.save(path, joints.numpy())
    elif path.suffix == ".npz":
        poses, places = thetas.numpy().copy(), transl.numpy()
        if turn is not None:
            pelvis = BodyModel.load().rest_template[0].numpy()
            poses[:, 0] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
            places = (places + pelvis) @ turn.T - pelvis
        np.savez(path, poses=poses.reshape(len(poses), 72), trans=places, **({"mocap_framerate": 20} | more))
    else:
        rest = BodyModel.load().rest_template.numpy()
        offsets = 100 * np.array([rest[j] - rest[p] if p >= 0 else rest[j] for j, p in enumerate(SMPL_PARENTS)])
        turns = ("Zrotation", "Xrotation", "Yrotation")
        channels = ((*POSITIONS, *turns),) + (turns,) * 23
        rotations = axis_angle_to_matrix(thetas.double()).numpy()
        write_bvh(path, Bvh(SMPL_JOINTS, SMPL_PARENTS, offsets, channels, rotations, 100 * joints[:, 0].numpy(), 20))
    return path


def features(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(folder / "new_joint_vecs" / f"{name}.npy"))


def test_joints_parameters_and_bvh_of_one_motion_agree(tmp_path, walk, capsys):
    files = [write_walk(tmp_path / name, walk) for name in ("joints.npy", "smpl.npz", "mocap.bvh")]
    assert main(["prepare", *map(str, files), "--out", str(tmp_path / "set")]) == 0
    assert "3 clips of 3 recordings (1 train, 1 val, 1 test)" in capsys.readouterr().out
    expected = joints_to_features(walk[2].double()).float()
    for name in ("joints", "smpl", "mocap"):
        found = features(tmp_path / "set", name)
        torch.testing.assert_close(found[:, :-4], expected[:, :-4], atol=2e-4, rtol=0)
        joints = np.load(tmp_path / "set" / "new_joints" / f"{name}.npy")
        np.testing.assert_allclose(joints, features_to_joints(found).numpy(), atol=1e-6)


def test_z_up_and_another_frame_rate(tmp_path, walk):
    write_walk(tmp_path / "amass.npz", walk, turn=TURN)
    twice = tuple(values.repeat_interleave(2, 0) for values in walk)  # each frame stands for two at 40 a second
    write_walk(tmp_path / "fast.npz", twice, mocap_framerate=40)
    assert main(["prepare", str(tmp_path / "amass.npz"), "--up", "z", "--out", str(tmp_path / "z")]) == 0
    assert main(["prepare", str(tmp_path / "fast.npz"), "--out", str(tmp_path / "fast")]) == 0
    expected = joints_to_features(walk[2].double()).float()
    for folder, name in (("z", "amass"), ("fast", "fast")):
        torch.testing.assert_close(features(tmp_path / folder, name)[:, :-4], expected[:, :-4], atol=2e-4, rtol=0)


def test_what_it_makes_is_what_training_reads(tmp_path, walk):
    still = walk[2][-1:].expand(300, -1, -1)
    np.save(tmp_path / "long walk.npy", torch.cat((walk[2], still)).numpy())
    for i in range(4):
        write_walk(tmp_path / f"walk{i}.npy", walk)
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "set")]) == 0
    data = TextMotionData(str(tmp_path / "set"), batch_size=2)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert {crops.entries[0].captions[0].text for crops in data.crops.values()} <= {"walk", "long walk"}
    clips = {entry.clip for crops in data.crops.values() for entry in crops.entries}
    assert clips == {"walk0", "walk1", "walk2", "walk3", "long_walk_00", "long_walk_01", "long_walk_02"}
    crops = data.crops["train"]
    rows = torch.cat([features(tmp_path / "set", entry.clip) for entry in crops.entries])
    normal = crops.statistics.normalize(rows)
    assert normal.mean(0).abs().max() < 1e-3
    for part in (slice(0, 1), slice(4, 67), slice(67, 193), slice(193, 259)):
        assert normal[:, part].std(0).mean() == pytest.approx(1, abs=0.02)


def test_statistics_are_those_of_numpy_and_none_is_tiny():
    generator = np.random.default_rng(0)
    rows = generator.normal(generator.normal(size=263), generator.uniform(0.5, 2, 263), (500, 263))
    rows[:, 259:] = 1
    rows[:, 3] = 0.9
    found = Statistics.of(torch.from_numpy(part) for part in np.split(rows, [40, 300]))
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-6)
    std, bounds = rows.std(0), [0, 1, 3, 4, 67, 193, 259, 263]
    expected = [[np.mean(std[a:b])] * (b - a) for a, b in zip(bounds, bounds[1:], strict=False)]
    expected[2], expected[6] = [0.001], [0.1] * 4
    np.testing.assert_allclose(found.std, np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("frames", [41, 199, 200, 201, 399, 400, 1901])
def test_cuts_cover_everything_with_pieces_that_training_takes(frames):
    pieces = cuts(frames)
    assert pieces[0][0] == 0 and pieces[-1][1] == frames
    assert all(last - 1 == first for (_, last), (first, _) in zip(pieces, pieces[1:], strict=False))
    assert all(40 <= last - first - 1 < 200 for first, last in pieces)


def test_splits_keep_a_recording_together():
    pieces = {f"r{i}": [f"r{i}_{k}" for k in range(3)] for i in range(40)}
    splits = split(pieces)
    assert [len(splits[name]) // 3 for name in ("train", "val", "test")] == [32, 2, 6]
    owners = [{clip.split("_")[0] for clip in clips} for clips in splits.values()]
    assert len(set.union(*owners)) == sum(map(len, owners)) == 40
    assert split(dict(reversed(pieces.items()))) == splits
    assert split({"a": ["a"], "b": ["b"]}) == {name: ["a", "b"] for name in ("train", "val", "test")}


def test_captions_of_a_table(tmp_path):
    table = tmp_path / "texts.csv"
    table.write_text('Clip,caption,start,end\nwalk.npy,"a man, tired, walks #1",,\nwalk,he stops,1.5,4\nrun,runs,,\n')
    found = read_captions(table)
    assert [(c.text, c.start, c.end) for c in found["walk"]] == [("a man, tired, walks 1", 0, 0), ("he stops", 1.5, 4)]
    assert found["walk"][0].tokens == ("a/OTHER", "man/OTHER", "tired/OTHER", "walks/OTHER")
    again, problems = parse_captions(lines(found["walk"]))
    assert again == found["walk"] and not problems
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "walk.txt").write_text(lines(found["walk"]))
    assert read_captions(tmp_path / "texts") == {"walk": found["walk"]}


@pytest.mark.parametrize(
    "content, said",
    [
        ("name;caption\n", "columns clip and caption.*found name;caption"),
        ("", "found nothing"),
        ("clip,caption,start,end\na,walks,5,2\n", "line 2: start '5' and end '2'"),
        ("clip,caption,start,end\na,walks,soon,2\n", "line 2: start 'soon'"),
        ("clip,caption\na,walks\nb,\n", "line 3: the caption is empty"),
    ],
)
def test_tables_that_are_none_are_named_with_their_line(tmp_path, content, said):
    (tmp_path / "texts.csv").write_text(content)
    with pytest.raises(InputError, match=f"texts.csv.*{said}"):
        read_captions(tmp_path / "texts.csv")


def test_captions_follow_a_cut():
    said = [caption("all"), caption("early", 0, 5), caption("late", 8, 12), caption("touching", 4, 11)]
    found = [(c.text, c.start, c.end) for c in within(said, 9.5, 19, shortest=2)]
    assert found == [("all", 0, 0), ("late", 0, 2.5)]


def test_names_speak_where_nothing_else_does():
    assert caption_of_name("walkForward_angry-02").text == "walk forward angry"
    assert caption_of_name("0017").text == "0017"


def test_what_cannot_be_used_is_named_and_the_rest_is_made(tmp_path, walk, capsys):
    write_walk(tmp_path / "good.npy", walk)
    np.save(tmp_path / "short.npy", walk[2][:20].numpy())
    write_walk(tmp_path / "silent.npz", walk)
    np.savez(tmp_path / "silent.npz", poses=np.zeros((90, 72)), trans=np.zeros((90, 3)))
    np.savez(tmp_path / "nan.npz", poses=np.full((90, 72), np.nan), trans=np.zeros((90, 3)), fps=20)
    np.savez(tmp_path / "few.npz", poses=np.zeros((90, 72)), trans=np.zeros((80, 3)), fps=20)
    np.savez(tmp_path / "odd.npz", poses=np.zeros((90, 72)), trans=np.zeros((90, 3)), fps=np.nan)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "few.npz").read_bytes()[:-9] + bytes(9))
    write_walk(tmp_path / "lying.npz", walk, turn=TURN)
    (tmp_path / "broken.bvh").write_text("HIERARCHY\nROOT a\n")
    pair = np.stack([walk[2].numpy()] * 2).transpose(0, 2, 3, 1)
    pair[0, 4] = np.nan
    np.save(tmp_path / "results.npy", {"motion": pair, "text": ["a", "b"], "lengths": [90, 90]}, allow_pickle=True)
    np.save(tmp_path / "kit.npy", np.random.default_rng(0).normal(size=(90, 21, 3)))
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "set")]) == 1
    out = capsys.readouterr().out
    for said in (
        "short.npy: left out. short: too short: 20 frames at 20 a second; training takes 41",
        "silent.npz: left out. no number of frames a second; expected 1 to 1000: give --fps",
        "nan.npz: left out. `poses` has numbers that are not finite, first in frame 0",
        "few.npz: left out. `trans` is (80, 3)",
        "odd.npz: left out. nan frames a second",
        "cut.npz: left out.",
        "lying.npz: left out. the person stands along z with --up y",
        "broken.bvh: left out. no line MOTION",
        "kit.npy: left out.",
        "results.npy: left out. sample00",
        "2 clips of 2 recordings (2 train, 2 val, 2 test)",
        "fewer than three recordings",
    ):
        assert said in out


def test_nothing_is_made_of_nothing_and_nothing_is_overwritten(tmp_path, walk, capsys):
    write_walk(tmp_path / "good.npy", walk)
    (tmp_path / "texts.csv").write_text("clip,caption\nother,walks\n")
    arguments = ["prepare", str(tmp_path / "good.npy"), "--out", str(tmp_path / "set")]
    assert main([*arguments, "--texts", str(tmp_path / "texts.csv")]) == 2
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob(".set*"))
    said = capsys.readouterr()
    assert "no caption for good" in said.out and "no recording could be used" in said.err
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").touch()
    assert main(arguments) == 2 and (tmp_path / "set" / "mine").exists()
    assert "not empty" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path / "none.bvh"), "--out", str(tmp_path / "other")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_motion_capture_becomes_features_of_the_uniform_person(reference, tmp_path):
    data, form = reference / "data", FEATURE_SKELETONS["humanml3d"]
    sources = [str(data / "mocap_bandai" / "bvh"), str(data / "mocap_cmu")]
    assert (
        main(["prepare", *sources, "--texts", str(data / "mocap_bandai" / "texts"), "--out", str(tmp_path / "set")])
        == 1
    )
    joints = torch.from_numpy(np.load(tmp_path / "set" / "new_joints" / "dataset-1_walk_angry_001.npy"))
    lengths = (joints[:, 1:] - joints[:, form.parents[1:]]).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.tensor(form.lengths).expand_as(lengths), atol=1e-5, rtol=0)
    assert joints[..., 1].min().abs() < 0.02 and joints[0, 0, [0, 2]].abs().max() == 0
    assert joints[-1, 0, 2] > 1 and joints[-1, 0, 0].abs() < 1  # it walks the way it faces
    published = np.load(data / "mocap_bandai" / "joints" / "dataset-1_walk_angry_001.npy")[::2]
    expected = canonicalize(rescale_bones(torch.from_numpy(published), form, torch.tensor(form.lengths)), form)
    moved = joints[::2][: len(expected)] - expected[: len(joints[::2])]
    assert moved.abs().max() < 0.01  # the floor is the lowest joint of all frames, here of every other one
