"""The learned start against the geometric one, and against the network alone without a solve.

    python experiments/benchmarks/start.py              # known cuts and real clips need the reference folder
    python experiments/benchmarks/start.py --start outputs/start/learned_start.npz --json start.json

Rotation errors are degrees, mean over frames, of what 22 joints do not show: the turn of limbs, ankles and neck about
their bone, and the whole rotation of wrists, hands, toes and head, each of the local rotation. Joint and vertex errors
are millimetres. Iterations: of one energy, the learned fit's, from each start until within 1 % of the lowest value that
any of them ends at. Seconds are of a core, for placing, start and solve. Real clips have no truth: the energy of the
geometric fit, without the belief, where each fit ends.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import REFERENCE, machine  # noqa: E402
from fitting.data import Batch, Motion, collate, load_motions  # noqa: E402
from fitting.energy import Energy  # noqa: E402
from fitting.known_motion import HANDS  # noqa: E402
from fitting.learned import learned_start, learned_state, on_trunk  # noqa: E402
from fitting.rig import CHILD  # noqa: E402
from fitting.smplify3d import SMPLify3D  # noqa: E402
from fitting.solver import solve  # noqa: E402
from fitting.start import geometric_start  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed_takes import take  # noqa: E402
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_quaternion  # noqa: E402
from tests.known import FPS, FRAMES, Known, known_cuts, sway  # noqa: E402

GROUPS = {
    "limbs": (1, 2, 4, 5, 16, 17, 18, 19),
    "wrists": (20, 21),
    "hands": (22, 23),
    "feet": (7, 8, 10, 11),
    "neck": (12, 15),
}
TURNS = (*GROUPS["limbs"], 7, 8, 12)  # whose bone is seen: only the turn about it is not
HELD_OUT, KEYED = 2_000_000, 20  # the first seed, and how many takes
AT_ONCE = 5  # clips of 100 frames
REAL = ("generated/mdm_toolbox", "generated/mdm_arms_crossed", "generated/mdm_dance263", "generated/sato")


def keyed_takes() -> list[Known]:
    """Five seconds of performances that no training has seen, their hands, which were written once, moved at random."""
    random, out = np.random.default_rng(0), []
    for seed in range(HELD_OUT, HELD_OUT + KEYED):
        motion = take(seed).motion
        thetas = motion.thetas[:FRAMES].clone()
        thetas[:, HANDS] = torch.as_tensor(sway(random)[: len(thetas), -len(HANDS) :]).to(thetas)
        out.append(Known(f"keyed{seed}", thetas, motion.betas, motion.transl[:FRAMES]))
    return out


def hidden_degrees(true: Tensor, found: Tensor, body: BodyModel) -> Tensor:
    """Errors (L, 24) in degrees between rotation vectors (L, 24, 3): of TURNS about the joint's bone alone."""
    between = axis_angle_to_matrix(true).mT @ axis_angle_to_matrix(found)
    out = matrix_to_axis_angle(between).norm(dim=-1)
    for joint in TURNS:
        bone = torch.nn.functional.normalize(body.rest_template[CHILD[joint]] - body.rest_template[joint], dim=0)
        w, xyz = matrix_to_quaternion(between[:, joint]).split((1, 3), -1)
        out[:, joint] = 2 * torch.atan((xyz @ bone) / w[:, 0]).abs()
    return out.rad2deg()


def batches(clips: Sequence[Known], body: BodyModel, noise: float) -> list[tuple[Sequence[Known], Batch]]:
    """The joints of the clips, with noise on every coordinate, a few at a time."""
    random, out = np.random.default_rng(0), []
    for i in range(0, len(clips), AT_ONCE):
        part, motions = clips[i : i + AT_ONCE], []
        for clip in part:
            joints = body.joints(clip.betas, clip.thetas, clip.transl)[:, :22].numpy()
            joints = (joints + random.normal(0, noise, joints.shape)).astype(np.float32)
            motions.append(Motion(clip.name, joints=joints, fps=FPS))
        out.append((part, collate(motions)))
    return out


def errors(clip: Known, thetas: Tensor, betas: Tensor, transl: Tensor, body: BodyModel) -> dict[str, float]:
    """Degrees by group, and their mean over the joints; joints and vertices in millimetres."""
    degrees = hidden_degrees(clip.thetas, thetas, body).mean(0)
    out = {group: float(degrees[list(joints)].mean()) for group, joints in GROUPS.items()}
    out["hidden"] = float(degrees[[joint for joints in GROUPS.values() for joint in joints]].mean())
    for name, place in (("joints_mm", body.joints), ("vertices_mm", body.vertices)):
        true, found = place(clip.betas, clip.thetas, clip.transl), place(betas, thetas, transl)
        apart = (true - found).norm(dim=-1)
        out[name] = 1000 * float(apart[:, :22].mean() if name == "joints_mm" else apart.mean())
    return out


def fitted(module: SMPLify3D, clips: Sequence[Known], noise: float) -> dict[str, float]:
    """Means over the clips of errors and iterations, and all seconds."""
    rows, seconds = [], 0.0
    for part, batch in batches(clips, module.body, noise):
        before = time.process_time()
        results = module.fit(batch)
        seconds += time.process_time() - before
        for clip, result in zip(part, results, strict=True):
            row = errors(clip, result.thetas, result.betas, result.transl, module.body)
            rows.append(row | {"iterations": result.iterations})
    return means(rows) | {"seconds": seconds}


@torch.no_grad()
def one_pass(module: SMPLify3D, clips: Sequence[Known], noise: float) -> dict[str, float]:
    """As `fitted`, for the network's rotations and the shape of the bones' lengths as they are."""
    rows, seconds = [], 0.0
    for part, batch in batches(clips, module.body, noise):
        before = time.process_time()
        centre, problem = module.problem(batch)
        state = learned_state(problem.calmed())
        local = problem.belief.rotations[:, 1:].unflatten(0, problem.mask.shape)
        thetas = matrix_to_axis_angle(torch.cat((state.root[:, :, None], local), 2))
        seconds += time.process_time() - before
        for i, clip in enumerate(part):
            length = len(clip.thetas)
            transl = state.transl[i, :length] + centre[i]
            rows.append(errors(clip, thetas[i, :length], state.betas[i], transl, module.body))
    return means(rows) | {"seconds": seconds}


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


@torch.no_grad()
def iterations(module: SMPLify3D, clips: Sequence[Known], noise: float) -> dict[str, float]:
    """Mean number of iterations of the learned fit's energy from each start to within 1 % of the best end of any."""
    counts: dict[str, list[int]] = {}
    stage = module.preset.stages["pose"]
    for _, batch in batches(clips, module.body, noise):
        _, problem = module.problem(batch)
        calm = problem.calmed()
        base = on_trunk(calm)
        starts = {
            "mean": base,
            "geometric": geometric_start(calm, base),
            "learned": learned_start(calm),
        }
        curves = {}
        for name, start in starts.items():
            solution = solve(Energy(stage.terms, problem), start, stage.iterations, stage.tolerance)
            curves[name] = torch.stack([values.sum(0) for values in solution.curve])
        best = torch.stack([curve[-1] for curve in curves.values()]).amin(0)
        for name, curve in curves.items():
            near = torch.cat((curve <= 1.01 * best, torch.ones_like(best)[None] > 0))
            counts.setdefault(name, []).extend(near.int().argmax(0).tolist())
    return {name: float(np.mean(count)) for name, count in counts.items()}


@torch.no_grad()
def real_clips(geometric: SMPLify3D, learned: SMPLify3D) -> list[dict[str, float | str]]:
    """Where both fits of every real clip end: energy without the belief, distance from the input in mm, iterations."""
    motions, _ = load_motions([str(REFERENCE / "data" / folder) for folder in REAL])
    rows = []
    for motion in motions:
        batch = collate([motion])
        row: dict[str, float | str] = {"clip": motion.name}
        _, problem = geometric.problem(batch)
        plain = Energy(geometric.preset.stages["pose"].terms, problem)
        for name, module in (("geometric", geometric), ("learned", learned)):
            solution = module.run_stages(module.problem(batch)[1])["pose"]
            posed, values = plain.evaluate(solution.state)
            row[f"energy_{name}"] = float(values.sum())
            row[f"mm_{name}"] = 1000 * float((posed.joints - problem.targets[:, :22]).norm(dim=-1).mean())
            row[f"iterations_{name}"] = int(solution.iterations[0])
        rows.append(row)
    return rows


def line(name: str, found: dict[str, float]) -> str:
    figures = "  ".join(f"{key} {value:.2f}" for key, value in found.items())
    return f"  {name:10} {figures}"


def measure(sets: dict[str, tuple[Sequence[Known], float]], geometric: SMPLify3D, learned: SMPLify3D) -> dict:
    """All figures of all sets, printed as they come."""
    out = {}
    ways: dict[str, Callable[[Sequence[Known], float], dict[str, float]]] = {
        "geometric": lambda clips, noise: fitted(geometric, clips, noise),
        "learned": lambda clips, noise: fitted(learned, clips, noise),
        "network": lambda clips, noise: one_pass(learned, clips, noise),
        "iterations": lambda clips, noise: iterations(learned, clips, noise),
    }
    for name, (clips, noise) in sets.items():
        print(f"{name}, {len(clips)} clips", flush=True)
        out[name] = {way: measured(clips, noise) for way, measured in ways.items()}
        for way, found in out[name].items():
            print(line(way, found), flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="learned", help="learned, or the file of a training")
    parser.add_argument("--preset", default="careful", help="of the fit")
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    geometric, learned = (SMPLify3D(preset=args.preset, start=start) for start in ("geometric", args.start))
    sets: dict[str, tuple[Sequence[Known], float]] = {"keyed": (keyed_takes(), 0.0)}
    if (REFERENCE / "data").is_dir():
        cuts = known_cuts(REFERENCE, geometric.body)
        sets |= {"known": (cuts, 0.0), "known, 4 cm noise": (cuts, 0.04)}
    out = {"machine": machine(), "preset": args.preset} | measure(sets, geometric, learned)
    if (REFERENCE / "data").is_dir():
        out["real"] = real_clips(geometric, learned)
        for row in out["real"]:
            print("  ", "  ".join(f"{key} {value:.6g}" if key != "clip" else value for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
