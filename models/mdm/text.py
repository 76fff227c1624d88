"""Text to what MDM's network is conditioned on: CLIP's embeddings or DistilBERT's, kept on disk once computed.

Weights are the user's own and are never downloaded from here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.errors import InputError
from models.mdm.cache import cache_folder, keep
from models.mdm.clip import ClipTextNetwork
from models.mdm.tokens import ClipTokenizer

CLIP_FILE = "ViT-B-32.pt"
CLIP_PAGE = "https://github.com/openai/CLIP"
BERT_NAME = "distilbert-base-uncased"
BERT_PAGE = f"https://huggingface.co/distilbert/{BERT_NAME}"
BATCH = 64


@dataclass(frozen=True)
class TextEmbedding:
    """Texts as a network takes them: CLIP (batch, 512), no mask; BERT (tokens, batch, 768), mask (batch, tokens).

    The mask is True where a shorter text is padded. float32, on the CPU. Of a network that reads words, their numbers.
    """

    tensor: Tensor
    mask: Tensor | None = None

    def take(self, rows: slice | Sequence[int]) -> "TextEmbedding":
        """Some of the texts."""
        if self.mask is None:
            return TextEmbedding(self.tensor[rows])
        return TextEmbedding(self.tensor[:, rows], self.mask[rows])


class Embedder(Protocol):
    """Something that embeds texts, each on its own. identity: a name that changes with its weights and settings."""

    identity: str

    def embed(self, texts: Sequence[str]) -> list[Tensor]:
        """One tensor a text: (512,) or (tokens, 768). Warns of texts that are not read to their end."""

    def warn(self, text: str) -> None:
        """The same warning for a text whose embedding is known."""


class TextEncoder:
    """Embeds texts with an embedder and keeps the results, so that no text is computed twice on a machine."""

    def __init__(self, embedder: Embedder, cache: Path | None = None):
        """cache: the folder to keep results in; without it thetafit/text in the user's cache folder."""
        self.embedder = embedder
        self.cache = cache or cache_folder() / "thetafit" / "text"
        self.seen: set[str] = set()

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """The embeddings of the texts, in their order; texts that were seen before come from the cache.

        What of a text is not read is said once by an encoder, also of one that comes from the cache.
        """
        if not texts:
            raise InputError("no texts to encode; at least one is needed")
        known = {text: self._kept(text) for text in dict.fromkeys(texts)}
        new = [text for text, row in known.items() if row is None]
        for text, row in known.items():
            if row is not None and text not in self.seen:
                self.embedder.warn(text)
        self.seen |= known.keys()
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            for text, row in zip(batch, self.embedder.embed(batch), strict=True):
                known[text] = row
                keep(self._file(text), partial(np.save, arr=row.numpy()))
        rows = [known[text] for text in texts]
        if rows[0].ndim == 1:
            return TextEmbedding(torch.stack(rows))
        lengths = torch.tensor([len(row) for row in rows])
        return TextEmbedding(pad_sequence(rows), torch.arange(lengths.max()) >= lengths[:, None])

    def _file(self, text: str) -> Path:
        return self.cache / self.embedder.identity / f"{hashlib.sha256(text.encode()).hexdigest()}.npy"

    def _kept(self, text: str) -> Tensor | None:
        try:
            return torch.from_numpy(np.load(self._file(text), allow_pickle=False))
        except (OSError, ValueError, EOFError, TypeError):  # absent, or not whole: computed again
            return None


class ClipText:
    """OpenAI's CLIP ViT-B/32."""

    def __init__(self, weights: str | Path | None = None, context: int = 22):
        """weights: ViT-B-32.pt or its folder, else the usual places; context: tokens read, 22 HumanML3D, 77 others."""
        self.file = find_clip(weights)
        self.context = context
        self.tokenizer = ClipTokenizer()
        with self.file.open("rb") as file:
            self.identity = f"{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}-{context}"

    @cached_property
    def network(self) -> ClipTextNetwork:
        """Read when the first text is not in the cache."""
        return ClipTextNetwork.load(self.file)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> list[Tensor]:
        """(512,) a text."""
        return list(self.network(self.tokenizer(texts, self.context)))

    def warn(self, text: str) -> None:
        """Of a text that is cut."""
        self.tokenizer([text], self.context)


class BertText:
    """DistilBERT of the package transformers: the last hidden state of every token."""

    def __init__(self, weights: str | Path | None = None):
        """weights: a folder with the model and its tokenizer, else what transformers' own cache holds."""
        name = str(weights or BERT_NAME)
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise InputError(
                "this model reads text by DistilBERT: pip install 'thetafit[bert]' (transformers)."
            ) from None
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
            self.network = AutoModel.from_pretrained(name, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"DistilBERT's weights are not on this machine: searched for {name} as a folder and in transformers' "
                f"cache ({reason}). Get {BERT_NAME} from {BERT_PAGE} and give its folder."
            ) from None
        self.network = self.network.eval().requires_grad_(False)
        digest = hashlib.sha256()
        for value in self.network.state_dict().values():
            digest.update(value.numpy().tobytes())
        self.identity = digest.hexdigest()[:16]

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> list[Tensor]:
        """(tokens, 768) a text, with its start and end token."""
        tokens = self.tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True)
        states = self.network(**tokens).last_hidden_state
        return [state[mask.bool()] for state, mask in zip(states, tokens["attention_mask"], strict=True)]

    def warn(self, text: str) -> None:
        """Of nothing: 512 tokens are read, more than a prompt has."""


EMBEDDERS = {"clip": ClipText, "bert": BertText}


def text_encoder(name: str, weights: str | Path | None = None) -> TextEncoder:
    """The encoder that MDM's args.json calls `name`, clip or bert, with the user's weights or those found."""
    if name not in EMBEDDERS:
        raise InputError(f"text encoder {name!r} is unknown; known are {', '.join(EMBEDDERS)}")
    return TextEncoder(EMBEDDERS[name](weights))


def find_clip(weights: str | Path | None = None) -> Path:
    """The file ViT-B-32.pt: as given, or in the given folder, or where OpenAI's package keeps it.

    Raises InputError with the places searched when it is in none of them.
    """
    usual = (cache_folder() / "clip", Path.home() / ".cache" / "clip")
    places = [Path(weights)] if weights else list(dict.fromkeys(usual))
    files = [place if place.suffix == ".pt" else place / CLIP_FILE for place in places]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise InputError(
            f"CLIP's weights, {CLIP_FILE}, are missing. Searched: {', '.join(map(str, files))}. OpenAI publishes them: "
            f"follow clip/clip.py, ViT-B/32, at {CLIP_PAGE}. Put the file there or say where it is."
        )
    return found
