"""Run inside Blender, whose Python has nothing of ours: imports an animated GLB and exports it in another format.

Arguments behind --: the GLB, the file to write (.fbx, .usdc or .abc), frames a second.
"""

import sys

import bpy
import numpy as np

if "bool" not in vars(np):  # the glTF importer of Blender 3.4 asks numpy 1.24 for it
    np.bool = bool


def main(glb: str, target: str, fps: float) -> None:
    """Frame 0 of the GLB becomes frame 0 of the file."""
    scene = empty_scene(fps)
    call(bpy.ops.import_scene.gltf, filepath=glb, disable_bone_shape=True)
    scene.frame_start = 0
    scene.frame_end = round(max(action.frame_range[1] for action in bpy.data.actions))
    armature = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    armature.name = "Armature"  # a root of this name is left out by Unreal's importer
    EXPORTERS[target.rpartition(".")[2]](target, scene)


def empty_scene(fps: float) -> bpy.types.Scene:
    """glTF's keys stand at seconds, Blender's at frames: the rate must be there before the import."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = max(round(fps), 1)
    scene.render.fps_base = scene.render.fps / fps
    return scene


def call(operator, **options) -> None:
    """The operator with those options that this Blender knows."""
    known = operator.get_rna_type().properties.keys()
    operator(**{name: value for name, value in options.items() if name in known})


def write_fbx(target: str, scene: bpy.types.Scene) -> None:
    """Armature and mesh as FBX, every frame keyed."""
    call(
        bpy.ops.export_scene.fbx,
        filepath=target,
        object_types={"ARMATURE", "MESH"},
        apply_scale_options="FBX_SCALE_ALL",
        add_leaf_bones=False,
        bake_anim_use_all_actions=False,
        bake_anim_use_nla_strips=False,
        bake_anim_simplify_factor=0.0,
    )


def write_usd(target: str, scene: bpy.types.Scene) -> None:
    """UsdSkel with blend shapes, y up."""
    call(
        bpy.ops.wm.usd_export,
        filepath=target,
        export_animation=True,
        export_armatures=True,
        export_shapekeys=True,
        convert_orientation=True,
        export_global_forward_selection="NEGATIVE_Z",
        export_global_up_selection="Y",
        convert_world_material=False,
    )


def write_alembic(target: str, scene: bpy.types.Scene) -> None:
    """The places of the vertices in every frame."""
    call(
        bpy.ops.wm.alembic_export,
        filepath=target,
        start=scene.frame_start,
        end=scene.frame_end,
        normals=False,  # one a corner of each triangle: six times the size of the positions
        uvs=False,
        as_background_job=False,
    )


EXPORTERS = {"fbx": write_fbx, "usdc": write_usd, "abc": write_alembic}

if __name__ == "__main__":
    glb, target, fps = sys.argv[sys.argv.index("--") + 1 :]
    main(glb, target, float(fps))
