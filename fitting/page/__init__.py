"""page.html: a run's clips moving in the browser, in one file that needs no network.

The file holds the GLB of every clip, its joints, loss curves and numbers as they stand in the output folder, and the
program viewer.bundle.js: viewer.js with three.js (MIT licence, named at the bundle's end), made by `npm run build`.
"""

import base64
import csv
import html
import json
from itertools import groupby
from pathlib import Path
from string import Template

import numpy as np

from fitting.export.atomic import atomic_path
from models.skeleton import SMPL_PARENTS, hung

HERE = Path(__file__).parent
PAGE = "page.html"
BUDGET = 60e6  # bytes of GLB in a page: beyond, a phone would take minutes to open it
SOLE = 0.0185  # metres from the foot joint to the sole
NUMBERS = {  # what stands in the table: keys of report.json for the input and for the fit
    "joint error, mm": (None, "mpjpe_mm"),
    "worst joint, mm": (None, "max_joint_error_mm"),
    "bone length change, %": ("bone_length_change_percent", None),
    "jerk, m/s³": ("jerk_in", "jerk_out"),
    "acceleration, m/s²": ("acceleration_in", "acceleration_out"),
    "planted foot speed, m/s": ("planted_speed_in", "planted_speed_out"),
    "foot skate ratio": ("foot_skate_ratio_in", "foot_skate_ratio_out"),
    "penetration, mm": (None, "penetration_mm"),
    "floating, mm": (None, "float_mm"),
}


def write_page(folder: Path) -> Path:
    """Write folder/page.html about the clips of folder/report.json whose GLB and npz lie in it; returns its path.

    All others are only named: those that were not fitted, and those beyond 60 MB of GLB.
    """
    report = json.loads((folder / "report.json").read_text())
    curves = read_curves(folder / "logs" / "losses.csv")
    shown, others = choose(report["clips"], folder)
    clips = [clip_data(clip, folder, curves.get(clip_key(clip), [])) for clip in shown]
    title = f"thetafit: {len(clips)} of {len(report['clips'])} clips"
    path = folder / PAGE
    with atomic_path(path) as temporary:
        temporary.write_text(page(title, clips, others), encoding="utf-8")
    return path


def page(title: str, clips: list[dict], others: list[dict]) -> str:
    """The page's text: nothing inside the data can end the element that holds it."""
    data = json.dumps({"clips": clips, "others": others}, allow_nan=False).replace("<", "\\u003c")
    program = (HERE / "viewer.bundle.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
    template = Template((HERE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), data=data, program=program)


def choose(clips: list[dict], folder: Path) -> tuple[list[dict], list[dict]]:
    """The clips that have mesh and joints, as long as they fit into a page; name, status and message of the others."""
    shown, others, size = [], [], 0
    for clip in clips:
        described = {"name": clip["name"], "status": clip["status"], "message": clip["message"] or ""}
        if not {".glb", ".npz"} <= {Path(file).suffix for file in clip["files"]}:
            others.append(described)
            continue
        size += (folder / file_of(clip, ".glb")).stat().st_size
        if size <= BUDGET or not shown:
            shown.append(clip)
        else:
            others.append(described | {"message": "left out of this page for its size; its files are in the folder"})
    return shown, others


def clip_data(clip: dict, folder: Path, curves: list[dict]) -> dict:
    """What the page knows of a clip. Arrays are little-endian float32 in base64, metres, y up."""
    with np.load(folder / file_of(clip, ".npz")) as file:
        joints = file["joints"]
        given = file["joints_input"] if "joints_input" in file else None
        above = None if given is None else hung(file["shows"].tolist())
    glb = (folder / file_of(clip, ".glb")).read_bytes()
    data = {name: clip[name] for name in ("text", "status", "message", "frames", "fps")}
    return data | {
        "name": clip_key(clip),
        "error": clip["mpjpe_mm"],
        "numbers": [[label, *(rounded(clip, key) for key in keys)] for label, keys in NUMBERS.items()],
        "curves": curves,
        "floor": float(joints[..., 1].min()) - SOLE,
        "glb": base64.b64encode(glb).decode(),
        "joints": in_base64(joints),
        "parents": SMPL_PARENTS[: joints.shape[1]],
        "input": None if given is None else in_base64(given),
        "input_parents": above,
    }


def file_of(clip: dict, suffix: str) -> str:
    """A clip's file of that suffix, relative to the output folder."""
    return next(file for file in clip["files"] if file.endswith(suffix))


def clip_key(clip: dict) -> str:
    """The clip's name with its folder, as in losses.csv."""
    return Path(file_of(clip, ".glb")).with_suffix("").as_posix()


def rounded(clip: dict, key: str | None) -> str | None:
    """A number of the report for people: three digits."""
    return None if key is None or clip.get(key) is None else f"{clip[key]:.3g}"


def in_base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def read_curves(path: Path) -> dict[str, list[dict]]:
    """Loss curves by clip: a dictionary {"stage", "terms": {term: values}} for each stage."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves: dict[str, list[dict]] = {}
    for (clip, stage), group in groupby(rows, key=lambda row: (row["clip"], row["stage"])):
        steps = list(group)
        names = [name for name in steps[0] if name not in ("clip", "stage", "iteration") and steps[0][name]]
        terms = {name: [float(step[name] or 0) for step in steps] for name in names}
        curves.setdefault(clip, []).append({"stage": stage, "terms": terms})
    return curves
