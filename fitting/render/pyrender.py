"""pyrender as the renderer: OpenGL draws the meshes, the floor below them and its shadows are ours."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fitting.pyrender import PyrenderProcess
from fitting.render.camera import Camera
from fitting.render.film import Film, Shot, rendered
from fitting.render.light import Lit
from fitting.render.poster import Arrangement, draw_poster
from fitting.render.scene import Stage, decode

if TYPE_CHECKING:
    from fitting.render.engines import Wanted


@contextmanager
def pyrender_films(wanted: "Wanted") -> Iterator[Callable[[Shot], Film]]:
    """The function from a shot to its film, as long as the block lasts."""
    with PyrenderProcess() as process:
        yield partial(rendered, transparent=wanted.transparent, body=partial(_body, process))


def pyrender_poster(arrangement: Arrangement, wanted: "Wanted") -> np.ndarray:
    """The poster: (height, width, 3) uint8, or 4 where transparent."""
    with PyrenderProcess() as process:
        return draw_poster(arrangement, wanted.transparent, partial(_body, process))


def _body(
    process: PyrenderProcess,
    stage: Stage,
    vertices: Tensor,
    lit: Lit,
    camera: Camera,
    colour: tuple[float, float, float],
) -> Tensor:
    """As Stage.body: pictures (frames, height, width, 4) of bodies, linear colours times coverage, and the coverage."""
    points = torch.cat([vertices, lit.vertices[..., :3]], 2).numpy(force=True)
    faces = stage.faces.numpy(force=True).astype(np.int32)
    mesh = {"faces": len(faces), "vertices": len(points[0]), "colour": colour, "lamp": stage.lights.key.tolist()}
    view = {"height": camera.height, "width": camera.width, "focal": camera.focal}
    pictures = []
    rotation = camera.rotation.expand(len(points), 3, 3)
    for places, eye, axes in zip(points, camera.eye.tolist(), rotation.tolist(), strict=True):
        head = json.dumps(mesh | view | {"eye": eye, "rotation": axes}).encode() + b"\n"
        answer = process.ask(head + faces.tobytes() + places.tobytes(), camera.height * camera.width * 4)
        pictures.append(np.frombuffer(answer, np.uint8).reshape(camera.height, camera.width, 4))
    return _linear(torch.from_numpy(np.stack(pictures)).to(vertices.device))


def _linear(pictures: Tensor) -> Tensor:
    """Bytes of sRGB times coverage, and the coverage -> linear light times coverage."""
    coverage = pictures[..., 3:].float() / 255
    return torch.cat([decode(pictures[..., :3] / coverage.clamp(min=1 / 255)) * coverage, coverage], -1)
