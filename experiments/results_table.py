"""The table of results in experiments/README.md, made of the files in benchmarks/results.

    python experiments/results_table.py     # after a benchmark has written its file anew

A file is one benchmark's figures with `machine` (date, commit, processor), its own or one of each row, as their --json
writes them. A new one needs one row in ROWS.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
PAGE, RESULTS = HERE / "README.md", HERE / "benchmarks" / "results"
START, END = "<!-- results -->", "<!-- end of results -->"

Record = dict
# File -> what was measured, by which script of benchmarks, and its main figures in words.
ROWS: dict[str, tuple[str, str, Callable[[Record], str]]] = {
    "peers.json": ("what else fits SMPL, same clips", "peers.py", lambda r: known_errors(r["rows"])),
    "pictures.json": ("writing a clip of 196 frames", "pictures.py", lambda r: seconds(r["rows"])),
    "small_model.json": ("the small model", "small_model.py", lambda r: small_model(r)),
    "solver.json": ("MDM's own loop", "solver.py", lambda r: loop(r["results"]["reference"])),
    "start.json": ("the learned start against geometry", "start.py", lambda r: started(r)),
    "through_fit.json": ("losses on the mesh, small model", "through_fit.py", lambda r: through(r)),
    "throughput.json": ("the fit of 100 clips of 196 frames", "solver.py", lambda r: fast(r["results"]["throughput"])),
    "tuned_weights.json": ("weights learned through the fit", "tuned_weights.py", lambda r: tuned(r)),
    "solver_long.json": ("the fit of 12,000 frames at once", "solver.py", lambda r: long_clips(r["results"])),
}


def known_errors(rows: list[Record]) -> str:
    """Mean joint error of each method on the known poses."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        if row["clip"].startswith("known: "):
            errors.setdefault(row["method"], []).append(row["joint_mm"])
    return "joints " + ", ".join(f"{method} {sum(each) / len(each):.1f} mm" for method, each in errors.items())


def seconds(rows: list[Record]) -> str:
    """Wall time of each kind of file."""
    return ", ".join(f"{row['what']} {row['wall_seconds']:.2g} s" for row in rows)


def small_model(record: Record) -> str:
    """Actions named, planted feet."""
    named, feet = record["actions in other words"]["named"], record["feet"]
    speeds = [feet[whose]["planted m/s"] for whose in ("samples", "takes")]
    return f"{named:.1%} of actions named; planted feet {speeds[0]:.3f} m/s, true takes {speeds[1]:.3f}"


def loop(row: Record) -> str:
    """CPU time against the reference's loop."""
    return f"the fit takes {row['ratio']:,.0f} times less CPU"


def fast(rows: Record) -> str:
    """Frames a second and error of each preset."""
    return ", ".join(
        f"`{name}` {row['frames_per_second']:,.0f} frames/s at {row['error_mm']:.2f} mm" for name, row in rows.items()
    )


def long_clips(results: Record) -> str:
    """Frames a second and memory of the longest clip."""
    longest = [row for row in results["linear"] if row["clips"] == 1 and row["frames"] == 12_000]
    memory = {row["preset"]: row["gigabytes"] for row in results["memory"] if row["frames"] == 12_000}
    return ", ".join(
        f"`{row['preset']}` {row['frames_per_second']:,.0f} frames/s, {memory[row['preset']]:.2f} GB" for row in longest
    )


def started(record: Record) -> str:
    """Error of what joints do not show, on the known poses."""
    known = record["known"]
    degrees, seconds = ([known[start][what] for start in ("geometric", "learned")] for what in ("hidden", "seconds"))
    return f"hidden rotations {degrees[0]:.1f} to {degrees[1]:.1f} degrees, {seconds[0]:.1f} to {seconds[1]:.1f} s"


def through(record: Record) -> str:
    """Planted feet and bones of each model."""
    return "; ".join(
        f"{name}: feet {row['planted m/s']:.3f} m/s, bones {row['bone length change %']:.1f} %"
        for name, row in record.items()
    )


def tuned(cases: Record) -> str:
    """Vertex error on clips that the tuning has not seen."""
    found = {
        name: [case["clean"][preset]["vertices"] for preset in ("careful", "tuned")] for name, case in cases.items()
    }
    return "vertices " + ", ".join(f"{first:.1f} to {last:.1f} mm ({name})" for name, (first, last) in found.items())


def table() -> str:
    """A row a file, by name. Raises KeyError with what to do for a file without a row in ROWS."""
    lines = ["| measured | figures | date | commit | script, file |", "|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        if path.name not in ROWS:
            raise KeyError(f"{path.name} has no row in ROWS of experiments/results_table.py: say what its figures are")
        what, script, figures = ROWS[path.name]
        record = json.loads(path.read_text())
        machine = record.get("machine") or max((row["machine"] for row in record.values()), key=lambda m: m["date"])
        links = f"[{script}](benchmarks/{script}), [{path.name}](benchmarks/results/{path.name})"
        lines.append(f"| {what} | {figures(record)} | {machine['date'][:10]} | {machine['commit']} | {links} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with the table of now between its two marks."""
    return re.sub(f"(?<={START}\n).*(?={END})", lambda _: f"{table()}\n", page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE}: {len(ROWS)} results")
