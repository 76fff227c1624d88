"""Evaluating a checkpoint: a perfect generator scores as the test set does."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, save_checkpoint
from models.mdm.data import TextMotionBatch, TextMotionData
from models.mdm.denoiser import Denoiser
from models.mdm.evaluation import MADE, TRUE, Evaluation, scores
from models.mdm.words import Vocabulary
from tests.models.test_evaluators import save_words, small_file

CLIPS = 64


def save_dataset(folder: Path, clips: int = CLIPS) -> Path:
    """Random clips of 40 to 60 frames in HumanML3D's layout, all of them for testing."""
    random = np.random.default_rng(0)
    for name in ("new_joint_vecs", "texts"):
        (folder / name).mkdir(parents=True)
    for clip in range(clips):
        motion = random.normal(clip % 5, 1 + clip % 3, (random.integers(40, 60), 263))
        np.save(folder / "new_joint_vecs" / f"{clip:03d}.npy", motion.astype(np.float32))
        text = ["a person walks#walk/VERB#0.0#0.0", "he walks left#walk/VERB left/NOUN#0.0#0.0"][clip % 2]
        (folder / "texts" / f"{clip:03d}.txt").write_text(text)
    (folder / "test.txt").write_text("\n".join(f"{clip:03d}" for clip in range(clips)))
    np.save(folder / "Mean.npy", np.full(263, 2, np.float32))
    np.save(folder / "Std.npy", np.full(263, 1.5, np.float32))
    return folder


def save_all(folder: Path) -> dict[str, str]:
    """Everything that Evaluation reads: a network of words, evaluators, their statistics and word vectors."""
    options = {"latent_dim": 16, "ff_size": 16, "layers": 1, "heads": 2, "diffusion_steps": 4, "mask_frames": True}
    options = {**DEFAULTS, **OURS, **options, "text_encoder_type": "words", "words": 226}
    torch.manual_seed(0)
    save_checkpoint(folder / "model.pt", Denoiser(config_of(options)), options)
    Vocabulary().save(folder)
    save_words(folder)
    words = np.load(folder / "our_vab_data.npy").repeat(3, 1)[:, :7]
    np.save(folder / "our_vab_data.npy", words)
    np.save(folder / "t2m_mean.npy", np.ones(263))
    np.save(folder / "t2m_std.npy", np.full(263, 3.0))
    files = {"model": folder / "model.pt", "evaluators": small_file(folder / "finest.tar")}
    return {name: str(path) for name, path in (files | {"statistics": folder, "glove": folder}).items()}


class Perfect(Evaluation):
    """In place of a network: the motion that belongs to the sentence."""

    def _generate(self, batch: TextMotionBatch, rows: Sequence[int], seeds: Sequence[int]) -> torch.Tensor:
        return self._embed(batch.motion[list(rows)], batch.lengths[list(rows)])


def run(module: Evaluation, data: TextMotionData, folder: Path) -> dict:
    """The table of evaluation.json."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", default_root_dir=folder, **quiet).test(module, data, verbose=False)
    return json.loads((folder / "evaluation.json").read_text())["mean and half interval"]


def test_a_perfect_generator_scores_as_the_test_set_does(tmp_path):
    files, folder = save_all(tmp_path), str(save_dataset(tmp_path / "data"))
    given = {"samples": CLIPS, "replications": 3, "sentences": 4, "variants": 3}
    table = run(Perfect(**files, **given), TextMotionData(folder, batch_size=24), tmp_path)
    assert table[MADE]["FID"] == pytest.approx([0, 0], abs=1e-7)
    assert table[MADE]["multimodality"] == pytest.approx([0, 0], abs=1e-6)
    assert table[MADE]["MM-dist"] == pytest.approx(table[TRUE]["MM-dist"], rel=1e-6)
    chosen = Perfect(**files, **{**given, "samples": 40})  # of some batches nothing, of each sentence its own
    other = run(chosen, TextMotionData(folder, batch_size=2), tmp_path)
    assert other[MADE]["MM-dist"][0] == pytest.approx(table[TRUE]["MM-dist"][0], rel=0.2)
    assert other[MADE]["FID"][0] > 1e-6
    assert other[TRUE]["diversity"] == pytest.approx(table[TRUE]["diversity"], rel=1e-4)


def test_scores_of_sentences_that_are_their_motions():
    motion = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    found = scores(motion, motion, torch.Generator().manual_seed(0))
    assert [found[f"R top {k}"] for k in (1, 2, 3)] == [1, 1, 1] and found["MM-dist"] == 0 < found["diversity"]


def test_what_does_not_belong_together_is_refused_before_anything_is_made(tmp_path):
    files, data = save_all(tmp_path), TextMotionData(str(save_dataset(tmp_path / "data", 20)))
    with pytest.raises(InputError, match="20 stretches of 263 channels"):
        run(Evaluation(**files), data, tmp_path)
    with pytest.raises(InputError, match="samples 31"):
        Evaluation(**files, samples=31)
    np.save(tmp_path / "our_vab_data.npy", np.zeros((7, 5)))
    with pytest.raises(InputError, match="words of 7 numbers.*5 numbers a word"):
        Evaluation(**files)
