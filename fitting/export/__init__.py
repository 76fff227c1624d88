"""Exporters: one file a format, one table of names. They know a fit result and its body, never the solver."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fitting.blender import check_blender
from fitting.export.amass import write_amass
from fitting.export.atomic import atomic_path
from fitting.export.blender import write_through_blender
from fitting.export.bones import RIGS
from fitting.export.bvh import write_bvh_file
from fitting.export.glb import write_glb
from fitting.export.hik import write_hik
from fitting.export.joints import write_features, write_joints
from fitting.export.mujoco import write_mjcf, write_qpos
from fitting.export.npz import write_npz
from fitting.export.obj import write_obj, write_rest
from fitting.export.ply import write_ply
from fitting.export.point_cache import write_mdd, write_pc2
from fitting.export.smpl_params import write_smpl_params
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.result import FitResult

DEFAULT_FORMATS = ("smpl_params", "npz", "glb", "mp4")


@dataclass(frozen=True)
class Format:
    """An output format: one file or folder a clip, named after the clip with `suffix` behind.

    `write(result, path)` makes it at a path that does not exist yet; `doc` is a line for --help; `brings` names formats
    that are always written with this one. With `rigged` the file has named bones, `write` takes a `rig` of RIGS too,
    and the format may be asked for as NAME:RIG. With `of_joints` the file holds joints alone, so that a motion that
    was never fitted can be written too. `needs()` raises InputError where what the format is made with is not there.
    With `of_run` it is one file about all clips of a run, made at the end from what it `brings`.
    """

    name: str
    suffix: str
    write: Callable[["FitResult", Path], None] | None
    doc: str
    brings: tuple[str, ...] = ()
    rigged: bool = False
    of_joints: bool = False
    needs: Callable[[], object] | None = None
    of_run: bool = False


def _write_film(result: "FitResult", path: Path) -> None:
    from fitting.render.film import write_film  # here, because it loads the video library

    write_film(result, path)


def _write_poster(result: "FitResult", path: Path) -> None:
    from fitting.render.poster import write_poster

    write_poster(result, path)


FORMATS = {
    format.name: format
    for format in (
        Format("smpl_params", "_smpl_params.npy", write_smpl_params, "MDM's dict: rot6d thetas, vertices; and betas"),
        Format("npz", ".npz", write_npz, "AMASS style: poses, trans, betas; and the joints"),
        Format("amass", "_amass.npz", write_amass, "as AMASS itself, z up: aitviewer, SMPL add-ons, retargeters"),
        Format("glb", ".glb", write_glb, "animated, skinned body for Blender, three.js and other glTF", rigged=True),
        Format("mp4", "_mesh.mp4", _write_film, "film of the mesh, and the poster", brings=("png",)),
        Format("gif", "_mesh.gif", _write_film, "the film as a GIF, for where only pictures can be shown"),
        Format("png", "_poster.png", _write_poster, "poster: the whole path in one picture"),
        Format("obj", "_obj", write_obj, "folder with the mesh of every frame as frame000.obj ..."),
        Format("ply", "_ply", write_ply, "the same as binary PLY, a third of the size"),
        Format("rest", "_rest.obj", write_rest, "mesh of the fitted shape in its rest pose"),
        Format("pc2", ".pc2", write_pc2, "point cache for 3ds Max, Maya, Blender; and the rest mesh", brings=("rest",)),
        Format("mdd", ".mdd", write_mdd, "point cache for LightWave, Houdini, Blender; and that", brings=("rest",)),
        Format("bvh", ".bvh", write_bvh_file, "skeleton and motion for animation programs", rigged=True),
        Format("fbx", ".fbx", write_through_blender, "FBX, written by Blender", rigged=True, needs=check_blender),
        Format("usd", ".usdc", write_through_blender, "UsdSkel, written by Blender", rigged=True, needs=check_blender),
        Format("abc", ".abc", write_through_blender, "Alembic cache, written by Blender", needs=check_blender),
        Format("joints", "_joints.npy", write_joints, "joints alone, (frames, 22, 3) in metres", of_joints=True),
        Format("features", "_features.npy", write_features, "HumanML3D's 263 numbers a frame", of_joints=True),
        Format("hik", "_hik.json", write_hik, "HumanIK's joints in degrees, as MDM's motions2hik has them"),
        Format("qpos", "_qpos.csv", write_qpos, "MuJoCo's qpos of the SMPL humanoid; and its model", brings=("mjcf",)),
        Format("mjcf", "_mjcf.xml", write_mjcf, "MuJoCo model of the fitted skeleton"),
        Format("html", "", None, "page.html: all clips moving in the browser", brings=("npz", "glb"), of_run=True),
    )
}


def find_format(name: str) -> Format:
    """The format called NAME, or NAME:RIG for one with the bone names of that rig. Raises InputError for no such."""
    base, colon, rig = name.partition(":")
    format = FORMATS.get(base)
    if format is None:
        raise InputError(f"unknown format {name!r}. Known, separated by commas: {', '.join(FORMATS)}.")
    if not colon:
        return format
    if not format.rigged or rig not in RIGS:
        rigged = ", ".join(each.name for each in FORMATS.values() if each.rigged)
        raise InputError(
            f"unknown bone names {name!r}. {rigged} take a rig behind a colon: {', '.join(RIGS)}, as in bvh:mixamo."
        )
    stem, dot, ending = format.suffix.rpartition(".")
    return replace(format, name=name, suffix=f"{stem}_{rig}{dot}{ending}", write=partial(format.write, rig=rig))


def targets(name: str, folder: str | Path, formats: Iterable[str] = DEFAULT_FORMATS) -> dict[Path, Format]:
    """Where a clip called `name` is written: path -> format, in the order asked for, each once.

    Raises InputError for an unknown format name, and for none.
    """
    wanted = [find_format(each) for each in formats]
    if not wanted:
        raise InputError(f"no format given. --formats takes any of these, separated by commas: {', '.join(FORMATS)}.")
    if any(format.of_run for format in wanted):
        raise InputError("html is a page about a whole run: thetafit fit SOURCES --formats html writes it.")
    every = [each for format in wanted for each in (format, *map(find_format, format.brings))]
    return {Path(folder) / f"{name}{format.suffix}": format for format in every}


def per_clip(formats: Iterable[str]) -> list[str]:
    """The formats with those about a whole run replaced by what they are made from."""
    wanted = [(name, find_format(name)) for name in formats]
    return list(dict.fromkeys(each for name, f in wanted for each in (f.brings if f.of_run else (name,))))


def check_formats(formats: Iterable[str]) -> None:
    """Raises InputError for an unknown format name, for none, and for a format that cannot be written here."""
    for format in targets("", "", per_clip(formats)).values():
        if format.needs:
            format.needs()


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
