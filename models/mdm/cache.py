"""What is computed once and kept on disk: where, and how processes share it."""

import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

log = logging.getLogger("thetafit")


def cache_folder() -> Path:
    """The user's folder for what can be made again: $XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, then move it to `path`: other processes see the old file or the whole new one.

    Where the folder cannot be written to nothing is kept, and a warning says so.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as own:
            write(Path(own) / path.name)
            os.replace(Path(own) / path.name, path)
    except OSError as error:
        _warn(path.parent, str(error))


@cache
def _warn(folder: Path, reason: str) -> None:
    """Once a folder and reason."""
    log.warning("nothing is kept in %s, so it will be computed again: %s", folder, reason.partition(":")[0])
