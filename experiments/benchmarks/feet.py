"""What becomes of feet that skate: planted speed, lifted feet, soles and jerk, before and after. One run, one thread.

    python experiments/benchmarks/feet.py                      # the reference folder's generated clips
    python experiments/benchmarks/feet.py results.npy a.npy    # other motion files
    python experiments/benchmarks/feet.py --preset mine.yaml --json feet.json

Each clip is fitted twice: with the preset, and without its terms on feet, for the joint error. Prints the table of
docs/feet.md; ! marks what misses its gate. The definitions are those of docs/metrics.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import REFERENCE, machine  # noqa: E402
from fitting import FitResult, metrics  # noqa: E402
from fitting.data import Motion, collate, group, load_motions  # noqa: E402
from fitting.smplify3d import ON_FEET, SMPLify3D  # noqa: E402

SKATES = 0.02  # skate ratio of the input over which a clip skates
GATES = {  # of each column, the most that is asked for; planted speed is asked of clips that skate alone
    "planted speed": 0.6,
    "low skate": 0.015,
    "mm / without": 1.1,
    "lifted %": 3.0,
    "foot jerk": 1.6,
    "body jerk": 1.0,
    "sole mm": 10.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="motion files, by default the reference folder's")
    parser.add_argument("--preset", default="careful")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    motions, failures = load_motions(args.files or generated_clips())
    for failure in failures:
        print(f"{failure.source}: {failure.message}", file=sys.stderr)
    if not motions:
        sys.exit("No clips: name motion files, or set THETAFIT_REFERENCE to the folder with reference data.")
    module = SMPLify3D(preset=args.preset)
    held = fits(module, motions)
    for stage in module.preset.stages.values():
        stage.terms = {
            name: term for name, term in stage.terms.items() if name not in ON_FEET
        }  # the second fit goes without
    rows = [measure(*clip) for clip in zip(motions, held, fits(module, motions), strict=True)]
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "preset": args.preset, "clips": rows}, indent=1) + "\n")


def generated_clips() -> list[str]:
    folder = REFERENCE / "data" / "generated"
    found = [folder / name / "results.npy" for name in ("mdm_toolbox", "mdm_arms_crossed")]
    found += sorted((folder / "mdm_dance263").glob("*.npy"))
    return [str(path) for path in found if path.is_file()]


def fits(module: SMPLify3D, motions: list[Motion]) -> list[FitResult]:
    """The fit of every motion, clips of similar length together."""
    found = {}
    for batch in group(motions, 256):
        found.update(zip(map(id, batch), module.predict_step(collate(batch)), strict=True))
    return [found[id(motion)] for motion in motions]


def measure(motion: Motion, held: FitResult, free: FitResult) -> dict[str, str | float | None]:
    """The row of a clip: speeds and jerk as fractions of the input's, heights in mm; None where there is nothing."""
    given, ours, fps = motion.joints[:, :22], held.joints(), motion.fps
    floor = metrics.floor_height(given)
    contact = metrics.planted(given, fps, floor)
    under = metrics.underside(held.body, held.betas, held.thetas, held.transl)
    error, without = (metrics.joint_errors_mm(fit.joints(), given).mean() for fit in (held, free))
    low = [metrics.foot_skate_ratio(joints, fps, floor, metrics.LOW_GATE) for joints in (given, ours)]
    lifted = metrics.lifted_share(ours, given, floor)
    feet = list(metrics.FEET)
    return {
        "clip": f"{Path(motion.source).parent.name}/{motion.name}",
        "planted %": 100 * float(contact.mean()),
        "skate": metrics.foot_skate_ratio(given, fps, floor),
        "planted speed": share(*(metrics.planted_speed(joints, fps, contact) for joints in (ours, given))),
        "low skate": low[1] - low[0],
        "mm": float(error),
        "mm / without": float(error / without),
        "lifted %": None if lifted is None else 100 * lifted,
        "foot jerk": share(*(metrics.jerk(joints[:, feet], fps) for joints in (ours, given))),
        "body jerk": share(*(metrics.jerk(joints, fps) for joints in (ours, given))),
        "sole mm": metrics.sole_height_mm(under, floor, contact),
        "sole mm, own floor": metrics.sole_height_mm(under, own_floor(under, contact), contact),
        "penetration mm": metrics.penetration_mm(under, floor),
        "float mm": metrics.float_mm(under, floor, contact),
    }


def own_floor(under: metrics.Underside, contact: np.ndarray) -> float:
    """The height on which the mesh itself stands: the median of the lowest points of its planted soles."""
    lowest = np.stack([sole[..., 1].min(1) for sole in under.soles], 1)[:-1][contact]
    return float(np.median(lowest)) if lowest.size else 0.0


def share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def misses(row: dict[str, str | float | None], column: str) -> bool:
    """Whether a number is over its gate."""
    asked = column in GATES and (column != "planted speed" or row["skate"] > SKATES)
    return asked and row[column] is not None and row[column] > GATES[column]


def cell(row: dict[str, str | float | None], column: str) -> str:
    value = row[column]
    if value is None or isinstance(value, str):
        return value or "-"
    digits = 1 if "%" in column or column.endswith(("mm", "floor")) else 3 if "skate" in column else 2
    return f"{value:.{digits}f}" + ("!" if misses(row, column) else "")


def print_table(rows: list[dict[str, str | float | None]]) -> None:
    """A Markdown table of the clips, and how many of them miss each gate."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(cell(row, column) for column in columns) + " |")
    for column, gate in GATES.items():
        print(f"{column} <= {gate:g}: missed by {sum(misses(row, column) for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
