"""Run inside Blender: imports a folder of frame000.obj, frame001.obj ... as one object that moves.

    blender --python import_obj_sequence.py -- NAME_obj 20 [--save FILE.blend]

with the folder and its frames a second; or open the file in Blender's text editor and call import_folder from the
Python console. Every frame is an absolute shape key of one mesh, so the object needs no file beside it afterwards.
"""

import sys
from pathlib import Path

import bpy
import numpy as np


def import_folder(folder: str, fps: float) -> bpy.types.Object:
    """The object, linked to the scene; the scene gets the clip's rate and range. Frame k of Blender is frame{k}.obj.

    Raises ValueError where the folder has no such files, or meshes that are not one mesh moving.
    """
    files = sorted(Path(folder).glob("frame*.obj"), key=lambda path: int(path.stem.removeprefix("frame")))
    if not files:
        raise ValueError(f"{folder}: no frame000.obj in it. thetafit convert RESULT --to obj makes such a folder.")
    first, faces = read_obj(files[0])
    frames = np.stack([first, *(read_obj(path)[0] for path in files[1:])])
    set_rate(bpy.context.scene, fps, len(frames))
    return moving_mesh(Path(folder).name.removesuffix("_obj"), frames, faces)


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of an OBJ file, its y axis up."""
    rows = {"v": [], "f": []}
    for line in path.read_text(encoding="ascii").splitlines():
        kind, _, rest = line.partition(" ")
        if kind in rows:
            rows[kind].append([number.partition("/")[0] for number in rest.split()[:3]])
    return np.array(rows["v"], np.float32), np.array(rows["f"], np.int32) - 1


def set_rate(scene: bpy.types.Scene, fps: float, frames: int) -> None:
    """Frames a second, also fractional ones, and a range from 0."""
    scene.render.fps = max(round(fps), 1)
    scene.render.fps_base = scene.render.fps / fps
    scene.frame_start, scene.frame_end = 0, frames - 1


def z_up(points: np.ndarray) -> np.ndarray:
    """y up -> Blender's z up."""
    return points[..., [0, 2, 1]] * np.float32([1, -1, 1])


def moving_mesh(name: str, frames: np.ndarray, faces: np.ndarray) -> bpy.types.Object:
    """An object whose vertices stand at frames (L, V, 3), y up, one a frame of Blender from 0 on."""
    frames = np.ascontiguousarray(z_up(frames), np.float32)
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(frames[0].tolist(), [], faces.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    thing = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(thing)
    if len(frames) > 1:
        _key(thing, frames)
    return thing


def _key(thing: bpy.types.Object, frames: np.ndarray) -> None:
    """Absolute shape keys: the time at which one holds is its `frame`."""
    for number, points in enumerate(frames):
        key = thing.shape_key_add(name=f"frame{number:03d}", from_mix=False)
        key.interpolation = "KEY_LINEAR"
        key.data.foreach_set("co", points.ravel())
    keys = thing.data.shape_keys
    keys.use_relative = False
    for number, key in enumerate(keys.key_blocks):
        keys.eval_time = key.frame
        keys.keyframe_insert("eval_time", frame=number)


def main(folder: str, fps: str, *more: str) -> None:
    bpy.ops.wm.read_homefile(use_empty=True)
    import_folder(folder, float(fps))
    if more:
        bpy.ops.wm.save_as_mainfile(filepath=str(Path(more[-1]).absolute()))


if __name__ == "__main__" and "--" in sys.argv:
    main(*sys.argv[sys.argv.index("--") + 1 :])
