"""Films: pure functions from numbers of frames to pictures, put together from shots, captions and one another."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fitting.render.camera import Camera, follow, orientation
from fitting.render.caption import caption_overlay
from fitting.render.figures import Body, Figure, Layer, figure, floor_light, lit, paint, survey
from fitting.render.light import Lit
from fitting.render.scene import Stage, finish, over
from fitting.render.sinks import write_film_file
from fitting.render.sticks import StickFigure
from fitting.render.threads import batches, in_threads
from fitting.render.views import CAMERAS, View

if TYPE_CHECKING:
    from fitting.result import FitResult

SIZE = 512  # pixels along each side of a picture
PITCH = math.radians(13)  # how far a film's camera looks down


@dataclass(frozen=True)
class Film:
    """`draw`: numbers of frames (n,) -> pictures (n, height, width, 3) uint8, or 4 with opacity where no floor is.

    It holds no state, so that frames can be drawn in any order and several at a time.
    """

    height: int
    width: int
    fps: float
    length: int
    draw: Callable[[Tensor], np.ndarray]
    device: torch.device = torch.device("cpu")

    def pictures(self, frames: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Some frames, by default all, one after the other."""
        wanted = range(self.length) if frames is None else frames
        for pictures in in_threads(self.draw, batches(wanted, self.device), self.device):
            yield from pictures


@dataclass(frozen=True)
class Shot:
    """A figure as one camera sees it: all that a renderer needs."""

    figure: Figure
    camera: Camera
    stages: list[Stage]

    def meshes(self, frames: Tensor) -> list[Tensor]:
        """Each layer's vertices (n, V, 3) at frames (n,)."""
        return [layer.mesh.vertices(frames) for layer in self.figure.layers]

    def film(self, draw: Callable[[Tensor], np.ndarray]) -> Film:
        """The film whose pictures `draw` makes of this shot's frames."""
        camera, figure = self.camera, self.figure
        return Film(camera.height, camera.width, figure.fps, len(figure), draw, figure.device)

    def from_distance(self, distance: float) -> "Shot":
        """The same from another distance in metres."""
        return replace(self, camera=replace(self.camera, distance=distance))


def shots_of(figure: Figure, views: Sequence[View], height: int, width: int) -> list[Shot]:
    """The figure from each view, all from the same distance; room for the caption is left below."""
    room = len(caption_overlay(width * len(views), height, figure.text)[0]) / height
    shots = [_shot(figure, view, height, width, room) for view in views]
    return [shot.from_distance(max(each.camera.distance for each in shots)) for shot in shots]


def _shot(figure: Figure, view: View, height: int, width: int, room: float) -> Shot:
    azimuth = view.azimuth(figure.facing, len(figure))
    rotation = orientation(azimuth, PITCH).to(figure.device)
    boxes, stages = survey(figure, rotation, float(azimuth.flatten()[0]))
    boxes[:, 0, 1] -= 0.6 * room * (boxes[:, 1, 1] - boxes[:, 0, 1]).amax()  # the caption wants some
    return Shot(figure, follow(boxes, rotation, figure.fps, height, width, view.smoothing), stages)


def rendered(shot: Shot, transparent: bool = False, body: Body = Stage.body) -> Film:
    """The shot with meshes by `body`, our own rasteriser, on a floor, or on nothing but its shadow."""

    def draw(frames: Tensor) -> np.ndarray:
        camera, meshes = shot.camera.at(frames), shot.meshes(frames)
        lights = lit(shot.stages, meshes)
        picture = paint(shot.figure.layers, shot.stages, meshes, lights, camera, body=body)
        return finish(over(picture, ground(shot.stages, lights, camera, transparent))).cpu().numpy()

    return shot.film(draw)


def ground(stages: list[Stage], lights: list[Lit], camera: Camera, transparent: bool) -> Tensor:
    """The floor (frames, height, width, 3) with its shadows, or the shadows alone (frames, height, width, 4)."""
    floor = stages[-1].floor(camera)
    light = floor_light(stages, lights, floor)
    return stages[-1].shadow(light) if transparent else stages[-1].floor_colour(floor, light, camera)


def side_by_side(films: Sequence[Film]) -> Film:
    """Films of one height beside each other, at the highest of their rates; who is done first waits for the others."""
    fps = max(film.fps for film in films)
    seconds = max(film.length / film.fps for film in films)

    def draw(frames: Tensor) -> np.ndarray:
        own = [at_rate(frames, fps, film.fps, film.length) for film in films]
        return np.concatenate([film.draw(mine) for film, mine in zip(films, own, strict=True)], 2)

    return replace(films[0], width=sum(film.width for film in films), fps=fps, length=round(seconds * fps), draw=draw)


def at_rate(frames: Tensor, fps: float, own_fps: float, length: int) -> Tensor:
    """Frames at one rate -> the nearest ones of a clip of another rate and of this length, its last one in the end."""
    return (frames * (own_fps / fps)).round().long().clamp(max=length - 1)


def captioned(film: Film, text: str) -> Film:
    """The film with a text at the lower left of every picture."""
    ink, opacity = caption_overlay(film.width, film.height, text)

    def draw(frames: Tensor) -> np.ndarray:
        pictures = film.draw(frames)
        rows = pictures[:, film.height - len(ink) :]
        colours, here = rows[..., :3], opacity
        if rows.shape[-1] == 4:  # opacity of both, one over the other
            here = opacity + rows[..., 3:] / 255 * (1 - opacity)
            rows[..., 3:] = 255 * here + 0.5
            here = opacity / np.maximum(here, 1e-6)
        colours[:] = colours + here * (ink - colours) + 0.5
        return pictures

    return replace(film, draw=draw)


def film_of(
    figures: Sequence[Figure],
    camera: str = "follow",
    height: int = SIZE,
    width: int = SIZE,
    render: Callable[[Shot], Film] = rendered,
) -> Film:
    """Clips side by side, each with its text, as one of CAMERAS sees them; height and width are one view's."""
    every = []
    for each in figures:
        views = [render(shot) for shot in shots_of(each, CAMERAS[camera], height, width)]
        every.append(captioned(side_by_side(views), each.text))
    return side_by_side(every)


def write_film(result: "FitResult", path: str | Path, size: int = SIZE, device: torch.device | str = "cpu") -> None:
    """A fit's mesh as a film; the kind of file follows from the path's suffix."""
    film = film_of([figure(result, device=device)], height=size, width=size)
    write_film_file(film, Path(path), Path(path).suffix)


def save_film(sticks: StickFigure, path: str | Path, size: int) -> None:
    """A stick figure as a film; the kind of file follows from the path's suffix."""
    moving = Figure([Layer(sticks)], sticks.joints, sticks.across(), sticks.fps, sticks.text)
    write_film_file(film_of([moving], height=size, width=size), Path(path), Path(path).suffix)
