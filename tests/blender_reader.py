"""Run inside Blender: imports a file and writes down what it shows.

Arguments behind --: the file (.glb, .fbx, .usdc, .abc, .bvh or .blend), the npz to write, frames a second, frames.
The npz: vertices (frames, V, 3) of the largest mesh, names and heads (frames, bones, 3) of the armature; y up, metres.
"""

import sys

import bpy
import numpy as np

if "bool" not in vars(np):  # the glTF importer of Blender 3.4 asks numpy 1.24 for it
    np.bool = bool

IMPORTERS = {
    "glb": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    "fbx": lambda path: bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0),
    "usdc": lambda path: bpy.ops.wm.usd_import(filepath=path),
    "abc": lambda path: bpy.ops.wm.alembic_import(filepath=path, as_background_job=False),
    "bvh": lambda path: bpy.ops.import_anim.bvh(filepath=path),
    "blend": lambda path: bpy.ops.wm.open_mainfile(filepath=path),
}
BVH_START = 1  # the importer knows no frame before the first


def y_up(points: np.ndarray) -> np.ndarray:
    """Blender's z up -> y up."""
    return points[..., [0, 2, 1]] * [1, 1, -1]


def vertices(mesh: bpy.types.Object) -> np.ndarray:
    """Where modifiers and animation put the vertices, (V, 3) in the world."""
    shown = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    data = shown.to_mesh()
    flat = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", flat)
    matrix = np.array(shown.matrix_world)
    shown.to_mesh_clear()
    return y_up(flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])


def main(path: str, out: str, fps: str, *frames: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = int(fps)
    kind = path.rpartition(".")[2]
    IMPORTERS[kind](path)
    scene = bpy.context.scene
    meshes = [thing for thing in bpy.data.objects if thing.type == "MESH"]
    rigs = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
    shown, heads = [], []
    for frame in map(int, frames):
        scene.frame_set(frame + (BVH_START if kind == "bvh" else 0))
        if meshes:
            shown.append(vertices(max(meshes, key=lambda mesh: len(mesh.data.vertices))))
        if rigs:
            heads.append(y_up(np.array([rigs[0].matrix_world @ bone.head for bone in rigs[0].pose.bones])))
    names = [bone.name for bone in rigs[0].pose.bones] if rigs else []
    np.savez(out, vertices=np.array(shown), names=names, heads=np.array(heads))


if __name__ == "__main__":
    main(*sys.argv[sys.argv.index("--") + 1 :])
