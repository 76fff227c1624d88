"""Artifacts on W&B and what they were made from: weights -> motion -> fit -> metrics.

An artifact is called by what it is, and W&B keeps the same files under the same name as one version. So what one run
has made is found again as what another is made from, by contents, wherever the files lie and whoever is offline.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitting.export import FORMATS
from fitting.folder import FRAME_BYTES

if TYPE_CHECKING:
    from wandb import Artifact, Run

COMPANIONS = ("args.json", "Mean.npy", "Std.npy", "words.json")  # of a network's weights, in their folder
EACH = 8  # motion files that are artifacts of their own; more are one together
LARGE = tuple(FORMATS[name].suffix for name in FRAME_BYTES)  # all vertices: `thetafit convert` makes them of the npz
DATA_DIR = "WANDB_DATA_DIR"


@dataclass(frozen=True)
class Content:
    """What an artifact is: its name, its type, and its files by their names in it."""

    name: str
    type: str
    files: dict[str, Path]


def weights(path: Path) -> Content:
    """A file of weights: MDM's with all that belongs to it, or any other file that something starts from."""
    if not path.with_name("args.json").is_file():
        return Content(artifact_name(path.stem), "model", {path.name: path})
    companions = [path.with_name(name) for name in COMPANIONS]
    return Content("mdm", "model", {each.name: each for each in (path, *companions) if each.is_file()})


def motions(sources: Sequence[Path]) -> list[Content]:
    """Files of motion: each by itself, or all as one where they are many."""
    if len(sources) <= EACH:
        return [Content("motion", "motion", {path.name: path}) for path in sources]
    root = Path(os.path.commonpath([path.absolute().parent for path in sources]))
    return [Content("motion", "motion", {path.absolute().relative_to(root).as_posix(): path for path in sources})]


def fit(folder: Path) -> Content:
    """What the fits in a folder wrote, by its report.json; without the files that hold the vertices of all frames."""
    clips = json.loads((folder / "report.json").read_text())["clips"]
    names = [name for clip in clips for name in clip["files"] if not name.endswith(LARGE)]
    return Content("fit", "fit", {name: folder / name for name in names})


def metrics(paths: Sequence[Path]) -> Content:
    """Files of numbers."""
    return Content("metrics", "metrics", {path.name: path for path in paths})


def artifact_name(text: str) -> str:
    """The text with what W&B allows in names."""
    return re.sub(r"[^\w.-]", "-", text, flags=re.ASCII)


def use(run: "Run", contents: Sequence[Content]) -> list[dict[str, str]]:
    """Say that a run is made from these; returns name, digest and place of each, which the run's config has too.

    They are known by their checksums: no file is copied or uploaded.
    """
    import wandb

    used = []
    for content in contents:
        artifact = wandb.Artifact(content.name, type=content.type)
        for name, path in content.files.items():
            artifact.add_reference(path.absolute().as_uri(), name=name)
        _declare_used(run, artifact)
        first = next(iter(content.files.values()))
        used.append({"name": content.name, "digest": artifact.digest, "file": str(first.absolute())})
    run.config.update({"inputs": used}, allow_val_change=True)
    return used


def _declare_used(run: "Run", artifact: "Artifact") -> None:
    """Run.use_artifact, which refuses to work offline: there the record it would send is written, for `wandb sync`."""
    with staged_in(run):
        if run.offline:
            run._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)
        else:
            run.use_artifact(artifact)


def log(
    run: "Run", content: Content, metadata: dict[str, Any], aliases: Sequence[str] = (), copied: bool = False
) -> None:
    """Log files that a run has made.

    copied: W&B gets copies, for files that a later start of the run replaces; others it reads where they lie.
    """
    import wandb

    artifact = wandb.Artifact(content.name, type=content.type, metadata=metadata)
    with staged_in(run):
        for name, path in content.files.items():
            artifact.add_file(str(path.absolute()), name, policy="mutable" if copied else "immutable")
        run.log_artifact(artifact, aliases=list(aliases))


@contextmanager
def staged_in(run: "Run") -> Iterator[None]:
    """W&B's copies of files wait for their upload in the run's own folder instead of the user's home."""
    before = os.environ.get(DATA_DIR)
    os.environ[DATA_DIR] = before or str(Path(run.dir).parent)
    try:
        yield
    finally:
        if before is None:
            del os.environ[DATA_DIR]
