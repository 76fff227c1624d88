"""`thetafit generate` with random weights in the reference's format: files, seeds, batches, prefixes, bad input."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from fitting.cli import main
from fitting.data import load_motions
from fitting.generate import Progress, find_statistics
from fitting.mesh_objective import MeshLosses
from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, load_checkpoint, save_checkpoint
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.generate import Generator, sample_seeds
from models.mdm.normalization import Statistics
from models.mdm.sampling import ancestral, guided, seeded_noise
from models.mdm.text import TextEmbedding, text_encoder
from models.safe_pickle import load_npy
from tests.clip import save_archive
from tests.runs import keyed_joints, report

TINY = {"latent_dim": 16, "ff_size": 32, "layers": 2, "heads": 2, "diffusion_steps": 50}
DIP = {"arch": "trans_dec", "context_len": 20, "pred_len": 8, "diffusion_steps": 10}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return save_archive(tmp_path_factory.mktemp("clip") / "ViT-B-32.pt")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def checkpoint(folder: Path, size: float = 1.0, **options) -> Path:
    """Random weights, args.json, and below the same tree the statistics of the keyed walk, as in MDM's repository.

    size: of the last layer's weights; when small, what is made stays near the mean pose and has a person's bones.
    """
    torch.manual_seed(0)
    options = TINY | options
    network = Denoiser(config_of(DEFAULTS | OURS | options))
    for parameter in network.output_process.parameters():
        parameter.data *= size
    path, data = folder / "save" / "run" / "model000000050.pt", folder / "dataset" / "HumanML3D"
    for place in (path.parent, data):
        place.mkdir(parents=True)
    save_checkpoint(path, network, options)
    Statistics.of([joints_to_features(torch.from_numpy(keyed_joints(120)).double())]).save(data)
    return path


def kit_joints(joints: np.ndarray) -> np.ndarray:
    """(frames, 22, 3) in SMPL's order to KIT's 21 joints, each the nearest of those."""
    order = (0, 3, 9, 12, 15, 17, 19, 21, 16, 18, 20, 2, 5, 8, 8, 11, 1, 4, 7, 7, 10)
    moved = joints[:, order].astype(np.float64)
    moved[:, [14, 19]] = (joints[:, [8, 7]] + joints[:, [11, 10]]) / 2
    return moved


def generate(*arguments: object) -> int:
    """The exit code of `thetafit generate ARGUMENTS`, half a second a motion, on the CPU."""
    short = () if "--seconds" in arguments else ("--seconds", "0.5")
    return main(["generate", *map(str, arguments), *short, "--device", "cpu"])


def test_sentences_to_files_that_are_mdms_own(tmp_path, clip):
    model, out = checkpoint(tmp_path, size=0.1), tmp_path / "out"
    (tmp_path / "prompts.txt").write_text("a person  jumps\n\n", encoding="utf-8")
    more = ("--prompts", tmp_path / "prompts.txt", "--num-repetitions", 2, "--model", model, "--clip", clip)
    assert generate("a person walks", *more, "--out", out) == 0
    content = load_npy(out / "results.npy")
    assert content["motion"].shape == (4, 22, 3, 10) and content["motion"].dtype == np.float32
    assert content["text"] == ["a person walks", "a person jumps"] * 2
    assert content["lengths"].tolist() == [10] * 4 and content["lengths"].dtype == np.int64
    assert (content["num_samples"], content["num_repetitions"]) == (2, 2)
    assert (out / "results.txt").read_text() == "\n".join(content["text"])
    assert (out / "results_len.txt").read_text() == "10\n10\n10\n10"
    motions, failures = load_motions(out / "results.npy")
    assert not failures
    names = ["sample00_rep00", "sample01_rep00", "sample00_rep01", "sample01_rep01"]
    assert [motion.name for motion in motions] == names
    for i, motion in enumerate(motions):
        np.testing.assert_array_equal(motion.joints, content["motion"][i].transpose(2, 0, 1))
        with av.open(str(out / f"{names[i]}.mp4")) as film:
            frames, rate = list(film.decode(video=0)), film.streams.video[0].average_rate
        assert len(frames) == 10 and rate == 20
        picture = frames[5].to_ndarray(format="rgb24").astype(int)
        orange = (picture[..., 0] - picture[..., 2] > 60).mean()
        assert 0.005 < orange < 0.2
    distances = [np.abs(a.joints - b.joints).max() for a in motions for b in motions if a is not b]
    assert min(distances) > 1e-3


def test_the_joints_are_those_of_the_features_that_the_network_made(tmp_path, clip):
    """Once with the parts named one by one: noise, guided ancestral sampling, statistics, recovery."""

    model, out = checkpoint(tmp_path), tmp_path / "out"
    assert generate("a person walks", "--model", model, "--clip", clip, "--out", out, "--seed", 3) == 0
    loaded, noise = load_checkpoint(model), seeded_noise(sample_seeds(3, 1, 1))
    denoise = guided(loaded.denoiser, Condition(text=text_encoder("clip", clip).encode(["a person walks"]).tensor), 2.5)
    motion = ancestral(denoise, noise(torch.empty(1, 10, 263)), loaded.schedule, noise)
    data = tmp_path / "dataset" / "HumanML3D"
    mean, std = (torch.from_numpy(np.load(data / f"{name}.npy")) for name in ("Mean", "Std"))
    expected = features_to_joints(motion * std + mean)[0].permute(1, 2, 0)
    np.testing.assert_allclose(load_npy(out / "results.npy")["motion"][0], expected, atol=1e-5)


def test_the_same_seed_is_the_same_motion_whatever_runs_beside_it(tmp_path):
    loaded = load_checkpoint(checkpoint(tmp_path))
    text = TextEmbedding(torch.randn(6, 512, generator=torch.Generator().manual_seed(1)))
    many, alone = Generator(loaded), Generator(loaded, steps=8)
    seeds = sample_seeds(10, 6, 1)
    for sample in (many, alone):
        whole = sample(seeds, 10, text)
        assert whole.shape == (6, 10, 263) and torch.equal(whole, sample(seeds, 10, text))
        for i in (0, 5):
            single = sample([seeds[i]], 10, TextEmbedding(text.tensor[i : i + 1]))[0]
            torch.testing.assert_close(whole[i], single, atol=1e-4, rtol=1e-4)
        assert (whole - sample(sample_seeds(11, 6, 1), 10, text)).abs().max() > 0.1
    assert sample_seeds(10, 2, 3)[::2] == [sample_seeds(10, 1, 3)[i] for i in range(3)]
    assert len(set(sample_seeds(10, 50, 20))) == 1000


def test_a_gru_over_the_batch_samples_one_by_one(tmp_path):
    loaded = load_checkpoint(checkpoint(tmp_path, arch="gru"))
    text, seeds = TextEmbedding(torch.randn(3, 512)), sample_seeds(0, 3, 1)
    whole = Generator(loaded, steps=5)(seeds, 10, text)
    single = Generator(loaded, steps=5)(seeds[2:], 10, TextEmbedding(text.tensor[2:]))
    torch.testing.assert_close(whole[2:], single, atol=1e-5, rtol=0)


def test_texts_of_several_tokens_keep_their_padding(tmp_path):
    loaded = load_checkpoint(checkpoint(tmp_path, arch="trans_dec", text_encoder_type="bert"))
    rows = torch.randn(4, 6, 768)
    mask = torch.arange(4) >= torch.tensor([4, 2, 3, 1, 4, 2])[:, None]
    sample, seeds = Generator(loaded, steps=5), sample_seeds(0, 6, 1)
    whole = sample(seeds, 10, TextEmbedding(rows, mask))
    single = sample(seeds[5:], 10, TextEmbedding(rows[:2, 5:], mask[5:, :2]))
    torch.testing.assert_close(whole[5:], single, atol=1e-4, rtol=1e-4)


def test_progress_counts_every_evaluation(tmp_path):
    calls = []
    options = {"steps": 5, "tick": lambda: calls.append(1)}
    sample = Generator(load_checkpoint(checkpoint(tmp_path, **DIP)), **options)
    text = TextEmbedding(torch.randn(6, 512))
    motion = sample(sample_seeds(0, 6, 1), 20, text, torch.randn(20, 263))
    assert motion.shape == (6, 20, 263)
    assert len(calls) == sample.evaluations(6, 20) == 2 * 3 * len(sample.levels)


def test_a_prefix_is_continued(tmp_path, clip, capsys):
    model = checkpoint(tmp_path, **DIP)
    arguments = ("a person walks", "--model", model, "--clip", clip)
    assert generate(*arguments, "--out", tmp_path / "none") == 2
    assert "continues 20 frames of motion (DiP)" in capsys.readouterr().err
    for name, start in (("walk", 0), ("bend", 80)):
        np.save(tmp_path / f"{name}.npy", keyed_joints(30, start))
        assert generate(*arguments, "--prefix", tmp_path / f"{name}.npy", "--out", tmp_path / name) == 0
    walk, bend = (load_npy(tmp_path / name / "results.npy")["motion"] for name in ("walk", "bend"))
    assert walk.shape == (1, 22, 3, 10) and np.abs(walk - bend).max() > 1e-4
    np.save(tmp_path / "short.npy", keyed_joints(10))
    assert generate(*arguments, "--prefix", tmp_path / "short.npy", "--out", tmp_path / "short") == 2
    assert "more than 20 frames" in capsys.readouterr().err


def test_unconstrained(tmp_path, capsys):
    model = checkpoint(tmp_path, unconstrained=True)
    assert generate("walk", "--model", model, "--out", tmp_path / "out") == 2
    assert "takes no prompt" in capsys.readouterr().err
    assert generate("--guidance", 2, "--model", model, "--out", tmp_path / "out") == 2
    assert "trained without dropping its condition" in capsys.readouterr().err
    assert generate("--num-samples", 2, "--model", model, "--out", tmp_path / "out", "--steps", 4) == 0
    content = load_npy(tmp_path / "out" / "results.npy")
    assert content["text"] == ["unconstrained"] * 2 and content["num_samples"] == 2


def test_kit_keeps_its_unit_its_joints_and_its_rate(tmp_path, clip):
    model = checkpoint(tmp_path, size=0.1, dataset="kit")
    walk = kit_joints(keyed_joints(60))
    Statistics.of([joints_to_features(torch.from_numpy(1000 * walk), "kit")]).save(model.parent)
    out = tmp_path / "out"
    assert generate("a person walks", "--model", model, "--clip", clip, "--steps", 4, "--out", out) == 0
    motion = load_npy(out / "results.npy")["motion"]
    assert motion.shape == (1, 21, 3, 6) and 500 < motion[0, 0, 1].mean() < 1200  # millimetres
    (read,), failures = load_motions(out / "results.npy")
    assert not failures and read.skeleton.name == "kit" and read.fps == 12.5
    with av.open(str(out / "sample00_rep00.mp4")) as film:
        assert film.streams.video[0].average_rate == 12.5
    assert Generator(load_checkpoint(model)).frames(15.68) == 196


def test_fitted_at_once(tmp_path, clip):
    model, out = checkpoint(tmp_path, size=0.1), tmp_path / "out"
    arguments = ("a person walks", "--model", model, "--clip", clip, "--steps", 6, "--out", out)
    assert generate(*arguments, "--seconds", "0.2", "--fit") == 0
    (fitted,) = report(out)["clips"]
    assert fitted["name"] == "sample00_rep00" and fitted["text"] == "a person walks" and fitted["frames"] == 4
    for name in ("sample00_rep00.mp4", "sample00_rep00_mesh.mp4", "sample00_rep00.npz", "sample00_rep00.glb"):
        assert (out / name).stat().st_size > 1000


def test_other_results_are_not_overwritten(tmp_path, clip, capsys):
    model, out = checkpoint(tmp_path), tmp_path / "out"
    arguments = ("a person walks", "--model", model, "--clip", clip, "--steps", 4, "--seconds", "0.2", "--out", out)
    (out / "mine").mkdir(parents=True)
    assert generate(*arguments) == 0
    before = (out / "results.npy").read_bytes()
    assert generate(*arguments) == 0 and (out / "results.npy").read_bytes() == before
    assert generate(*arguments, "--seed", 11) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert (out / "results.npy").read_bytes() == before and (out / "mine").is_dir()
    assert json.loads((out / "generate.json").read_text())["prompts"] == ["a person walks"]
    (tmp_path / "file").touch()
    assert generate(*arguments[:-1], tmp_path / "file") == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err


def test_a_long_prompt_is_cut_with_a_warning(tmp_path, clip, caplog):
    arguments = ("--model", checkpoint(tmp_path), "--clip", clip, "--steps", 4, "--seconds", "0.2")
    with caplog.at_level(logging.WARNING):
        assert generate("walks " * 300, *arguments, "--out", tmp_path / "out") == 0
    assert "300 tokens, 20 are read: it is cut after word 20" in caplog.text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["  "], "prompt 1 is empty"),
        ([], "no prompt was given"),
        (["walk", "--seconds", 9.9], "makes 0.05 to 9.8 seconds, 196 frames at 20 a second"),
        (["walk", "--seconds", 0], "0 seconds"),
        (["walk", "--seconds", -1], "-1 seconds"),
        (["walk", "--steps", 1], "takes 2 to 50"),
        (["walk", "--steps", 51], "takes 2 to 50"),
        (["walk", "--num-samples", 0], "--num-samples 0"),
        (["walk", "--seed", -1], "--seed -1"),
        (["walk", "--prefix", "walk.npy"], "makes motion from nothing"),
        (["walk", "--prompts", "none.txt"], "none.txt: cannot be read"),
        (["walk", "--clip", "none"], "none/ViT-B-32.pt"),
        (["walk", "--stats", "none"], "there is no such folder"),
    ],
)
def test_bad_input(tmp_path, arguments, said, capsys):
    model, out = checkpoint(tmp_path), tmp_path / "out"
    assert generate(*arguments, "--model", model, "--out", out) == 2
    assert said in capsys.readouterr().err and not out.exists()


def test_devices_that_are_not_here(tmp_path, capsys):
    model = checkpoint(tmp_path)
    for device, said in (("tpu", "unknown device"), ("cuda:99", "is not here"), ("cpu:", "unknown device")):
        assert main(["generate", "walk", "--model", str(model), "--out", str(tmp_path / "o"), "--device", device]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, said",
    [
        ({"dataset": "humanact12"}, "trained on the actions of humanact12"),
        ({"dataset": "kit"}, "this checkpoint wants 251 (kit)"),
        ({"multi_target_cond": True}, "wants places to reach"),
    ],
)
def test_checkpoints_that_want_something_else(tmp_path, options, said, capsys):
    model = checkpoint(tmp_path, **options)
    stats = tmp_path / "dataset" / "HumanML3D"
    assert generate("walk", "--model", model, "--stats", stats, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err


def test_weights_that_are_no_numbers_write_no_motion(tmp_path, clip, capsys):
    model = checkpoint(tmp_path, size=float("nan"))
    assert generate("walk", "--model", model, "--clip", clip, "--steps", 4, "--out", tmp_path / "out") == 2
    assert "not finite" in capsys.readouterr().err and not (tmp_path / "out" / "results.npy").exists()


def test_the_counter_shows_on_a_terminal_only(capsys, monkeypatch):
    progress = Progress(2)
    progress()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress()
    assert capsys.readouterr().err.endswith("2/2\n")


def test_a_checkpoint_without_its_options_is_refused(tmp_path, capsys):
    model = checkpoint(tmp_path)
    (model.parent / "args.json").unlink()
    assert generate("walk", "--model", model, "--out", tmp_path / "out") == 2
    assert "args.json: missing" in capsys.readouterr().err


def test_statistics_are_searched_and_the_evaluators_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = checkpoint(tmp_path / "mdm")
    right = tmp_path / "mdm" / "dataset" / "HumanML3D"
    assert torch.equal(find_statistics(None, model, "humanml").mean, Statistics.load(right).mean)
    right.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"Searched: .*save/run, .*mdm/dataset/HumanML3D, dataset/HumanML3D\."):
        find_statistics(None, model, "humanml")
    (tmp_path / "dataset").mkdir()
    np.save(tmp_path / "dataset" / "t2m_mean.npy", np.zeros(263))
    np.save(tmp_path / "dataset" / "t2m_std.npy", np.ones(263))
    with pytest.raises(InputError, match="evaluator's statistics"):
        find_statistics(str(tmp_path / "dataset"), model, "humanml")
    statistics = Statistics.load(tmp_path / "elsewhere")
    scale = torch.ones(263)
    scale[:4] = scale[259:] = 1 / 25
    replace(statistics, std=statistics.std.clamp(max=0.05) * scale).save(model.parent)
    with pytest.raises(InputError, match="evaluator's statistics"):
        find_statistics(None, model, "humanml")


def test_the_mesh_guides_the_small_model(tmp_path):
    """Same noise, same motion but for what feet and bones ask for, and each sample alone."""
    for name, more in (("plain", ()), ("guided", ("--mesh-guidance", 0.2, "--mesh-steps", 2))):
        assert generate("a person walks", "--seconds", 1.2, *more, "--out", tmp_path / name) == 0
    plain, guided = (load_npy(tmp_path / name / "results.npy")["motion"][0] for name in ("plain", "guided"))
    assert 0.0005 < np.abs(plain - guided).mean() < 0.02
    losses, mask = MeshLosses({"slip": 1.0, "bones": 1.0}), torch.ones(1, plain.shape[-1], dtype=torch.bool)
    before, after = (losses(torch.from_numpy(x).permute(2, 0, 1)[None], mask, 20.0) for x in (plain, guided))
    assert after["slip"] < before["slip"] and after["bones"] < before["bones"]


def test_the_mesh_guides_only_what_has_22_joints(tmp_path, capsys):
    model = checkpoint(tmp_path, dataset="kit", unconstrained=True)
    Statistics(torch.zeros(251), torch.ones(251)).save(model.parent)
    assert generate("--model", model, "--mesh-guidance", 0.2, "--out", tmp_path / "out") == 2
    assert "22 joints" in capsys.readouterr().err
