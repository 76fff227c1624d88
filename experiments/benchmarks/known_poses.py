"""Motion files whose true parameters are known, with noise if asked, for `thetafit fit` and `thetafit evaluate`.

    python experiments/benchmarks/known_poses.py --out known --noise 0.04
    thetafit fit known/joints --out known/fit --formats npz
    thetafit evaluate known/fit --truth known/truth    # the error of the fit, and of its input
    thetafit evaluate known/truth                      # what the truth itself scores

The twenty cuts of tests/known.py: dance and motion capture on the embedded body, 100 frames each at 20 fps. They need
the folder with reference data (`THETAFIT_REFERENCE`, or `shared` beside the clone).
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fitting.data import Motion  # noqa: E402
from fitting.result import FitResult  # noqa: E402
from models.body import BodyModel  # noqa: E402
from tests.known import FPS, known_cuts  # noqa: E402


def write(folder: Path, noise: float, seed: int) -> int:
    """joints/NAME.npy (100, 22, 3) in metres, with N(0, noise) added to each coordinate, and truth/NAME.npz."""
    random, body = np.random.default_rng(seed), BodyModel.load()
    cuts = known_cuts(Path(os.environ.get("THETAFIT_REFERENCE", ROOT.parent / "shared")), body)
    (folder / "joints").mkdir(parents=True, exist_ok=True)
    for cut in cuts:
        joints = body.joints(cut.betas, cut.thetas, cut.transl)[:, :22].numpy()
        motion = Motion(cut.name, joints=joints, fps=FPS)
        FitResult(cut.thetas, cut.betas, cut.transl, body, motion).save(folder / "truth" / cut.name, ("npz",))
        np.save(folder / "joints" / f"{cut.name}.npy", (joints + random.normal(0, noise, joints.shape)).astype("f4"))
    return len(cuts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("known"), metavar="DIR", help="output folder")
    parser.add_argument("--noise", type=float, default=0.0, metavar="M", help="standard deviation in metres")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    args = parser.parse_args()
    print(f"{write(args.out, args.noise, args.seed)} cuts in {args.out}/joints, their truth in {args.out}/truth")


if __name__ == "__main__":
    main()
