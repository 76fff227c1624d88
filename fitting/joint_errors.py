"""How far each joint is from the input, over all frames: counts that add up from clip to clip."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitting.export.atomic import atomic_path
from fitting.metrics import joint_errors_mm
from fitting.observed import as_smpl
from models.skeleton import SMPL_JOINTS

if TYPE_CHECKING:
    from fitting.result import FitResult

EDGES = tuple(range(0, 102, 2))  # millimetres; the last bin holds what is farther too

Counts = dict[str, list[int]]  # joint -> frames in each bin


def error_counts(result: "FitResult") -> Counts:
    """Frames of a clip by the joint's distance from the input, for every joint that is seen; none without an input."""
    motion = result.motion
    if motion.joints is None:
        return {}
    given = np.where(motion.seen[..., None], motion.joints, np.nan)
    errors = joint_errors_mm(result.joints().numpy(force=True), as_smpl(given, motion.skeleton))
    counts = {}
    for name, distances in zip(SMPL_JOINTS, errors.T, strict=False):
        distances = distances[np.isfinite(distances)]
        if len(distances):
            counts[name] = np.histogram(distances.clip(max=EDGES[-1]), EDGES)[0].tolist()
    return counts


def added(clips: Iterable[Counts]) -> Counts:
    """The counts of all clips together."""
    total: dict[str, np.ndarray] = {}
    for clip in clips:
        for name, counts in clip.items():
            total[name] = total.get(name, 0) + np.array(counts)
    return {name: total[name].tolist() for name in SMPL_JOINTS if name in total}


def write_counts(path: Path, counts: Counts) -> None:
    """As CSV: a row a joint, a column a bin, named by its lower edge in millimetres."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["joint", *EDGES[:-1]])
        writer.writerows([name, *row] for name, row in counts.items())
