"""Learn the pose prior of models/assets from free sources: `python -m models.tools.build_prior --help`. For developers.

Keyed motion of the project's own is always used; `--joints DIR` adds motion capture as (T,22,3) files, fitted with the
prior learned from keyed motion alone. The shipped file was made with 100STYLE clips (CC BY 4.0). docs/prior.md tells
the rest.
"""

import argparse
from pathlib import Path

import numpy as np

from models.keyed import MOTIONS, sample
from models.keyed_poses import POSES
from models.keyed_script import degrees
from models.prior import OWN_PRIOR
from models.tools.anatomy import LIMITS, SPREAD, mirrored, sided
from models.tools.mixture import Mixture, fit_mirrored

RATE = 10  # poses a second
VARIATIONS = 24  # of each kind of keyed motion
ALONE, PAIRS = 2, 3  # 8 components, as many as the reference's
SHRINK = 0.25  # share of the anatomical spread in every covariance
FLOOR = np.radians(4.0)  # standard deviation added to every direction: nothing is known better than this


def main() -> None:
    """Command line: build and write the prior."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--joints", type=Path, help="folder of (T,22,3) .npy files, metres, y up: your copy of 100STYLE"
    )
    parser.add_argument("--fps", type=float, default=20, help="frames a second of those files")
    parser.add_argument("--skip", nargs="*", default=[], help="stems of files to leave out")
    parser.add_argument("--out", type=Path, default=OWN_PRIOR)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keyed = keyed_poses(args.seed)
    mixture = build(keyed, np.empty((0, 69)), args.seed)
    save(mixture, args.out)
    if args.joints:
        files = [path for path in sorted(args.joints.glob("*.npy")) if path.stem not in args.skip]
        mixture = build(keyed, captured_poses(files, args.fps, prior=args.out), args.seed)
        save(mixture, args.out)
    print(f"{args.out}: {len(mixture.weights)} components, weights {np.round(mixture.weights, 3)}")


def build(keyed: np.ndarray, captured: np.ndarray, seed: int = 0) -> Mixture:
    """The mixture of keyed poses (N,69) and captured ones (M,69), broadened to welcome what it has not seen."""
    poses = np.concatenate([keyed, captured])
    spread = np.diag(sided(SPREAD).reshape(69) ** 2)
    mixture = fit_mirrored(poses, mirrored, alone=ALONE, pairs=PAIRS, prior=spread, shrink=SHRINK, seed=seed)
    mixture.covars += FLOOR**2 * np.eye(69)
    return mixture


def keyed_poses(seed: int = 0) -> np.ndarray:
    """Body poses (N,69) of all keyed motions, RATE a second."""
    clips = [sample(name, 1000 * seed + i, fps=RATE) for name in MOTIONS for i in range(VARIATIONS)]
    return np.concatenate([clip.thetas[:, 1:].reshape(-1, 69).double().numpy() for clip in clips])


def captured_poses(files: list[Path], fps: float, prior: Path) -> np.ndarray:
    """Body poses (N,69) of motion capture, fitted with the mixture in the file `prior`, about RATE a second."""
    from fitting import fit

    stride = max(round(fps / RATE), 1)
    poses = []
    for file in files:
        result = fit(np.load(file, allow_pickle=False)[::stride], fps=fps / stride, prior=str(prior))
        poses.append(result.thetas[:, 1:].reshape(-1, 69).double().numpy())
        print(f"{file.name}: {result.length} frames, {result.status}")
    return np.concatenate(poses)


def save(mixture: Mixture, path: Path) -> None:
    """Write the npz that models/prior.py reads."""
    np.savez_compressed(
        path,
        means=mixture.means,
        covars=mixture.covars,
        weights=mixture.weights,
        limits=sided(LIMITS),
        mean_pose=np.radians(degrees(POSES["stand"])[1:, :3]).reshape(69),
    )


if __name__ == "__main__":
    main()
