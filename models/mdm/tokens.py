"""CLIP's tokenizer: text to numbers of word pieces by byte pair encoding.

The vocabulary, 1.3 MB, comes with the package openai-clip, whose modules are not imported: they need torchvision and a
part of setuptools that is gone. Source: openai/CLIP, simple_tokenizer.py; Sennrich et al., ACL 2016.
"""

import gzip
import html
import logging
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import accumulate
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from models.errors import InputError

log = logging.getLogger("thetafit")
CONTEXT = 77  # tokens that the network was trained on
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2  # of the file's 262144; the rest belongs to a larger vocabulary
START, END = "<|startoftext|>", "<|endoftext|>"
WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


class ClipTokenizer:
    """Texts to the token numbers that OpenAI's network knows."""

    def __init__(self, vocabulary: str | Path | None = None):
        """vocabulary: bpe_simple_vocab_16e6.txt.gz; without it the installed one of openai-clip."""
        lines = gzip.decompress(Path(vocabulary or vocabulary_file()).read_bytes()).decode().split("\n")
        merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
        letters = list(_byte_letters().values())
        pieces = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges]
        self.numbers = {piece: number for number, piece in enumerate([*pieces, START, END])}
        self.ranks = {merge: rank for rank, merge in enumerate(merges)}
        self.word = cache(self._word)

    def __call__(self, texts: Sequence[str], context: int = 22) -> Tensor:
        """Token numbers (batch, 77) int64: start, the text's first context - 2 tokens, end, zeros.

        MDM reads 22 tokens of a prompt for HumanML3D and KIT-ML. A longer text is cut, with a warning that says where.
        """
        rows = torch.zeros(len(texts), CONTEXT, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            tokens = self._within(text, context - 2)
            row[: len(tokens) + 2] = torch.tensor([self.numbers[START], *tokens, self.numbers[END]])
        return rows

    def _within(self, text: str, limit: int) -> list[int]:
        """At most `limit` tokens of the text."""
        words = WORD.findall(_clean(text))
        tokens = [self.word(word) for word in words]
        flat = [token for pieces in tokens for token in pieces]
        if len(flat) > limit:
            kept = bisect_right(list(accumulate(map(len, tokens))), limit)
            log.warning(
                "the text has %d tokens, %d are read: it is cut after word %d, %r; unread is %r",
                *(len(flat), limit, kept, " ".join(words[max(0, kept - 3) : kept]), " ".join(words[kept:])[:60]),
            )
        return flat[:limit]

    def _word(self, word: str) -> tuple[int, ...]:
        """Tokens of one word: its letters, neighbours merged in the order in which the vocabulary learnt to."""
        if word in (START, END):
            return (self.numbers[word],)
        letters = _byte_letters()
        pieces = [letters[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            pair = min(zip(pieces, pieces[1:], strict=False), key=lambda pair: self.ranks.get(pair, MERGES))
            if pair not in self.ranks:
                break
            pieces = _merge(pieces, pair)
        return tuple(self.numbers[piece] for piece in pieces)


def vocabulary_file() -> Path:
    """Where openai-clip, or OpenAI's own package `clip`, keeps the vocabulary; InputError when neither is installed."""
    for package in ("openai-clip", "clip"):
        try:
            found = next(file for file in distribution(package).files or () if file.name == VOCABULARY)
        except (PackageNotFoundError, StopIteration):
            continue
        return Path(found.locate())
    raise InputError(
        f"CLIP's vocabulary, {VOCABULARY}, comes with the package openai-clip, which is not installed: "
        f"pip install openai-clip==1.0.1. (The package called clip on PyPI is another project.)"
    )


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Every occurrence of the pair as one piece, from the left."""
    merged = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _clean(text: str) -> str:
    """Encoding mistakes mended, HTML entities resolved (twice, as OpenAI does), blanks single, small letters."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


@cache
def _byte_letters() -> dict[int, str]:
    """A printable letter for every byte: itself where it is printable, else one above 255. The order numbers tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
