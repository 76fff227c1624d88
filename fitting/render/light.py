"""Light and shadow: a round lamp and a sky, both made of distant lights that each keep a coarse depth map of the body.

One mechanism gives the cast shadow with its soft edge, the contact shadow under the feet and the dark of an armpit: the
body's vertices and a patch of floor ask how many of the lights they see.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KEY_LIGHTS, SKY_LIGHTS = 8, 20
KEY_SIDE, KEY_HEIGHT, KEY_RADIUS = math.radians(-40), math.radians(52), math.radians(4)  # as the camera sees the lamp
KEY, SKY = 0.80, 0.50  # strengths
MAP_CELLS = (8, 96)  # across a depth map, least and most: as many as the mesh has points to fill
PATCH_CELLS = 112  # across the patch of floor that the body can shade
PATCH_SIZE = 2.0  # of that patch, in diagonals of the body


class Lit(NamedTuple):
    """The light on a batch of bodies and on the floor around each."""

    vertices: Tensor  # (frames, V, 5): unit normal, share of the key light, irradiance from the sky (1 in the open)
    patch: Tensor  # (frames, 1, PATCH_CELLS, PATCH_CELLS): light the floor lacks, 0 in the open; rows along z
    centre: Tensor  # (frames, 2): x and z of the patch's middle


class Lights:
    """The lights of a clip.

    azimuth: where the camera stands, radians from +z towards +x; extent: the largest diagonal of a box around a body,
    metres; faces (F, 3) of the bodies.
    """

    def __init__(self, azimuth: float, extent: float, faces: Tensor):
        key, sky, device = _key_directions(azimuth + KEY_SIDE), _sky_directions(), faces.device
        self.faces, self.extent = faces, extent
        self.cells = min(max(round(0.7 * math.sqrt(len(faces))), MAP_CELLS[0]), MAP_CELLS[1])
        self.cell = extent / self.cells  # metres
        self.key, self.sky = F.normalize(key.mean(0), dim=0).to(device), sky.to(device)
        self.sky_share = (1 / sky[:, 1].sum()).to(device)  # of one light, such that open floor receives 1
        self.axes = [axis.T.contiguous().to(device) for axis in _light_axes(torch.cat([key, sky]))]

    def on_body(self, vertices: Tensor, normals: Tensor, ground: float) -> Lit:
        """Light bodies (frames, V, 3), with their unit normals, and the floor at height `ground` around them."""
        low, high = vertices.amin(1), vertices.amax(1)
        middle = (low + high) / 2
        maps = self._depth_maps(vertices[:, self.faces].mean(2) - middle[:, None])
        seen = self._seen(maps, vertices + normals * self.cell - middle[:, None])
        cosine = (normals @ self.sky.T).clamp_(min=0)
        key, sky = seen[..., :KEY_LIGHTS].mean(-1), (cosine * seen[..., KEY_LIGHTS:]).sum(-1) * self.sky_share
        below = torch.stack([middle[:, 0], torch.full_like(middle[:, 0], ground), middle[:, 2]], 1)
        origin = below - 0.5 * (middle - below).norm(dim=1)[:, None] * self.key / self.key[1]  # towards the cast shadow
        origin[:, 1] = ground
        on_vertices = torch.cat([normals, key[..., None], sky[..., None]], 2)
        return Lit(on_vertices, self._floor_shade(maps, origin - middle), origin[:, ::2])

    def at_floor(self, lit: Lit, floor: Tensor) -> Tensor:
        """Share of the open floor's light (frames, height, width) at the floor's x and z (frames, height, width, 2)."""
        place = (floor - lit.centre[:, None, None]) / (PATCH_SIZE * self.extent / 2)
        return 1 - F.grid_sample(lit.patch, place.clamp(-2, 2), align_corners=False)[:, 0]

    def _cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (frames, P, 3), from the body's middle -> for each light the cell, counted over all maps; height."""
        across, along, height = (points @ axis for axis in self.axes)  # (frames, P, lights)
        column, row = ((x * (1 / self.cell) + self.cells / 2).int().clamp_(0, self.cells - 1) for x in (across, along))
        lights = height.shape[2]
        first = torch.arange(len(points) * lights, device=points.device, dtype=torch.int32).view(-1, 1, lights)
        return (first * self.cells + column) * self.cells + row, height

    def _depth_maps(self, points: Tensor) -> Tensor:
        """For every cell of every map the height, towards its light, of the point nearest to the light."""
        cell, height = self._cells(points)
        maps = torch.full((len(points) * height.shape[2] * self.cells**2,), -math.inf, device=points.device)
        return maps.scatter_reduce_(0, cell.long().flatten(), height.flatten(), "amax")

    def _seen(self, maps: Tensor, points: Tensor) -> Tensor:
        """Which lights see the points: (frames, P, lights) of 0 and 1."""
        cell, height = self._cells(points)
        nearest = maps.index_select(0, cell.flatten()).view_as(height)
        return (nearest <= height + self.cell).to(points.dtype)

    def _floor_shade(self, maps: Tensor, origin: Tensor) -> Tensor:
        device = origin.device
        step = ((torch.arange(PATCH_CELLS, device=device) + 0.5) / PATCH_CELLS - 0.5) * PATCH_SIZE * self.extent
        x, z = torch.broadcast_tensors(step[None, :], step[:, None])
        points = torch.stack([x, torch.zeros_like(x), z], -1).view(1, -1, 3)
        shaded = 1 - self._seen(maps, points + origin[:, None]).view(-1, PATCH_CELLS, PATCH_CELLS, len(self.axes[0].T))
        key, sky = shaded[..., :KEY_LIGHTS].mean(-1), shaded[..., KEY_LIGHTS:] @ self.sky[:, 1] * self.sky_share
        open_key = KEY * self.key[1]
        return (open_key * _blur(key, 1.0) + SKY * _blur(sky, 2.5)) / (open_key + SKY)


def _blur(pictures: Tensor, cells: float) -> Tensor:
    """Gaussian blur of (frames, height, width) -> (frames, 1, height, width)."""
    reach = math.ceil(2.5 * cells)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=pictures.device) / cells) ** 2)
    kernel = kernel / kernel.sum()
    blurred = F.conv2d(pictures[:, None], kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(blurred, kernel.view(1, 1, 1, -1), padding=(0, reach))


def _key_directions(azimuth: float) -> Tensor:
    """Unit vectors (KEY_LIGHTS, 3) towards points of a round lamp."""
    across = math.cos(KEY_HEIGHT)
    middle = torch.tensor([math.sin(azimuth) * across, math.sin(KEY_HEIGHT), math.cos(azimuth) * across])
    x, y, _ = _light_axes(middle[None])
    radius, angle = KEY_RADIUS * _steps(KEY_LIGHTS).sqrt(), _spiral(KEY_LIGHTS)
    return F.normalize(middle + (radius * angle.cos())[:, None] * x + (radius * angle.sin())[:, None] * y, dim=1)


def _sky_directions() -> Tensor:
    """Unit vectors (SKY_LIGHTS, 3) spread evenly over the upper half sphere."""
    up, angle = _steps(SKY_LIGHTS), _spiral(SKY_LIGHTS)
    aside = (1 - up**2).sqrt()
    return torch.stack([aside * angle.cos(), up, aside * angle.sin()], 1)


def _steps(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def _spiral(count: int) -> Tensor:
    """Angles (count,) that spread evenly: steps of the golden angle."""
    return torch.arange(count) * math.pi * (3 - math.sqrt(5))


def _light_axes(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two axes (lights, 3) across each light's rays, and the direction towards the light."""
    aside = torch.linalg.cross(directions, torch.tensor([0.6, 0.0, 0.8]).expand_as(directions))
    aside = F.normalize(aside, dim=1)
    return aside, torch.linalg.cross(directions, aside), directions
