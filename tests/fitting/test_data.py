"""Motion files in: every accepted form gives the same person; names, folders, selection and batches."""

import pickle

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from fitting.data import Motion, MotionData, collate, group, load_motions
from fitting.export.smpl_params import write_smpl_params
from models.errors import InputError
from models.mdm.features import features_to_joints
from models.rotations import axis_angle_to_matrix, matrix_to_rot6d
from tests.fits import smooth_fit
from tests.person import features, person, results, statistics


def load(source, **arguments) -> list[Motion]:
    motions, failures = load_motions(source, **arguments)
    assert not failures, failures
    return motions


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, content)
    return path


FORMS = {
    "frames first": lambda joints: joints,
    "one clip": lambda joints: joints[None],
    "frames last": lambda joints: joints.transpose(1, 2, 0)[None],
    "frames last, no clip axis": lambda joints: joints.transpose(1, 2, 0),
    "float64": lambda joints: joints.astype(np.float64),
    "float16": lambda joints: joints.astype(np.float16),
    "big endian": lambda joints: joints.astype(">f4"),
    "fortran order": lambda joints: np.asfortranarray(joints),
    "dict": lambda joints: {"motion": joints.transpose(1, 2, 0), "length": 12, "text": "walks"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_joints(tmp_path, form):
    (motion,) = load(save(tmp_path / "walk.npy", FORMS[form](person())))
    assert motion.joints.dtype == np.float32 and motion.joints.dtype.isnative and motion.joints.flags.c_contiguous
    np.testing.assert_allclose(motion.joints, person(), atol=2e-3 if form == "float16" else 1e-6)
    assert (motion.name, motion.folder, motion.fps, motion.skeleton.name, motion.length) == (
        "walk",
        "",
        20,
        "humanml3d",
        12,
    )


def test_a_list_of_clips(tmp_path):
    content = np.empty(2, dtype=object)
    content[:] = [person(), person(5)]
    motions = load(save(tmp_path / "walks.npy", content))
    assert [(m.name, m.length) for m in motions] == [("walks_sample00", 12), ("walks_sample01", 5)]


def test_one_frame_is_no_error(tmp_path):
    assert load(save(tmp_path / "still.npy", person(1)))[0].joints.shape == (1, 22, 3)


def test_frames_as_many_as_joints(tmp_path):
    for frames in (3, 21, 22, 24, 25):
        for form in ("frames first", "one clip", "frames last"):
            (motion,) = load(save(tmp_path / "walk.npy", FORMS[form](person(frames))))
            np.testing.assert_allclose(motion.joints, person(frames), atol=1e-6)


@pytest.mark.parametrize("count, name, used", [(22, "humanml3d", 22), (24, "smpl", 24), (52, "smplh", 22)])
def test_skeletons(tmp_path, count, name, used):
    for skeleton in (None, name):
        (motion,) = load(save(tmp_path / "walk.npy", person(joints=count)), skeleton=skeleton)
        assert motion.skeleton.name == name
        np.testing.assert_allclose(motion.joints[:, :used], person(joints=count)[:, :used], atol=1e-6)


def test_npz_takes_what_a_fit_was_given(tmp_path):
    np.savez(
        tmp_path / "fit.npz", poses=np.zeros((12, 72)), joints=0 * person(), joints_input=person(), mocap_frame_rate=30
    )
    np.savez(tmp_path / "plain.npz", joints=person(), names=np.array(["a", None], dtype=object))
    assert load(tmp_path / "fit.npz")[0].fps == 30
    assert load(tmp_path / "fit.npz", fps=25)[0].fps == 25
    for name in ("fit", "plain"):
        np.testing.assert_allclose(load(tmp_path / f"{name}.npz")[0].joints, person(), atol=1e-6)


def test_pickle_of_a_dict(tmp_path):
    (tmp_path / "walk.pkl").write_bytes(pickle.dumps(results()))
    assert len(load(tmp_path / "walk.pkl")) == 6


def test_z_up_is_turned(tmp_path):
    x, y, z = person().T
    path = save(tmp_path / "walk.npy", np.stack((x, -z, y)).T)
    np.testing.assert_allclose(load(path, up="z")[0].joints, person(), atol=1e-6)


def test_head_down_is_fitted_with_a_warning(tmp_path, caplog):
    path = save(tmp_path / "walk.npy", person() * np.float32([1, -1, -1]))
    assert load(path)[0].length == 12
    assert "Head down" in caplog.text and "--up=-y" in caplog.text
    assert "Head down" not in "".join(load(path, up="-y")[0].notes)


def test_lying_along_z_is_not_taken_for_z_up(tmp_path):
    x, y, z = (person(1) - person(1)[:, :1]).T
    lying = np.stack((x, -z, y)).T
    lying[..., 1] -= lying[..., 1].min()
    assert load(save(tmp_path / "sleep.npy", lying))[0].length == 1


# MDM's results.npy


def test_results_of_mdm(tmp_path):
    motions = load(save(tmp_path / "results.npy", results()))
    assert [m.name for m in motions] == [f"sample{s:02d}_rep{r:02d}" for r in range(2) for s in range(3)]
    assert [(m.sample, m.repetition) for m in motions] == [(s, r) for r in range(2) for s in range(3)]
    assert [m.text for m in motions] == [f"clip {i}" for i in range(6)]
    assert [m.length for m in motions] == [12, 11, 10, 9, 8, 7]
    for i, motion in enumerate(motions):
        np.testing.assert_allclose(motion.joints, person()[: 12 - i] + np.float32([i, 0, 0]), atol=1e-6)


@pytest.mark.parametrize("film, clip", [("sample01_rep00.mp4", 1), ("sample02_rep01.mp4", 5), ("row00_col01.mp4", 3)])
def test_the_name_of_a_film_stands_for_its_clip(tmp_path, film, clip):
    save(tmp_path / "results.npy", results())
    (motion,) = load(tmp_path / film)
    assert (motion.text, motion.name) == (f"clip {clip}", f"sample{clip % 3:02d}_rep{clip // 3:02d}")


def test_films_of_one_file_share_a_folder(tmp_path):
    save(tmp_path / "results.npy", results())
    motions = load([tmp_path / "sample01_rep00.mp4", tmp_path / "sample00_rep00.mp4", tmp_path / "results.npy"])
    assert len(motions) == len({m.name for m in motions}) == 6 and {m.folder for m in motions} == {""}


def test_samples_are_chosen_with_all_their_repetitions(tmp_path):
    save(tmp_path / "in" / "results.npy", results())
    save(tmp_path / "in" / "walk.npy", person())
    motions = load(tmp_path / "in", samples=(0, 2))
    assert [m.text for m in motions] == ["clip 0", "clip 2", "clip 3", "clip 5", ""]


def test_prompts_of_one_clip_are_joined(tmp_path):
    content = results(1, 2) | {"text": [["a person walks", "sits"], ["runs", "stands"]]}
    assert [m.text for m in load(save(tmp_path / "results.npy", content))] == ["a person walks#sits", "runs#stands"]


def test_lengths_up_to_196_are_cut_with_a_warning(tmp_path, caplog):
    content = results(1, 2) | {"lengths": np.array([120, 12])}
    assert [m.length for m in load(save(tmp_path / "results.npy", content))] == [12, 12]
    assert "results.npy sample00_rep00: its length is 120, but the array has 12 frames" in caplog.text
    assert "sample01" not in caplog.text


def test_without_lengths_all_frames_count(tmp_path):
    content = {"motion": results()["motion"]}
    motions = load(save(tmp_path / "results.npy", content))
    assert [m.name for m in motions] == [f"sample{s:02d}_rep00" for s in range(6)]
    assert {(m.length, m.text) for m in motions} == {(12, "")}


# rotations


def rotation_clip(frames: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """motion (25, 6, frames) and the thetas and root in it."""
    random = np.random.default_rng(0)
    thetas, root = random.normal(0, 0.5, (frames, 24, 3)), random.normal(0, 1, (frames, 3))
    rot6d = matrix_to_rot6d(axis_angle_to_matrix(torch.from_numpy(thetas))).numpy()
    last = np.concatenate((root, np.zeros((frames, 3))), 1)[:, None]
    return np.concatenate((rot6d, last), 1).transpose(1, 2, 0).astype(np.float32), thetas, root


def test_rotations_need_no_fit(tmp_path):
    motion, thetas, root = rotation_clip()
    about = {"length": np.int64(5), "text": "turns", "betas": np.arange(10), "body": "mh_neutral"}
    (found,) = load(save(tmp_path / "a_smpl_params.npy", {"motion": motion} | about))
    assert (found.joints, found.text, found.body) == (None, "turns", "mh_neutral")
    np.testing.assert_allclose(found.thetas, thetas, atol=1e-5)
    np.testing.assert_allclose(found.root, root, atol=1e-6)
    assert found.betas.tolist() == list(range(10))
    many = load(save(tmp_path / "clip_rot.npy", np.stack((motion, motion))))
    assert [m.name for m in many] == ["clip_rot_sample00", "clip_rot_sample01"]
    np.testing.assert_array_equal(many[1].thetas, found.thetas)


def test_what_a_fit_writes_comes_back(tmp_path):
    result = smooth_fit()
    write_smpl_params(result, tmp_path / "turn_smpl_params.npy")
    (motion,) = load(tmp_path / "turn_smpl_params.npy")
    rotations = [axis_angle_to_matrix(torch.as_tensor(thetas)) for thetas in (motion.thetas, result.thetas)]
    torch.testing.assert_close(*rotations, atol=1e-5, rtol=0)
    np.testing.assert_allclose(motion.root, result.joints()[:, 0].numpy(), atol=1e-6)
    np.testing.assert_allclose(motion.betas, result.betas.numpy(), atol=1e-6)
    assert (motion.text, motion.fps, motion.body) == (result.motion.text, result.fps, result.body.name)


def test_rotations_with_z_up_turn_root_and_path(tmp_path):
    motion, _, root = rotation_clip()
    path = save(tmp_path / "clip.npy", motion)
    (straight,), (turned,) = load(path), load(path, up="z")
    np.testing.assert_allclose(turned.root, root[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    np.testing.assert_array_equal(turned.thetas[:, 1:], straight.thetas[:, 1:])
    before, after = (axis_angle_to_matrix(torch.from_numpy(m.thetas[:, 0])).numpy() for m in (straight, turned))
    np.testing.assert_allclose(after, before[:, [0, 2, 1]] * np.array([1, 1, -1])[:, None], atol=1e-5)


# features


@pytest.fixture
def stats(tmp_path):
    mean, std = statistics()
    save(tmp_path / "stats" / "Mean.npy", mean)
    save(tmp_path / "stats" / "Std.npy", std)
    return tmp_path / "stats"


def test_features_become_joints(tmp_path):
    expected = features_to_joints(torch.from_numpy(features())).numpy()
    np.testing.assert_allclose(load(save(tmp_path / "walk.npy", features()))[0].joints, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["rows", "clips of rows", "channels first", "dict", "clips"])
def test_normalised_features_take_the_statistics(tmp_path, stats, form):
    mean, std = statistics()
    rows = (features() - mean) / std
    forms = {
        "rows": rows,
        "clips of rows": rows[None],
        "channels first": rows.T[:, None],
        "dict": {"motion": rows.T[:, None], "length": 12, "fps": 20},
        "clips": rows.T[None, :, None],
    }
    (motion,) = load(save(tmp_path / "walk.npy", forms[form]), stats=stats)
    np.testing.assert_allclose(motion.joints, features_to_joints(torch.from_numpy(features())).numpy(), atol=1e-4)


def test_statistics_are_not_applied_to_plain_features(tmp_path, stats, caplog):
    (motion,) = load(save(tmp_path / "walk.npy", features()), stats=stats)
    np.testing.assert_allclose(motion.joints, features_to_joints(torch.from_numpy(features())).numpy(), atol=1e-6)
    assert "not normalised" in caplog.text


# sources, names and folders


def places(motions: list[Motion]) -> list[str]:
    return [f"{m.folder}/{m.name}" for m in motions]


def test_a_folder_keeps_its_tree(tmp_path):
    for name in ("b.npy", "a.npy", "deep/a.npy"):
        save(tmp_path / "in" / name, person())
    save(tmp_path / "in" / "deep" / "results.npy", results(1, 1))
    save(tmp_path / "in" / "Mean.npy", statistics()[0])
    (tmp_path / "in" / "results_len.txt").write_text("12\n")
    assert places(load(tmp_path / "in")) == ["/a", "/b", "deep/a", "deep/sample00_rep00"]
    assert places(load(str(tmp_path / "in" / "**" / "a.npy"))) == ["/a", "deep/a"]
    assert places(load([tmp_path / "in", tmp_path / "in" / "b.npy"]))[-2:] == ["in/deep/sample00_rep00", "b/b"]


def test_what_a_fit_wrote_is_left_out_of_a_folder(tmp_path):
    save(tmp_path / "results.npy", results(1, 1))
    save(tmp_path / "sample00_rep00_smpl_params.npy", {"motion": rotation_clip()[0]})
    keys = {"poses": np.zeros((9, 72)), "trans": np.zeros((9, 3)), "joints": person(), "body": "mh_neutral"}
    for name in ("sample00_rep00.npz", "out/alone.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / name, **keys)
    assert places(load(tmp_path)) == ["/sample00_rep00"]
    assert places(load(tmp_path / "out" / "alone.npz")) == ["/alone"]  # named, it is read


def test_the_same_file_under_two_names_is_read_once(tmp_path):
    path = save(tmp_path / "walk.npy", person())
    assert places(load([path, tmp_path / "." / "walk.npy", f"{tmp_path}/x/../walk.npy"])) == ["/walk"]


def test_several_sources_get_a_subfolder_each(tmp_path):
    files = [save(tmp_path / name, person()) for name in ("one/walk.npy", "two/walk.npy", "two/WALK.npy")]
    runs = [save(tmp_path / name / "results.npy", results(1, 1)) for name in ("run", "other/run")]
    motions = load([*files, *runs])
    assert places(motions) == ["walk/walk", "walk_2/walk", "WALK_3/WALK", "run/sample00_rep00", "run_2/sample00_rep00"]
    assert [m.source for m in motions] == list(map(str, [*files, *runs]))


def test_no_clip_gets_the_place_of_another(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.npy", results(1, 2))
    np.savez(tmp_path / "walk.npz", joints=person())
    save(tmp_path / "walk.npy", person())
    motions = load(tmp_path)
    assert len({place.casefold() for place in places(motions)}) == len(motions) == 8


def test_a_bad_file_does_not_stop_the_others(tmp_path):
    for name in ("a", "c"):
        save(tmp_path / f"{name}.npy", person())
    save(tmp_path / "b.npy", 100 * person())
    motions, failures = load_motions(tmp_path)
    assert [m.name for m in motions] == ["a", "c"]
    assert [f.source for f in failures] == [str(tmp_path / "b.npy")]


def test_a_bad_clip_does_not_stop_the_others_of_its_file(tmp_path):
    content = results(1, 3)
    content["motion"][1, 4, 0, 2] = np.inf
    motions, (failure,) = load_motions(save(tmp_path / "results.npy", content))
    assert [m.name for m in motions] == ["sample00_rep00", "sample02_rep00"]
    assert failure.message.startswith("sample01_rep00: Inf in 1 of 11 frames (2, counted from 0)")


# batches


def clips(*lengths: int, joints: int = 22) -> list[Motion]:
    return [Motion(f"clip{i}", joints=person(length, joints), fps=10 + i) for i, length in enumerate(lengths)]


def test_a_batch_is_padded_with_zeros_and_masked():
    motions = clips(3, 5)
    batch = collate(motions)
    assert batch.joints.shape == (2, 5, 22, 3) and batch.joints.dtype == torch.float32
    assert batch.mask.sum(1).tolist() == [3, 5] and batch.mask[0].tolist() == [True] * 3 + [False] * 2
    assert batch.fps.tolist() == [10, 11]
    for i, motion in enumerate(motions):
        np.testing.assert_array_equal(batch.joints[i][batch.mask[i]].numpy(), motion.joints)
    assert not batch.joints[~batch.mask].any()
    last = batch.clips(slice(1, None)).to(torch.device("cpu"))
    assert last.motions == motions[1:] and torch.equal(last.joints, batch.joints[1:])


def test_groups_bound_their_frames_and_lose_nobody():
    random = np.random.default_rng(0)
    motions = clips(*random.integers(1, 60, 40)) + clips(30, 31, joints=24)
    groups = group(motions, 100)
    assert sorted(id(m) for part in groups for m in part) == sorted(map(id, motions))
    for part in groups:
        longest = max(m.length for m in part)
        assert len(part) * longest <= 100
        assert longest <= 2 * min(m.length for m in part)
        assert len({m.joints.shape[1] for m in part}) == 1
    assert [[m.length for m in part] for part in group(clips(300, 90, 4), 100)] == [[300], [90], [4]]


class Lengths(LightningModule):
    def predict_step(self, batch, index):
        return [(motion.name, int(valid.sum())) for motion, valid in zip(batch.motions, batch.mask, strict=True)]


def test_lightning_predicts_over_everything(tmp_path):
    save(tmp_path / "results.npy", results())
    save(tmp_path / "turn_rot.npy", rotation_clip()[0])
    save(tmp_path / "bad.npy", np.zeros((4, 22, 3)))
    data = MotionData([str(tmp_path)], frames_per_batch=24)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    found = [pair for batch in Trainer(accelerator="cpu", **quiet).predict(Lengths(), data) for pair in batch]
    assert sorted(found) == sorted((m.name, m.length) for m in data.motions) and len(found) == 7
    assert [failure.source for failure in data.failures] == [str(tmp_path / "bad.npy")]


# arguments that no file could satisfy


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"skeleton": "cow"}, "'cow' is unknown; known: humanml3d, smpl"),
        ({"skeleton": "cow.yaml"}, "cow.yaml: cannot be read"),
        ({"up": "w"}, "up 'w'.*one of y, z, x, -y"),
        ({"fps": 0}, "fps 0"),
        ({"fps": 48000}, "fps 48000.*up to 1000 .*20"),
        ({"fps": float("nan")}, "fps nan"),
        ({"stats": "nowhere"}, "nowhere.*no such folder.*Mean.npy and Std.npy"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        load_motions(save(tmp_path / "walk.npy", person()), **arguments)


def test_no_source():
    with pytest.raises(InputError, match="no source"):
        load_motions([])


# real files


def test_real_files_load(reference):
    data = reference / "data"
    motions = load([data / "generated" / name for name in ("mdm_toolbox", "mdm_arms_crossed", "sato", "mdm_dance263")])
    assert [m.length for m in motions] == [60] * 3 + [120] * 3 + [120, 96] + [196] * 8
    assert motions[0].text == "the person walked forward and is picking up his toolbox."
    assert len(load(data / "mocap_bandai")) == 344


def test_normalised_output_of_mdm(reference):
    stats = reference / "data" / "humanml3d" / "stats"
    (motion,) = load(reference / "data" / "generated" / "mdm_norm263" / "gen263D.npy", stats=stats)
    assert (motion.length, motion.text) == (120, "The person happily stretches his arms outward.")
    assert -0.1 < motion.joints[..., 1].min() < 0.1 and 1.3 < motion.joints[..., 1].max() < 2.2


def test_clip_012314_is_the_same_by_features_and_joints(reference):
    clip = reference / "data" / "humanml3d" / "012314"
    by_features, by_joints = load([clip / "new_joint_vecs.npy", clip / "new_joints.npy"])
    np.testing.assert_allclose(by_features.joints, by_joints.joints, atol=1e-6)
