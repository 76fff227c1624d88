"""How far from the truth are legs that were hidden for a second, on motion that fitting/recall.py was tuned on or not?

    python experiments/benchmarks/hidden_legs.py    # the known cuts and captured clips need the reference folder

From five seconds of each clip knees, ankles and feet are taken away for one, somewhere between 0.5 and 4.5 s; the
preset `careful` fits what is left. Errors are those of the hidden joints, in millimetres. The known cuts are those on
which the kernel was tuned; keyed performances and captured clips are others. Captured skeletons are adapted to.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import REFERENCE  # noqa: E402
from fitting import fit  # noqa: E402
from fitting.data import load_motions  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed_takes import take  # noqa: E402
from tests.known import CUTS, known_cuts  # noqa: E402

LEGS = [4, 5, 7, 8, 10, 11]
FRAMES, HIDDEN, FPS, CLIPS = 100, 20, 20, 20


def tuned_on(body: BodyModel) -> list[np.ndarray]:
    """The twenty known cuts (100, 22, 3)."""
    return [body.joints(cut.betas, cut.thetas, cut.transl)[:, :22].numpy() for cut in known_cuts(REFERENCE, body)]


def keyed(body: BodyModel) -> list[np.ndarray]:
    """Keyed performances of the first seeds that last five seconds."""
    out: list[np.ndarray] = []
    seed = 0
    while len(out) < CLIPS:
        motion = take(seed := seed + 1).motion
        if len(motion.thetas) >= FRAMES:
            thetas, transl = (torch.as_tensor(x[:FRAMES]).float() for x in (motion.thetas, motion.transl))
            out.append(body.joints(torch.zeros(body.num_betas), thetas, transl)[:, :22].numpy())
    return out


def captured() -> list[np.ndarray]:
    """Five seconds from the middle of clips of other recordings than the cuts', evenly drawn from each archive."""
    used, out = {Path(file).stem for file, _, _ in CUTS}, []
    for archive in ("mocap_bandai", "mocap_100style"):
        files = sorted((REFERENCE / "data" / archive / "joints").glob("*.npy"))
        motions = [m for m in load_motions([str(f) for f in files if f.stem not in used])[0] if m.length >= FRAMES]
        for i in np.linspace(0, len(motions) - 1, CLIPS // 2).astype(int):
            start = (motions[i].length - FRAMES) // 2
            out.append(motions[i].joints[start : start + FRAMES, :22])
    return out


def measure(clips: list[np.ndarray], adapt: bool) -> np.ndarray:
    """Mean error in mm of each clip's hidden joints."""
    random, errors = np.random.default_rng(0), []
    for joints in clips:
        start = int(random.integers(10, FRAMES - HIDDEN - 10))
        gap = slice(start, start + HIDDEN)
        seen = joints.copy()
        seen[gap, LEGS] = np.nan
        found = fit(seen, fps=FPS, adapt_skeleton=adapt).joints().numpy()
        errors.append(1000 * np.linalg.norm(found - joints, axis=-1)[gap, LEGS].mean())
    return np.array(errors)


def main() -> None:
    torch.set_num_threads(1)
    body = BodyModel.load()
    sets = {"keyed performances": (keyed(body), False)}
    if (REFERENCE / "data").is_dir():
        sets |= {"known cuts": (tuned_on(body), False), "captured clips": (captured(), True)}
    for name, (clips, adapt) in sets.items():
        errors = measure(clips, adapt)
        figures = f"mean {errors.mean():.1f} mm, median {np.median(errors):.1f}, worst {errors.max():.1f}"
        print(f"{name}: {len(errors)} clips, {figures}")


if __name__ == "__main__":
    main()
