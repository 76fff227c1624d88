"""Files to clips: what a file holds is recognised by its content; every shape that is accepted is listed here once."""

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fitting.checks import ACCEPTED, FASTEST, named_skeleton
from models.errors import InputError
from models.mdm.features import JOINTS_BY_WIDTH
from models.safe_pickle import load_npy, load_pickle
from models.skeleton import SKELETONS, Skeleton

log = logging.getLogger("thetafit")

COUNTS = {len(s.joints) for s in SKELETONS.values()}
JOINT_KEYS = ("joints_input", "joints")
FPS_KEYS = ("fps", "mocap_frame_rate", "mocap_framerate")
POSE_KEYS = {"smpl_poses", "poses", "body_pose", "pose_body", "global_orient", "thetas", "pose"}


@dataclass
class Clip:
    """One clip as its file holds it.

    kind and array: joints (frames, J, 3), features (frames, 263 or 251), or rotations (frames, 25, 6), rot6d rows of 24
    joints and a row whose first three numbers are the pelvis; received: the shape found, in words, for messages;
    name: what tells the clip from the others of its file, empty when it is alone; length: valid frames that the file
    tells of; confidence (frames, J): beside joints, where the file has it; skeleton: of the joints, where the file
    names it; betas, body: a shape and the body it belongs to.
    """

    kind: str
    array: np.ndarray
    received: str
    name: str = ""
    text: str = ""
    length: int | None = None
    fps: float | None = None
    sample: int | None = None
    repetition: int | None = None
    confidence: np.ndarray | None = None
    skeleton: Skeleton | None = None
    betas: np.ndarray | None = None
    body: str | None = None


def read_clips(path: Path) -> list[Clip]:
    """The clips of a file, all frames, not yet checked for length, unit, axes and finiteness. Raises InputError."""
    content = open_content(path)
    if isinstance(content, Mapping):
        return _from_dict(content)
    if isinstance(content, list) or (isinstance(content, np.ndarray) and content.dtype == object):
        return _from_list(content)
    if isinstance(content, np.ndarray):
        return _from_array(content, f"array {_shape(content)}")
    raise InputError(f"it holds a {type(content).__name__}, neither an array nor a dict. {ACCEPTED}")


# Files --------------------------------------------------------------------------------------------------------------

_NOT_JOINTS = "not joint positions"
_STARTS = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"HIERARCHY": (
        f"BVH motion capture, a skeleton with rotations, {_NOT_JOINTS}: run its forward kinematics and save the joints "
        "as (frames, 22, 3) in metres"
    ),
    b"glTF": f"a GLB scene, {_NOT_JOINTS}",
    b"Kaydara FBX": f"an FBX scene, {_NOT_JOINTS}",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x89HDF": "an HDF5 file: save the joints it holds with numpy.save",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a git-lfs pointer, the data were not fetched: run git lfs pull",
    b"<": "a web page or another markup file; did a download go wrong?",
}
_PICKLES = (".pkl", ".pickle")
_TORCH = "a PyTorch file, network weights or tensors: save the joints with numpy.save(path, joints.numpy())"
_FILM = "a film: only sampleSS_repRR.mp4 beside MDM's results.npy stands for a motion, that clip of results.npy"


def open_content(path: Path) -> Any:
    """The object in a .npy, .npz or pickle file; for any other file InputError that says what it is."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from None
    kind = _kind(path, start)
    if kind == "npy":
        return load_npy(path)
    if kind == "zip":
        return _open_zip(path)
    if kind == "pickle":
        return load_pickle(path)
    raise InputError(f"it is {kind}. {ACCEPTED}")


def _kind(path: Path, start: bytes) -> str:
    suffix = path.suffix.lower()
    if not start:
        return "an empty file of 0 bytes"
    if start[4:8] == b"ftyp" or suffix in (".mp4", ".mkv", ".avi", ".mov", ".webm"):
        return _FILM
    if suffix in (".pt", ".pth", ".ckpt", ".tar"):
        return _TORCH
    known = next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), None)
    if known or suffix in _PICKLES or start[:1] == b"\x80":
        return known or "pickle"
    try:
        line = start.decode("utf-8", "ignore" if len(start) == 256 else "strict").splitlines()[0][:60]
        readable = line.isprintable()
    except (UnicodeDecodeError, IndexError):
        readable = False
    return f"a text file that begins with {line!r}" if readable else f"unknown: its first bytes are {start[:8]!r}"


def _open_zip(path: Path) -> dict[str, np.ndarray | None]:
    """The arrays of a .npz; None for those that only a pickle could give."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        if any(name.endswith("data.pkl") for name in members):
            raise InputError(f"it is {_TORCH}")
        if not any(name.endswith(".npy") for name in members):
            raise InputError(f"it is a zip archive without arrays ({', '.join(members[:5])}): unpack it. {ACCEPTED}")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: _member(arrays, key) for key in arrays.files}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged archive
        raise InputError(f"the .npz archive is broken or cut off ({error}): copy or save it again") from None


def _member(arrays: np.lib.npyio.NpzFile, key: str) -> np.ndarray | None:
    try:
        return arrays[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise


# Shapes -------------------------------------------------------------------------------------------------------------


def _shape(array: np.ndarray) -> str:
    return f"{tuple(array.shape)} {array.dtype}"


def arrange(array: np.ndarray) -> tuple[str, np.ndarray]:
    """Kind and (clips, frames, ...) of an array in any accepted shape; a single clip gets a clip axis of 1.

    Raises InputError that says what the shape probably is.
    """
    if array.dtype.kind not in "fiu" or array.dtype == np.uint8:
        raise InputError(f"{_guess(array)}. {ACCEPTED}")
    shape = array.shape
    match array.ndim:
        case 2 if shape[1] in JOINTS_BY_WIDTH:
            return "features", array[None]
        case 3 if shape[:2] == (25, 6):
            return "rotations", np.moveaxis(array, -1, 0)[None]
        case 3 if shape[0] in JOINTS_BY_WIDTH and shape[1] == 1:
            return "features", array[:, 0].T[None]
        case 3 if shape[0] in COUNTS and shape[1] == 3:
            return "joints", np.moveaxis(array, -1, 0)[None]
        case 3 if shape[2] in JOINTS_BY_WIDTH:
            return "features", array
        case 3 if shape[2] == 3:
            return "joints", array[None]
        case 4 if shape[1:3] == (25, 6):
            return "rotations", np.moveaxis(array, -1, 1)
        case 4 if shape[1] in JOINTS_BY_WIDTH and shape[2] == 1:
            return "features", np.swapaxes(array[:, :, 0], 1, 2)
        case 4 if shape[2] == 3 and (shape[1] in COUNTS or shape[3] != 3):
            return "joints", np.moveaxis(array, -1, 1)
        case 4 if shape[3] == 3 and shape[2] != 3:
            return "joints", array
        case 3 | 4 if shape[-1] == 4 and not _unit_length(array):
            return "joints", array if array.ndim == 4 else array[None]
    raise InputError(f"{_guess(array)}. {ACCEPTED}")


def _unit_length(array: np.ndarray) -> bool:
    """Whether these rows of four are quaternions, not x, y, z and confidence."""
    lengths = np.linalg.norm(array.astype(np.float64), axis=-1)
    return bool((np.abs(lengths - 1) < 0.01).mean() > 0.9)


def _guess(array: np.ndarray) -> str:
    """What an array that is no motion probably is."""
    shape, found = array.shape, f"array {_shape(array)}"
    width = shape[-1] if shape else 0
    if array.dtype == bool:
        return f"{found}: yes or no a frame, foot contacts perhaps"
    if array.dtype.kind not in "fiu":
        return f"{found}: not an array of numbers"
    if array.dtype == np.uint8:
        return f"{found}: an image or a film"
    if len(shape) == 1 and width in JOINTS_BY_WIDTH:
        return f"{found}: statistics of motion features (Mean.npy or Std.npy): give their folder with --stats"
    if len(shape) == 2 and width in _PARAMETER_WIDTHS:
        return f"{found}: probably {_PARAMETER_WIDTHS[width]}, {_ALREADY_FITTED}"
    if len(shape) == 2 and width % 3 == 0 and width // 3 in COUNTS:
        return f"{found}: if these are flattened joints, save array.reshape(-1, {width // 3}, 3)"
    if len(shape) >= 3 and (shape[-2:] == (3, 3) or width in (4, 6)):
        return f"{found}: rotations without the root's path, {_NOT_JOINTS}; accepted are 24 rot6d rows and the root"
    if len(shape) >= 3 and width == 2:
        return f"{found}: joints in an image (2-D); a fit takes three coordinates"
    if 3 in shape and COUNTS & set(shape):
        return f"{found}: joints with the axes in another order? Save them as (frames, joints, 3)"
    return f"{found}: not a shape of a motion"


_ALREADY_FITTED = (
    f"{_NOT_JOINTS}: they are what a fit would give. For joints or a mesh, pose a body with them: "
    "models.body.BodyModel.joints(betas, thetas, transl) or .vertices(...)"
)
_PARAMETER_WIDTHS = {
    72: "SMPL poses (24 joints in axis-angle)",
    75: "SMPL parameters (72 axis-angle, 3 translation)",
    82: "SMPL parameters (72 axis-angle, 10 betas)",
    85: "SMPL parameters (72 axis-angle, 10 betas, 3 translation)",
    135: "rot6d poses of 22 joints and a translation",
    144: "rot6d poses of 24 joints",
    156: "SMPL-H poses (52 joints in axis-angle)",
    165: "SMPL-X poses (55 joints in axis-angle)",
}


# Contents -----------------------------------------------------------------------------------------------------------


def _from_array(array: np.ndarray, received: str) -> list[Clip]:
    """Clips of a bare array: unnamed when it holds one, else sample00, sample01, ..."""
    kind, clips = arrange(array)
    if not len(clips):
        raise InputError(f"{received}: there are no clips in it")
    return _enumerate([_clip(kind, clip, received) for clip in clips])


def _clip(kind: str, array: np.ndarray, received: str) -> Clip:
    """A clip; of rows of four the fourth number is the confidence."""
    if kind == "joints" and array.shape[-1] == 4:
        return Clip(kind, array[..., :3], received, confidence=array[..., 3])
    return Clip(kind, array, received)


def _enumerate(clips: list[Clip]) -> list[Clip]:
    """Name clips sample00, sample01, ... unless there is only one."""
    for i, clip in enumerate(clips if len(clips) > 1 else []):
        clip.name, clip.sample = f"sample{i:02d}", i
    return clips


def _from_list(content: list | np.ndarray) -> list[Clip]:
    """Clips of a list of arrays, one clip each, of different lengths."""
    items = list(content)
    if not items or not all(isinstance(item, np.ndarray) and item.dtype != object for item in items):
        kinds = ", ".join(sorted({type(item).__name__ for item in items})) or "nothing"
        raise InputError(f"it holds {len(items)} objects ({kinds}), neither a dict nor a list of arrays. {ACCEPTED}")
    clips = []
    for i, item in enumerate(items):
        received = f"array {_shape(item)}, number {i} of {len(items)}"
        kind, arrays = arrange(item)
        if len(arrays) != 1:
            raise InputError(f"{received}: in a list of clips every array should hold one clip")
        clips.append(_clip(kind, arrays[0], received))
    return _enumerate(clips)


def _from_dict(content: Mapping) -> list[Clip]:
    """Clips of MDM's results.npy, of a dict with one clip such as smpl_params.npy, or of an npz with joints."""
    key = next((key for key in ("motion", *JOINT_KEYS) if content.get(key) is not None), None)
    if key is None:
        raise InputError(f"{_guess_dict(content)}. {ACCEPTED}, a dict with `motion`; an npz with `joints`")
    array = _array(content, key)
    clips = _from_array(array, f"`{key}` {_shape(array)}")
    if key == "motion" and array.ndim == 4:
        _number(clips, content)
    lengths, confidence = _lengths(content, clips), _confidence(content, clips)
    for clip, length, text, sure in zip(clips, lengths, _texts(content, clips), confidence, strict=True):
        clip.length, clip.text = length, text
        clip.confidence = clip.confidence if sure is None else sure
        if clip.kind == "joints":
            clip.skeleton = named_skeleton(content, clip.array.shape[1])
        clip.fps, clip.betas, clip.body = _fps(content), _betas(content), str(content.get("body") or "") or None
    return clips


def _guess_dict(content: Mapping) -> str:
    keys = [str(key) for key in content]
    found = f"it has no `motion`; it has {', '.join(keys[:12]) or 'no keys at all'}"
    if {"v_template", "shapedirs"} & set(keys):
        return f"{found}: a body model, to be given with --body"
    if {"covars", "means"} <= set(keys):
        return f"{found}: a pose prior (a mixture of Gaussians)"
    if POSE_KEYS & set(keys):
        advice = "; for metres divide smpl_trans by smpl_scaling" if "smpl_scaling" in keys else ""
        return f"{found}: SMPL parameters, {_ALREADY_FITTED}{advice}"
    return found


def _array(content: Mapping, key: str) -> np.ndarray:
    try:
        return np.asarray(content[key])
    except ValueError:
        raise InputError(f"`{key}` is no array: {content[key]!r:.80}") from None


def _number(clips: list[Clip], content: Mapping) -> None:
    """Name clips as MDM does: index = repetition * num_samples + sample (sample/generate.py)."""
    samples = _whole(content, "num_samples", len(clips))
    repetitions = _whole(content, "num_repetitions", len(clips) // max(1, samples))
    if samples * repetitions != len(clips):
        raise InputError(
            f"{clips[0].received} holds {len(clips)} clips, but num_samples {samples} x num_repetitions {repetitions} "
            "is another number"
        )
    for i, clip in enumerate(clips):
        clip.repetition, clip.sample = divmod(i, samples)
        clip.name = f"sample{clip.sample:02d}_rep{clip.repetition:02d}"


def _whole(content: Mapping, key: str, default: int) -> int:
    value = content.get(key, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"`{key}` should be a whole number; it is {value!r:.80}") from None


def _lengths(content: Mapping, clips: list[Clip]) -> list[int | None]:
    """The `lengths` of a results.npy or the `length` of a single clip; None where the file gives none."""
    key = "lengths" if content.get("lengths") is not None else "length"
    if content.get(key) is None:
        return [None] * len(clips)
    lengths = np.atleast_1d(_array(content, key))
    if lengths.shape != (len(clips),) or lengths.dtype.kind not in "iu":
        wanted = f"{len(clips)} whole numbers, one for each clip of {clips[0].received}"
        raise InputError(f"`{key}` should be {wanted}; it is {content[key]!r:.80}")
    return lengths.tolist()


def _confidence(content: Mapping, clips: list[Clip]) -> list[np.ndarray | None]:
    """The `confidence` (clips, frames, J) beside joints, of one clip also (frames, J); None where the file has none."""
    if content.get("confidence") is None or clips[0].kind != "joints":
        return [None] * len(clips)
    confidence = _array(content, "confidence")
    wanted = (len(clips), *clips[0].array.shape[:2])
    if confidence.dtype.kind not in "fiub" or confidence.shape not in (
        wanted,
        wanted[1:] if len(clips) == 1 else wanted,
    ):
        raise InputError(
            f"`confidence` is {_shape(confidence)}; expected {wanted}, a number from 0 (unseen) to 1 for each joint of "
            f"{clips[0].received}"
        )
    return list(confidence.reshape(wanted))


def _texts(content: Mapping, clips: list[Clip]) -> list[str]:
    """The text of each clip; the prompts of one made from several joined with #, as in MDM's results.txt."""
    given = content.get("text")
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if given is None or isinstance(given, str):
        return [given or ""] * len(clips)
    if not isinstance(given, list | tuple) or len(given) != len(clips):
        log.warning("`text` does not hold one text a clip of %s: texts are left out", clips[0].received)
        return [""] * len(clips)
    return ["#".join(map(str, text)) if isinstance(text, list | tuple) else str(text) for text in given]


def _fps(content: Mapping) -> float | None:
    key = next((key for key in FPS_KEYS if content.get(key) is not None), None)
    if key is None:
        return None
    value = _array(content, key)
    if value.size != 1 or value.dtype.kind not in "fiu" or not 0 < value.item() <= FASTEST:
        raise InputError(f"`{key}` should be a number above 0 and up to {FASTEST:g}; it is {content[key]!r:.80}")
    return float(value.item())


def _betas(content: Mapping) -> np.ndarray | None:
    """The shape in an smpl_params.npy, (B,), or (L, B) for one a frame."""
    if content.get("betas") is None:
        return None
    betas = _array(content, "betas")
    if betas.ndim not in (1, 2) or betas.dtype.kind not in "fiu" or not np.isfinite(betas).all():
        raise InputError(f"`betas` should be numbers (B,) or (frames, B); it is {content['betas']!r:.80}")
    return betas.astype(np.float32)
