"""Sentences as numbers of words: forms, synonyms, what is unknown, the network that reads them."""

import logging

import pytest
import torch

from models.errors import InputError
from models.keyed_takes import take
from models.mdm.denoiser import Condition, Denoiser, DenoiserConfig
from models.mdm.words import READ, SYNONYMS, Vocabulary, WordEncoder, WordText


def test_forms_of_a_word_are_one_word():
    vocabulary = Vocabulary()
    for forms in ("walk walks walked walking", "sit sits sat sitting", "hop hops hopped hopping", "wave waving waved"):
        assert len({vocabulary.number(form) for form in forms.split()}) == 1
    walk, run = vocabulary.number("walk"), vocabulary.number("run")
    assert walk != run and min(walk, run) > 0


def test_who_moves_does_not_count_and_order_does():
    read = Vocabulary().read
    assert read("A woman walks forward, and then she sat down.") == read("the man is walking forward then sits down")
    assert read("a person sits then walks")[0] == read("a person walks then sits")[0][::-1]


def test_every_sentence_of_the_training_data_is_known():
    vocabulary = Vocabulary()
    for seed in range(150):
        numbers, unknown = vocabulary.read(take(seed).motion.text)
        assert numbers and not unknown and len(numbers) <= READ


def test_synonyms_are_new_words_for_known_ones():
    vocabulary = Vocabulary()
    for word, others in SYNONYMS.items():
        assert word in vocabulary.words
        for other in others.split():
            assert other not in vocabulary.words and vocabulary.number(other) == vocabulary.number(word), other
    assert vocabulary.read("a guy strides ahead, after that grabs a package")[1] == []


def test_what_is_unknown_is_said(caplog):
    encoder = WordText()
    with caplog.at_level(logging.WARNING, "thetafit"):
        known = encoder.encode(["a person walks and cartwheels"]).tensor
    assert "cartwheels" in caplog.text and "jumping jacks" in caplog.text
    assert torch.equal(known, encoder.encode(["a person walks and"]).tensor)
    with pytest.raises(InputError, match="no word of 'xylophone quux'.* walk; "):
        encoder.encode(["xylophone quux"])


def test_a_long_text_is_cut_where_it_says(caplog):
    with caplog.at_level(logging.WARNING, "thetafit"):
        row = WordText().encode(["he walks and runs " * 100]).tensor
    assert row.shape == (1, READ) and (row > 0).all() and "cut after its 24th known word" in caplog.text


def test_new_words_take_free_numbers(tmp_path):
    first = Vocabulary(seconds={"": 1.0, "walk": 2.5})
    second = first.learn(["a person cartwheeled", "he cartwheels twice"], room=len(first.words) + 2)
    assert second.words[: len(first.words)] == first.words and len(second.words) == len(first.words) + 2
    assert second.number("cartwheels") == second.number("cartwheel") == second.number("cartwheeling")
    assert second.number("cartwheels") > len(first.words)
    with pytest.raises(InputError, match="2 new words, room for 1"):
        first.learn(["cartwheel somersault"], room=len(first.words) + 1)
    second.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.words == second.words and loaded.estimate("she walked") == 3.5 and loaded.estimate("run") == 2.0
    (tmp_path / "words.json").write_text("[]")
    with pytest.raises(InputError, match="no vocabulary"):
        Vocabulary.load(tmp_path)


def test_a_sentence_is_the_same_in_any_batch():
    torch.manual_seed(0)
    network = WordEncoder(40, 8).double()
    rows = torch.zeros(3, READ, dtype=torch.int64)
    for row, length in zip(rows, (2, 9, 0), strict=True):
        row[:length] = torch.arange(1, length + 1)
    whole = network(rows)
    for row, expected in zip(rows, whole, strict=True):
        torch.testing.assert_close(network(row[None])[0], expected, atol=1e-12, rtol=0)
    assert (whole[0] - network(rows[0].flip(0).sort(stable=True).values.flip(0)[None])[0]).abs().max() > 1e-3


def test_a_dropped_sentence_is_no_sentence():
    torch.manual_seed(0)
    config = DenoiserConfig(
        7, text_encoder="words", words=20, latent_dim=16, ff_size=16, layers=1, heads=2, frames_per_token=4
    )
    network, x, t = Denoiser(config).eval(), torch.randn(2, 8, 7), torch.tensor([3, 40])
    words = torch.randint(1, 20, (2, READ))
    with torch.no_grad():
        dropped = network(x, t, Condition(text=words), keep=torch.zeros(2))
        torch.testing.assert_close(dropped, network(x, t), atol=1e-6, rtol=0)
        assert (dropped - network(x, t, Condition(text=words))).abs().max() > 1e-3
    with pytest.raises(InputError, match="6 frames; this network takes multiples of 4"):
        network(x[:, :6], t)
