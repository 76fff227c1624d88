"""How long does a live frame take, and how much worse is it than the offline fit? One run, one thread.

    python experiments/benchmarks/stream.py                    # keyed motion, and the reference folder's clips if there
    python experiments/benchmarks/stream.py walk.npy run.npy   # joints (frames, 22, 3), metres, y up
    python experiments/benchmarks/stream.py --json stream.json

Error: mean joint distance over all frames after the first second, live and by presets `quick` and `careful` on the
whole clip. Latency: of every call but the first one; wall time is what a user waits, CPU time is what stays the same
when other programs use the machine.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import REFERENCE, machine  # noqa: E402
from fitting import FitResult, Stream, fit  # noqa: E402
from fitting.data import Motion, load_motions  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed import walk_and_pick_up  # noqa: E402

REAL = (
    "humanml3d/012314/new_joints.npy",
    "generated/sato/attn_good.npy",
    "generated/sato/motion.npy",
    "generated/mdm_toolbox/results.npy",
    "generated/omnicontrol_long/000.npy",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", help="motion files, by default keyed motion and the reference folder's")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'clip':28} frames  live mm  quick mm  careful mm  live/quick  wall ms, 99 %  CPU ms, 99 %")
    rows = [measure(motion) for motion in clips(args.clips)]
    print_mean(rows)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "clips": rows}, indent=1) + "\n")


def clips(files: list[str]) -> list[Motion]:
    """What is measured: the files' motions, or the keyed walk and what the reference folder has."""
    found = [REFERENCE / "data" / name for name in REAL]
    motions, failures = load_motions(files or [str(path) for path in found if path.is_file()])
    for failure in failures:
        print(f"{failure.source}: {failure.message}", file=sys.stderr)
    for motion in motions:
        motion.name = f"{Path(motion.source).parent.name}/{motion.name}"
    if not files:
        truth = walk_and_pick_up()
        joints = BodyModel.load().joints(truth.betas, truth.thetas, truth.transl)[:, :22].float().numpy()
        motions.insert(0, Motion("keyed walk", joints=joints))
    return motions


def measure(motion: Motion) -> dict[str, float | str]:
    """Live and offline on one clip: errors in mm, latencies in ms."""
    joints = np.ascontiguousarray(motion.joints[:, :22])
    stream, fitted, wall, cpu = Stream(motion.fps), [], [], []
    for frame in joints:
        start = time.perf_counter(), time.process_time()
        fitted.append(stream(frame).joints)
        wall.append(1000 * (time.perf_counter() - start[0]))
        cpu.append(1000 * (time.process_time() - start[1]))
    first = round(motion.fps)

    def error(points: torch.Tensor) -> float:
        return 1000 * float(np.linalg.norm(points.numpy() - joints, axis=-1)[first:].mean())

    def offline(preset: str) -> float:
        result = fit(joints, fps=motion.fps, preset=preset)
        assert isinstance(result, FitResult)
        return error(result.joints())

    row = {
        "clip": motion.name,
        "frames": len(joints),
        "live_mm": error(torch.stack(fitted)),
        "quick_mm": offline("quick"),
        "careful_mm": offline("careful"),
        "first_frame_ms": wall[0],
    }
    row["ratio"] = row["live_mm"] / row["quick_mm"]
    for name, times in (("wall", wall[1:]), ("cpu", cpu[1:])):
        row[f"{name}_ms"], row[f"{name}_p99_ms"] = (float(x) for x in np.percentile(times, (50, 99)))
    print(
        "{clip:28} {frames:6} {live_mm:8.2f} {quick_mm:9.2f} {careful_mm:11.2f} {ratio:11.3f}"
        "  {wall_ms:7.2f} {wall_p99_ms:6.2f}  {cpu_ms:6.2f} {cpu_p99_ms:6.2f}".format(**row),
        flush=True,
    )
    return row


def print_mean(rows: list[dict]) -> None:
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "clip"}
    mean["ratio"] = mean["live_mm"] / mean["quick_mm"]
    print("mean over clips: live {live_mm:.2f} mm, quick {quick_mm:.2f} mm, ratio {ratio:.3f};".format(**mean))
    print(
        "wall {wall_ms:.2f} ms, 99 % {wall_p99_ms:.2f} ms; CPU {cpu_ms:.2f} ms, 99 % {cpu_p99_ms:.2f} ms;".format(
            **mean
        )
    )
    print("first frame {first_frame_ms:.0f} ms".format(**mean))


if __name__ == "__main__":
    main()
