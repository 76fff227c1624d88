"""Cameras and masks from outside: cam.json with an entry a view, and a PNG a view and frame (docs/refine.md)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from models.errors import InputError

PINHOLE, ORTHOGRAPHIC = "pinhole", "orthographic"
REQUIRED = ("width", "height", "focal", "rotation", "translation")
KEYS = (*REQUIRED, "model", "centre")
HOW = (
    "cam.json has an entry a view: its name, then width, height, focal (pixels; of an orthographic camera pixels a "
    "metre), rotation 3 x 3 and translation 3 (world to camera: x to the right, y downwards, z ahead), and if need be "
    'centre [column, row] and model "orthographic" (docs/refine.md)'
)
NAMING = "A mask is called VIEW_FRAME.png, VIEW as in cam.json, FRAME counted from 0, such as front_000.png"


@dataclass(frozen=True)
class FixedCamera:
    """A camera that stands still. Pixel centres lie at .5, columns count to the right, rows downwards.

    A place p in the world is at rotation p + translation before the camera: x to the right, y downwards, z ahead, in
    metres; and in the picture at centre + focal (x, y) / z, or for an orthographic camera at centre + focal (x, y).
    """

    height: int
    width: int
    focal: Tensor  # (2,) pixels along columns and rows, orthographic: pixels a metre
    centre: Tensor  # (2,) column, row
    rotation: Tensor  # (3, 3)
    translation: Tensor  # (3,)
    orthographic: bool = False

    def project(self, points: Tensor) -> Tensor:
        """World (..., V, 3) in metres -> (..., V, 3): column and row in pixels, depth in metres."""
        placed = points @ self.rotation.to(points).T + self.translation.to(points)
        scale = self.focal.to(points) if self.orthographic else self.focal.to(points) / placed[..., 2:]
        return torch.cat((self.centre.to(points) + placed[..., :2] * scale, placed[..., 2:]), -1)


@dataclass(frozen=True)
class Masks:
    """What one camera saw of a clip."""

    name: str
    camera: FixedCamera
    frames: Tensor  # (n,) int64, ascending
    pictures: Tensor  # (n, height, width) uint8, 255 where the person is


def read_cameras(path: Path) -> dict[str, FixedCamera]:
    """Name of each view in cam.json -> its camera. Raises InputError that names what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"--camera {path}: cannot be read as JSON ({error}). {HOW}") from None
    if not isinstance(content, dict) or not content or not all(isinstance(each, dict) for each in content.values()):
        raise InputError(f"--camera {path}: expected an object with an object for every view. {HOW}")
    return {name: _camera(f"--camera {path}: {name}", entry) for name, entry in content.items()}


def _camera(where: str, entry: Mapping[str, Any]) -> FixedCamera:
    missing, unknown = [key for key in REQUIRED if key not in entry], sorted(set(entry) - set(KEYS))
    if missing or unknown:
        what = f"it lacks {', '.join(missing)}" if missing else f"unknown: {', '.join(unknown)}"
        raise InputError(f"{where}: {what}. {HOW}")
    height, width = (_pixels(where, entry, key) for key in ("height", "width"))
    focal = entry["focal"] if isinstance(entry["focal"], list) else [entry["focal"]] * 2
    rotation = _numbers(where, "rotation", entry["rotation"], (3, 3))
    if (rotation @ rotation.T - torch.eye(3)).abs().max() > 1e-3 or rotation.det() < 0:
        raise InputError(
            f"{where}: rotation is no rotation: its rows must be unit vectors at right angles, det 1. {HOW}"
        )
    if entry.get("model", PINHOLE) not in (PINHOLE, ORTHOGRAPHIC):
        raise InputError(f"{where}: model is {entry['model']!r}; known are {PINHOLE} and {ORTHOGRAPHIC}. {HOW}")
    focal = _numbers(where, "focal", focal, (2,))
    if (focal <= 0).any():
        raise InputError(f"{where}: focal must be above 0; it is {entry['focal']}. {HOW}")
    return FixedCamera(
        height,
        width,
        focal,
        _numbers(where, "centre", entry.get("centre", [width / 2, height / 2]), (2,)),
        rotation,
        _numbers(where, "translation", entry["translation"], (3,)),
        entry.get("model") == ORTHOGRAPHIC,
    )


def _pixels(where: str, entry: Mapping[str, Any], key: str) -> int:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 8192:
        raise InputError(f"{where}: {key} should be a whole number of pixels, 1 to 8192; it is {value!r}. {HOW}")
    return value


def _numbers(where: str, key: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        expected = " x ".join(map(str, shape))
        raise InputError(f"{where}: {key} should be {expected} finite numbers; it is {value!r:.80}. {HOW}")
    return torch.from_numpy(array)


def read_masks(folder: Path, cameras: Mapping[str, FixedCamera], length: int) -> list[Masks]:
    """The masks of every view, of a clip of `length` frames; frames without one are left out.

    Raises InputError for a view without masks, masks without a view or a frame, and masks of another size, empty or
    full.
    """
    if not folder.is_dir():
        raise InputError(f"--silhouettes {folder}: no such folder. {NAMING}")
    found: dict[str, dict[int, Path]] = {name: {} for name in cameras}
    for path in sorted(folder.glob("*.png")):
        view, frame = _name(path, cameras, length)
        if frame in found[view]:
            raise InputError(f"{path} and {found[view][frame].name} are both of frame {frame}. {NAMING}")
        found[view][frame] = path
    if absent := [name for name, paths in found.items() if not paths]:
        raise InputError(f"--silhouettes {folder}: no mask of {', '.join(absent)}, which cam.json has. {NAMING}")
    return [_read_view(name, cameras[name], paths) for name, paths in found.items()]


def _name(path: Path, cameras: Mapping[str, FixedCamera], length: int) -> tuple[str, int]:
    """View and frame of VIEW_FRAME.png."""
    match = re.fullmatch(r"(.+)_(\d+)", path.stem)
    if not match or match[1] not in cameras:
        raise InputError(f"{path}: of no view; cam.json has {', '.join(cameras)}. {NAMING}")
    frame = int(match[2])
    if frame >= length:
        raise InputError(f"{path}: there is no frame {frame}, the clip's {length} frames count from 0. {NAMING}")
    return match[1], frame


def _read_view(name: str, camera: FixedCamera, paths: Mapping[int, Path]) -> Masks:
    frames = sorted(paths)
    pictures = torch.stack([_read_mask(paths[frame], camera) for frame in frames])
    return Masks(name, camera, torch.tensor(frames), pictures)


def _read_mask(path: Path, camera: FixedCamera) -> Tensor:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size == (camera.width, camera.height):
                picture = torch.from_numpy(np.array(image.convert("L")))
            else:
                width, height = image.size
                raise InputError(
                    f"{path}: {width} x {height} pixels, but its camera has {camera.width} x {camera.height}. Scale "
                    "the mask, or width, height, focal and centre of the camera together"
                )
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as a PNG ({error}). {NAMING}") from None
    share = (picture > 127).float().mean().item()
    if share in (0.0, 1.0):
        which = "empty" if share == 0 else "full"
        raise InputError(
            f"{path}: the mask is {which}. The person is white (255), the rest black; leave out the "
            "masks of frames without a person"
        )
    return picture
