"""Atomic writing: a file or folder appears under its name whole, or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT}
UNWRITABLE = {
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where the file should go",
    errno.ENAMETOOLONG: "the name is too long for the file system",
}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write a file or a folder at, moved to `path` when the block ends and removed when it raises.

    The path yielded does not exist yet and lies beside the target as `.NAME.tmp-PID.SUFFIX` (with the suffix, by which
    some writers choose the format). The target's folder is made, and what killed runs left for the same target is
    removed. An existing target is replaced: a file in one step, a folder by two renames.
    Raises InputError when the place cannot be written to or is full; whatever else the block raises passes through.
    """
    path = Path(path)
    temporary = _beside(path, f"{os.getpid()}")
    try:
        _make_folder(temporary)
        for leftover in leftovers(path):
            _remove(leftover)
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        if error.errno in FULL | UNWRITABLE.keys():
            raise InputError(_sentence(error, path)) from error
        raise
    finally:
        _remove(temporary)


def _make_folder(path: Path) -> None:
    """Make the folder of `path`, and for a moment the file. What goes wrong is the folder's, as on a drive gone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
            path.unlink()
    except OSError as error:
        raise InputError(_sentence(error, path.parent)) from error


def leftovers(path: Path) -> list[Path]:
    """What runs no longer alive, or an earlier try of this one, left half written for the target `path`."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.tmp-(\d+)(-old)?{re.escape(path.suffix)}")
    names = [name for name in os.listdir(path.parent) if name.startswith(f".{path.stem}.tmp-")]
    matches = filter(None, map(pattern.fullmatch, names))
    return [path.with_name(match[0]) for match in matches if not _belongs_to_another(int(match[1]))]


def _beside(path: Path, mark: str) -> Path:
    return path.with_name(f".{path.stem}.tmp-{mark}{path.suffix}")


def _belongs_to_another(pid: int) -> bool:
    """Whether a process other than this one is alive under that id (outside POSIX, where asking is not safe: yes)."""
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _replace(temporary: Path, path: Path) -> None:
    """Move to the final name. A folder that holds something cannot be replaced in one step: the old one makes way."""
    if not (temporary.is_dir() and path.is_dir()):
        os.replace(temporary, path)
        return
    old = _beside(path, f"{os.getpid()}-old")
    os.replace(path, old)
    os.replace(temporary, path)
    _remove(old)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sentence(error: OSError, path: Path) -> str:
    """What happened, for the person who chose the output folder."""
    if error.errno not in FULL:
        reason = UNWRITABLE.get(error.errno, "the system refuses")
        return f"cannot write {path}: {reason} ({error.strerror}). Name a place that can be written to."
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free / 2**20
    return (
        f"no space left to write {path}: {free:.0f} MB are free there, which is too little. "
        "Free some space, choose another folder, or ask for fewer --formats (obj takes the most)."
    )
