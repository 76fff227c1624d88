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
    """One eye a frame, one viewing direction a frame or a clip. Pixel centres lie at .5, rows count downwards."""

    rotation: Tensor  # (3, 3) or (frames, 3, 3): rows are the picture's right, its up, the way back to the eye
    target: Tensor  # (frames, 3) metres: what stands in the middle of the picture
    distance: float  # metres from the target to the eye
    height: int  # pixels
    width: int

    @property
    def eye(self) -> Tensor:
        """(frames, 3) metres."""
        return self.target + self.distance * self.rotation[..., 2, :]

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return max(self.height, self.width) / 2 / math.tan(FIELD_OF_VIEW / 2)

    def project(self, points: Tensor) -> Tensor:
        """World (frames, V, 3) in metres -> (frames, V, 3): column and row in pixels, depth in metres."""
        right, up, back = ((points - self.eye[:, None]) @ self.rotation.mT).unbind(-1)
        scale = -self.focal / back
        return torch.stack([self.width / 2 + right * scale, self.height / 2 - up * scale, -back], -1)

    def rays(self, column: Tensor, row: Tensor) -> Tensor:
        """World directions, of length 1 along the viewing axis, through the centres of a grid of pixels.

        column and row broadcast to (m, n); the directions are (m, n, 3), or (frames, m, n, 3) of a camera that turns.
        """
        across, up = torch.broadcast_tensors(column + 0.5 - self.width / 2, self.height / 2 - row - 0.5)
        seen = torch.stack([across / self.focal, up / self.focal, -torch.ones_like(across)], -1)
        return seen @ self.rotation.unsqueeze(-3)

    def at(self, frames: slice | Tensor) -> "Camera":
        """The camera at some of the frames."""
        turning = self.rotation.ndim == 3
        return replace(self, target=self.target[frames], rotation=self.rotation[frames] if turning else self.rotation)

    def magnified(self, factor: int) -> "Camera":
        """The same view in pixels `factor` times as fine."""
        return replace(self, height=self.height * factor, width=self.width * factor)


def orientation(azimuth: float | Tensor, pitch: float) -> Tensor:
    """Rotation (..., 3, 3) of a camera that stands at `azimuth` (...) and looks down by `pitch`.

    Both in radians; the azimuth counts from +z towards +x.
    """
    azimuth = torch.as_tensor(azimuth)
    across, along, level = azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)
    right = torch.stack([along, level, -across], -1)
    back = torch.stack([across * math.cos(pitch), level + math.sin(pitch), along * math.cos(pitch)], -1)
    return torch.stack([right, torch.linalg.cross(back, right), back], -2)


def follow(
    boxes: Tensor,
    rotation: Tensor,
    fps: float,
    height: int,
    width: int,
    smoothing: tuple[float, ...] = SMOOTHING_SECONDS,
) -> Camera:
    """A picture with the whole body in it at every frame, by a camera as calm as that allows.

    boxes: (L, 2, 3) metres, the lowest and highest coordinates of each frame's vertices along the rows of `rotation`,
    (3, 3) or (L, 3, 3). The distance is one for the clip; the target is the boxes' middle smoothed over time by the
    first of `smoothing` (seconds) that lets the camera stand close enough, or by the last.
    """
    middles = boxes.mean(1)
    tight = _distance(boxes, middles, height, width)
    first = rotation.view(-1, 3, 3)[0]
    path = _turn(middles, rotation) @ first.T
    for seconds in smoothing:
        target = _smooth(path, seconds * fps) @ first
        distance = _distance(boxes, _turn(target, rotation.mT), height, width)
        if distance <= LOOSENESS * tight:
            break
    return Camera(rotation, target, distance, height, width)


def frame_all(boxes: Tensor, rotation: Tensor, width: int, shapes: tuple[float, float]) -> Camera:
    """One picture of all boxes (n, 2, 3), `width` pixels wide; shapes: the least and the greatest height / width."""
    low, high = boxes[:, 0].amin(0), boxes[:, 1].amax(0)
    span = high - low
    shape = min(max(float(span[1] / span[0]), shapes[0]), shapes[1])
    height = 2 * round(width * shape / 2)
    target = ((low + high) / 2)[None]
    return Camera(rotation, target @ rotation, _distance(boxes, target, height, width), height, width)


def _turn(points: Tensor, rotation: Tensor) -> Tensor:
    """Row vectors (L, 3) times (3, 3) or (L, 3, 3)."""
    return (points[:, None] @ rotation)[:, 0]


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
