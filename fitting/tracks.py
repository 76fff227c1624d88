"""What `thetafit evaluate` reads: the npz of a fit or of a truth as a Track, and the body that its parameters move."""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fitting.checks import find_skeleton, named_skeleton
from fitting.metrics import joint_errors_mm
from models.body import BODY_JOINTS, EMBEDDED, BodyModel
from models.errors import InputError
from models.proportions import adapted
from models.skeleton import SKELETONS, SMPL_PARENTS, Skeleton

PARAMETERS = ("poses", "trans", "betas")
POSE_WIDTHS = (72, 156, 165)  # of SMPL's 24 joints; of SMPL-H's 52 and SMPL-X's 55, with fingers
WHAT = "A result is the NAME.npz that `thetafit fit --formats npz` writes: poses, trans, betas, joints"
SAME_BODY_MM = 1.0  # joints of a file and of its parameters differ by less where the body is the right one


@dataclass
class Track:
    """A motion from a file, L frames, metres, y up: a fit's, or the truth.

    joints (L, 22, 3); given (L, J, 3): what it was fitted to; parameters: betas (B,) or (L, B), thetas (L, 24, 3), or
    of all joints of a body with fingers, and transl (L, 3), and the body they move. What the file does not have, or
    needs a body that is not at hand, is None.
    """

    name: str
    path: Path
    joints: np.ndarray
    fps: float | None
    given: np.ndarray | None = None
    skeleton: Skeleton | None = None
    parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    body: BodyModel | None = None
    text: str = ""


class Bodies:
    """The bodies at hand by name: the embedded one, and the file given."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.bodies = {EMBEDDED.stem: BodyModel.load()}
        if path is not None:
            given = BodyModel.load(path)
            self.bodies[given.name] = given
        self.missing: set[str] = set()

    def find(
        self, name: str, parameters: tuple[torch.Tensor, ...], joints: np.ndarray | None, offsets: np.ndarray | None
    ) -> BodyModel | None:
        """The body called so, with its bones changed by offsets (22, 3) where the file has some.

        None, remembered, if it cannot be told that its parameters give these joints.
        """
        body = self.bodies.get(name)
        if body is not None and offsets is not None:
            body = adapted(body, torch.from_numpy(offsets))
        betas, thetas, _ = parameters
        if body and betas.shape[-1] == body.num_betas and thetas.shape[-2] in (len(SMPL_PARENTS), body.num_joints):
            found = body.joints(*parameters)[:, :BODY_JOINTS]
            if joints is None or joint_errors_mm(found, joints).max() < SAME_BODY_MM:
                return body
        self.missing.add(name or "one without a name")
        return None

    def note(self) -> str:
        """Why some numbers are missing."""
        names = ", ".join(sorted(self.missing))
        if self.path is None:
            return f"No mesh was measured for body {names}: give its file with --body FILE."
        return f"No mesh was measured for body {names}: {self.path} does not give the joints that stand in the files."


def find_results(sources: Iterable[str]) -> dict[str, Path]:
    """Name -> npz of every result in files and folders; a clip in a folder's subfolder is SUBFOLDER/NAME."""
    found: dict[str, Path] = {}
    for source in map(Path, dict.fromkeys(sources)):
        if source.is_dir():
            paths = [path for path in sorted(source.rglob("*.npz")) if is_result(path)]
            if not paths:
                raise InputError(f"{source}: no result of a fit is in it. {WHAT}")
            names = [path.relative_to(source).with_suffix("").as_posix() for path in paths]
        elif source.is_file():
            paths, names = [source], [source.stem]
        else:
            raise InputError(f"{source}: no such file or folder. {WHAT}")
        for name, path in zip(names, paths, strict=True):
            taken = found.get(name, path) != path
            found[str(path.with_suffix("")) if taken else name] = path
    return found


def find_truths(paths: dict[str, Path], truth: str | None) -> dict[str, Path]:
    """Name -> truth of every result; empty without a truth."""
    if truth is None:
        return {}
    place = Path(truth)
    if not place.is_dir():
        if len(paths) > 1:
            raise InputError(
                f"--truth {truth} is one file for {len(paths)} results. Give one result, or a folder that has a truth "
                f"for each: {', '.join(f'{name}.npz' for name in list(paths)[:4])}"
            )
        return dict.fromkeys(paths, place)
    truths = {name: place / f"{name}.npz" for name in paths}
    if absent := [str(path) for path in truths.values() if not path.is_file()]:
        raise InputError(f"--truth {truth}: a truth is named as its result; missing: {', '.join(absent[:4])}")
    return truths


def read_track(name: str, path: Path, bodies: Bodies, result: bool) -> Track:
    """A result, or a truth that may have joints or parameters alone. Raises InputError for anything else."""
    arrays = _open(path)
    if result and (missing := [key for key in (*PARAMETERS, "joints") if key not in arrays]):
        raise InputError(f"{path}: no result of a fit, it has no {', '.join(missing)}. {WHAT}")
    joints = _joints(path, arrays) if "joints" in arrays else None
    parameters = body = None
    if all(key in arrays for key in PARAMETERS):
        parameters = _parameters(path, arrays)
        offsets = _numbers(path, arrays, "joint_offsets", (BODY_JOINTS, 3)) if "joint_offsets" in arrays else None
        body = bodies.find(str(arrays.get("body", "")), parameters, joints, offsets)
    if joints is None and body is None:
        raise InputError(
            f"{path}: no truth that can be used: it needs joints (L, 22, 3) in metres, or poses, trans and betas with "
            "`body`, the name of the embedded body or of the one given with --body"
        )
    if joints is None:
        joints = body.joints(*parameters)[:, :BODY_JOINTS].numpy()
    words = str(arrays.get("text", ""))
    track = Track(name, path, joints, _fps(path, arrays), parameters=parameters, body=body, text=words)
    if result:
        track.fps = track.fps or SKELETONS["humanml3d"].fps
        _read_input(track, arrays)
    return track


def _joints(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The first 22 joints, (L, 22, 3)."""
    joints = _numbers(path, arrays, "joints", (None, None, 3))
    if joints.shape[1] < BODY_JOINTS:
        raise InputError(f"{path}: `joints` is {joints.shape}; expected SMPL's {BODY_JOINTS} joints, (L, 22, 3)")
    if "poses" in arrays and len(arrays["poses"]) != len(joints):
        raise InputError(f"{path}: {len(joints)} frames of joints, {len(arrays['poses'])} of poses")
    return joints[:, :BODY_JOINTS]


def _read_input(track: Track, arrays: dict[str, np.ndarray]) -> None:
    if "joints_input" not in arrays:
        return
    track.given = _numbers(track.path, arrays, "joints_input", (len(track.joints), None, 3), gaps=True)
    count = track.given.shape[1]
    track.skeleton = named_skeleton(arrays, count) or find_skeleton(count)
    if "filled" in arrays:
        if arrays["filled"].shape != track.given.shape[:2]:
            raise InputError(f"{track.path}: `filled` is {arrays['filled'].shape}; expected {track.given.shape[:2]}")
        track.given[arrays["filled"].astype(bool)] = np.nan


def _parameters(path: Path, arrays: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = arrays["poses"].shape[-1]
    poses = _numbers(path, arrays, "poses", (None, width if width in POSE_WIDTHS else POSE_WIDTHS[0]))
    transl = _numbers(path, arrays, "trans", (len(poses), 3))
    betas = _numbers(path, arrays, "betas", (None,) if arrays["betas"].ndim == 1 else (len(poses), None))
    betas, poses, transl = (torch.tensor(values, dtype=torch.float32) for values in (betas, poses, transl))
    return betas, poses.unflatten(-1, (-1, 3)), transl


def _open(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz; nothing in it is executed."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. {WHAT}")
    if path.suffix.lower() != ".npz":
        beside = path.with_name(path.name.removesuffix(path.suffix).removesuffix("_smpl_params") + ".npz")
        hint = f"; {beside.name} lies beside it" if beside.is_file() else ""
        raise InputError(f"{path}: not an npz{hint}. {WHAT}")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an npz of plain arrays ({error}). {WHAT}") from None


def is_result(path: Path) -> bool:
    """Whether a .npz has the arrays of a fit."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{key}.npy" for key in (*PARAMETERS, "joints")} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _numbers(path: Path, arrays: dict, key: str, shape: tuple[int | None, ...], gaps: bool = False) -> np.ndarray:
    """An array of finite floats (`gaps`: NaN allowed) of this shape, None for any length."""
    array = arrays[key]
    fits = array.ndim == len(shape) and all(want in (None, has) for want, has in zip(shape, array.shape, strict=True))
    if not fits or not array.size or array.dtype.kind not in "fiu":
        expected = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
        raise InputError(f"{path}: `{key}` is {array.shape} {array.dtype}; expected numbers {expected}. {WHAT}")
    bad = np.isinf(array) if gaps else ~np.isfinite(array)
    if bad.any():
        raise InputError(f"{path}: `{key}` has numbers that are not finite, first in row {np.argwhere(bad)[0][0]}")
    return array.astype(np.float64)


def _fps(path: Path, arrays: dict[str, np.ndarray]) -> float | None:
    for key in ("mocap_frame_rate", "mocap_framerate", "fps"):
        if key in arrays:
            value = arrays[key]
            if value.size != 1 or value.dtype.kind not in "fiu" or not 0 < value.item() < np.inf:
                raise InputError(f"{path}: `{key}` should be a number above 0; it is {value!r:.80}")
            return float(value.item())
    return None
