"""`thetafit inspect`: what a file holds, every key with its shape and meaning, and the command to run next."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fitting.data import load_motions
from fitting.formats import FPS_KEYS, open_content
from fitting.inspect.arrays import describe, find_layout
from fitting.inspect.files import inspect_bvh, inspect_checkpoint, inspect_glb, inspect_json
from fitting.inspect.kinds import FIT, FOREIGN, Kind, find_kind
from fitting.inspect.motions import MOST, add_motions, cause, refusals, suspicions
from fitting.inspect.report import Report, Row, holds
from fitting.inspect.show import show
from fitting.sources import STATISTICS
from models.errors import InputError

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".tar")
FACTS = ("text", "body", "gender", "surface_model_type")  # keys whose value is said below the table too
NOT_READ = "not read"


def inspect_files(files: list[str], as_json: bool) -> int:
    """Print what each file holds; returns the exit code: 0, 1 when some could not be read, 2 when none could."""
    reports = [inspect(Path(file)) for file in files]
    if as_json:
        print(json.dumps([asdict(report) for report in reports], indent=1))
    else:
        show(reports)
    unread = sum(report.kind == NOT_READ for report in reports)
    return 0 if not unread else 2 if unread == len(reports) else 1


def inspect(path: Path) -> Report:
    """What the file holds; where it cannot be read, the report's kind is NOT_READ and `wrong` says why."""
    try:
        return _inspect(path)
    except InputError as error:
        return Report(str(path), NOT_READ, wrong=[cause(str(error).removeprefix(f"{path}: "))])
    except OSError as error:
        return Report(str(path), NOT_READ, wrong=[f"cannot be read: {error.strerror}"])


def _inspect(path: Path) -> Report:
    if path.is_dir():
        raise InputError(f"{path}: it is a folder; name the files in it, such as {path}/*.npz")
    with path.open("rb") as file:
        start = file.read(16)
    suffix = path.suffix.lower()
    if start.startswith(b"glTF"):
        return inspect_glb(path)
    if suffix == ".bvh" or start.startswith(b"HIERARCHY"):
        return _of_bvh(path)
    if suffix in CHECKPOINTS:
        return inspect_checkpoint(path)
    if suffix == ".json":
        return inspect_json(path, partial(_of_dict, path))
    content = open_content(path)
    if isinstance(content, Mapping):
        return _of_dict(path, content)
    if isinstance(content, np.ndarray) and content.dtype != object:
        return _of_array(path, content)
    return _of_list(path, list(content) if isinstance(content, np.ndarray | list) else [content])


def _of_bvh(path: Path) -> Report:
    """The file's joints, and the fit that comes next where its skeleton can be fitted."""
    report = inspect_bvh(path)
    if load_motions(path)[0]:
        report.next.insert(0, FIT.format(file=path))
    return report


def _of_dict(path: Path, content: Mapping) -> Report:
    kind = find_kind(content) or FOREIGN
    rows = [_row(kind, str(key), value) for key, value in content.items()]
    next_commands = [command.format(file=path, folder=path.parent) for command in kind.next]
    report = Report(str(path), kind.name, rows, dict(kind.facts), list(kind.notes), next_commands)
    report.facts |= {key: value for key in FACTS if isinstance(value := _plain(content.get(key)), str) and value}
    _add_frames(report, content)
    if kind.motion:
        add_motions(report, path, stated=any(key in content for key in FPS_KEYS))
    report.wrong += suspicions(content)
    return report


def _row(kind: Kind, key: str, value: Any) -> Row:
    """A key's row: its meaning from the kind of file, its axes from there or, with it, from the array's shape."""
    axes, meaning = kind.keys.get(key, ("", ""))
    if not meaning and isinstance(value, np.ndarray) and value.ndim:
        axes, meaning = describe(value)
    rank = value.ndim if hasattr(value, "ndim") else 1 if isinstance(value, list) else 0
    if key == "betas" and rank == 2:
        axes = f"frames, {axes}"
    if axes.count(",") + 1 != rank:
        axes = ""
    return Row(key, holds(value), axes, meaning or kind.others)


def _of_array(path: Path, array: np.ndarray) -> Report:
    axes, meaning = describe(array)
    report = Report(str(path), "a numpy array", [Row("(the array)", holds(array), axes, meaning or FOREIGN.others)])
    layout = find_layout(array)
    if path.name.lower() in STATISTICS:
        report.kind = "statistics of motion features"
        report.next.append(f"thetafit fit features.npy --stats {path.parent}")
    elif layout and layout.motion:
        report.kind = "motion features" if "W" in layout.shape else "a motion"
        report.next.append(FIT.format(file=path))
        add_motions(report, path, stated=False)
    elif array.dtype != bool:
        report.wrong += refusals(load_motions(path)[1])
    return report


def _of_list(path: Path, items: list) -> Report:
    rows = [_row(FOREIGN, f"[{i}]", item) for i, item in enumerate(items[:MOST])]
    report = Report(str(path), f"a list of {len(items)}", rows)
    if all(isinstance(item, np.ndarray) for item in items):
        report.next.append(FIT.format(file=path))
        add_motions(report, path, stated=False)
    return report


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _add_frames(report: Report, content: Mapping) -> None:
    """Frames and their rate, where the arrays tell."""
    timed = [
        row for row in report.rows if "frames" in row.axes.split(", ") and isinstance(content[row.key], np.ndarray)
    ]
    if timed:
        place = timed[0].axes.split(", ").index("frames")
        report.facts["frames"] = str(content[timed[0].key].shape[place])
    if rates := [_plain(content[key]) for key in FPS_KEYS if isinstance(_plain(content.get(key)), int | float)]:
        report.facts["fps"] = f"{rates[0]:g} (from the file)"
