"""Exporters: one file a format, one table of names. They know a fit result and its body, never the solver."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fitting.export.atomic import atomic_path
from fitting.export.glb import write_glb
from fitting.export.npz import write_npz
from fitting.export.obj import write_obj
from fitting.export.smpl_params import write_smpl_params
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.result import FitResult

DEFAULT_FORMATS = ("smpl_params", "npz", "glb", "mp4")


@dataclass(frozen=True)
class Format:
    """An output format: one file or folder a clip, named after the clip with `suffix` behind.

    `write(result, path)` makes it at a path that does not exist yet; `doc` is a line for --help; `brings` names formats
    that are always written with this one.
    """

    name: str
    suffix: str
    write: Callable[["FitResult", Path], None]
    doc: str
    brings: tuple[str, ...] = ()


def _write_film(result: "FitResult", path: Path) -> None:
    from fitting.render.film import write_film  # here, because it loads the video library

    write_film(result, path)


def _write_poster(result: "FitResult", path: Path) -> None:
    from fitting.render.film import write_poster

    write_poster(result, path)


FORMATS = {
    format.name: format
    for format in (
        Format("smpl_params", "_smpl_params.npy", write_smpl_params, "MDM's dict: rot6d thetas, vertices; and betas"),
        Format("npz", ".npz", write_npz, "AMASS style: poses, trans, betas; and the joints"),
        Format("glb", ".glb", write_glb, "animated, skinned body for Blender, three.js and other glTF readers"),
        Format("mp4", "_mesh.mp4", _write_film, "film of the mesh, and the poster", brings=("png",)),
        Format("png", "_poster.png", _write_poster, "poster: the whole path in one picture"),
        Format("obj", "_obj", write_obj, "folder with the mesh of every frame as frame000.obj ..."),
    )
}


def targets(name: str, folder: str | Path, formats: Iterable[str] = DEFAULT_FORMATS) -> dict[Path, Format]:
    """Where a clip called `name` is written: path -> format, in the order asked for, each once.

    Raises InputError for an unknown format name, and for none.
    """
    wanted = list(formats)
    if not wanted:
        raise InputError(f"no format given. --formats takes any of these, separated by commas: {', '.join(FORMATS)}.")
    unknown = [format for format in wanted if format not in FORMATS]
    if unknown:
        given, known = ", ".join(map(repr, unknown)), ", ".join(FORMATS)
        raise InputError(f"unknown format {given}. --formats takes any of these, separated by commas: {known}.")
    all_names = dict.fromkeys(each for format in wanted for each in (format, *FORMATS[format].brings))
    return {Path(folder) / f"{name}{FORMATS[each].suffix}": FORMATS[each] for each in all_names}


def export(result: "FitResult", folder: str | Path, formats: Iterable[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write a clip's files into `folder`, named after result.motion.name; returns the files and folders written.

    Each appears whole or not at all (fitting.export.atomic) and replaces one of the same name. Raises InputError for an
    unknown format and for a folder that cannot be written to or is full.
    """
    written = targets(result.motion.name, folder, formats)
    for path, format in written.items():
        with atomic_path(path) as temporary:
            format.write(result, temporary)
    return list(written)
