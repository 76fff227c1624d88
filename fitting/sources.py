"""From what the user names (files, folders, globs, MDM's film names) to files to read and the output folder of each."""

import difflib
import glob
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError

FILM = re.compile(r"(?:sample|row)(\d+)_(?:rep|col)(\d+)\.mp4")
SUFFIXES = (".npy", ".npz")
STATISTICS = ("mean.npy", "std.npy", "t2m_mean.npy", "t2m_std.npy", "kit_mean.npy", "kit_std.npy")
PARAMETERS = "_smpl_params.npy"
FIT_KEYS = {"poses.npy", "trans.npy", "joints.npy", "body.npy"}  # what only the .npz of a fit has together

Found = list[tuple[Path, tuple[int, int] | None]]


@dataclass(frozen=True)
class Failure:
    """A source, or one clip of it, that cannot be used, and the sentence that says why."""

    source: str
    message: str


@dataclass(frozen=True)
class MotionFile:
    """A file to read, the output folder for its clips, and the (sample, repetition) asked for, None for all."""

    path: Path
    folder: str
    pick: tuple[int, int] | None = None


def find_files(sources: Iterable[str | Path]) -> tuple[list[MotionFile], list[Failure]]:
    """The files that sources stand for.

    One source: its clips go into the output folder itself, and the tree of a folder or glob is kept below it. Several:
    each gets a subfolder of its own name, made distinct where two have the same.
    """
    expanded, failures = [], []
    named: dict[str, str] = {}
    for source in map(str, sources):
        named.setdefault(os.path.abspath(source), source)
    for source in named.values():
        try:
            expanded.append(_expand(source))
        except InputError as error:
            failures.append(Failure(source or "''", str(error)))
        except OSError as error:
            failures.append(Failure(source, f"cannot be read: {error.strerror}"))
    roots = list(dict.fromkeys(os.path.abspath(root) for root, _ in expanded))
    several = len(roots) + len(failures) > 1
    labels = dict(zip(roots, _distinct([_label(Path(root)) if several else "" for root in roots]), strict=True))
    files = []
    for root, found in expanded:
        label = Path(labels[os.path.abspath(root)])
        for path, pick in found:
            folder = label / path.parent.relative_to(root) if root.is_dir() else label
            files.append(MotionFile(path, "" if folder == Path() else folder.as_posix(), pick))
    return files, failures


def _label(root: Path) -> str:
    """What to call a source: a folder's name, a file's stem; every results.npy has the same, so its folder's name."""
    if root.is_dir():
        return root.name or "motion"
    return root.parent.name if root.stem == "results" and root.parent.name else root.stem


def _distinct(labels: list[str]) -> list[str]:
    """Number what was there before: walk, walk_2, ... On some disks Walk and walk are one folder."""
    taken: set[str] = set()
    distinct = []
    for label in labels:
        name, number = label, 1
        while name.casefold() in taken:
            number += 1
            name = f"{label}_{number}"
        taken.add(name.casefold())
        distinct.append(name)
    return distinct


def _expand(source: str) -> tuple[Path, Found]:
    """The root that a source's tree hangs on, and the files in it with the clip asked for."""
    path = Path(source)
    if not source:
        raise InputError("an empty name; for the folder you are in give .")
    film = FILM.fullmatch(path.name)
    if film:
        results = path.with_name("results.npy")
        if not results.is_file():
            raise InputError(f"{path.name} stands for a clip of the results.npy beside it. {_missing(results)}")
        return results, [(results, (int(film[1]), int(film[2])))]
    if path.is_file():
        return path, [(path, None)]
    if path.is_dir():
        return path, [(file, None) for file in _in_folder(path) or _refuse_folder(path)]
    if glob.has_magic(source):
        return _expand_glob(source)
    raise InputError(_missing(path))


def _in_folder(folder: Path) -> list[Path]:
    """The .npy and .npz in a folder and below, without statistics and what a fit wrote (smpl_params and .npz)."""
    arrays = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    motions = [path for path in arrays if path.name.lower() not in STATISTICS]
    return [path for path in motions if not path.name.endswith(PARAMETERS) and not _written_by_fit(path)]


def _written_by_fit(path: Path) -> bool:
    """Whether a .npz is what a fit wrote; so that DIR may lie among the sources of the next run."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return FIT_KEYS <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False  # reading it will say what is wrong


def _refuse_folder(folder: Path) -> list[Path]:
    suffixes = Counter(path.suffix or "without suffix" for path in folder.rglob("*") if path.is_file())
    holds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6)) or "no files at all"
    raise InputError(
        "the folder has no motion, .npy or .npz, in it or below (statistics such as Mean.npy and results of a fit do "
        f"not count; name those files to have them read). It holds {holds}"
    )


def _expand_glob(pattern: str) -> tuple[Path, Found]:
    """The motion files that match; where no match is a .npy or .npz, all of them, so that each is named."""
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)))
    if not matches:
        raise InputError("nothing matches this pattern")
    files = [path for path in matches if path.is_file()]
    arrays = [path for path in files if path.suffix.lower() in SUFFIXES]
    arrays += [path for folder in matches if folder.is_dir() for path in _in_folder(folder)]
    found: Found = [(path, None) for path in dict.fromkeys(arrays)]
    found = found or [pair for path in files for pair in _expand(str(path))[1]]
    if not found:
        raise InputError(f"what matches this pattern is {len(matches)} folders without .npy or .npz")
    root = found[0][0].parent
    while not all(path.is_relative_to(root) for path, _ in found):
        root = root.parent
    return root, found


def _missing(path: Path) -> str:
    """There is no such file: name the part of the path that exists, or what comes nearest in its folder."""
    parent = path.parent
    if not parent.is_dir():
        existing = next(folder for folder in parent.absolute().parents if folder.exists())
        return f"no such file: its folder {parent} does not exist, only {existing}"
    names = sorted(entry.name for entry in parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    near = near or [name for name in names if name.endswith(SUFFIXES)][:3]
    return "no such file" + (f"; its folder has {', '.join(near)}" if near else "; its folder has no .npy or .npz")
