"""What is said of recordings: from a table, from a folder of texts, or from their files' names."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from models.errors import InputError
from models.mdm.clips import Caption, parse_captions

CLIP, TEXT = ("clip", "name", "file"), ("caption", "text")
TAG = "OTHER"  # of every word: no tagger here; only the published evaluators look at tags


def read_captions(path: str | Path) -> dict[str, list[Caption]]:
    """Captions by the name of their recording.

    path: a CSV with the columns clip and caption, and start and end in seconds if wanted, a row a caption; or a folder
    of NAME.txt as HumanML3D's texts. Raises InputError, with the line, for anything else.
    """
    path = Path(path)
    if path.is_dir():
        return {file.stem: _whole(file) for file in sorted(path.glob("*.txt"))}
    captions: dict[str, list[Caption]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            clip, text = _columns(path, rows.fieldnames or ())
            for row in rows:
                name = re.sub(r"\.(bvh|npy|npz|pkl|txt)$", "", row[clip] or "")
                captions.setdefault(name, []).append(_caption(path, rows.line_num, row[text], row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table (CSV in UTF-8): {error}") from None
    return captions


def _columns(path: Path, header: Sequence[str]) -> tuple[str, str]:
    """The names of the columns with clips and captions."""
    found = [next((name for name in header if name.strip().lower() in known), None) for known in (CLIP, TEXT)]
    if None in found:
        given = ", ".join(header) or "nothing"
        raise InputError(f"{path}: expected the columns clip and caption (start, end) in its first line, found {given}")
    return found[0], found[1]


def caption(text: str, start: float = 0.0, end: float = 0.0) -> Caption:
    """A caption whose words have no tags yet. `#`, which separates the parts of a line, becomes a blank."""
    text = " ".join(text.replace("#", " ").split())
    words = re.findall(r"[^\W\d_]+", text.lower())
    return Caption(text, tuple(f"{word}/{TAG}" for word in words), start, end)


def caption_of_name(name: str) -> Caption:
    """`walkForward_angry-02` says `walk forward angry`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return caption(" ".join(words).lower() or name)


def lines(captions: Sequence[Caption]) -> str:
    """The captions as HumanML3D's texts hold them."""
    return "".join(f"{c.text}#{' '.join(c.tokens)}#{c.start:.3f}#{c.end:.3f}\n" for c in captions)


def within(captions: Sequence[Caption], start: float, end: float, shortest: float) -> list[Caption]:
    """The captions of the seconds from `start` to `end`, counted from there.

    One with times of its own counts where at least `shortest` seconds of it lie inside.
    """
    found = []
    for c in captions:
        first, last = max(c.start, start) - start, min(c.end, end) - start
        if c.end == 0:
            found.append(c)
        elif last - first >= shortest:
            found.append(Caption(c.text, c.tokens, first, last))
    return found


def _whole(file: Path) -> list[Caption]:
    captions, problems = parse_captions(file.read_text(encoding="utf-8"))
    if problems:
        raise InputError(f"{file}: {problems[0]}")
    return captions


def _caption(path: Path, line: int, text: str | None, row: dict) -> Caption:
    """A table's row; its times may be absent or empty."""
    try:
        start, end = (float(row.get(key) or 0) for key in ("start", "end"))
    except ValueError:
        start, end = -1.0, -1.0
    if (start, end) != (0, 0) and not 0 <= start < end < float("inf"):
        raise InputError(f"{path}, line {line}: start {row.get('start')!r} and end {row.get('end')!r} are no seconds")
    if not (text or "").strip():
        raise InputError(f"{path}, line {line}: the caption is empty")
    return caption(text, start, end)
