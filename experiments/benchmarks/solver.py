"""How fast is the solver, how does its cost grow, how much memory does it take? One run, one thread, CPU seconds.

    python experiments/benchmarks/solver.py                      # everything, half of it the reference's loop
    python experiments/benchmarks/solver.py --only throughput    # a quick look
    python experiments/benchmarks/solver.py --json figures.json  # the figures with machine, versions, date and commit

README.md beside this file says what each part measures and what to expect.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.reference_loop import fit_reference, load_problem, summary  # noqa: E402
from fitting import fit  # noqa: E402
from fitting.data import Motion, collate  # noqa: E402
from fitting.smplify3d import SMPLify3D  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed import walk_and_pick_up  # noqa: E402
from models.prior import PosePrior  # noqa: E402

# Where golden numbers and real motion are, if they are there.
REFERENCE = Path(os.environ.get("THETAFIT_REFERENCE", ROOT.parent / "shared"))
FRAMES, CLIPS = 196, 100  # the longest clip MDM makes; a large batch
LONG = 12000  # frames: ten minutes
REPEATS = 9  # of what takes a tenth of a second; the median counts


def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)
    cpu_seconds(lambda: fit(made_clips(1, 20)[0], preset="quick"))  # imports and first calls are not what is measured
    record = {"machine": machine(), "results": {}}
    for name in args.only:
        print(f"\n{name}: {PARTS[name].__doc__.splitlines()[0]}")
        record["results"][name] = PARTS[name](args)
        if args.json:
            args.json.write_text(json.dumps(record, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", type=_parts, default=list(PARTS), metavar="PART,...", help=f"any of {', '.join(PARTS)}")
    add("--clip", type=Path, help="joints (frames, 22, 3) .npy for `reference` and `lbfgs`")
    add("--frames", type=int, default=20, help="how many of its frames (20)")
    add("--max-seconds", type=float, default=float("inf"), help="stop the reference's loop after so many CPU seconds")
    add("--json", type=Path, help="write the figures here")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"unknown {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    return names


# --- against the reference's loop


def reference(args: argparse.Namespace) -> dict[str, Any]:
    """The reference's loop (L-BFGS, all vertices at every evaluation) and preset `reference` (LM, joints only).

    Same clip, body, mixture, mean pose, one shape a frame; both are judged by the reference's own loss, all terms.
    """
    target, gmm, prior, pickled = _case(args)
    theirs = fit_reference(target, pickled, gmm, mean_pose(prior), np.zeros(10), max_seconds=args.max_seconds)
    ours = _judged(target, gmm, prior, pickled, "lm")
    row = {
        "frames": len(target),
        "reference": _figures(theirs) | {"evaluations": theirs["evaluations"], "converged": theirs["converged"]},
        "thetafit": _figures(ours),
        "ratio": theirs["cpu_seconds"] / ours["cpu_seconds"],
        "reference_seconds_to_one_percent": _seconds_to(theirs["trace"], 1.01 * ours["energy_preserve"]),
    }
    _print_energy("reference's loop", row["reference"])
    _print_energy("thetafit, LM", row["thetafit"])
    state = "" if theirs["converged"] else " (the loop was stopped before its end)"
    print(f"  {row['ratio']:,.0f} times less CPU{state}")
    near = row["reference_seconds_to_one_percent"]
    print("  it never came" if near is None else f"  it came after {near:.1f} CPU s", "within 1 % of thetafit's energy")
    return row


def lbfgs(args: argparse.Namespace) -> dict[str, Any]:
    """thetafit's own L-BFGS on the same energy, joints only: what is gained by Levenberg-Marquardt alone."""
    target, gmm, prior, pickled = _case(args)
    row = {solver: _figures(_judged(target, gmm, prior, pickled, solver)) for solver in ("lbfgs", "lm")}
    row["ratio"] = row["lbfgs"]["cpu_seconds"] / row["lm"]["cpu_seconds"]
    _print_energy("L-BFGS, joints only", row["lbfgs"])
    _print_energy("thetafit, LM", row["lm"])
    print(f"  {row['ratio']:,.0f} times less CPU")
    return row


def _case(args: argparse.Namespace) -> tuple[np.ndarray, dict, str | None, Path]:
    """Targets (T, 22, 3), mixture arrays, path of the prior (None = our own), the embedded body as an SMPL pickle."""
    real = REFERENCE / "data/humanml3d/012314/new_joints.npy"
    mixture = REFERENCE / "golden/synthetic_gmm_08.pkl"
    clip = args.clip or (real if real.is_file() else None)
    joints = np.load(clip, allow_pickle=False) if clip else made_clips(1, args.frames)[0].numpy()
    prior = str(mixture) if mixture.is_file() else None
    print(f"  {min(args.frames, len(joints))} frames of {clip or 'keyed motion'}, prior {prior or 'of thetafit'}")
    loaded = PosePrior.load(prior, dtype=torch.float64)
    gmm = {"means": loaded.means, "covars": loaded.covariances, "weights": loaded.log_weights.exp()}
    return joints[: args.frames], {name: value.numpy() for name, value in gmm.items()}, prior, pickled_body()


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="thetafit-")


@cache
def pickled_body() -> Path:
    """The embedded body as smplx wants it: an SMPL pickle, with pose correctives of zero."""
    with np.load(ROOT / "models/assets/mh_neutral.npz", allow_pickle=False) as file:
        names = ("v_template", "f", "weights", "J_regressor", "shapedirs", "kintree_table")
        body = {name: file[name] for name in names}
    body["posedirs"] = np.zeros((*body["v_template"].shape, 207), np.float32)
    path = Path(_folder().name) / "embedded.pkl"
    path.write_bytes(pickle.dumps(body))
    return path


def mean_pose(prior: str | None) -> np.ndarray:
    """(72,): the prior's mean pose behind an upright root, where both methods begin."""
    return np.concatenate([np.zeros(3), PosePrior.load(prior).mean_pose.numpy()])


def _judged(target: np.ndarray, gmm: dict, prior: str | None, body: Path, solver: str) -> dict[str, Any]:
    """Our fit with preset `reference`, judged by the reference's loss; loading is not timed, on either side."""
    module = SMPLify3D(preset="reference", prior=prior, solver=solver)
    batch = collate([Motion("clip", joints=target.astype(np.float32))])
    seconds, (result,) = cpu_seconds(partial(module.fit, batch), REPEATS if solver == "lm" else 1)
    problem = load_problem(target, body, gmm, mean_pose(prior), np.zeros(10))
    fitted = summary(problem, result.thetas.reshape(-1, 72), result.betas, result.transl)
    return fitted | {"cpu_seconds": seconds, "status": str(result.status)}


def _figures(fitted: dict[str, Any]) -> dict[str, float]:
    return {name: fitted[name] for name in ("cpu_seconds", "energy_preserve", "energy", "error_mm")}


def _print_energy(name: str, figures: dict[str, float]) -> None:
    text = "  {:20} {cpu_seconds:10.4f} CPU s  energy {energy_preserve:12.2f}  joints {error_mm:6.2f} mm"
    print(text.format(name, **figures))


def _seconds_to(trace: list[tuple[int, float, float]], loss: float) -> float | None:
    return next((seconds for stage, seconds, value in trace if stage == 2 and value <= loss), None)


# --- frames a second, growth, memory


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Frames a second on one core, 100 clips of 196 frames, for each preset with one shape a clip."""
    clips = made_clips(CLIPS, FRAMES)
    return {preset: _rate(clips, preset) for preset in ("quick", "careful")}


def linear(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A clip that gets longer, for each preset, then more clips of 196 frames. Linear: ms a frame do not grow."""
    longer = [(1, frames) for frames in (100, 200, 500, 1000, 2000, 5000, LONG)]
    more = [(clips, FRAMES) for clips in (1, 10, 100)]
    cases = [("quick", case) for case in longer + more] + [("careful", case) for case in longer]
    return [_rate(made_clips(clips, frames), preset) for preset, (clips, frames) in cases]


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory of a fresh process that fits 100 clips of 196 frames or one clip of 12,000, libraries included."""
    rows = []
    for preset, (clips, frames) in product(("quick", "careful"), ((CLIPS, FRAMES), (1, LONG))):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            joints = made_clips(clips, frames).numpy()
            peak = pool.submit(_peak_after_fit, joints, preset).result()
        rows.append({"preset": preset, "clips": clips, "frames": frames, "gigabytes": peak})
        print(f"  {preset:8} {clips:4} x {frames:5} frames {peak:.2f} GB")
    return rows


def _rate(clips: torch.Tensor, preset: str) -> dict[str, Any]:
    seconds, results = cpu_seconds(lambda: fit(clips, preset=preset))
    frames = clips.shape[0] * clips.shape[1]
    row = {
        "preset": preset,
        "clips": clips.shape[0],
        "frames": clips.shape[1],
        "cpu_seconds": seconds,
        "frames_per_second": frames / seconds,
        "ms_per_frame": 1000 * seconds / frames,
        "iterations": statistics.mean(result.iterations for result in results),
        "error_mm": 1000 * (torch.stack([r.joints() for r in results]) - clips).norm(dim=-1).mean().item(),
    }
    print(
        "  {preset:8} {clips:4} x {frames:5} frames {cpu_seconds:8.3f} CPU s  {frames_per_second:6.0f} frames/s"
        "  {ms_per_frame:.3f} ms a frame  {iterations:4.1f} iterations  {error_mm:.2f} mm".format(**row)
    )
    return row


def _peak_after_fit(joints: np.ndarray, preset: str) -> float:
    torch.set_num_threads(1)
    fit(joints, preset=preset)
    return peak_gigabytes()


def peak_gigabytes() -> float:
    """Peak resident memory of this process. On Linux getrusage would count what the parent had before exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


# --- made motion, clock, machine


def made_clips(clips: int, frames: int) -> torch.Tensor:
    """Joints (clips, frames, 22, 3): keyed motion there and back, each clip with a shape and slow sway of its own."""
    random = np.random.default_rng(0)
    body, motion = BodyModel.load(), walk_and_pick_up()
    there_and_back = np.concatenate([np.arange(motion.thetas.shape[0]), np.arange(motion.thetas.shape[0])[::-1]])
    seconds = torch.arange(frames)[:, None, None] / 20
    made = []
    for _ in range(clips):
        index = there_and_back[(random.integers(len(there_and_back)) + np.arange(frames)) % len(there_and_back)]
        hertz, phase, size = (torch.tensor(random.normal(0, s, (24, 3))) for s in (0.5, 3, 0.07))
        sway = size * torch.sin(2 * torch.pi * hertz * seconds + phase)
        thetas = (motion.thetas[index] + sway).float()
        betas = torch.tensor(random.normal(0, 0.8, body.num_betas)).float()
        made.append(body.joints(betas, thetas, motion.transl[index].float())[:, :22])
    return torch.stack(made)


def cpu_seconds(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median CPU seconds of a call, and what it returned."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def machine() -> dict[str, Any]:
    """Where and with what the figures were made."""
    model = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": model[0] if model else platform.processor(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the tree, with + behind where tracked files were changed since; None outside of git."""
    git = ["git", "-C", ROOT, "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or None


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


PARTS = {part.__name__: part for part in (reference, lbfgs, throughput, linear, memory)}

if __name__ == "__main__":
    main()
