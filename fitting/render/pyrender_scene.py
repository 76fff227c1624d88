"""Run by the Python that has pyrender, and has nothing of ours: draws a mesh for each request on standard input.

A request is a line of JSON, then the triangles (F, 3) int32, then places and normals (V, 6) float32; metres, y up. The
answer on standard output is the picture, height x width x 4 bytes: sRGB times coverage, and the coverage. An empty line
comes first, once pyrender has a context to draw in. It ends with its standard input.
"""

import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np
import pyrender

KEY, FILL, RIM, AMBIENT = 3.6, 0.9, 1.2, 0.16  # strengths: lamp, from the other side, from behind, from everywhere
NEAR, FAR = 0.05, 1000.0  # metres that are drawn
FINER = 2  # pixels drawn for one, along each axis


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    renderer = pyrender.OffscreenRenderer(64, 64)
    answers.write(b"\n")
    answers.flush()
    while line := requests.readline():
        asked = json.loads(line)
        faces = read(requests, (asked["faces"], 3), np.int32)
        points = read(requests, (asked["vertices"], 6), np.float32)
        answers.write(picture(renderer, asked, faces, points).tobytes())
        answers.flush()


def read(file: BinaryIO, shape: tuple[int, int], dtype: type) -> np.ndarray:
    """The next array of the file."""
    return np.frombuffer(file.read(4 * shape[0] * shape[1]), dtype).reshape(shape)


def picture(
    renderer: pyrender.OffscreenRenderer, asked: dict[str, Any], faces: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """(height, width, 4) bytes of the mesh on nothing."""
    width, height, focal = (FINER * asked[key] for key in ("width", "height", "focal"))
    renderer.viewport_width, renderer.viewport_height = width, height
    scene = pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0], ambient_light=[AMBIENT] * 3)
    material = pyrender.MetallicRoughnessMaterial(
        baseColorFactor=[*asked["colour"], 1.0], metallicFactor=0.0, roughnessFactor=0.5
    )
    skin = pyrender.Primitive(points[:, :3], points[:, 3:], indices=faces, material=material)
    scene.add(pyrender.Mesh([skin]))
    axes = np.array(asked["rotation"])
    camera = pyrender.IntrinsicsCamera(focal, focal, width / 2, height / 2, znear=NEAR, zfar=FAR)
    scene.add(camera, pose=pose(axes.T, asked["eye"]))
    right, up, back = axes
    lamp = np.array(asked["lamp"])
    for towards, strength in ((lamp, KEY), (right + 0.3 * up + 0.5 * back, FILL), (up - back, RIM)):
        light = pyrender.DirectionalLight(intensity=strength)
        scene.add(light, pose=pose(looking_from(towards / np.linalg.norm(towards)), np.zeros(3)))
    drawn = renderer.render(scene, flags=pyrender.RenderFlags.RGBA)[0]
    blocks = drawn.reshape(asked["height"], FINER, asked["width"], FINER, 4)
    return (blocks.sum((1, 3), dtype=np.uint16) / FINER**2 + 0.5).astype(np.uint8)


def pose(rotation: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, place
    return matrix


def looking_from(back: np.ndarray) -> np.ndarray:
    """A rotation (3, 3) whose z axis is the unit vector `back`: OpenGL's lights shine along -z."""
    aside = np.cross([0.6, 0.0, 0.8] if abs(back[1]) > 0.9 else [0.0, 1.0, 0.0], back)
    aside /= np.linalg.norm(aside)
    return np.stack([aside, np.cross(back, aside), back], 1)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")  # what else is printed goes to standard error
    os.dup2(2, 1)
    main(sys.stdin.buffer, answers)
