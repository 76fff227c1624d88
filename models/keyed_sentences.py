"""English sentences about one or two actions, put together by chance.

A phrase is written with alternatives in round brackets and verbs in square ones: "[walk] (forward|ahead|)" may become
"is walking ahead". All verbs of a sentence are put into the same or, now and then, into different tenses.
"""

import re

import numpy as np

Rng = np.random.Generator
SUBJECTS = ("a person", "the person", "a man", "a woman", "someone", "he", "she", "a human", "the figure", "somebody")
JOINS = (" and ", " then ", " and then ", ", then ", ", and ", " and afterwards ")
IRREGULAR = {  # (past, present participle) where rules do not give them
    "bend": ("bent", "bending"), "clap": ("clapped", "clapping"), "do": ("did", "doing"),
    "drink": ("drank", "drinking"), "get": ("got", "getting"), "go": ("went", "going"), "hold": ("held", "holding"),
    "hop": ("hopped", "hopping"), "jog": ("jogged", "jogging"), "kneel": ("knelt", "kneeling"),
    "leap": ("leapt", "leaping"), "make": ("made", "making"), "put": ("put", "putting"), "rise": ("rose", "rising"),
    "run": ("ran", "running"), "sidestep": ("sidestepped", "sidestepping"), "sit": ("sat", "sitting"),
    "spread": ("spread", "spreading"), "squat": ("squatted", "squatting"), "stand": ("stood", "standing"),
    "step": ("stepped", "stepping"), "take": ("took", "taking"), "throw": ("threw", "throwing"),
}  # fmt: skip


def sentence(actions: list[tuple[str, ...]], manner: tuple[str, ...], rng: Rng) -> str:
    """A sentence about actions in their order, each given by its phrases; manner: words of which one is added.

    Without a full stop, in lower case.
    """
    tense = str(rng.choice(("present", "progressive", "past"), p=(0.5, 0.3, 0.2)))
    parts = []
    for i, phrases in enumerate(actions):
        another = i > 0 and rng.random() < 0.2
        words = spoken(str(rng.choice(phrases)), "progressive" if another else tense, rng)
        parts.append(words.removeprefix("is ") if i and tense == "progressive" and rng.random() < 0.5 else words)
    if manner:
        word = str(rng.choice(manner))
        parts = [f"{part} {word}" for part in parts] if rng.random() < 0.3 else [*parts[:-1], f"{parts[-1]} {word}"]
    return f"{rng.choice(SUBJECTS)} {str(rng.choice(JOINS)).join(parts)}"


def spoken(phrase: str, tense: str, rng: Rng) -> str:
    """A phrase with its alternatives chosen and its verbs in a tense: present, progressive or past."""
    while "(" in phrase:
        phrase = re.sub(r"\(([^()]*)\)", lambda match: str(rng.choice(match[1].split("|"))), phrase)
    verbs = iter(range(phrase.count("[")))
    phrase = re.sub(r"\[(\w+)\]", lambda match: conjugated(match[1], tense, first=next(verbs) == 0), phrase)
    return " ".join(phrase.split())


def conjugated(verb: str, tense: str, first: bool = True) -> str:
    """Third person: walks, is walking (walking where it is not the first verb), walked."""
    if tense == "present":
        return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")
    stem = verb.removesuffix("e")
    past, participle = IRREGULAR.get(verb, (f"{stem}ed", f"{stem}ing"))
    return past if tense == "past" else f"is {participle}" if first else participle
