"""Text: token numbers, CLIP's network against a plain transcription, files that want to run code, the cache."""

import json
import logging
import multiprocessing
import pickle
import zipfile

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.mdm.clip import ClipTextNetwork
from models.mdm.text import BertText, ClipText, TextEncoder, find_clip, text_encoder
from models.mdm.tokens import END, START, ClipTokenizer
from models.safe_pickle import UnsafePickle
from models.torch_files import read_weights
from tests.clip import LAYERS, TOKENS, save_archive, tower

PROMPTS = ("the person walked forward and is picking up his toolbox.", "", "jumps!! 3 times, naïve café &amp; bar")


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return save_archive(tmp_path_factory.mktemp("clip") / "ViT-B-32.pt")


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def embedding(weights: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """CLIP's text embedding (512,) of the tokens up to the end token, written out head by head and token by token."""
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][: len(tokens)]
    for i in range(LAYERS):
        w = {name.split(".", 3)[3]: value for name, value in weights.items() if f"resblocks.{i}." in name}
        normed = norm(x, w["ln_1.weight"], w["ln_1.bias"])
        query, key, value = np.split(normed @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"], 3, axis=1)
        mixed = np.zeros_like(x)
        for head in (slice(0, 64), slice(64, 128)):
            for t in range(len(tokens)):
                score = np.exp(key[: t + 1, head] @ query[t, head] / 8)
                mixed[t, head] = score / score.sum() @ value[: t + 1, head]
        x = x + mixed @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
        inner = norm(x, w["ln_2.weight"], w["ln_2.bias"]) @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"]
        inner = inner / (1 + np.exp(-1.702 * inner))
        x = x + inner @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]
    return norm(x[-1], weights["ln_final.weight"], weights["ln_final.bias"]) @ weights["text_projection"]


def test_network_equals_a_plain_transcription(archive, tokenizer):
    weights = {name: value.double().numpy() for name, value in tower().items()}
    tokens = tokenizer(PROMPTS)
    expected = [embedding(weights, row[: row.argmax() + 1].tolist()) for row in tokens]
    found = ClipTextNetwork.load(archive)(tokens)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_state_dict_in_single_precision_is_rounded_as_openai_rounds_it(archive, tokenizer, tmp_path):
    jitter = {
        name: value.float() * (1 + 1e-5) if value.dtype == torch.half else value for name, value in tower().items()
    }
    torch.save(jitter, tmp_path / "plain.pt")
    tokens = tokenizer(PROMPTS)
    assert torch.equal(ClipTextNetwork.load(tmp_path / "plain.pt")(tokens), ClipTextNetwork.load(archive)(tokens))


def test_weights_are_read_as_they_were_written(archive):
    found = read_weights(archive, skip=("visual.",))
    assert found.keys() == tower().keys() | {"logit_scale"}
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tower().items())


def repacked(archive, path, member: str, data: bytes):
    """The archive with one member's bytes replaced."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith(member) else old.read(name))
    return path


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def test_files_that_want_to_run_code_are_refused(archive, tmp_path):
    with pytest.raises(UnsafePickle, match="exec.*Nothing was executed"):
        read_weights(repacked(archive, tmp_path / "evil.pt", "/data.pkl", pickle.dumps(Evil())))
    torch.save({"weight": Evil()}, tmp_path / "plain.pt")
    with pytest.raises(UnsafePickle, match="Nothing was executed"):
        read_weights(tmp_path / "plain.pt")


def test_broken_files_are_named(archive, tmp_path):
    cut = repacked(archive, tmp_path / "cut.pt", "/data/0", b"\0\0")
    with pytest.raises(InputError, match="cut.pt.*no whole TorchScript archive"):
        read_weights(cut)
    (tmp_path / "half.pt").write_bytes(archive.read_bytes()[:10000])
    with pytest.raises(InputError, match="half.pt: no whole PyTorch file"):
        read_weights(tmp_path / "half.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="list.pt: holds a list"):
        read_weights(tmp_path / "list.pt")
    torch.save({"positional_embedding": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt: not the weights of CLIP's text network"):
        ClipTextNetwork.load(tmp_path / "other.pt")


def test_token_numbers_of_the_reference(reference, tokenizer):
    golden = json.loads((reference / "golden" / "clip_tokens.json").read_text())
    tokens = tokenizer(golden["prompts"])
    assert tokens.tolist() == golden["token_ids_77"]
    assert tokens.argmax(-1).tolist() == golden["eot_position"]


def test_pieces_spell_the_word(tokenizer):
    names = {number: piece for piece, number in tokenizer.numbers.items()}
    assert [names[number] for number in tokenizer.word("backflipping")][-1].endswith("</w>")
    assert "".join(names[number] for number in tokenizer.word("backflipping")) == "backflipping</w>"
    assert len(names) == TOKENS
    assert tokenizer(["a"])[0].tolist()[:3] == [tokenizer.numbers[START], tokenizer.numbers["a</w>"], TOKENS - 1]


def test_a_long_text_is_cut_with_a_warning_that_says_where(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        tokens = tokenizer(["walks " * 299 + "home", "walks"])
    assert (tokens[0] > 0).sum() == 22 and tokens[0, 21] == tokenizer.numbers[END]
    assert len(caplog.records) == 1
    assert "300 tokens, 20 are read: it is cut after word 20, 'walks walks walks'" in caplog.text
    caplog.clear()
    assert (tokenizer(["walks " * 50], context=77) > 0).sum() == 52 and not caplog.records


def test_missing_weights_say_where_they_were_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match=r"ViT-B-32.pt.*home/.cache/clip/ViT-B-32.pt.*github.com/openai/CLIP"):
        find_clip()
    with pytest.raises(InputError, match="mine/ViT-B-32.pt"):
        text_encoder("clip", tmp_path / "mine")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "ViT-B-32.pt").touch()
    assert find_clip() == tmp_path / "clip" / "ViT-B-32.pt"
    with pytest.raises(InputError, match="clip, bert"):
        text_encoder("t5")


def test_embeddings_are_kept(archive, tmp_path):
    first = TextEncoder(ClipText(archive), tmp_path).encode([*PROMPTS, PROMPTS[0]])
    assert first.tensor.shape == (4, 512) and first.mask is None
    assert torch.equal(first.tensor[0], first.tensor[3])
    again = TextEncoder(ClipText(archive), tmp_path)
    assert torch.equal(again.encode(PROMPTS).tensor, first.tensor[:3])
    assert "network" not in vars(again.embedder)  # nothing had to be computed
    damaged = next(tmp_path.rglob("*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    torch.testing.assert_close(again.encode(PROMPTS).tensor, first.tensor[:3], atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="no texts"):
        again.encode([])


def test_a_cut_is_said_again_of_a_text_from_the_cache(archive, tmp_path, caplog):
    """Once by each encoder: every run says it, a training does not say it at every step."""
    long = "walks " * 30
    for _ in range(2):
        encoder = TextEncoder(ClipText(archive), tmp_path)
        for texts in ([long, "walks"], [long]):
            encoder.encode(texts)
        assert [record.args[0] for record in caplog.records] == [30]
        caplog.clear()


class Rows:
    """Embeds a text as as many rows as it has letters, as BERT does with words."""

    identity = "rows"

    def embed(self, texts):
        return [torch.full((len(text), 768), float(len(text))) for text in texts]

    def warn(self, text):
        pass


def test_texts_of_several_tokens_are_padded_with_a_mask(tmp_path):
    found = TextEncoder(Rows(), tmp_path).encode(["abc", "a", "ab"])
    assert found.tensor.shape == (3, 3, 768)
    assert found.mask.tolist() == [[False] * 3, [False, True, True], [False, False, True]]
    assert found.tensor[:, :, 0].T.tolist() == [[3, 3, 3], [1, 0, 0], [2, 2, 0]]


def encode_many(folder, seed: int) -> bool:
    texts = [f"{i % 40:03d}"[: 1 + i % 3] for i in range(seed, seed + 300)]
    found = TextEncoder(Rows(), folder).encode(texts)
    return found.mask.logical_not().sum(1).tolist() == [len(text) for text in texts]


def test_processes_share_the_folder(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert all(pool.starmap(encode_many, [(tmp_path, seed) for seed in range(4)]))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npy"]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert TextEncoder(Rows(), tmp_path / "file").encode(["ab", "cd"]).tensor.shape == (2, 2, 768)
    assert caplog.text.count("nothing is kept in") == 1


def test_bert_without_its_package_or_weights_says_so_at_once(tmp_path):
    with pytest.raises(InputError, match=r"thetafit\[bert\]|DistilBERT's weights are not on this machine"):
        BertText(tmp_path / "none")


def test_bert_gives_the_last_hidden_state(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra `bert`)")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "person", "walks", "jump", "##s", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.DistilBertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(vocab_size=len(words), n_layers=2, n_heads=2, dim=768, hidden_dim=64)
    model = transformers.DistilBertModel(config).eval()
    model.save_pretrained(tmp_path)
    found = TextEncoder(BertText(tmp_path), tmp_path / "kept").encode(["a person jumps.", "walks"])
    assert found.tensor.shape == (7, 2, 768)
    assert found.mask.sum(1).tolist() == [0, 4]
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([[2, 7, 3]])).last_hidden_state[0]
    torch.testing.assert_close(found.tensor[:3, 1], alone, atol=1e-5, rtol=1e-5)
