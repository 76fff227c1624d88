"""What `thetafit fit` would make of a file: its clips and their measures, or why it refuses them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fitting.data import Motion, load_motions
from fitting.inspect.kinds import FIT
from fitting.inspect.report import Report
from fitting.metrics import bone_length_change_percent
from fitting.sources import Failure

MOST = 4  # clips named one by one
STRETCHED = 5.0  # percent of change of a bone's length that is worth a word
UNLIKELY_BETA = 5.0
OPTIONS = {"--stats": " --stats DIR", "--up z": " --up z"}  # named in a refusal -> what to add to the command


def add_motions(report: Report, path: Path, stated: bool) -> None:
    """Add clips, rate, text, skeleton and measures, or the refusal. stated: whether the file holds its frame rate."""
    motions, failures = load_motions(path)
    report.wrong += refusals(failures)
    if not motions:
        added = [option for name, option in OPTIONS.items() if any(name in why for why in report.wrong)]
        report.next = [FIT.format(file=path) + option for option in added[:1]]
        return
    names = ", ".join(f"{motion.name} {motion.length} frames" for motion in motions[:MOST])
    report.facts["clips"] = f"{len(motions)}: {names}" + ", ..." * (len(motions) > MOST)
    rate = "from the file" if stated else f"not in the file; usual for {motions[0].skeleton.name}"
    report.facts["fps"] = f"{motions[0].fps:g} ({rate})"
    if texts := list(dict.fromkeys(motion.text for motion in motions if motion.text)):
        report.facts["text"] = " | ".join(texts[:MOST]) + " | ..." * (len(texts) > MOST)
    report.wrong += dict.fromkeys(note for motion in motions for note in motion.notes)
    if joints := [motion for motion in motions if motion.joints is not None]:
        _add_measures(report, joints)


def _add_measures(report: Report, motions: list[Motion]) -> None:
    skeleton = motions[0].skeleton
    report.facts["skeleton"] = f"{skeleton.name}; {motions[0].joints.shape[1]} joints are fitted"
    report.facts["units"] = "metres, y up"
    report.facts["lowest joint"] = ", ".join(f"{np.nanmin(motion.joints[..., 1]):z.2f} m" for motion in motions[:MOST])
    changes = [bone_length_change_percent(m.joints, skeleton.parents) for m in motions]
    if max(changes) > STRETCHED:
        report.wrong.append(
            f"bones change length by up to {max(changes):.0f} %, as in generated motion: no body fits it exactly"
        )


def cause(message: str) -> str:
    """What a refusal says of the file, without the list of what a fit accepts."""
    return message.partition(". Accepted:")[0]


def refusals(failures: list[Failure]) -> list[str]:
    """Why a fit does not take a file or some of its clips."""
    return [cause(failure.message) for failure in failures]


def suspicions(content: Mapping[str, Any]) -> list[str]:
    """What looks wrong in the keys of a dict themselves."""
    wrong, lengths, motion = [], content.get("lengths"), content.get("motion")
    if isinstance(lengths, np.ndarray) and isinstance(motion, np.ndarray) and (lengths < motion.shape[-1]).any():
        wrong.append(
            f"lengths are {', '.join(map(str, lengths[:MOST]))}, the array has {motion.shape[-1]} frames: a fit leaves "
            "out the rest. (With prompts out of the data set MDM writes 120 here whatever was asked for.)"
        )
    if {"thetas", "vertices"} <= content.keys() and "betas" not in content:
        wrong.append(
            "written by MDM: there are no betas; vertices are made without the fitted shape and stand about 1 m too "
            "low; root_translation is the input's pelvis; text may be that of another clip"
        )
    betas = content.get("betas")
    if isinstance(betas, np.ndarray) and betas.dtype.kind == "f" and np.abs(betas).max(initial=0) > UNLIKELY_BETA:
        wrong.append(f"a beta of {np.abs(betas).max():.1f}: hardly a person; the shape explains something else")
    return wrong
