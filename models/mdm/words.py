"""Sentences as the numbers of known words: what the project's own small model reads where others read CLIP.

A word counts in its base form (walks, walking, walked: walk) or as the synonym of a known one (strolls: walk); small
words and who it is that moves are passed over, and what joins two actions becomes "then".
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import InputError
from models.keyed_sentences import IRREGULAR
from models.keyed_takes import ACTIONS, LONGEST, MANNERS
from models.mdm.text import TextEmbedding

log = logging.getLogger("thetafit")
READ = 24  # words of a sentence that are read
SPARE = 64  # numbers kept free for the words of a fine-tuning
THEN = "then"
JOINS = {THEN, "and", "afterwards", "afterward", "next", "finally", "later", "subsequently", "before"}
SILENT = set(
    "a an the this that thing item is are was were be being been has have to of at in for from by into onto on off "
    "with it its his her him their them they he she i you we my your our one's person persons people man men woman "
    "women human figure someone somebody something guy girl boy lady individual character child kid who which as while "
    "very".split()
)
# Known word: others that mean the same. Only words that no sentence of the training data holds.
SYNONYMS = {
    "walk": "amble wander saunter tread hike trudge advance proceed stride",
    "backward": "rearward reverse",
    "forward": "onward onwards forth",
    "run": "dash race rush gallop",
    "jog": "trot",
    "turn": "pivot spin swivel",
    "jump": "spring vault",
    "bounce": "bob",
    "hop": "skip",
    "kick": "boot",
    "up": "upward upwards",
    "down": "downward downwards",
    "hips": "hip",
    "jacks": "jack",
    "times": "time",
    "crouch": "cower hunch",
    "sit": "perch seated",
    "kneel": "genuflect",
    "pick": "grab grasp collect gather fetch scoop retrieve",
    "box": "spar shadowbox carton crate",
    "bow": "curtsy",
    "wave": "greet beckon",
    "clap": "applause",
    "punch": "jab hit strike",
    "raise": "elevate hoist",
    "spread": "extend",
    "point": "gesture",
    "throw": "fling chuck pitch lob cast",
    "look": "glance stare peer",
    "drink": "gulp swallow",
    "phone": "telephone cellphone smartphone mobile",
    "dance": "boogie groove waltz",
    "wait": "idle pause rest",
    "stand": "erect",
    "slow": "leisurely gently sluggishly gradually calmly",
    "quickly": "swiftly hastily briskly speedily",
    "sadly": "tiredly wearily gloomily unhappily",
    "proudly": "pompously haughtily",
    "floor": "earth",
    "overhead": "above",
    "leg": "limb",
    "hand": "palm",
    "sideways": "sidewards laterally",
    "several": "multiple numerous repeatedly couple two four",
    "cup": "mug",
    "toolbox": "toolkit bag suitcase package parcel",
}
_BASES = {form: verb for verb, forms in IRREGULAR.items() for form in forms}
_MEANS = {other: word for word, others in SYNONYMS.items() for other in others.split()}


def base_forms(word: str) -> Iterator[str]:
    """What a word may be a form of, the word itself first: picked -> picked, pick, picke."""
    yield word
    if word in _BASES:
        yield _BASES[word]
    for ending in ("ing", "ed", "es", "s", "ly"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1:
            yield stem
            yield f"{stem}e"
            if stem[-1] == stem[-2]:
                yield stem[:-1]
            if stem[-1] == "i":
                yield f"{stem[:-1]}y"


@cache
def template_words() -> tuple[str, ...]:
    """The words of all sentences that models/keyed_takes.py can make, in their base forms, in a fixed order."""
    phrases = [phrase for action in ACTIONS.values() for phrase in action.phrases]
    phrases += [word for manner in MANNERS.values() for word in manner.words]
    said = {word for phrase in phrases for word in re.findall(r"[a-z-]+", phrase)} - SILENT - JOINS
    return (THEN, *distinct(said))


def distinct(words: Iterable[str]) -> list[str]:
    """The words, the shortest first, less those that have a form in common with one before."""
    found, forms = [], set()
    for word in sorted(words, key=lambda word: (len(word), word)):
        own = set(base_forms(word))
        if not own & forms:
            found.append(word)
        forms |= own
    return found


class Vocabulary:
    """Known words and their numbers, from 1; 0 is no word. seconds: what each adds to a motion, "" always."""

    def __init__(self, words: Sequence[str] | None = None, seconds: dict[str, float] | None = None):
        """words: in the order of their numbers, by default those of the sentences that the project makes."""
        self.words = tuple(words or template_words())
        self.seconds = seconds or {}
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}
        for word in self.words:
            for form in base_forms(word):
                self._numbers.setdefault(form, self._numbers[word])

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary":
        """words.json of a model's folder. Raises InputError where it is missing or not one."""
        path = Path(folder) / "words.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            words, seconds = found["words"], found["seconds"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no vocabulary ({error}); it comes with a model that reads words") from None
        return cls(words, seconds)

    def save(self, folder: str | Path) -> None:
        """Write words.json."""
        content = json.dumps({"words": self.words, "seconds": self.seconds})
        (Path(folder) / "words.json").write_text(content + "\n", encoding="utf-8")

    def number(self, word: str) -> int | None:
        """The number of a word, its base form or what it means; 0 where it is passed over, None if it is unknown."""
        for form in base_forms(word):
            known = THEN if form in JOINS else form if form in self._numbers else _MEANS.get(form)
            if known in self._numbers:
                return self._numbers[known]
            if form in SILENT:
                return 0
        return None

    def read(self, text: str) -> tuple[list[int], list[str]]:
        """Numbers of the known words in their order, and the unknown words."""
        numbers, unknown = [], []
        for word in re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", text.lower().replace("after that", THEN)):
            number = self.number(word)
            if number is None:
                unknown.append(word)
            elif number and numbers[-1:] != [number]:
                numbers.append(number)
        return numbers, unknown

    def learn(self, texts: Sequence[str], room: int) -> "Vocabulary":
        """With the texts' unknown words added. Raises InputError where they are more than there is room for."""
        new = distinct({word for text in texts for word in self.read(text)[1]})
        if len(self.words) + len(new) > room:
            raise InputError(f"{len(new)} new words, room for {room - len(self.words)}: {', '.join(new)}")
        return Vocabulary((*self.words, *new), self.seconds)

    def estimate(self, text: str) -> float:
        """About how many seconds it takes to do what the sentence says, 2 to LONGEST."""
        words = {self.words[number - 1] for number in self.read(text)[0]}
        return min(max(sum(self.seconds.get(word, 0.0) for word in ("", *words)), 2.0), LONGEST)


class WordText:
    """Sentences to numbers (batch, READ) of a vocabulary's words, 0 after the last."""

    def __init__(self, folder: str | Path | None = None):
        """folder: of a model, with its words.json; by default the words of the project's own sentences."""
        self.vocabulary = Vocabulary.load(folder) if folder else Vocabulary()

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """A row a text. What is unknown or too long is left out, with a warning; InputError where no word is known."""
        rows = torch.zeros(len(texts), READ, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            numbers = self._known(text)
            row[: len(numbers)] = torch.tensor(numbers)
        return TextEmbedding(rows)

    def learn(self, texts: Sequence[str], room: int) -> None:
        """Take the texts' unknown words into the vocabulary; see Vocabulary.learn."""
        self.vocabulary = self.vocabulary.learn(texts, room)

    @cache  # noqa: B019, an encoder lives as long as its run
    def _known(self, text: str) -> list[int]:
        numbers, unknown = self.vocabulary.read(text)
        if unknown:
            knows = f"It knows: {'; '.join(ACTIONS)}; and slowly, quickly, sadly, proudly, and two actions in a row."
            if not numbers:
                raise InputError(f"the small model knows no word of {text!r}. {knows}")
            log.warning("the small model does not know %s in %r. %s", ", ".join(unknown), text, knows)
        if len(numbers) > READ:
            last = self.vocabulary.words[numbers[READ - 1] - 1]
            log.warning("%r is cut after its %dth known word, %r", f"{text[:60]}...", READ, last)
        return numbers[:READ]


class WordEncoder(nn.Module):
    """Numbers of words (..., READ) to one embedding (..., width): a small transformer's first token.

    No words at all are the embedding of "unconditional".
    """

    in_features = READ

    def __init__(self, words: int, width: int, inner: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(words + 1, inner, padding_idx=0)
        self.first = nn.Parameter(torch.randn(1, 1, inner) * 0.02)
        self.places = nn.Parameter(torch.randn(READ + 1, inner) * 0.02)
        layer = nn.TransformerEncoderLayer(
            inner, 4, 2 * inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(inner, width)

    def forward(self, words: Tensor) -> Tensor:
        flat = words.long().flatten(0, -2)
        flat = flat[:, : max(int((flat > 0).sum(1).max()), 1)]
        tokens = (
            torch.cat((self.first.expand(len(flat), -1, -1), self.words(flat)), 1) + self.places[: flat.shape[1] + 1]
        )
        padding = nn.functional.pad(flat == 0, (1, 0), value=False)
        return self.out(self.encoder(tokens, src_key_padding_mask=padding)[:, 0]).unflatten(0, words.shape[:-1])
