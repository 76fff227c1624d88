"""Run inside Blender, whose Python has nothing of ours: sets up a studio around figures and draws frames of it.

Argument behind --: the JSON file that fitting/render/blender.py writes. Frame k of the clip is frame k of the scene.
"""

import json
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
from blender_script import call  # noqa: E402, the folder above holds both
from import_obj_sequence import moving_mesh, set_rate, z_up  # noqa: E402

SENSOR = 36.0  # mm
SAMPLES, MORE_SAMPLES = 64, 320  # of Cycles: before it takes the noise out, and where it cannot (Debian's)
SUN, FILL, RIM = 2.7, 0.28, 0.5  # strengths: lamp, everything around, light from behind
SOFTNESS = 0.2  # radians across the lamp
VIEWPORT = 1.8  # how much brighter than in other light a skin is in Workbench's
FAR = 200.0  # metres of floor


def main(path: str) -> None:
    """Build, save where asked, draw."""
    asked = json.loads(Path(path).read_text(encoding="utf-8"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    set_rate(scene, asked["fps"], len(asked["eye"]))
    for thing in asked["things"]:
        paint(figure(thing), thing["colour"], thing["opacity"])
    person = bpy.data.objects.new("Person", None)
    scene.collection.objects.link(person)
    set_camera(scene, person, asked)
    floor = lay_floor(person, asked)
    light(scene, asked)
    settings(scene, floor, asked)
    if asked["blend"]:
        bpy.ops.wm.save_as_mainfile(filepath=asked["blend"])
    for frame in asked["frames"]:
        scene.frame_set(frame)
        scene.render.filepath = str(Path(asked["folder"]) / f"frame{frame:05d}.png")
        bpy.ops.render.render(write_still=True)


def figure(thing: dict[str, Any]) -> bpy.types.Object:
    """The mesh of a GLB with its bones, or of an npz with vertices (frames, V, 3) and faces."""
    if thing["file"].endswith(".npz"):
        with np.load(thing["file"]) as file:
            return moving_mesh("Figure", file["vertices"], file["faces"])
    call(bpy.ops.import_scene.gltf, filepath=thing["file"], disable_bone_shape=True)
    rig = next(each for each in bpy.context.selected_objects if each.type == "ARMATURE")
    rig.location = z_up(np.array(thing["offset"]))
    return next(each for each in rig.children if each.type == "MESH")


def paint(thing: bpy.types.Object, colour: list[float], opacity: float) -> None:
    """One material, for Cycles and, as its viewport colour, for Workbench. What is see-through shows no inner side."""
    material = bpy.data.materials.new("Skin")
    material.diffuse_color = (*(min(VIEWPORT * part, 1.0) for part in colour), opacity)
    material.roughness = 0.5
    material.use_nodes = True
    surface = material.node_tree.nodes["Principled BSDF"]
    surface.inputs["Base Color"].default_value = (*colour, 1.0)
    surface.inputs["Roughness"].default_value = 0.5
    if opacity < 1:
        side = material.node_tree.nodes.new("ShaderNodeNewGeometry").outputs["Backfacing"]
        outer = worked_out(material.node_tree, "MULTIPLY_ADD", side, -opacity, opacity)
        material.node_tree.links.new(outer, surface.inputs["Alpha"])
    thing.data.materials.clear()
    thing.data.materials.append(material)


def set_camera(scene: bpy.types.Scene, person: bpy.types.Object, asked: dict[str, Any]) -> None:
    """Our camera frame by frame, and the Person, an empty on the floor that goes where it looks."""
    data = bpy.data.cameras.new("Camera")
    camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    data.sensor_width = data.sensor_height = SENSOR
    data.lens = SENSOR * asked["focal"] / max(asked["width"], asked["height"])
    camera.rotation_mode = "QUATERNION"
    for frame, (eye, axes, target) in enumerate(
        zip(*(asked[key] for key in ("eye", "rotation", "target")), strict=True)
    ):
        camera.location = z_up(np.array(eye))
        camera.rotation_quaternion = Matrix(z_up(np.array(axes)).T.tolist()).to_quaternion()
        person.location = z_up(np.array([target[0], asked["ground"], target[2]]))
        for thing, path in ((camera, "location"), (camera, "rotation_quaternion"), (person, "location")):
            thing.keyframe_insert(path, frame=frame)


def lay_floor(person: bpy.types.Object, asked: dict[str, Any]) -> bpy.types.Object:
    """A chequered floor that fades into the background around the person."""
    low, high = -FAR / 2, FAR / 2
    corners = np.array([[low, 0, high], [high, 0, high], [high, 0, low], [low, 0, low]])
    floor = moving_mesh("Floor", corners[None] + [0, asked["ground"], 0], np.array([[0, 1, 2], [0, 2, 3]]))
    floor.is_shadow_catcher = asked["transparent"]
    material = bpy.data.materials.new("Floor")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    near = tree.nodes.new("ShaderNodeBsdfDiffuse")
    tree.links.new(chequer(tree, asked), near.inputs["Color"])
    far = tree.nodes.new("ShaderNodeEmission")
    far.inputs["Color"].default_value = (*asked["background"], 1.0)
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(fading(tree, person, asked["fade"] * asked["distance"]), mix.inputs["Fac"])
    tree.links.new(far.outputs[0], mix.inputs[1])
    tree.links.new(near.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    floor.data.materials.append(material)
    return floor


def chequer(tree: bpy.types.NodeTree, asked: dict[str, Any]) -> bpy.types.NodeSocket:
    """Colour of the tiles; half a tile up, for the floor lies where the texture's cubes meet."""
    place = tree.nodes.new("ShaderNodeVectorMath")
    place.operation = "MULTIPLY_ADD"
    tree.links.new(tree.nodes.new("ShaderNodeNewGeometry").outputs["Position"], place.inputs[0])
    place.inputs[1].default_value = (1 / asked["tile"], 1 / asked["tile"], 0)
    place.inputs[2].default_value = (0, 0, 0.5)
    texture = tree.nodes.new("ShaderNodeTexChecker")
    texture.inputs["Scale"].default_value = 1.0
    tree.links.new(place.outputs[0], texture.inputs["Vector"])
    for name, sign in (("Color1", 1), ("Color2", -1)):
        shade = [part * (1 + sign * asked["chequer"]) for part in asked["floor"]]
        texture.inputs[name].default_value = (*shade, 1.0)
    return texture.outputs["Color"]


def fading(tree: bpy.types.NodeTree, person: bpy.types.Object, half: float) -> bpy.types.NodeSocket:
    """2 ** -(distance from the person / half) ** 2, as in fitting/render/scene.py."""
    place = tree.nodes.new("ShaderNodeTexCoord")
    place.object = person
    length = tree.nodes.new("ShaderNodeVectorMath")
    length.operation = "LENGTH"
    tree.links.new(place.outputs["Object"], length.inputs[0])
    away = worked_out(tree, "MULTIPLY", length.outputs["Value"], 1 / half)
    return worked_out(tree, "POWER", 0.5, worked_out(tree, "POWER", away, 2.0))


def worked_out(tree: bpy.types.NodeTree, operation: str, *values: float | bpy.types.NodeSocket) -> bpy.types.NodeSocket:
    """A node that works out `operation` of numbers and sockets."""
    node = tree.nodes.new("ShaderNodeMath")
    node.operation = operation
    for value, socket in zip(values, node.inputs, strict=False):
        if isinstance(value, bpy.types.NodeSocket):
            tree.links.new(value, socket)
        else:
            socket.default_value = value
    return node.outputs[0]


def light(scene: bpy.types.Scene, asked: dict[str, Any]) -> None:
    """A wide lamp where ours hangs, a light from behind the person, and the background's light from everywhere."""
    lamp = Vector(z_up(np.array(asked["lamp"])))
    back = -Vector(z_up(np.array(asked["rotation"][0][2])))
    for name, direction, strength in (("Lamp", lamp, SUN), ("Rim", back + Vector((0, 0, 0.9)), RIM)):
        data = bpy.data.lights.new(name, "SUN")
        data.energy, data.angle = strength, SOFTNESS
        sun = bpy.data.objects.new(name, data)
        sun.rotation_euler = direction.to_track_quat("Z", "Y").to_euler()
        scene.collection.objects.link(sun)
    world = scene.world = bpy.data.worlds.new("Studio")
    world.use_nodes = True
    tree = world.node_tree
    surface = tree.nodes["Background"]
    surface.inputs["Color"].default_value = (*asked["background"], 1.0)
    seen = tree.nodes.new("ShaderNodeLightPath").outputs["Is Camera Ray"]
    tree.links.new(worked_out(tree, "MULTIPLY_ADD", seen, 1 - FILL, FILL), surface.inputs["Strength"])


def settings(scene: bpy.types.Scene, floor: bpy.types.Object, asked: dict[str, Any]) -> None:
    """Size, colours as they are, and the engine: Workbench draws the figures alone, for a floor of ours."""
    render, workbench = scene.render, asked["engine"] == "BLENDER_WORKBENCH"
    render.engine = asked["engine"]
    render.resolution_x, render.resolution_y, render.resolution_percentage = asked["width"], asked["height"], 100
    scene.view_settings.view_transform = "Standard"
    render.film_transparent = floor.hide_render = workbench
    render.film_transparent |= asked["transparent"]
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA" if render.film_transparent else "RGB"
    scene.cycles.use_denoising = can_denoise()
    scene.cycles.samples = SAMPLES if can_denoise() else MORE_SAMPLES
    scene.display.render_aa = "16"
    shading = scene.display.shading
    shading.light, shading.color_type = "STUDIO", "MATERIAL"
    shading.show_cavity, shading.cavity_type = True, "WORLD"
    shading.show_specular_highlight = True


def can_denoise() -> bool:
    """Whether this build of Cycles has what takes the noise out."""
    import _cycles  # bpy as a package has it only once bpy is imported

    return _cycles.with_openimagedenoise


if __name__ == "__main__":
    main(sys.argv[-1])
