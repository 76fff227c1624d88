"""The camera: a pinhole that looks down on the person a little, and goes along to keep the whole body in sight."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 0.1  # of the picture, kept free on every side of the person; the caption lies there
FIELD_OF_VIEW = math.radians(28)  # of the picture's longer side
SMOOTHING_SECONDS = (
    math.inf,
    4.0,
    2.0,
    1.0,
    0.5,
    0.25,
    0.0,
)  # tried in this order: the calmest camera that serves wins
LOOSENESS = 1.12  # how much farther away a calm camera may stand than one that follows every frame


@dataclass
class Camera:
    """One viewing direction, one eye a frame. Pixel centres lie at .5, rows count downwards."""

    rotation: Tensor  # (3, 3): rows are the picture's right, its up and the way back to the eye, in the world
    target: Tensor  # (frames, 3) metres: what stands in the middle of the picture
    distance: float  # metres from the target to the eye
    height: int  # pixels
    width: int

    @property
    def eye(self) -> Tensor:
        """(frames, 3) metres."""
        return self.target + self.distance * self.rotation[2]

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return max(self.height, self.width) / 2 / math.tan(FIELD_OF_VIEW / 2)

    def project(self, points: Tensor) -> Tensor:
        """World (frames, V, 3) in metres -> (frames, V, 3): column and row in pixels, depth in metres."""
        right, up, back = ((points - self.eye[:, None]) @ self.rotation.T).unbind(-1)
        scale = -self.focal / back
        return torch.stack([self.width / 2 + right * scale, self.height / 2 - up * scale, -back], -1)

    def rays(self, column: Tensor, row: Tensor) -> Tensor:
        """World directions (..., 3) through the centres of pixels, of length 1 along the viewing axis."""
        across, up = (column + 0.5 - self.width / 2) / self.focal, (self.height / 2 - row - 0.5) / self.focal
        return across[..., None] * self.rotation[0] + up[..., None] * self.rotation[1] - self.rotation[2]

    def at(self, frames: slice) -> "Camera":
        """The camera at some of the frames."""
        return replace(self, target=self.target[frames])

    def magnified(self, factor: int) -> "Camera":
        """The same view in pixels `factor` times as fine."""
        return replace(self, height=self.height * factor, width=self.width * factor)


def orientation(azimuth: float, pitch: float) -> Tensor:
    """Rotation (3, 3) of a camera that stands at `azimuth` (radians from +z towards +x) and looks down by `pitch`."""
    across, along = math.sin(azimuth), math.cos(azimuth)
    right = torch.tensor([along, 0.0, -across])
    back = torch.tensor([across * math.cos(pitch), math.sin(pitch), along * math.cos(pitch)])
    return torch.stack([right, torch.linalg.cross(back, right), back])


def follow(boxes: Tensor, rotation: Tensor, fps: float, size: int) -> Camera:
    """A square picture with the whole body in it at every frame, by a camera as calm as that allows.

    boxes: (L, 2, 3) metres, the lowest and highest coordinates of each frame's vertices along `rotation`'s rows. The
    distance is one for the clip; the target is the boxes' middle smoothed over time, at rest where the path is short.
    """
    middles = boxes.mean(1)
    tight = _distance(boxes, middles, size, size)
    for seconds in SMOOTHING_SECONDS:
        target = _smooth(middles, seconds * fps)
        distance = _distance(boxes, target, size, size)
        if distance <= LOOSENESS * tight:
            break
    return Camera(rotation, target @ rotation, distance, size, size)


def frame_all(boxes: Tensor, rotation: Tensor, width: int, shapes: tuple[float, float]) -> Camera:
    """One picture of all boxes (n, 2, 3), `width` pixels wide; shapes: the least and the greatest height / width."""
    low, high = boxes[:, 0].amin(0), boxes[:, 1].amax(0)
    span = high - low
    shape = min(max(float(span[1] / span[0]), shapes[0]), shapes[1])
    height = 2 * round(width * shape / 2)
    target = ((low + high) / 2)[None]
    return Camera(rotation, target @ rotation, _distance(boxes, target, height, width), height, width)


def _distance(boxes: Tensor, target: Tensor, height: int, width: int) -> float:
    """How far behind the target the eye must stand to have every box inside the picture's margins."""
    shape = torch.tensor([width, height], device=boxes.device) / max(width, height) * (1 - 2 * MARGIN)
    aside = (boxes - target[:, None])[..., :2].abs().amax(1) / (math.tan(FIELD_OF_VIEW / 2) * shape)
    return float((aside.amax(1) + boxes[:, 1, 2] - target[:, 2]).amax())


def _smooth(points: Tensor, frames: float) -> Tensor:
    """Gaussian mean over time of (L, 3), its deviation in frames, ends repeated. Infinity: the middle throughout."""
    if math.isinf(frames):
        return ((points.amin(0) + points.amax(0)) / 2).expand_as(points)
    reach = math.ceil(3 * frames)
    if reach == 0:
        return points
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=points.device) / frames) ** 2)
    padded = torch.cat([points[:1].expand(reach, 3), points, points[-1:].expand(reach, 3)])
    return F.conv1d(padded.T[:, None], (kernel / kernel.sum())[None, None])[:, 0].T
