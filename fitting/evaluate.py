"""`thetafit evaluate`: the metrics of written fits against their input, and against the truth where there is one."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from fitting.export.atomic import atomic_path
from fitting.metrics import (
    Underside,
    acceleration,
    acceleration_error,
    jerk,
    joint_errors_mm,
    mean,
    pa_errors_mm,
    rotation_errors_degrees,
    rotation_jitter_degrees,
    underside,
)
from fitting.observed import as_smpl
from fitting.report import METRIC_KEYS, all_metrics, finger_error_mm, own_metrics
from fitting.tracking.commands import track_evaluation
from fitting.tracks import Bodies, Track, find_results, find_truths, read_track
from fitting.version import __version__
from models.body import BODY_JOINTS
from models.errors import InputError

FRAMES_AT_ONCE = 64  # whose vertices are in memory

TRUTH_KEYS = (
    "mpjpe_in_mm", "mpjpe_mm", "pa_mpjpe_in_mm", "pa_mpjpe_mm", "vertex_error_mm", "rotation_error_degrees",
    "acceleration_error_in", "acceleration_error_out", "acceleration_true", "jerk_true", "rotation_jitter_degrees_true",
)  # fmt: skip
# Label, unit, key of the input's number, key of the fit's, decimals.
ROWS = (
    ("joint error (MPJPE)", "mm", None, "mpjpe_mm", 1),
    ("joint error, worst", "mm", None, "max_joint_error_mm", 1),
    ("joint error, aligned (PA-MPJPE)", "mm", None, "pa_mpjpe_mm", 1),
    ("bone length change, worst bone", "%", "bone_length_change_percent", None, 1),
    ("acceleration", "m/s^2", "acceleration_in", "acceleration_out", 2),
    ("jerk", "m/s^3", "jerk_in", "jerk_out", 1),
    ("rotation jitter", "degrees", None, "rotation_jitter_degrees", 2),
    ("foot skate ratio, 5 cm gate", "", "foot_skate_ratio_in", "foot_skate_ratio_out", 3),
    ("foot skate ratio, 2.5 cm gate", "", "foot_skate_ratio_25mm_in", "foot_skate_ratio_25mm_out", 3),
    ("foot steps that are planted", "", "planted_share", None, 3),
    ("planted foot speed", "m/s", "planted_speed_in", "planted_speed_out", 3),
    ("foot jerk", "m/s^3", "foot_jerk_in", "foot_jerk_out", 1),
    ("low feet lifted over 5 cm", "", None, "lifted_share", 3),
    ("mesh under the floor (penetration)", "mm", None, "penetration_mm", 1),
    ("mesh over the floor (float)", "mm", None, "float_mm", 1),
    ("sole from the floor, planted", "mm", None, "sole_height_mm", 1),
    ("slip of the sole, planted", "mm/frame", None, "slip_mm", 1),
    ("beyond joint limits", "degrees", None, "limit_excess_degrees", 1),
    ("frames beyond joint limits", "", None, "limit_share", 3),
)
# The same with a last column, the truth's own number.
TRUTH_ROWS = (
    ("joints (MPJPE)", "mm", "mpjpe_in_mm", "mpjpe_mm", None, 1),
    ("joints, aligned (PA-MPJPE)", "mm", "pa_mpjpe_in_mm", "pa_mpjpe_mm", None, 1),
    ("vertices", "mm", None, "vertex_error_mm", None, 1),
    ("rotations of 22 joints", "degrees", None, "rotation_error_degrees", None, 2),
    ("acceleration error", "m/s^2", "acceleration_error_in", "acceleration_error_out", None, 2),
    ("acceleration", "m/s^2", "acceleration_in", "acceleration_out", "acceleration_true", 2),
    ("jerk", "m/s^3", "jerk_in", "jerk_out", "jerk_true", 1),
    ("rotation jitter", "degrees", None, "rotation_jitter_degrees", "rotation_jitter_degrees_true", 2),
)


def evaluate_files(
    results: list[str], truth: str | None, body: str | None, json_file: str | None, logger: str = "none"
) -> int:
    """Print the metrics of result files and folders, write them to json_file, and to W&B; returns the exit code.

    truth: an npz, or a folder with one named as each result; body: file of the body of fits to another than the
    embedded one; logger: none or wandb. Raises InputError for what is no result, for a truth of another length, and for
    W&B without a file to log.
    """
    if logger == "wandb" and json_file is None:
        raise InputError("--logger wandb logs the file with the numbers: say where to write it with --json FILE")
    bodies = Bodies(body)
    paths = find_results(results)
    truths = find_truths(paths, truth)
    entries = []
    for name, path in paths.items():
        track = read_track(name, path, bodies, result=True)
        true = read_track(name, truths[name], bodies, result=False) if truths else None
        entries.append(evaluate(track, true))
    print("\n".join(tables(entries)))
    if bodies.missing:
        print(bodies.note())
    if json_file:
        text = json.dumps({"clips": entries, "version": __version__}, indent=1, allow_nan=False)
        with atomic_path(json_file) as temporary:
            temporary.write_text(text)
    if logger == "wandb":
        track_evaluation(results, entries, Path(json_file))
    return 0


def evaluate(track: Track, true: Track | None = None) -> dict[str, Any]:
    """The entry of one fit: name, source, frames, fps, METRIC_KEYS, finger_error_mm; "truth": its errors or None."""
    fps, thetas = track.fps, track.parameters[1].numpy()
    entry = {"name": track.name, "source": str(track.path), "frames": len(track.joints), "fps": fps}
    entry |= dict.fromkeys((*METRIC_KEYS, "finger_error_mm"))
    if track.given is None:
        entry |= own_metrics(track.joints, thetas, fps)
    else:

        def mesh() -> Underside:
            return underside(track.body, *track.parameters)

        entry |= all_metrics(track.joints, thetas, track.given, track.skeleton, fps, mesh if track.body else None)
        if track.body:
            entry["finger_error_mm"] = finger_error_mm(track.body, track.parameters, track.given, track.skeleton)
    return entry | {"truth": None if true is None else truth_errors(track, true)}


def truth_errors(track: Track, true: Track) -> dict[str, float | None]:
    """TRUTH_KEYS: how far a fit, and its input (`_in`), are from the truth; how smooth the truth is (`_true`)."""
    _check_pair(track, true)
    fps = track.fps
    errors: dict[str, float | None] = dict.fromkeys(TRUTH_KEYS) | {
        "mpjpe_mm": mean(joint_errors_mm(track.joints, true.joints)),
        "pa_mpjpe_mm": mean(pa_errors_mm(track.joints, true.joints)),
        "acceleration_error_out": acceleration_error(track.joints, true.joints, fps),
        "acceleration_true": acceleration(true.joints, fps),
        "jerk_true": jerk(true.joints, fps),
    }
    if track.given is not None:
        given = as_smpl(track.given, track.skeleton)
        errors["mpjpe_in_mm"] = mean(joint_errors_mm(given, true.joints))
        errors["pa_mpjpe_in_mm"] = mean(pa_errors_mm(given, true.joints))
        errors["acceleration_error_in"] = acceleration_error(given, true.joints, fps)
    if true.parameters is not None:
        ours, theirs = (t.parameters[1] for t in (track, true))
        angles = rotation_errors_degrees(ours[:, :BODY_JOINTS], theirs[:, :BODY_JOINTS])
        errors["rotation_error_degrees"] = mean(angles)
        errors["rotation_jitter_degrees_true"] = rotation_jitter_degrees(theirs)
        if track.body and true.body and track.body.name == true.body.name:
            errors["vertex_error_mm"] = vertex_error_mm(track, true)
    return errors


def vertex_error_mm(track: Track, true: Track) -> float:
    """Mean distance in millimetres of the vertices of one body file under two sets of parameters, and of bones."""
    total = 0.0
    for start in range(0, len(track.joints), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        total += joint_errors_mm(_vertices(track, part), _vertices(true, part)).mean(1).sum()
    return float(total / len(track.joints))


def _vertices(track: Track, part: slice) -> Tensor:
    betas, thetas, transl = track.parameters
    return track.body.vertices(betas if betas.ndim == 1 else betas[part], thetas[part], transl[part])


def _check_pair(track: Track, true: Track) -> None:
    if len(track.joints) != len(true.joints):
        raise InputError(
            f"{track.path} has {len(track.joints)} frames, its truth {true.path} {len(true.joints)}: a pair has the "
            "same frames"
        )
    if true.fps is not None and abs(true.fps - track.fps) > 1e-3:
        raise InputError(
            f"{track.path} runs at {track.fps:g} frames a second, its truth {true.path} at {true.fps:g}: a pair has "
            "the same frames"
        )


# Tables -------------------------------------------------------------------------------------------------------------


def tables(entries: list[dict]) -> list[str]:
    """The lines to print: every number of a clip alone; a line for each of several, and their means."""
    lines = [*_clip_lines(entries), ""] if len(entries) > 1 else []
    only = entries[0]
    what = f"mean of {len(entries)} clips" if len(entries) > 1 else f"{only['name']}, {only['frames']} frames"
    lines += _table(what, ("input", "fit"), ROWS, entries)
    if only["truth"] is None:
        return lines
    against = [entry | entry["truth"] for entry in entries]
    return [*lines, "", *_table("against the truth", ("input", "fit", "truth"), TRUTH_ROWS, against)]


def _table(title: str, columns: tuple[str, ...], rows: tuple, entries: list[dict]) -> list[str]:
    """A line a row with the means over entries."""
    lines = [f"{title:<46}" + "".join(f"{column:>10}" for column in columns)]
    for label, unit, *keys, decimals in rows:
        cells = ["" if key is None else _cell(mean([_nan(e[key]) for e in entries]), decimals) for key in keys]
        lines.append((f"{label + (f', {unit}' if unit else ''):<46}" + "".join(f"{c:>10}" for c in cells)).rstrip())
    return lines


COLUMNS = (
    ("frames", "frames", 0),
    ("joints mm", "mpjpe_mm", 1),
    ("jerk in", "jerk_in", 1),
    ("out", "jerk_out", 1),
    ("skate in", "foot_skate_ratio_in", 3),
    ("out", "foot_skate_ratio_out", 3),
    ("planted m/s in", "planted_speed_in", 3),
    ("out", "planted_speed_out", 3),
    ("under mm", "penetration_mm", 1),
    ("sole mm", "sole_height_mm", 1),
)


def _clip_lines(entries: list[dict]) -> list[str]:
    rows = [["clip", *(title for title, _, _ in COLUMNS)]]
    rows += [[entry["name"], *(_cell(entry[key], decimals) for _, key, decimals in COLUMNS)] for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _cell(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
