"""The text-to-motion evaluators: the reference's numbers, names and shapes, the words they read, what is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from models.errors import InputError
from models.mdm.evaluators import (
    Evaluators,
    MovementEncoder,
    SequenceEncoder,
    WordsEncoder,
    evaluator_statistics,
)
from models.mdm.word_vectors import TAGS, WordVectors
from tests.mdm import golden

WORDS = ("unk", "sos", "eos", "walk", "table", "left")


@torch.no_grad()
def test_embeddings_of_the_reference(reference):
    file = golden(reference, "evaluator_nets")
    judge = Evaluators.load(reference / "golden" / "evaluator_nets.pt")
    assert_close(judge.movement(file["motions"]), file["movements"], rtol=0, atol=1e-4)
    shuffled = torch.tensor([2, 0, 3, 1])  # a batch need not be sorted by length
    found = judge.embed_motion(file["motions"][shuffled], file["m_lens"][shuffled])
    assert_close(found, file["motion_embedding"][shuffled], rtol=0, atol=1e-4)
    found = judge.embed_text(*(file[name][shuffled] for name in ("word_embs", "pos_onehot", "cap_lens")))
    assert_close(found, file["text_embedding"][shuffled], rtol=0, atol=1e-4)
    assert judge.features == 263 and judge.word_width == 20


def test_names_and_shapes_of_the_published_weights(reference):
    wanted = json.loads((reference / "golden" / "evaluator_state_dict_shapes.json").read_text())
    with torch.device("meta"):
        networks = {
            "movement_encoder": MovementEncoder(259, 512, 512),
            "motion_encoder": SequenceEncoder(512, 1024, 512),
            "text_encoder": WordsEncoder(300, 512, 512),
        }
    for name, network in networks.items():
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == wanted[name]


def small_file(path: Path, **changes) -> Path:
    """A finest.tar of small random networks; changes replace parts."""
    parts = {
        "movement_encoder": MovementEncoder(259, 6, 5).state_dict(),
        "text_encoder": WordsEncoder(7, 6, 4).state_dict(),
        "motion_encoder": SequenceEncoder(5, 6, 4).state_dict(),
        "epoch": 3,
    }
    torch.save({name: value for name, value in (parts | changes).items() if value is not None}, path)
    return path


def without(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"motion_encoder": None}, "lacks motion_encoder; it holds movement_encoder, text_encoder, epoch"),
        ({"motion_encoder": without(SequenceEncoder(5, 6, 4).state_dict(), "hidden")}, "Missing key.*hidden"),
        ({"motion_encoder": without(SequenceEncoder(5, 6, 4).state_dict(), "input_emb.weight")}, "input_emb.weight"),
        ({"text_encoder": SequenceEncoder(7, 6, 4).state_dict()}, "text_encoder is another network.*pos_emb"),
        ({"epoch": Path("x")}, "refused"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, changes, message):
    Evaluators.load(small_file(tmp_path / "whole.tar"))
    with pytest.raises(InputError, match=message):
        Evaluators.load(small_file(tmp_path / "finest.tar", **changes))


def test_missing_files_say_where_to_get_them(tmp_path):
    with pytest.raises(InputError, match="download_t2m_evaluators"):
        Evaluators.load(tmp_path / "finest.tar")
    with pytest.raises(InputError, match="our_vab_data.npy, our_vab_words.pkl, our_vab_idx.pkl.*download_glove"):
        WordVectors.load(tmp_path)
    with pytest.raises(InputError, match="t2m_mean.npy.*t2m_std.npy"):
        evaluator_statistics(tmp_path, 263)


def save_words(folder: Path, words: tuple[str, ...] = WORDS) -> None:
    """The three files, rows in another order than the words."""
    np.save(folder / "our_vab_data.npy", np.arange(7.0)[::-1, None].repeat(3, 1))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(list(words)))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: 6 - row for row, word in enumerate(words)}))


def test_words_become_vectors_and_tags(tmp_path):
    save_words(tmp_path)
    long = ["walk/NOUN"] * 25
    vectors, tags, lengths = WordVectors.load(tmp_path)([["walk/NOUN", "zebra/NOUN", "table/NOUN", "left/XX"], long])
    assert vectors.shape == (2, 22, 3) and lengths.tolist() == [6, 22]
    rows = [WORDS[int(value)] for value in vectors[0, :, 0]]
    assert rows == ["sos", "walk", "unk", "table", "left", "eos"] + ["unk"] * 16
    names = [TAGS[i] for i in tags[0].argmax(-1)]
    assert names == ["OTHER", "Act_VIP", "OTHER", "NOUN", "Loc_VIP", "OTHER"] + ["OTHER"] * 16
    assert (tags.sum(-1) == 1).all() and tags.shape == (2, 22, 15)
    assert WORDS[int(vectors[1, 21, 0])] == "eos"


def test_words_without_marks_or_from_pickles_that_run_code_are_refused(tmp_path):
    save_words(tmp_path, WORDS[2:])
    with pytest.raises(InputError, match="sos"):
        WordVectors.load(tmp_path)
    (tmp_path / "our_vab_words.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="system"):
        WordVectors.load(tmp_path)


def test_statistics_of_the_evaluators_are_told_from_others(tmp_path):
    np.save(tmp_path / "t2m_mean.npy", np.zeros(263))
    np.save(tmp_path / "t2m_std.npy", np.full(263, 2.0))
    norm = evaluator_statistics(tmp_path, 263)
    assert_close(norm.normalize(torch.ones(2, 263)), torch.full((2, 263), 0.5))
    np.save(tmp_path / "t2m_std.npy", np.zeros(263))
    with pytest.raises(InputError, match="more than 0"):
        evaluator_statistics(tmp_path, 263)
    np.save(tmp_path / "t2m_mean.npy", np.zeros(251))
    with pytest.raises(InputError, match="263 finite numbers"):
        evaluator_statistics(tmp_path, 263)
