"""A fit to look at: `write_film` streams an mp4 of the moving mesh, `write_poster` draws the whole path as one PNG."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image
from torch import Tensor

from fitting.render.camera import Camera, follow, frame_all, orientation
from fitting.render.caption import caption_overlay, draw_caption
from fitting.render.scene import BODY, GHOST, Stage, encode, over
from fitting.render.sticks import StickFigure
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.result import FitResult

BATCH = {"cpu": 2, "cuda": 16}  # frames drawn at a time
POSTER_WIDTH = 1600
POSTER_SHAPES = (0.34, 0.75)  # height / width, least and most
TRAVEL = (1.2, 12.0)  # metres covered: less, and bodies in their places would hide each other; more, and they were tiny
STRIDE = 0.5  # metres between the bodies of a poster
BODIES = 8  # of a poster, at most
GAP = 0.05  # metres between bodies in a row


class PosedBodies:
    """A result's bodies near the origin, wherever the result stands: float32 has no millimetres left at 100 km.

    They are made a few frames at a time, so that the longest clip needs no more memory than a short one.
    """

    colour = BODY

    def __init__(self, result: "FitResult", device: torch.device | str = "cpu"):
        self.result, self.device = result, torch.device(device)
        self.fps, self.text = result.fps, result.motion.text or ""
        self.faces = result.body.faces.to(device)
        self.transl = (result.transl.double() - result.transl[0].double()).to(result.transl.dtype)

    def __len__(self) -> int:
        return len(self.transl)

    def vertices(self, frames: slice | Tensor) -> Tensor:
        """(frames, V, 3) metres."""
        return self._pose(self.result.body.vertices, frames)

    def joints(self) -> Tensor:
        """(L, J, 3) metres."""
        return self._pose(self.result.body.joints, slice(None))

    def across(self) -> Tensor:
        """(L, 3): from the right hip to the left."""
        joints = self.joints()
        return joints[:, 1] - joints[:, 2]

    def batches(self) -> Iterator[slice]:
        batch = BATCH[self.device.type]
        return (slice(start, start + batch) for start in range(0, len(self), batch))

    @torch.no_grad()
    def _pose(self, make: Callable[..., Tensor], frames: slice | Tensor) -> Tensor:
        betas = self.result.betas if self.result.betas.ndim == 1 else self.result.betas[frames]
        return make(betas, self.result.thetas[frames], self.transl[frames]).float().to(self.device)


def write_film(result: "FitResult", path: str | Path, size: int = 512, device: torch.device | str = "cpu") -> None:
    """`save_film` of a fit's mesh."""
    save_film(PosedBodies(result, device), path, size)


def save_film(clip: PosedBodies | StickFigure, path: str | Path, size: int) -> None:
    """Write an h264 mp4 of size x size pixels, one picture a frame, at the clip's rate; browsers play it as it loads.

    path: its suffix does not matter. Raises InputError where size is odd or below 64.
    """
    if size < 64 or size % 2:
        raise InputError(f"A film of {size} x {size} pixels: h264 wants an even size, at least 64. Try 512.")
    with av.open(str(Path(path).absolute()), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(clip.fps).limit_denominator(1001))
        stream.width = stream.height = size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "preset": "veryfast"}
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        for picture in film_frames(clip, size):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def film_frames(clip: PosedBodies | StickFigure, size: int) -> Iterator[np.ndarray]:
    """The film's pictures (size, size, 3) uint8, half from the front, by a camera that goes along with the person."""
    azimuth = _facing(clip.across()) - math.radians(40)
    rotation = orientation(azimuth, math.radians(13)).to(clip.device)
    boxes, stage = _survey(clip, rotation, azimuth)
    ink, opacity = caption_overlay(size, clip.text)
    boxes[:, 0, 1] -= 0.6 * len(ink) / size * (boxes[:, 1, 1] - boxes[:, 0, 1]).amax()  # the caption wants some room
    camera = follow(boxes, rotation, clip.fps, size)

    def draw(frames: slice) -> np.ndarray:
        vertices, view = clip.vertices(frames), camera.at(frames)
        lit, floor = stage.light(vertices), stage.floor(view)
        ground = stage.floor_colour(floor, stage.lights.at_floor(lit, floor), view)
        pictures = encode(over(stage.body(vertices, lit, view, clip.colour), ground)).cpu().numpy()
        rows = pictures[:, size - len(ink) :]
        rows[:] = rows + opacity * (ink - rows) + 0.5
        return pictures

    for pictures in _side_by_side(draw, clip.batches(), clip.device):
        yield from pictures


def _side_by_side(draw: Callable, batches: Iterable, device: torch.device) -> Iterator:
    """map(draw, batches), on the CPU in as many threads as torch has, each at a batch of its own.

    That scales better than all threads at each of the thousands of small operations that a batch consists of, and what
    is drawn does not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    workers = threads if device.type == "cpu" else 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            coming = deque()
            for batch in batches:
                coming.append(pool.submit(draw, batch))
                if len(coming) > workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
    finally:
        torch.set_num_threads(threads)


def write_poster(result: "FitResult", path: str | Path, device: torch.device | str = "cpu") -> None:
    """Write one PNG of the whole path: bodies that gain colour along the way, the last pose in full.

    Where the person hardly leaves the spot the bodies would hide each other, where they cover many metres they would be
    tiny: they stand in a row then, time running to the right. path: its suffix does not matter.
    """
    image = Image.fromarray(draw_poster(PosedBodies(result, device)))
    draw_caption(image, result.motion.text or "")
    image.save(path, format="PNG")


def draw_poster(clip: PosedBodies) -> np.ndarray:
    """The poster without its caption: (height, POSTER_WIDTH, 3) uint8."""
    joints = clip.joints()
    track = joints[:, 0, [0, 2]]
    travels = TRAVEL[0] < float((track.amax(0) - track.amin(0)).norm()) < TRAVEL[1]
    facing = _facing(clip.across())
    azimuth = _side_view(track, facing) if travels else facing - math.radians(25)
    rotation = orientation(azimuth, math.radians(16)).to(clip.device)
    _, stage = _survey(clip, rotation, azimuth)
    frames = _along_path(track) if travels else _along_action(joints)
    meshes = clip.vertices(frames)
    if not travels:
        meshes = _in_a_row(meshes, rotation[0])
    camera = frame_all(_boxes(meshes, rotation), rotation, POSTER_WIDTH, POSTER_SHAPES)
    progress = torch.linspace(1 if len(meshes) == 1 else 0, 1, len(meshes)).tolist()
    return encode(_blend(stage, meshes, progress, camera)[0]).cpu().numpy()


def _blend(stage: Stage, meshes: Tensor, progress: list[float], camera: Camera) -> Tensor:
    """One linear picture (1, height, width, 3) of bodies (n, V, 3), paler at less progress, the nearest on top."""
    presence = [1.0 if share == 1 else 0.5 + 0.4 * share for share in progress]
    lit = [stage.light(mesh[None]) for mesh in meshes]
    floor, light = stage.floor(camera), 1.0
    for here, opacity in zip(lit, presence, strict=True):
        light = light * (1 - opacity * (1 - stage.lights.at_floor(here, floor)))
    picture = stage.floor_colour(floor, light, camera)
    nearness = meshes.mean(1) @ camera.rotation[2]
    for k in nearness.argsort().tolist():
        colour = tuple(pale + (full - pale) * progress[k] for pale, full in zip(GHOST, BODY, strict=True))
        picture = over(presence[k] * stage.body(meshes[k : k + 1], lit[k], camera, colour), picture)
    return picture


def _survey(clip: PosedBodies | StickFigure, rotation: Tensor, azimuth: float) -> tuple[Tensor, Stage]:
    """One pass over all vertices: boxes (L, 2, 3) along the camera's axes, and a stage of the right height and size."""
    boxes, lowest, extent = [], [], 0.0
    for vertices in _side_by_side(clip.vertices, clip.batches(), clip.device):
        low, high = vertices.amin(1), vertices.amax(1)
        boxes.append(_boxes(vertices, rotation))
        lowest.append(low[:, 1])
        extent = max(extent, float((high - low).norm(dim=1).amax()))
    ground = float(torch.cat(lowest).quantile(0.01))  # a single frame that sinks does not lower the floor
    return torch.cat(boxes), Stage(clip.faces, vertices.shape[1], azimuth, ground, extent)


def _boxes(vertices: Tensor, rotation: Tensor) -> Tensor:
    along = vertices @ rotation.T
    return torch.stack([along.amin(1), along.amax(1)], 1)


def _facing(across: Tensor) -> float:
    """Where the person looks on average, radians from +z towards +x. Forward is (right hip to left hip) (L, 3) x up."""
    forward = F.normalize(torch.stack([-across[:, 2], across[:, 0]], 1), dim=1)  # x, z
    mean = forward.mean(0)
    x, z = (mean if mean.norm() > 0.3 else forward[0]).tolist()
    return math.atan2(x, z)


def _side_view(track: Tensor, facing: float) -> float:
    """Azimuth from which the path (L, 2) runs from left to right, a little from the front of the person."""
    way = track - track[0]
    x, z = way[-1 if way[-1].norm() > TRAVEL[0] / 2 else way.norm(dim=1).argmax()].tolist()
    heading = math.atan2(x, z)
    backwards = math.cos(facing - heading) < -0.3
    return heading - math.radians(110 if backwards else 70)


def _along_path(track: Tensor) -> Tensor:
    """At most BODIES frames, the last among them, whose places on the path (L, 2) keep a distance from one another."""
    stride = STRIDE
    while len(chosen := _apart(track, stride)) > BODIES:
        stride *= 1.1
    return torch.tensor(chosen[::-1])


def _apart(track: Tensor, stride: float) -> list[int]:
    """From the last frame backwards, every frame that is `stride` away from all taken before; at most BODIES + 1."""
    chosen = [len(track) - 1]
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
    """Bodies (n, V, 3) set side by side along `right`, each at its own height."""
    away = torch.stack([-right[2], torch.zeros_like(right[0]), right[0]])  # level, across the row
    place, depth = meshes @ right, meshes @ away
    low, high = place.amin(1), place.amax(1)
    start = (high - low + GAP).cumsum(0) - (high - low + GAP)
    return meshes + (start - low)[:, None, None] * right - depth.mean(1)[:, None, None] * away
