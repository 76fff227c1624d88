"""NAME_obj/frame000.obj ...: the mesh of every frame as text, vertices and faces in the body's own order."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fitting.result import FitResult


def write_obj(result: "FitResult", folder: Path) -> None:
    """One file a frame in a new folder: metres with six decimals, y up, world of the input; faces count from 1."""
    folder.mkdir()
    vertices = result.vertices().numpy(force=True)
    faces = result.body.faces.numpy(force=True) + 1
    vertex_lines = "v %.6f %.6f %.6f\n" * vertices.shape[1]
    face_lines = ("f %d %d %d\n" * len(faces)) % tuple(faces.ravel().tolist())
    for i, frame in enumerate(vertices):
        text = vertex_lines % tuple(frame.ravel().tolist()) + face_lines
        (folder / f"frame{i:03d}.obj").write_text(text, encoding="ascii")
