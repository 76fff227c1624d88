"""Pose prior: a mixture of Gaussians over the 69 body-pose numbers, ours or the reference's."""

import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from models.errors import InputError
from models.safe_pickle import describe_start, load_pickle, read_bytes

OWN_PRIOR = Path(__file__).parent / "assets" / "pose_prior.npz"
WHERE = (
    "Leave the path out for thetafit's own prior, or give gmm_08.pkl of the joints2smpl/SMPLify3D release "
    "(`means` (8,69), `covars` (8,69,69), `weights` (8,)), or an npz with "
    "the same arrays, as build_prior and a tuning write it."
)


@dataclass(frozen=True)
class PosePrior:
    """Mixture of K Gaussians over `body_pose`, the axis-angle (radians) of SMPL joints 1..23, flattened to 69.

    name: where it came from; means (K,69); covariances and precisions (K,69,69); log_weights (K,), natural logarithms
    that sum to one as weights; mean_pose (69,): a relaxed standing pose for starting a fit; limits (23,3,2): lowest
    and highest value of each rotation-vector component, or None where the file has none.
    """

    name: str
    means: torch.Tensor
    covariances: torch.Tensor
    precisions: torch.Tensor
    log_weights: torch.Tensor
    mean_pose: torch.Tensor
    limits: torch.Tensor | None

    @classmethod
    def load(cls, path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> "PosePrior":
        """Read thetafit's own prior (no path), an npz of the same layout, or the reference's `gmm_08.pkl`.

        A pickle has no mean pose and no limits: the mean pose is then the mixture's mean. Raises InputError for a
        file that is missing, is no mixture, or whose covariances are not symmetric positive definite.
        """
        path = OWN_PRIOR if path is None else Path(path)
        return _build(path.stem, _read(path), path).to(dtype)

    def save(self, path: str | Path) -> None:
        """Write the npz that `load` reads."""
        arrays = {"means": self.means, "covars": self.covariances, "weights": self.log_weights.exp()}
        arrays |= {"mean_pose": self.mean_pose} | ({} if self.limits is None else {"limits": self.limits})
        np.savez_compressed(path, **{name: value.numpy(force=True) for name, value in arrays.items()})

    def to(self, *args, **kwargs) -> "PosePrior":
        """The same prior with every tensor moved or cast as by `torch.Tensor.to`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return PosePrior(**{k: v.to(*args, **kwargs) if isinstance(v, torch.Tensor) else v for k, v in values.items()})

    def log_prob(self, body_pose: torch.Tensor) -> torch.Tensor:
        """Log-density of `body_pose` (..., 69) under the mixture, (...,)."""
        offset = body_pose.unsqueeze(-2) - self.means  # (..., K, 69)
        mahalanobis = torch.einsum("...ki,kij,...kj->...k", offset, self.precisions, offset)
        normaliser = 69 * np.log(2 * np.pi) - torch.logdet(self.precisions)  # (K,)
        return torch.logsumexp(self.log_weights - 0.5 * (mahalanobis + normaliser), dim=-1)


def load_mean_params(path: str | Path, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the reference's `neutral_smpl_mean_params.h5`: pose (72,), axis-angle in radians, root first; shape (10,).

    Needs h5py (`pip install h5py`). Raises InputError when it is missing, or the file is none.
    """
    expected = "expected the datasets pose (72,) and shape (10,) of neutral_smpl_mean_params.h5"
    start = read_bytes(path)[:64]
    if not start.startswith(b"\x89HDF"):
        raise InputError(f"{path}: no file of mean parameters; {describe_start(start)}; {expected}.")
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path}: reading an HDF5 file needs h5py, which is not installed. Run: pip install h5py"
        ) from None
    try:
        with h5py.File(Path(path), "r") as file:
            pose, shape = (np.asarray(file[name], dtype=np.float64) for name in ("pose", "shape"))
    except (OSError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable file of mean parameters ({error}); {expected}.") from None
    if pose.shape != (72,) or shape.shape != (10,):
        raise InputError(f"{path}: holds pose {pose.shape} and shape {shape.shape}; {expected}.")
    return torch.as_tensor(pose, dtype=dtype), torch.as_tensor(shape, dtype=dtype)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a prior file by name."""
    if not path.is_file():
        raise InputError(f"{path}: no such prior file. {WHERE}")
    if path.suffix == ".pkl":
        content = load_pickle(path)
    else:
        try:
            with path.open("rb") as stream:
                file = np.load(stream, allow_pickle=False)
                content = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else None
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error):
            start = describe_start(read_bytes(path)[:64])
            raise InputError(f"{path}: not a readable prior file; {start}. {WHERE}") from None
    missing = [k for k in ("means", "covars", "weights") if not isinstance(content, dict) or k not in content]
    if missing:
        raise InputError(f"{path}: this is no mixture of poses, it has no {', '.join(missing)}. {WHERE}")
    return content


def _build(name: str, content: dict[str, np.ndarray], path: Path) -> PosePrior:
    """Derive what the fit needs from the arrays of a file, in float64."""
    means, covars, weights = _mixture(content, path)
    mean_pose = _floats(content.get("mean_pose", weights @ means / weights.sum()), path)
    limits = None if content.get("limits") is None else _floats(content["limits"], path)
    if mean_pose.shape != (69,) or (limits is not None and limits.shape != (23, 3, 2)):
        found = f"mean_pose {mean_pose.shape} and limits {np.shape(limits)}"
        raise InputError(f"{path}: holds {found}; expected (69,) and (23, 3, 2). {WHERE}")
    return PosePrior(
        name=name,
        means=torch.as_tensor(means),
        covariances=torch.as_tensor(covars),
        precisions=torch.linalg.inv(torch.as_tensor(covars)),
        log_weights=torch.as_tensor(np.log(weights / weights.sum())),
        mean_pose=torch.as_tensor(mean_pose),
        limits=None if limits is None else torch.as_tensor(limits),
    )


def _mixture(content: dict[str, np.ndarray], path: Path) -> list[np.ndarray]:
    """Means (K,69), covariances (K,69,69) and weights (K,) that make a mixture."""
    means, covars, weights = arrays = [_floats(content[name], path) for name in ("means", "covars", "weights")]
    if (
        means.shape != (weights.size, 69)
        or covars.shape != (weights.size, 69, 69)
        or weights.ndim != 1
        or not weights.size
    ):
        raise InputError(f"{path}: holds means {means.shape}, covars {covars.shape}, weights {weights.shape}. {WHERE}")
    asymmetric = np.abs(covars - covars.transpose(0, 2, 1)).max() > 1e-6 * np.abs(covars).max()
    if (weights <= 0).any() or asymmetric or np.linalg.eigvalsh(covars).min() <= 0:
        raise InputError(f"{path}: weights must be positive, covariances symmetric and positive definite. {WHERE}")
    return arrays


def _floats(array: object, path: Path) -> np.ndarray:
    """A float64 array of finite numbers."""
    try:
        numbers = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: holds something else than numbers ({error}). {WHERE}") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: holds numbers that are not finite. {WHERE}")
    return numbers
