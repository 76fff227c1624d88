"""Tagged words as the text-to-motion evaluators read them: GloVe vectors, and tags that lists of words override.

The vectors are the user's own files glove/our_vab_data.npy, our_vab_words.pkl and our_vab_idx.pkl; the pickles are read
as data. Source: EricGuo5513/text-to-motion, utils/word_vectorizer.py, and the data set of MDM's evaluation.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.safe_pickle import load_npy, load_pickle

MOST_WORDS = 20  # of a sentence; with its start and end 22
START, END, UNKNOWN = "sos/OTHER", "eos/OTHER", "unk/OTHER"
TELLING = {  # a word of these has their tag, whatever it was tagged as
    "Loc_VIP": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "Body_VIP": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "Obj_VIP": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "Act_VIP": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise "
    "wash stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "Desc_VIP": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
TAGS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV", *TELLING, "OTHER")
_TAG_OF = {word: tag for tag, words in TELLING.items() for word in words.split()}
FILES = ("our_vab_data.npy", "our_vab_words.pkl", "our_vab_idx.pkl")


class WordVectors:
    """A vector a word."""

    def __init__(self, vectors: Tensor, rows: dict[str, int]):
        """vectors (words, width), and the row of each word; unk, sos and eos among them. Raises InputError if not."""
        self.vectors, self.rows = vectors, rows
        if absent := [token for token in (START, END, UNKNOWN) if token.split("/")[0] not in rows]:
            raise InputError(f"the word vectors lack {', '.join(absent)}; are they our_vab of the evaluators?")

    @classmethod
    def load(cls, folder: str | Path) -> "WordVectors":
        """The three files of folder `glove`. Raises InputError where one is missing, broken or wants to run code."""
        folder = Path(folder)
        if absent := [name for name in FILES if not (folder / name).is_file()]:
            raise InputError(
                f"{folder}: lacks {', '.join(absent)}, the word vectors of the evaluators; MDM's "
                "prepare/download_glove.sh says where they are to be had"
            )
        vectors, words, rows = (
            load_npy(folder / FILES[0]),
            load_pickle(folder / FILES[1]),
            load_pickle(folder / FILES[2]),
        )
        numbered = isinstance(rows, dict) and all(isinstance(row, int | np.integer) for row in rows.values())
        if not (isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype.kind == "f" and numbered):
            raise InputError(f"{folder}: expected are an array (words, width), a list of words and a row for each")
        if wrong := [word for word in words if not 0 <= rows.get(word, -1) < len(vectors)]:
            raise InputError(
                f"{folder}: no vector for {', '.join(map(str, wrong[:5]))}; are the files of one download?"
            )
        return cls(torch.from_numpy(vectors.astype(np.float32)), {word: int(rows[word]) for word in words})

    def __call__(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Sentences of word/TAG -> vectors (batch, 22, width), tags (batch, 22, 15) one-hot, lengths (batch,).

        A length counts up to the end mark, the same for true and generated motion.
        """
        marked = [(START, *tokens[:MOST_WORDS], END) for tokens in sentences]
        lengths = torch.tensor([len(tokens) for tokens in marked])
        padded = [tokens + (UNKNOWN,) * (MOST_WORDS + 2 - len(tokens)) for tokens in marked]
        found = [[self._look_up(token) for token in tokens] for tokens in padded]
        rows = torch.tensor([[row for row, _ in tokens] for tokens in found])
        tags = torch.tensor([[tag for _, tag in tokens] for tokens in found])
        return self.vectors[rows], torch.nn.functional.one_hot(tags, len(TAGS)).to(self.vectors), lengths

    def _look_up(self, token: str) -> tuple[int, int]:
        """Row and tag of word/TAG; an unknown word is unk/OTHER, an unknown tag OTHER."""
        word, _, tag = token.partition("/")
        if word not in self.rows:
            word, tag = UNKNOWN.split("/")
        tag = _TAG_OF.get(word, tag)
        return self.rows[word], TAGS.index(tag if tag in TAGS else "OTHER")
