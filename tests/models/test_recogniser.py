"""The judge of motion: padding changes nothing, it names what takes show, what is disturbed still shows the action."""

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.testing import assert_close

from models.body import BodyModel
from models.errors import InputError
from models.keyed_takes import take
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.recogniser import NAMES, Recogniser, labels, named
from models.mdm.recogniser_training import NamedTakes, NamedTakesData, RecogniserTraining, collate, disturbed
from models.mdm.takes import Takes


def features(seed: int, *actions: str) -> torch.Tensor:
    """Features (frames, 263) of a take that nothing was trained on."""
    motion = take(2_000_000 + seed, actions or None).motion
    return joints_to_features(BodyModel.load().joints(motion.betas, motion.thetas, motion.transl)[:, :22])


def small_network() -> Recogniser:
    torch.manual_seed(0)
    return Recogniser(width=8, dilations=(1, 2), embedding=6).eval()


@pytest.mark.parametrize("frames", [4, 7, 30, 41])
@torch.no_grad()
def test_padding_changes_nothing(frames):
    network, clip = small_network(), features(0, "walk")[:frames]
    alone = network.features(clip[None], torch.ones(1, frames) > 0)
    padded = torch.full((1, 60, 263), 7.0)
    padded[0, :frames] = clip
    assert_close(network.features(padded, torch.arange(60)[None] < frames), alone)


@torch.no_grad()
def test_what_is_judged_is_what_joints_are_recovered_from():
    network, clip = small_network(), features(0, "walk")
    mask = torch.ones(1, len(clip) - 1) > 0
    again = joints_to_features(features_to_joints(clip))
    assert_close(network(again[None], mask), network(clip[None, :-1], mask), rtol=0, atol=1e-3)
    other = clip.clone()
    other[:, 67:] = 0
    assert torch.equal(network(other[None, :-1], mask), network(clip[None, :-1], mask))


def test_labels_are_whole_names():
    assert [NAMES[i] for i in labels("walk backward|bow").nonzero()[:, 0]] == ["walk backward", "bow"]
    logits = labels("bow|run") * 2 - 1
    logits[NAMES.index("run")] = 3
    assert named(torch.stack((logits, -labels("walk") - 1 + 1.5 * labels("bow")))) == [("run", "bow"), ("bow",)]


def test_a_disturbed_clip_is_the_same_motion_within_the_bounds():
    clip = features(1, "wave right")
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = disturbed(clip, draws)
        first = next(k for k in range(9) if torch.equal(other[0, 67:], clip[k, 67:]))  # only places are disturbed
        both = len(clip) - first - 8
        assert both <= len(other) <= 196
        moved = (other[:both, :67] - clip[first : first + both, :67]).abs()
        assert 0 < moved[:, 3:].mean() < 0.05 and moved[:, 3:].max() < 0.2 and moved[:, :3].max() < 0.01


def tiny_takes(count: int) -> Takes:
    clips = [features(i, name) for i, name in zip(range(count), 16 * ("raise arms", "squat"), strict=False)]
    actions = np.array(["raise arms", "squat"] * count)[:count]
    return Takes(np.concatenate(clips).astype(np.float16), np.array([len(c) for c in clips]), actions, actions)


class TinyData(NamedTakesData):
    """Two actions."""

    def setup(self, stage: str | None = None) -> None:
        self.train, self.val = NamedTakes(tiny_takes(16), disturb=True), NamedTakes(tiny_takes(8), disturb=False)


def test_training_learns_writes_and_reads_back(tmp_path):
    data, path = TinyData(16, 8, batch_size=8), tmp_path / "recogniser.npz"
    module = RecogniserTraining(warmup=5)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_epochs=12, enable_model_summary=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, data)
    assert trainer.callback_metrics["val/exact"] == 1
    network, (motion, mask, wanted) = Recogniser.load(path), collate([data.val[0, i, 30] for i in range(8)])
    module.eval()
    with torch.no_grad():
        assert_close(network(motion, mask), module.network(motion, mask), rtol=0, atol=0.05)
    assert [name for (name,) in named(network(motion, mask))] == ["raise arms", "squat"] * 4
    assert torch.equal(wanted[0], labels("raise arms"))


def test_how_a_take_is_disturbed_follows_from_seed_and_epoch():
    takes = tiny_takes(2)
    one, same, later = (NamedTakes(takes, True, seed=3)[epoch, 1, 40][0] for epoch in (0, 0, 1))
    assert torch.equal(one, same) and (one.shape != later.shape or not torch.equal(one, later))


def test_a_file_that_is_no_recogniser_says_how_to_make_one(tmp_path):
    np.savez(tmp_path / "other.npz", names=np.array(NAMES))
    Recogniser().save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:100_000])
    for name in ("other.npz", "absent.npz", "cut.npz"):
        with pytest.raises(InputError, match="recogniser.yaml"):
            Recogniser.load(tmp_path / name)


@torch.no_grad()
def test_the_one_that_comes_along_names_new_takes():
    network, right = Recogniser.load(), 0
    for seed in range(60):
        made = take(2_000_000 + seed)
        clip = features(seed)
        right += set(named(network(clip[None], torch.ones(1, len(clip)) > 0))[0]) == set(made.actions)
    assert right >= 58
