"""thetafit beside others that turn joints into SMPL parameters: one run, the same clips, one thread, CPU seconds.

    python experiments/benchmarks/peers.py                        # everything that is installed: 4 CPU minutes
    python experiments/benchmarks/peers.py --only ours --frames 20
    python experiments/benchmarks/peers.py --json experiments/benchmarks/results/peers.json

Peers come from PyPI and are optional: what is missing is named and left out. README.md beside this file describes them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.metadata
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.peer_methods import METHODS, Method  # noqa: E402
from experiments.benchmarks.solver import REFERENCE, REPEATS, cpu_seconds, machine  # noqa: E402
from fitting.data import load_motions  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed import sample  # noqa: E402
from models.rotations import axis_angle_to_matrix  # noqa: E402

KNOWN = ("walk", "dance", "squat")  # kinds of keyed motion, each with a shape of its own
SEED = 5001  # of a variation that the pose prior was not learned from
REAL = {
    "MDM toolbox, sample 0": ("data/generated/mdm_toolbox/results.npy", [0]),
    "HumanML3D 012314": ("data/humanml3d/012314/new_joints.npy", None),
}
HIDDEN = (12, 15, 20, 21, 22, 23)  # neck, head, wrists, hands: what they carry turns in ways that 22 joints cannot tell
SEEN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 16, 17, 18, 19)  # rotations that move one of the 22 joints


@dataclass
class Clip:
    """joints (L, 22, 3) metres; truth: thetas (L, 24, 3), betas (B,), transl (L, 3), None for a real clip."""

    name: str
    joints: Tensor
    truth: tuple[Tensor, Tensor, Tensor] | None = None


def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)
    body = BodyModel.load()
    clips = known_clips(body, args.frames) + real_clips(args.frames)
    record: dict[str, Any] = {"machine": machine(), "frames": args.frames, "max_seconds": args.max_seconds}
    record |= {"versions": {}, "missing": {}, "rows": []}
    for name in args.only:
        method = METHODS[name]
        if missing := method.missing():
            record["missing"][name] = missing
            print(f"{name}: left out, {missing} is not installed: pip install {missing}")
            continue
        record["versions"] |= {package: importlib.metadata.version(package) for package in method.packages}
        record["rows"] += compare(name, method, clips, body, args.max_seconds)
        if args.json:
            args.json.write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + table(record["rows"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--only", type=_methods, default=list(METHODS), metavar="NAME,...", help=f"ours, or any of {', '.join(METHODS)}"
    )
    add("--frames", type=int, default=30, help="the first so many frames of each clip (30)")
    add("--max-seconds", type=float, default=20, help="stop the reference's loop after so many CPU seconds a clip (20)")
    add("--json", type=Path, help="write the figures here")
    return parser


def _methods(text: str) -> list[str]:
    ours = [name for name in METHODS if name.startswith("thetafit")]
    names = [method for name in text.split(",") for method in (ours if name == "ours" else [name])]
    if unknown := set(names) - set(METHODS):
        raise argparse.ArgumentTypeError(f"unknown {', '.join(sorted(unknown))}; known: ours, {', '.join(METHODS)}")
    return names


# --- clips


def known_clips(body: BodyModel, frames: int) -> list[Clip]:
    """Keyed motion with true parameters: each kind once, its pose varied by its seed, betas ~ N(0, 0.8)."""
    random = np.random.default_rng(0)
    clips = []
    for kind in KNOWN:
        motion = sample(kind, SEED)
        betas = torch.tensor(random.normal(0, 0.8, body.num_betas), dtype=torch.float32)
        thetas, transl = motion.thetas[:frames], motion.transl[:frames]
        joints = body.joints(betas, thetas, transl)[:, :22]
        clips.append(Clip(f"known: {kind}", joints, (thetas, betas, transl)))
    return clips


def real_clips(frames: int) -> list[Clip]:
    """Real clips of the reference folder, those that are there."""
    found = {name: (REFERENCE / file, samples) for name, (file, samples) in REAL.items()}
    clips = []
    for name, (path, samples) in found.items():
        if path.is_file():
            motion = load_motions([str(path)], samples=samples)[0][0]
            clips.append(Clip(name, torch.tensor(motion.joints[:frames, :22])))
        else:
            print(f"{name}: left out, it is in the folder with reference data alone (THETAFIT_REFERENCE)")
    return clips


# --- measuring


def compare(name: str, method: Method, clips: list[Clip], body: BodyModel, max_seconds: float) -> list[dict[str, Any]]:
    """One method on every clip that has the input it needs. Loading and a first small fit stay outside the clock."""
    run = method.prepare(body, max_seconds)
    first = clips[0]
    if method.warm_up:
        run(first.joints[:4], _vertices(body, first, 4) if method.needs_vertices else None)
    rows = []
    for clip in clips:
        if method.needs_vertices and clip.truth is None:
            continue
        vertices = _vertices(body, clip, len(clip.joints)) if method.needs_vertices else None
        row = {"method": name, "input": method.input, "clip": clip.name}
        rows.append(row | measured(lambda c=clip, v=vertices: run(c.joints, v), clip, body))
        print(
            "{method:30} {clip:22} {cpu_seconds:9.3f} CPU s  joints {joint_mm:6.2f} mm".format(**rows[-1]), flush=True
        )
    return rows


def _vertices(body: BodyModel, clip: Clip, frames: int) -> tuple[Tensor, Tensor]:
    """True vertices (L, V, 3) and all 24 joints (L, 24, 3)."""
    thetas, betas, transl = clip.truth
    arguments = (betas, thetas[:frames], transl[:frames])
    return body.vertices(*arguments), body.joints(*arguments)


def measured(call: Callable[[], tuple], clip: Clip, body: BodyModel) -> dict[str, Any]:
    """Seconds and errors of a call that returns thetas, betas, transl and a word on how it ended."""
    seconds, (thetas, betas, transl, status) = cpu_seconds(call)
    if seconds < 1:
        seconds, _ = cpu_seconds(call, REPEATS)
    row = {"frames": len(clip.joints), "cpu_seconds": seconds, "frames_per_second": len(clip.joints) / seconds}
    row |= {"status": status, "joint_mm": _mm(body.joints(betas, thetas, transl)[:, :22], clip.joints)}
    if clip.truth is not None:
        true_thetas, true_betas, true_transl = clip.truth
        core = ~torch.isin(body.weights.argmax(1), torch.tensor(HIDDEN))
        true = body.vertices(true_betas, true_thetas, true_transl)
        row["core_vertex_mm"] = _mm(body.vertices(betas, thetas, transl)[:, core], true[:, core])
        row["rotation_degrees"] = _degrees(thetas[:, SEEN], true_thetas[:, SEEN])
    return row


def _mm(ours: Tensor, true: Tensor) -> float:
    return 1000 * (ours - true).norm(dim=-1).mean().item()


def _degrees(ours: Tensor, true: Tensor) -> float:
    """Mean angle between local rotations given as axis-angle (..., 3)."""
    between = axis_angle_to_matrix(ours.double()).mT @ axis_angle_to_matrix(true.double())
    cosine = (between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item()


# --- what it prints


def table(rows: list[dict[str, Any]]) -> str:
    """A row a method in Markdown: means over the known clips, then joint error and seconds of each real clip."""
    real = [name for name in REAL if any(row["clip"] == name for row in rows)]
    titles = ["method", "input", "known poses: frames/s", "joints mm", "core vertices mm", "rotations degrees"]
    titles += [f"{name}: joints mm (frames/s)" for name in real]
    lines = [titles, ["---"] * len(titles)]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        known = [row for row in mine if row["clip"].startswith("known")]
        rate = sum(row["frames"] for row in known) / sum(row["cpu_seconds"] for row in known)
        means = [
            statistics.mean(row[key] for row in known) for key in ("joint_mm", "core_vertex_mm", "rotation_degrees")
        ]
        cells = [method, mine[0]["input"], f"{rate:,.3g}", *(f"{mean:.1f}" for mean in means)]
        by_clip = {row["clip"]: row for row in mine}
        cells += [
            "{joint_mm:.1f} ({frames_per_second:,.3g})".format(**by_clip[name]) if name in by_clip else "-"
            for name in real
        ]
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
