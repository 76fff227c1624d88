"""NAME_obj/frame000.obj ... and NAME_rest.obj: meshes as text, vertices and faces in the body's own order."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fitting.result import FitResult


def write_obj(result: "FitResult", folder: Path) -> None:
    """One file a frame in a new folder: metres with six decimals, y up, world of the input; faces count from 1."""
    folder.mkdir()
    for i, text in enumerate(_texts(result, result.vertices().numpy(force=True))):
        (folder / f"frame{i:03d}.obj").write_text(text, encoding="ascii")


def write_rest(result: "FitResult", path: Path) -> None:
    """The mesh in its rest pose (T), fitted shape, where the body file has it: pelvis near the origin.

    A fit with one shape a frame gets the mean shape.
    """
    betas = result.betas.reshape(-1, result.body.num_betas).mean(0)
    rest = result.body.rest_vertices(betas).numpy(force=True)
    path.write_text(next(_texts(result, rest[None])), encoding="ascii")


def _texts(result: "FitResult", meshes: np.ndarray) -> Iterator[str]:
    """The file of each mesh of (L, V, 3)."""
    faces = result.body.faces.numpy(force=True) + 1
    vertex_lines = "v %.6f %.6f %.6f\n" * meshes.shape[1]
    face_lines = ("f %d %d %d\n" * len(faces)) % tuple(faces.ravel().tolist())
    for mesh in meshes:
        yield vertex_lines % tuple(mesh.ravel().tolist()) + face_lines
