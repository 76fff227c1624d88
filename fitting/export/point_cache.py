"""NAME.pc2 and NAME.mdd: the path of every vertex, to be put on the mesh of NAME_rest.obj."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fitting.result import FitResult


def write_pc2(result: "FitResult", path: Path) -> None:
    """3ds Max' point cache, version 1: header (points, first frame 0, 1 sample a frame, samples), then float32 LE.

    metres, y up, world of the input. The format knows frames, not seconds.
    """
    vertices = result.vertices().numpy(force=True)
    header = struct.pack("<12siiffi", b"POINTCACHE2", 1, vertices.shape[1], 0.0, 1.0, len(vertices))
    path.write_bytes(header + vertices.astype("<f4").tobytes())


def write_mdd(result: "FitResult", path: Path) -> None:
    """LightWave's motion data: frames and points, seconds of every frame, then positions; all big-endian.

    metres, y up, world of the input.
    """
    vertices = result.vertices().numpy(force=True)
    seconds = np.arange(len(vertices)) / result.fps
    header = struct.pack(">ii", *vertices.shape[:2]) + seconds.astype(">f4").tobytes()
    path.write_bytes(header + vertices.astype(">f4").tobytes())
