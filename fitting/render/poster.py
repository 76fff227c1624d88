"""The poster: the whole path of a clip as bodies that gain colour along the way, in one picture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fitting.render.camera import Camera, frame_all, orientation
from fitting.render.caption import draw_caption
from fitting.render.figures import Body, Figure, boxes, figure, floor_light, lit, paint, survey
from fitting.render.scene import Stage, finish, over
from fitting.render.threads import in_threads

if TYPE_CHECKING:
    from fitting.result import FitResult

WIDTH = 1600
SHAPES = (0.34, 0.75)  # height / width, least and most
TRAVEL = (1.2, 12.0)  # metres covered: less, and bodies in their places would hide each other; more, and they were tiny
STRIDE = 0.5  # metres between the bodies
ANOTHER_POSE = 0.2  # metres that joints differ on average: bent or seated, not in another phase of a step
BODIES = 8  # at most
GAP = 0.05  # metres between bodies in a row
PITCH = math.radians(16)
PRESENCE = (0.55, 0.9)  # opacity of the first body and of the last but one
PALENESS = 0.35  # of the first body


@dataclass(frozen=True)
class Arrangement:
    """What stands where: for each layer of the figure its meshes (bodies, V, 3) in the order of time."""

    figure: Figure
    meshes: list[Tensor]
    camera: Camera
    stages: list[Stage]

    @property
    def progress(self) -> list[float]:
        """From 0 of the first body to 1 of the last."""
        count = len(self.meshes[0])
        return torch.linspace(1 if count == 1 else 0, 1, count).tolist()

    @property
    def paleness(self) -> list[float]:
        """How far the bodies' colours go towards white."""
        return [PALENESS * (1 - share) for share in self.progress]

    @property
    def presence(self) -> list[float]:
        """The bodies' opacities."""
        first, last = PRESENCE
        return [1.0 if share == 1 else first + (last - first) * share for share in self.progress]


def write_poster(result: "FitResult", path: str | Path, device: torch.device | str = "cpu") -> None:
    """The poster of a fit's mesh as a PNG; path: its suffix does not matter."""
    arrangement = arranged(figure(result, device=device))
    save_poster(arrangement, draw_poster(arrangement), path)


def save_poster(arrangement: Arrangement, picture: np.ndarray, path: str | Path) -> None:
    """Write the clip's text on the picture and save it as a PNG."""
    image = Image.fromarray(picture)
    draw_caption(image, arrangement.figure.text)
    image.save(path, format="PNG")


def arranged(figure: Figure, width: int = WIDTH) -> Arrangement:
    """Bodies in their places along the path, the camera beside it.

    Where the person hardly leaves the spot the bodies would hide each other, where they cover many metres they would be
    tiny: they stand in a row then, time running to the right.
    """
    joints = figure.joints
    track = joints[:, 0, [0, 2]]
    travels = TRAVEL[0] < float((track.amax(0) - track.amin(0)).norm()) < TRAVEL[1]
    azimuth = _side_view(track, figure.facing) if travels else figure.facing - math.radians(25)
    rotation = orientation(azimuth, PITCH).to(joints.device)
    _, stages = survey(figure, rotation, azimuth)
    frames = _along_path(track, _deed(joints)) if travels else _along_action(joints)
    meshes = [layer.mesh.vertices(frames) for layer in figure.layers]
    if not travels:
        moves = _in_a_row(meshes[-1], rotation[0])
        meshes = [mesh + moves[:, None] for mesh in meshes]
    found = torch.cat([boxes(mesh, rotation) for mesh in meshes])
    return Arrangement(figure, meshes, frame_all(found, rotation, width, SHAPES), stages)


def draw_poster(arrangement: Arrangement, transparent: bool = False, body: Body = Stage.body) -> np.ndarray:
    """The poster without its caption, meshes by `body`: (height, width, 3) uint8, or 4 on nothing but its shadows.

    A pale body shows the floor behind it, never another body.
    """
    camera, stages, presence = arrangement.camera, arrangement.stages, arrangement.presence
    floor = stages[-1].floor(camera)

    def draw(k: int) -> tuple[Tensor, Tensor]:
        meshes = [mesh[k : k + 1] for mesh in arrangement.meshes]
        lights, paleness = lit(stages, meshes), arrangement.paleness[k]
        shade = presence[k] * (1 - floor_light(stages, lights, floor))
        return paint(arrangement.figure.layers, stages, meshes, lights, camera, paleness, body), 1 - shade

    bodies, shares = zip(*in_threads(draw, range(len(presence)), floor.device), strict=True)
    light = torch.stack(shares).prod(0)
    bare = stages[-1].shadow(light) if transparent else stages[-1].floor_colour(floor, light, camera)
    picture, nearness = bare, arrangement.meshes[-1].mean(1) @ camera.rotation[2]
    for k in nearness.argsort().tolist():
        picture = over(presence[k] * bodies[k], torch.lerp(picture, bare, bodies[k][..., 3:]))
    return finish(picture[0]).cpu().numpy()


def _side_view(track: Tensor, facing: float) -> float:
    """Azimuth from which the path (L, 2) runs from left to right, a little from the front of the person."""
    way = track - track[0]
    x, z = way[-1 if way[-1].norm() > TRAVEL[0] / 2 else way.norm(dim=1).argmax()].tolist()
    heading = math.atan2(x, z)
    backwards = math.cos(facing - heading) < -0.3
    return heading - math.radians(110 if backwards else 70)


def _deed(joints: Tensor) -> int:
    """The frame to end with: of those where the path ends, the one least like the last, where that is another pose."""
    place = joints[:, :1] * joints.new_tensor((1, 0, 1))
    there = (place - place[-1]).norm(dim=2)[:, 0] < STRIDE
    poses = joints - place
    unlike = (poses - poses[-1]).norm(dim=2).mean(1) * there
    return int(unlike.argmax()) if unlike.max() > ANOTHER_POSE else len(joints) - 1


def _along_path(track: Tensor, last: int) -> Tensor:
    """At most BODIES frames up to `last`, that among them, whose places on the path (L, 2) keep a distance."""
    stride = STRIDE
    while len(chosen := _apart(track, stride, last)) > BODIES:
        stride *= 1.1
    return torch.tensor(chosen[::-1])


def _apart(track: Tensor, stride: float, last: int) -> list[int]:
    """From frame `last` backwards, every frame that is `stride` away from all taken before; at most BODIES + 1."""
    chosen = [last]
    free = torch.ones(len(track), dtype=torch.bool, device=track.device)
    while len(chosen) <= BODIES:
        free &= (track - track[chosen[-1]]).norm(dim=1) >= stride
        left = free[: chosen[-1]].nonzero()
        if not len(left):
            break
        chosen.append(int(left[-1]))
    return chosen


def _along_action(joints: Tensor) -> Tensor:
    """Frames (at most BODIES) between which the joints (L, J, 3) move equally far; the first and the last always."""
    moved = joints.diff(dim=0).norm(dim=2).mean(1) + 1e-4
    moved = torch.cat([moved.new_zeros(1), moved.cumsum(0)])
    steps = torch.linspace(0, 1, min(BODIES, len(joints)), device=moved.device) * moved[-1]
    return (moved[:, None] - steps).abs().argmin(0).unique()


def _in_a_row(meshes: Tensor, right: Tensor) -> Tensor:
    """By how much (n, 3) to move bodies (n, V, 3) to set them side by side along `right`, each at its own height."""
    away = torch.stack([-right[2], torch.zeros_like(right[0]), right[0]])  # level, across the row
    place, depth = meshes @ right, meshes @ away
    low, high = place.amin(1), place.amax(1)
    start = (high - low + GAP).cumsum(0) - (high - low + GAP)
    return (start - low)[:, None] * right - depth.mean(1)[:, None] * away
