"""Training data: the reference loader's entries and crops, broken folders, the index, resuming, two ranks."""

import json
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from models.errors import InputError
from models.mdm.clips import entries, parse_captions, read_clips, read_names, usable
from models.mdm.data import EpochSampler, TextMotion, TextMotionData, collate, crop_length


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ramp(frames: int, width: int = 263) -> np.ndarray:
    """motion[i, j] = i + j / 1000, so that a value tells its frame."""
    return (np.arange(frames)[:, None] + np.arange(width) / 1000).astype(np.float32)


def data_set(folder: Path, clips: dict[str, tuple[int, list[str]]], split: str = "train") -> Path:
    """A folder of ramps: name -> (frames, lines of its text); mean 0, std 1."""
    for name in ("new_joint_vecs", "texts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, (frames, lines) in clips.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", ramp(frames))
        (folder / "texts" / f"{name}.txt").write_text("\n".join(lines))
    (folder / f"{split}.txt").write_text("\n".join(clips))
    np.save(folder / "Mean.npy", np.zeros(263, np.float32))
    np.save(folder / "Std.npy", np.ones(263, np.float32))
    return folder


def line(text: str, start: object = 0.0, end: object = 0.0) -> str:
    return f"{text}#{' '.join(f'{word}/X' for word in text.split())}#{start}#{end}"


WALKS = {f"w{i:02d}": (40 + 5 * i, [line(f"walk {i}"), line(f"go {i}")]) for i in range(12)}


@pytest.fixture
def mini(reference, tmp_path) -> tuple[dict, Path]:
    golden = json.loads((reference / "golden" / "dataset_mini.json").read_text())
    data_set(tmp_path / "mini", {name: (golden["lengths"][name], golden["texts"][name]) for name in golden["lengths"]})
    (tmp_path / "mini" / "train.txt").write_text("\n".join(golden["split_order"]))
    return golden, tmp_path / "mini"


def described(entry) -> dict:
    texts = [{"caption": caption.text, "n_tokens": len(caption.tokens)} for caption in entry.captions]
    sub = any(caption.end for caption in entry.captions)
    drawn = {crop_length(entry.length, np.random.default_rng(seed)) for seed in range(60)}
    lengths = sorted({min(caption["n_tokens"], 20) + 2 for caption in texts})
    found = {"source": entry.clip, "sub_clip": sub, "first_frame": entry.first, "length": entry.length, "texts": texts}
    return found | {"possible_crop_lengths": sorted(drawn), "sent_len": lengths}


def test_entries_of_the_reference_loader(mini, caplog):
    golden, folder = mini
    found = usable(read_clips(folder, read_names(folder, "train")), 263)
    assert "000099 left out: no file in new_joint_vecs/" in caplog.text
    for name, limits in (("t2m", (40, 200)), ("kit", (24, 200))):
        assert [described(entry) for entry in entries(found, limits)] == golden["expected"][name]


def test_all_captions_of_the_reference(mini):
    golden, folder = mini
    found = entries(usable(read_clips(folder, read_names(folder, "train")), 263), (1, 10**6))
    described_here = {(e.clip, any(c.end for c in e.captions), tuple(c.text for c in e.captions)) for e in found}
    expected = {(e["source"], e["sub_clip"], tuple(e["captions"])) for e in golden["expected"]["text_only"]}
    assert described_here == expected


def test_batches_of_the_reference(mini):
    golden = mini[0]["expected"]["collate"]
    caption = parse_captions(line("a walk"))[0][0]
    batch = collate([TextMotion(torch.ones(n, 263), caption, "x") for n in golden["lengths"]])
    assert list(batch.motion.mT[:, :, None].shape) == golden["motion_shape"]
    assert list(batch.mask[:, None, None].shape) == golden["mask_shape"] and batch.mask.dtype == torch.bool
    assert batch.mask.sum(1).tolist() == golden["mask_sums"] and batch.lengths.tolist() == golden["lengths"]
    assert torch.equal(batch.motion[..., 0], batch.mask.float())


def test_crops_are_normalised_stretches_of_their_entry(tmp_path):
    folder = data_set(tmp_path / "set", {"a": (100, [line("turn", 1.0, 4.0)])}, "test")
    mean, std = np.linspace(-1, 1, 263, dtype=np.float32), np.linspace(1, 2, 263, dtype=np.float32)
    np.save(folder / "Mean.npy", mean)
    np.save(folder / "Std.npy", std)
    data = TextMotionData(str(folder))
    data.setup("test")
    starts = set()
    for epoch in range(120):
        crop = data.crops["test"][epoch, 0]
        frames = crop.motion.numpy() * std + mean
        first = round(float(frames[0, 0]))
        starts.add(first)
        assert len(frames) in (56, 60) and 20 <= first and first + len(frames) <= 80
        np.testing.assert_allclose(frames, ramp(100)[first : first + len(frames)], atol=1e-4)
    assert starts == {20, 21, 22, 23, 24}
    assert torch.equal(data.crops["test"][3, 0].motion, data.crops["test"][3, 0].motion)


def test_crops_lose_a_unit_one_time_in_three():
    lengths = [crop_length(83, np.random.default_rng(seed)) for seed in range(3000)]
    assert set(lengths) == {76, 80}
    assert abs(lengths.count(76) / 3000 - 1 / 3) < 4 * math.sqrt(2 / 9 / 3000)


def test_prefix_models_get_the_frames_before(tmp_path):
    data = TextMotionData(str(data_set(tmp_path / "set", WALKS, "test")), context_len=20, pred_len=40)
    data.setup("test")
    assert min(entry.length for entry in data.crops["test"].entries) == 60
    batch = next(iter(data.test_dataloader()))
    assert batch.prefix.shape == (8, 20, 263) and batch.motion.shape == (8, 40, 263) and batch.mask.all()
    torch.testing.assert_close(batch.motion[:, 0], batch.prefix[:, -1] + 1)


def test_what_cannot_be_used_is_named_at_the_start(tmp_path, caplog):
    bad = {name: (50, [line("walk")]) for name in ("nan", "none", "empty", "flat", "cut", "mute", "deaf", "good")}
    folder = data_set(tmp_path / "set", bad)
    motions = folder / "new_joint_vecs"
    np.save(motions / "nan.npy", np.where(ramp(50) == 7, np.nan, ramp(50)))
    (motions / "none.npy").unlink()
    np.save(motions / "empty.npy", ramp(0))
    np.save(motions / "flat.npy", np.zeros(263))
    (motions / "cut.npy").write_bytes((motions / "good.npy").read_bytes()[:9000])
    (folder / "texts" / "mute.txt").write_text("\n")
    (folder / "texts" / "deaf.txt").unlink()
    (folder / "val.txt").write_text("good")
    np.save(motions / "kit.npy", ramp(50, 251))
    (folder / "texts" / "kit.txt").write_text(line("walk"))
    (folder / "train.txt").write_text("\n".join([*bad, "kit"]))
    data = TextMotionData(str(folder))
    with caplog.at_level(logging.WARNING):
        data.prepare_data()
        data.setup("fit")
    assert [entry.clip for entry in data.crops["train"].entries] == ["good"]
    said = [record.getMessage() for record in caplog.records]
    for start in (
        "nan left out: NaN or Inf",
        "none left out: no file in new_joint_vecs/",
        "empty left out: no frames",
        "flat left out: an array (263,) of float64, not",
        "cut left out: cannot be read (ValueError)",
        "mute left out: its text is empty",
        "deaf left out: no file in texts/",
        "kit left out: has 251 channels, Mean.npy 263",
    ):
        assert any(message.startswith(start) for message in said), (start, said)
    (folder / "train.txt").write_text("nan\nempty")
    with pytest.raises(InputError, match="none of 2 clips can be used: nan: NaN or Inf in it; empty: no frames"):
        TextMotionData(str(folder)).setup("fit")


@pytest.mark.parametrize(
    "text, said",
    [
        ("walk", "line 1: expected caption#"),
        (line("walk", "early", 2), "line 1: expected caption#"),
        (line("walk", 3, 2), "start 3 s and end 2 s"),
        (line("walk", -1, 2), "start -1 s"),
        (line("walk", 1, "inf"), "end inf s"),
        ("#a/X#0#0", "caption is empty"),
    ],
)
def test_captions_that_are_none_say_why(text, said):
    captions, problems = parse_captions(f"{text}\n\n{line('run', 'nan', 'nan')}")
    assert [(caption.text, caption.start, caption.end) for caption in captions] == [("run", 0, 0)]
    assert len(problems) == 1 and said in problems[0]


def test_a_caption_after_the_end_is_named(tmp_path, caplog):
    folder = data_set(
        tmp_path / "set", {"a": (60, ["walk # one#walk/X#0.0#0.0", line("late", 5, 8), line("cut", 0.5, 9)])}
    )
    found = entries(read_clips(folder, ["a"]), (40, 200))
    assert [(e.first, e.length, e.captions[0].text) for e in found] == [(10, 50, "cut"), (0, 60, "walk # one")]
    assert "a.txt: 'late' begins at 5 s, the clip ends at 3 s" in caplog.text


def test_missing_lists_and_statistics(tmp_path):
    folder = data_set(tmp_path / "set", WALKS)
    with pytest.raises(InputError, match="val.txt: missing"):
        TextMotionData(str(folder)).setup("fit")
    (folder / "val.txt").write_text(" \n")
    with pytest.raises(InputError, match="val.txt: no name in it"):
        TextMotionData(str(folder)).prepare_data()
    (folder / "Std.npy").unlink()
    with pytest.raises(InputError, match="no Mean.npy and Std.npy in it"):
        TextMotionData(str(folder)).setup("fit")
    with pytest.raises(InputError, match="go together"):
        TextMotionData(str(folder), context_len=20)
    short = data_set(tmp_path / "short", {"a": (30, [line("walk")])}, "test")
    with pytest.raises(InputError, match="1 clips in test.txt, none with a caption for at least 40 and below 200"):
        TextMotionData(str(short)).setup("test")


def test_the_index_notices_changed_data_and_reads_nothing_else(tmp_path):
    folder = data_set(tmp_path / "set", WALKS)
    motions = folder / "new_joint_vecs"
    first = read_clips(folder, [*WALKS])
    unnoticed = (motions / "w00.npy").stat()
    (motions / "w00.npy").write_bytes(bytes(unnoticed.st_size))
    os.utime(motions / "w00.npy", ns=(unnoticed.st_atime_ns, unnoticed.st_mtime_ns))
    assert read_clips(folder, [*WALKS]) == first
    np.save(motions / "w03.npy", ramp(99))
    (folder / "texts" / "w05.txt").write_text(line("limp"))
    (motions / "w07.npy").unlink()
    again = read_clips(folder, [*WALKS])
    assert {name for name in WALKS if again[name] != first[name]} == {"w03", "w05", "w07"}
    assert again["w03"].frames == 99 and again["w05"].text == line("limp") and again["w07"].problem
    index = next((tmp_path / "cache").rglob("*.json"))
    index.write_text(index.read_text()[:100])
    assert read_clips(folder, [*WALKS])["w00"].problem.startswith("cannot be read")


class Recorder(LightningModule):
    """Writes down the batches it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, tuple(batch.texts), batch.motion.sum().item()))
        return self.weight * batch.motion.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train(folder: Path, checkpoint: Path | None = None, workers: int = 0) -> list:
    """What 14 steps see, with a checkpoint every step; or the rest of them, from a checkpoint."""
    module, data = Recorder(), TextMotionData(str(folder), batch_size=3, workers=workers)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    every = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(max_steps=14, accelerator="cpu", limit_val_batches=0, callbacks=[every], **quiet)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return module.seen


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_what_an_unbroken_one_sees(tmp_path):
    """Four batches an epoch: broken off in its middle, before its last batch, and at its end."""
    folder = data_set(tmp_path / "set", WALKS)
    (folder / "val.txt").write_text("w00")
    whole = train(folder)
    assert [epoch for epoch, *_ in whole] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    assert len({texts for _, texts, _ in whole}) == 14
    for steps, workers in ((2, 0), (6, 2), (7, 0), (8, 0), (9, 0)):
        assert train(folder, folder / f"step={steps}.ckpt", workers) == whole[steps:], steps


def test_two_ranks_share_a_batch(tmp_path):
    data = TextMotionData(str(data_set(tmp_path / "set", WALKS, "test")))
    data.setup("test")
    crops = data.crops["test"]
    alone, *ranks = (EpochSampler(crops, n, rank, seed=3) for n, rank in ((1, 0), (2, 0), (2, 1)))
    for sampler in (alone, *ranks):
        sampler.set_epoch(2)
    both = list(zip(*map(list, ranks), strict=True))
    assert [{*both[i], *both[i + 1]} for i in range(0, 6, 2)] == [set(list(alone)[j : j + 4]) for j in range(0, 12, 4)]
