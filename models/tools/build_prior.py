"""Learn a pose prior: `python -m models.tools.build_prior --help`.

From keyed motion of the project's own, from files of SMPL parameters (`--motions`), and from motion capture as (T,22,3)
files (`--joints DIR`), fitted with the prior learned from all else. The shipped file was made with 100STYLE clips
(CC BY 4.0). docs/prior.md tells the rest.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.anatomy import LIMITS, SPREAD, mirrored, sided
from models.errors import InputError
from models.keyed import MOTIONS, sample
from models.keyed_poses import POSES
from models.keyed_script import degrees
from models.parameters import read_parameters
from models.tools.mixture import Mixture, fit_mirrored

RATE = 10  # poses a second
VARIATIONS = 24  # of each kind of keyed motion
COMPONENTS = 8  # as many as the reference's
SHRINK = 0.25  # share of the anatomical spread in every covariance
FLOOR = np.radians(4.0)  # standard deviation added to every direction: nothing is known better than this


def main() -> None:
    """Command line: build and write the prior."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--joints", type=Path, help="folder of (T,22,3) .npy files, metres, y up: your copy of 100STYLE"
    )
    parser.add_argument(
        "--motions", type=Path, nargs="+", default=[], metavar="FILE",
        help="AMASS-style .npz (a fit's NAME.npz too) or AIST++ .pkl: your own motion",
    )  # fmt: skip
    parser.add_argument("--without-keyed", action="store_true", help="learn from --motions and --joints alone")
    parser.add_argument("--components", type=int, default=COMPONENTS, help="Gaussians (default: %(default)s)")
    parser.add_argument(
        "--score", type=Path, nargs="+", default=[], metavar="FILE",
        help="files like those of --motions, not learned from: their mean log-density is printed",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, default=20, help="frames a second of the --joints files")
    parser.add_argument("--skip", nargs="*", default=[], metavar="STEM", help="--joints files to leave out, by stem")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where the prior is written")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.out.suffix != ".npz" or args.fps <= 0:
        raise InputError(f"--out {args.out}: a name that ends in .npz; --fps {args.fps:g}: above 0")
    captured = captured_files(args.joints, args.skip) if args.joints else []
    scored, poses = read_poses(args.score), [read_poses(args.motions)]
    poses += [] if args.without_keyed else [keyed_poses(args.seed)]
    mixture = build(np.concatenate(poses), args.seed, args.components)
    if captured:
        poses.append(captured_poses(captured, args.fps, mixture))
        mixture = build(np.concatenate(poses), args.seed, args.components)
    save(mixture, args.out)
    print(f"{args.out}: {len(mixture.weights)} components, weights {np.round(mixture.weights, 3)}")
    if args.score:
        print(f"mean log-density of {len(scored)} poses not learned from: {mixture.log_prob(scored).mean():.2f}")


def build(poses: np.ndarray, seed: int = 0, components: int = COMPONENTS) -> Mixture:
    """The mixture of poses (N,69), broadened to welcome what it has not seen.

    One or two components are their own mirror image, the others pairs. Raises InputError for fewer poses than make a
    mixture, and for no component.
    """
    if components < 1 or len(poses) < 2 * components:
        raise InputError(f"{len(poses)} poses do not make {components} components: give more, or fewer components.")
    alone = 1 if components % 2 else 2
    spread = np.diag(sided(SPREAD).reshape(69) ** 2)
    mixture = fit_mirrored(
        poses, mirrored, alone=alone, pairs=(components - alone) // 2, prior=spread, shrink=SHRINK, seed=seed
    )
    mixture.covars += FLOOR**2 * np.eye(69)
    return mixture


def read_poses(files: list[Path]) -> np.ndarray:
    """Body poses (N,69) of files of SMPL parameters, about RATE a second."""
    motions = [read_parameters(file).every(RATE) for file in files]
    return np.concatenate([np.empty((0, 69)), *(motion.thetas[:, 1:].reshape(-1, 69) for motion in motions)])


def keyed_poses(seed: int = 0) -> np.ndarray:
    """Body poses (N,69) of all keyed motions, RATE a second."""
    clips = [sample(name, 1000 * seed + i, fps=RATE) for name in MOTIONS for i in range(VARIATIONS)]
    return np.concatenate([clip.thetas[:, 1:].reshape(-1, 69).double().numpy() for clip in clips])


def captured_files(folder: Path, skip: list[str]) -> dict[str, np.ndarray]:
    """Name -> joints (T,22,3) of the folder's .npy files. Raises InputError for none, and for other arrays."""
    paths = [path for path in sorted(folder.glob("*.npy")) if path.stem not in skip]
    if not paths:
        raise InputError(f"--joints {folder}: no .npy file there; a folder of (T,22,3) files is expected")
    return {path.name: read_joints(path) for path in paths}


def read_joints(path: Path) -> np.ndarray:
    """Joints (T,22,3) of a file. Raises InputError for anything else."""
    try:
        joints = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from None
    numbers = joints.dtype.kind in "fiu" and np.isfinite(joints).all()
    if not numbers or not len(joints) or joints.shape[1:] != (22, 3):
        raise InputError(f"{path}: holds {joints.dtype} {joints.shape}; finite joints (T,22,3) in metres are expected")
    return joints


def captured_poses(captured: dict[str, np.ndarray], fps: float, mixture: Mixture) -> np.ndarray:
    """Body poses (N,69) of joints by name, `fps` frames a second, fitted with the mixture; about RATE a second."""
    from fitting import fit

    stride, poses = max(round(fps / RATE), 1), []
    with TemporaryDirectory() as folder:
        prior = Path(folder) / "prior.npz"
        save(mixture, prior)
        for name, joints in captured.items():
            result = fit(joints[::stride], fps=fps / stride, prior=str(prior))
            poses.append(result.thetas[:, 1:].reshape(-1, 69).double().numpy())
            print(f"{name}: {result.length} frames, {result.status}")
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
    try:
        main()
    except InputError as error:
        sys.exit(f"build_prior: {error}")
