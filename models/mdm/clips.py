"""A data set in HumanML3D's folder layout: which clips it has, what is said of them, what is wrong with them.

    FOLDER/new_joint_vecs/NAME.npy   (frames, 263 or 251) features, not normalised
    FOLDER/texts/NAME.txt            a caption a line: caption#word/TAG word/TAG ...#start#end, in seconds
    FOLDER/train.txt, val.txt, test.txt   names, one a line;   FOLDER/Mean.npy, Std.npy

start = end = 0 stands for the whole clip (and so does nan). What was found is kept in the user's cache folder, and
files are read again when their time or size has changed. Source: EricGuo5513/HumanML3D; the loader of MDM.
"""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.mdm.cache import cache_folder, keep

log = logging.getLogger("thetafit")
FPS = 20  # of the seconds in texts; KIT-ML, at 12.5, has whole-clip captions only
LIMITS = {263: (40, 200), 251: (24, 200)}  # frames of a clip: at least, below


@dataclass(frozen=True)
class Caption:
    """A sentence, its tagged words, and the seconds it describes (0, 0: all)."""

    text: str
    tokens: tuple[str, ...]
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Entry:
    """What is learnt from: `length` frames of a clip from `first` on, and the captions that describe them."""

    clip: str
    first: int
    length: int
    captions: tuple[Caption, ...]


@dataclass
class Clip:
    """A clip as found: frames and channels of its motion, the text beside it, and why it cannot be used, if so."""

    stamp: list[int]
    frames: int = 0
    width: int = 0
    text: str = ""
    problem: str = ""


def read_names(folder: str | Path, split: str) -> list[str]:
    """The names in FOLDER/split.txt; InputError when there is no such file or no name in it."""
    path = Path(folder) / f"{split}.txt"
    if not path.is_file():
        raise InputError(
            f"{path}: missing. It lists the clips of the {split} split, one name a line (train, val, test)"
        )
    names = list(dict.fromkeys(path.read_text().split()))
    if not names:
        raise InputError(f"{path}: no name in it; expected are names of clips, one a line")
    return names


def read_clips(folder: str | Path, names: Sequence[str]) -> dict[str, Clip]:
    """The clips of these names, read, or looked up where their files have not changed."""
    folder = Path(folder)
    index = cache_folder() / "thetafit" / "clips" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()}.json"
    known = _load(index)
    clips, changed = {}, False
    for name in names:
        motion, text = folder / "new_joint_vecs" / f"{name}.npy", folder / "texts" / f"{name}.txt"
        stamp = _stamp(motion) + _stamp(text)
        clips[name] = known[name] if name in known and known[name].stamp == stamp else _read(motion, text, stamp)
        changed |= clips[name] is not known.get(name)
    if changed:
        every = {name: asdict(clip) for name, clip in (known | clips).items()}
        keep(index, lambda path: path.write_text(json.dumps(every)))
    return clips


def usable(clips: dict[str, Clip], width: int) -> dict[str, Clip]:
    """The clips without a problem whose frames have `width` channels; the others are named in one warning a reason.

    Raises InputError when none is left.
    """
    problems: dict[str, list[str]] = {}
    for name, clip in clips.items():
        problem = clip.problem or (clip.width != width and f"has {clip.width} channels, Mean.npy {width}")
        if problem:
            problems.setdefault(problem, []).append(name)
    for problem, names in problems.items():
        log.warning("%s left out: %s", _some(names), problem)
    bad = {name for names in problems.values() for name in names}
    if len(bad) == len(clips):
        why = "; ".join(f"{_some(names)}: {problem}" for problem, names in problems.items())
        raise InputError(f"none of {len(clips)} clips can be used: {why}")
    return {name: clip for name, clip in clips.items() if name not in bad}


def entries(clips: dict[str, Clip], limits: tuple[int, int]) -> list[Entry]:
    """What can be learnt from: stretches of at least limits[0] and below limits[1] frames, the shortest first.

    A caption with times makes an entry of its own, the others of a clip share one. A clip outside the limits gives
    nothing, not even stretches of it, as in the reference. Captions that cannot be used are named in a warning.
    """
    found, problems = [], []
    for name, clip in clips.items():
        captions, wrong = parse_captions(clip.text)
        late = [caption for caption in captions if int(FPS * caption.start) >= clip.frames]
        wrong += [f"{c.text!r} begins at {c.start:g} s, the clip ends at {clip.frames / FPS:g} s" for c in late]
        problems += [f"{name}.txt: {problem}" for problem in wrong]
        if limits[0] <= clip.frames < limits[1]:
            found += _stretches(name, clip.frames, [caption for caption in captions if caption not in late])
    if problems:
        log.warning("captions left out: %s", _some(problems))
    return sorted((e for e in found if limits[0] <= e.length < limits[1]), key=lambda entry: entry.length)


def parse_captions(text: str) -> tuple[list[Caption], list[str]]:
    """The captions of a text file, and a sentence for every line that is none."""
    captions, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            caption, tokens, *times = line.strip().rsplit("#", 3)
            start, end = (0.0 if math.isnan(float(time)) else float(time) for time in times)
        except ValueError:
            problems.append(f"line {number}: expected caption#word/TAG word/TAG#start#end, found {line.strip()[:60]!r}")
            continue
        if not caption.strip():
            problems.append(f"line {number}: the caption is empty")
        elif (start, end) != (0, 0) and not 0 <= start < end < math.inf:
            problems.append(f"line {number}: start {start:g} s and end {end:g} s make no stretch of time")
        else:
            captions.append(Caption(caption.strip(), tuple(tokens.split()), start, end))
    return captions, problems


def _stretches(name: str, frames: int, captions: list[Caption]) -> list[Entry]:
    """An entry for every caption with times, then one for all others."""
    timed = [caption for caption in captions if caption.end > 0]
    bounds = [(int(FPS * caption.start), min(int(FPS * caption.end), frames)) for caption in timed]
    made = [Entry(name, first, end - first, (c,)) for (first, end), c in zip(bounds, timed, strict=True)]
    whole = tuple(caption for caption in captions if caption.end == 0)
    return made + ([Entry(name, 0, frames, whole)] if whole else [])


def _stamp(path: Path) -> list[int]:
    """What changes when a file does; empty for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size]


def _read(motion: Path, text: Path, stamp: list[int]) -> Clip:
    clip = Clip(stamp)
    try:
        array = np.load(motion, allow_pickle=False)
        clip.text = text.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        clip.problem = f"no file in {Path(error.filename).parent.name}/"
    except (OSError, ValueError, EOFError) as error:
        clip.problem = f"cannot be read ({type(error).__name__})"
    else:
        clip.problem = _fault(array) or ("" if clip.text.strip() else "its text is empty")
        clip.frames, clip.width = array.shape if array.ndim == 2 else (0, 0)
    return clip


def _fault(array: np.ndarray) -> str:
    """Why an array is no motion, or ""."""
    if array.ndim != 2 or array.dtype.kind != "f":
        return f"an array {array.shape} of {array.dtype}, not (frames, channels) of floats"
    if len(array) == 0:
        return "no frames"
    return "" if np.isfinite(array).all() else "NaN or Inf in it"


def _load(index: Path) -> dict[str, Clip]:
    try:
        return {name: Clip(**clip) for name, clip in json.loads(index.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # absent, not whole, or of another version
        return {}


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
