"""The journal of a run: one small file a finished clip, by which --resume knows what need not be fitted again."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitting.curves import Losses
from fitting.export.atomic import atomic_path
from fitting.joint_errors import Counts

if TYPE_CHECKING:
    from fitting.data import Motion


@dataclass
class Entry:
    """A finished clip: what it was made from, its report, loss curves and joint errors, and the seconds it took."""

    source: str  # absolute
    fingerprint: str
    report: dict
    losses: Losses
    seconds: float
    joint_errors: Counts = field(default_factory=dict)


class Journal:
    """Entries in folder/CLIP.json, each written whole after all files of its clip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, clip: str) -> Entry | None:
        """The entry of a clip; None when there is none, or none that this version can read."""
        try:
            return Entry(**json.loads(self._path(clip).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, clip: str, entry: Entry) -> None:
        """Store a clip's entry, in one step."""
        with atomic_path(self._path(clip)) as temporary:
            temporary.write_text(json.dumps(asdict(entry)))

    def forget(self, clip: str) -> None:
        """Drop a clip's entry: its files are about to be replaced."""
        self._path(clip).unlink(missing_ok=True)

    def _path(self, clip: str) -> Path:
        return self.folder / f"{clip}.json"


def clip_name(motion: "Motion") -> str:
    """A clip's name within a run: its output path without suffix."""
    return f"{motion.folder}/{motion.name}" if motion.folder else motion.name


def fingerprint(motion: "Motion", settings: dict) -> str:
    """A hash of all that a clip's output follows from: its arrays, rate, text and skeleton, and the settings."""
    joints = [motion.skeleton.name, *motion.skeleton.shows]
    words = json.dumps([settings, motion.fps, motion.text, joints], default=str, sort_keys=True)
    digest = hashlib.sha256(words.encode())
    for array in (motion.joints, motion.confidence, motion.thetas, motion.root):
        if array is not None:
            digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def by_content(settings: dict) -> dict:
    """The settings with every file's path followed by the hash of what the file holds."""
    return {name: _with_content(value) for name, value in settings.items()}


def _with_content(value: object) -> object:
    if isinstance(value, str | Path) and Path(value).is_file():
        with open(value, "rb") as file:
            return [str(value), hashlib.file_digest(file, "sha256").hexdigest()]
    return value
