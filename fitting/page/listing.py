"""report.html: every clip of a run in one table, the worst first; sorts, filters, links to the files beside it."""

import html
import json
from pathlib import Path
from string import Template

from fitting.export.atomic import atomic_path

HERE = Path(__file__).parent
COLUMNS = {  # key in report.json: heading
    "frames": "frames",
    "mpjpe_mm": "error, mm",
    "max_joint_error_mm": "worst, mm",
    "jerk_out": "jerk",
    "planted_speed_out": "feet, m/s",
    "penetration_mm": "under floor, mm",
    "limit_excess_degrees": "over limits, °",
}


def write_listing(folder: Path) -> Path:
    """Write folder/report.html about folder/report.json; returns its path."""
    report = json.loads((folder / "report.json").read_text())
    clips = report["clips"]
    written = sum(bool(clip["files"]) for clip in clips)
    about = f"{written} of {len(clips)} clips written; preset {report['preset']}, body {report['body']}"
    about += f"; {report['seconds']:.1f} s on {report['device']}"
    columns = [{"key": key, "name": name} for key, name in COLUMNS.items()]
    data = json.dumps({"columns": columns, "clips": [row(clip) for clip in clips]}, allow_nan=False)
    words = {"title": "thetafit: report", "about": html.escape(about), "data": data.replace("<", "\\u003c")}
    text = Template((HERE / "listing.html").read_text(encoding="utf-8")).substitute(words)
    path = folder / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def row(clip: dict) -> dict:
    """What the table says of a clip. Files are relative to the folder; a poster is shown and not linked."""
    poster = next((file for file in clip["files"] if file.endswith("_poster.png")), None)
    numbers = {key: clip[key] for key in COLUMNS}
    described = {key: clip[key] or "" for key in ("status", "message", "text")}
    name = (
        (Path(clip["files"][0]).parent / clip["name"]).as_posix() if clip["files"] else clip["name"] or clip["source"]
    )
    files = [file for file in clip["files"] if file != poster]
    return {"name": name, **described, **numbers, "poster": poster, "files": files}
