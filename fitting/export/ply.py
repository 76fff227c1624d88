"""NAME_ply/frame000.ply ...: the mesh of every frame, binary, vertices and faces in the body's own order."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fitting.result import FitResult

HEADER = """ply
format binary_little_endian 1.0
comment thetafit, metres, y up
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uchar int vertex_indices
end_header
"""


def write_ply(result: "FitResult", folder: Path) -> None:
    """One file a frame in a new folder: float32 metres, y up, world of the input."""
    folder.mkdir()
    vertices = result.vertices().numpy(force=True).astype("<f4")
    faces = result.body.faces.numpy(force=True)
    rows = np.empty(len(faces), [("corners", "u1"), ("vertices", "<i4", 3)])
    rows["corners"], rows["vertices"] = 3, faces
    header = HEADER.format(vertices=vertices.shape[1], faces=len(faces)).encode("ascii")
    for i, frame in enumerate(vertices):
        (folder / f"frame{i:03d}.ply").write_bytes(header + frame.tobytes() + rows.tobytes())
