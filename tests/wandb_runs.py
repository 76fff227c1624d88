"""Reading back what W&B keeps of a run that was offline: its .wandb file, record by record."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as wandb_file

USED, MADE = "used", "made"


@dataclass
class OfflineRun:
    """about: id, name, group, job, project; config and summary by key; rows of the history, what is nested as dicts.

    artifacts: used or made, and W&B's record of it, in their order.
    """

    folder: Path
    about: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[tuple[str, Any]] = field(default_factory=list)

    def logged(self, key: str) -> Any:
        """The last value of a key."""
        return next(row[key] for row in reversed(self.rows) if key in row)

    def artifact(self, how: str, kind: str) -> Any:
        """The only artifact of a type that the run has used or made."""
        (found,) = (record for record_how, record in self.artifacts if record_how == how and record.type == kind)
        return found

    def media(self, key: str) -> list[Path]:
        """The files of a key's last value, films, bodies or a table, where they lie in the run's folder."""
        value = self.logged(key)
        several = value.get("videos") or value.get("objects") or [value]
        return [self.folder / "files" / each["path"] for each in several]


def records(path: Path) -> Iterator[bytes]:
    """The records of a W&B file, a LevelDB log: 32 KiB blocks, pieces after checksum (4), length (2) and kind (1)."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs in folder/wandb, the first start first."""
    return [read(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def read(path: Path) -> OfflineRun:
    """One run."""
    run = OfflineRun(path.parent)
    for data in records(path):
        record = wandb_file.Record.FromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                names = {"id": "run_id", "name": "display_name", "group": "run_group", "job": "job_type"}
                run.about |= {key: getattr(record.run, name) for key, name in names.items()}
                run.about["project"] = record.run.project
                run.config |= values(record.run.config.update)
            case "config":
                run.config |= values(record.config.update)
            case "summary":
                run.summary |= values(record.summary.update)
            case "history":
                run.rows.append(values(record.history.item))
            case "artifact":
                run.artifacts.append((USED if record.artifact.use_after_commit else MADE, record.artifact))
    return run


def values(items: Any) -> dict[str, Any]:
    """Key -> value of config, summary or history; what is nested becomes dicts again."""
    found: dict[str, Any] = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = found
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)
    return found
