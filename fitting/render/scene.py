"""What is seen: a body on a chequered floor that takes its shadow and fades away. Light is linear until `encode`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fitting.render.camera import Camera
from fitting.render.light import KEY, SKY, Lights, Lit
from fitting.render.raster import interpolate, rasterise

SAMPLES = 3  # along each axis of a pixel, for the body
BODY = (0.16, 0.31, 0.56)
FLOOR = (0.70, 0.72, 0.75)
BACKGROUND = (0.82, 0.845, 0.88)
CHEQUER = 0.06  # how much lighter and darker the tiles are
TILE = 0.5  # metres
FADE = 0.7  # the floor has half faded this far from the target, in distances of the camera
BOUNCE, GLOSS = 0.14, 0.05  # light thrown back by the floor, highlights
FAINT = 0.02  # opacity below which a shadow without a floor is left out
SHADES = 4096  # steps of linear light


class Stage:
    """Mesh, lights and floor that stay the same throughout a clip.

    faces (F, 3) int64 of a mesh with num_vertices; azimuth of the camera, radians from +z towards +x (the lamp hangs at
    its upper left); ground: the floor's height; extent: the diagonal of the largest box around a body; both in metres.
    """

    def __init__(self, faces: Tensor, num_vertices: int, azimuth: float, ground: float, extent: float):
        self.faces, self.ground = faces, ground
        self.incident = _incident_faces(faces, num_vertices)
        self.incident_count = (self.incident < len(faces)).sum(0).clamp(min=1)[:, None]
        self.lights = Lights(azimuth, extent, faces)

    def light(self, vertices: Tensor) -> Lit:
        """Light on bodies (frames, V, 3), smoothed over neighbours, for a shadow's edge runs between vertices."""
        lit = self.lights.on_body(vertices, self.normals(vertices), self.ground)
        normals, seen = lit.vertices.split([3, 2], 2)
        for _ in range(2):
            by_face = F.pad(sum(seen[:, corner] for corner in self.faces.T) / 3, (0, 0, 0, 1))
            seen = sum(by_face[:, face] for face in self.incident) / self.incident_count
        return lit._replace(vertices=torch.cat([normals, seen], 2))

    def normals(self, vertices: Tensor) -> Tensor:
        """Area-weighted unit normals (frames, V, 3)."""
        a, b, c = (vertices[:, corner] for corner in self.faces.T)
        by_face = F.pad(torch.linalg.cross(b - a, c - a), (0, 0, 0, 1))
        return F.normalize(sum(by_face[:, face] for face in self.incident), dim=2)

    def body(self, vertices: Tensor, lit: Lit, camera: Camera, colour: tuple[float, float, float] = BODY) -> Tensor:
        """Pictures (frames, height, width, 4) of the bodies alone: linear colour times coverage, coverage."""
        fine = camera.magnified(SAMPLES)
        points = fine.project(vertices)
        left, top, right, bottom = _window(points[..., :2], fine)  # only this part is drawn
        height, width = bottom - top, right - left
        fragments = rasterise(points - points.new_tensor([left, top, 0]), self.faces, height, width, cull=True)
        shaded = F.pad(self._shade(vertices, lit, camera, vertices.new_tensor(colour)), (0, 1), value=1.0)
        samples = shaded.new_zeros(len(vertices) * height * width, 4)
        samples[fragments.pixel] = interpolate(shaded, self.faces, fragments, height * width)
        picture = shaded.new_zeros(len(vertices), camera.height, camera.width, 4)
        inner = picture[:, top // SAMPLES : bottom // SAMPLES, left // SAMPLES : right // SAMPLES]
        inner[:] = _pixel_means(samples.view(-1, height, width, 4))
        return picture

    def floor(self, camera: Camera) -> Tensor:
        """x and z (frames, height, width, 2) of the floor at each pixel; infinite above the horizon."""
        device = self.faces.device
        rays = camera.rays(
            torch.arange(camera.width, device=device), torch.arange(camera.height, device=device)[:, None]
        )
        eye = camera.eye[:, None, None]
        distance = torch.where(rays[..., 1] < 0, (self.ground - eye[..., 1]) / rays[..., 1], math.inf)
        return eye[..., ::2] + distance[..., None] * rays[..., ::2]

    def shadow(self, light: Tensor) -> Tensor:
        """The floor left out but for its shadow: black with an opacity, (..., 4), that darkens sRGB as `light` does."""
        opacity = (1 - light[..., None].clamp(0, 1) ** (1 / 2.2) - FAINT) / (1 - FAINT)
        return F.pad(opacity.clamp(min=0), (3, 0))

    def floor_colour(self, floor: Tensor, light: Tensor, camera: Camera) -> Tensor:
        """The floor's linear colour (frames, height, width, 3), fading into the background with the distance."""
        away = (floor - camera.target[:, None, None, ::2]).square().sum(-1) / (FADE * camera.distance) ** 2
        strength = torch.exp2(-away)
        grey = strength * light * (1 + CHEQUER * _chequer(floor / TILE))
        background, full = torch.tensor([BACKGROUND, FLOOR], device=floor.device)
        return background * (1 - strength)[..., None] + full * grey[..., None]

    def _shade(self, vertices: Tensor, lit: Lit, camera: Camera, colour: Tensor) -> Tensor:
        """Linear colour (frames, V, 3) of skin: key, sky, light thrown back by the floor, a soft highlight and rim.

        It is worked out at the vertices: on a body's mesh their triangles are as small as a film's pixels.
        """
        normal, key, sky = lit.vertices.split([3, 1, 1], 2)
        view = F.normalize(camera.eye[:, None] - vertices, dim=2)
        direct = (normal @ self.lights.key).clamp(min=0)[..., None] * key
        bounce = (1 - normal[..., 1:2]) / 2
        halfway = F.normalize(view + self.lights.key, dim=2)
        highlight = (normal * halfway).sum(2, keepdim=True).clamp(min=0) ** 24 * key
        grazing = (1 - (normal * view).sum(2, keepdim=True).clamp(0, 1)) ** 4
        return colour * (math.pi / 2 * KEY * direct + SKY * sky + BOUNCE * bounce) + GLOSS * (highlight + grazing * sky)


def over(top: Tensor, bottom: Tensor) -> Tensor:
    """Lay a picture with coverage (..., 4) over another, or over an opaque one (..., 3); colours are times coverage."""
    return torch.addcmul(bottom + top[..., : bottom.shape[-1]], top[..., 3:], bottom, value=-1)


def finish(picture: Tensor) -> Tensor:
    """Linear light (..., 3), or times coverage with the coverage (..., 4) -> sRGB bytes, opacity not multiplied in."""
    if picture.shape[-1] == 3:
        return encode(picture)
    coverage = picture[..., 3:]
    opacity = (255 * coverage.clamp(0, 1) + 0.5).to(torch.uint8)
    return torch.cat([encode(picture[..., :3] / coverage.clamp(min=1e-6)), opacity], -1)


def encode(linear: Tensor) -> Tensor:
    """Linear light (..., 3) -> sRGB bytes (IEC 61966-2-1); what lies outside [0, 1] is cut."""
    light = torch.linspace(0, 1, SHADES, device=linear.device)
    table = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = (table * 255 + 0.5).to(torch.uint8)
    step = (linear * (SHADES - 1) + 0.5).int().clamp_(0, SHADES - 1)
    return table.index_select(0, step.flatten()).view(linear.shape)


def decode(bytes_: Tensor) -> Tensor:
    """sRGB bytes (..., 3) -> linear light, what `encode` takes."""
    light = bytes_.float() / 255
    return torch.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)


def _incident_faces(faces: Tensor, num_vertices: int) -> Tensor:
    """(most faces at a vertex, V): the faces at each vertex, filled up with index F.

    A sum over them in this order gives the same bits every time; index_add_ on a GPU does not.
    """
    vertex, corner = faces.flatten().sort(stable=True)
    count = torch.bincount(vertex, minlength=num_vertices)
    rank = torch.arange(len(vertex), device=faces.device) - (count.cumsum(0) - count)[vertex]
    table = torch.full((int(count.max()), num_vertices), len(faces), device=faces.device)
    table[rank, vertex] = corner // 3
    return table


def _window(points: Tensor, camera: Camera) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the picture that holds the points, whole pixels of SAMPLES samples."""
    low, high = points.amin((0, 1)) / SAMPLES, points.amax((0, 1)) / SAMPLES
    size = torch.tensor([camera.width, camera.height], device=points.device) / SAMPLES
    low = torch.minimum(low.floor().clamp(min=0), size - 1)
    high = torch.maximum(torch.minimum(high.ceil(), size), low + 1)
    left, top, right, bottom = (torch.cat([low, high]) * SAMPLES).int().tolist()
    return left, top, right, bottom


def _pixel_means(samples: Tensor) -> Tensor:
    """Means over SAMPLES x SAMPLES of (frames, height, width, 4): two sums of neighbours, much faster than one mean."""
    frames, height, width, channels = samples.shape
    rows = samples.view(frames, height // SAMPLES, SAMPLES, width * channels)
    rows = sum(rows[:, :, k] for k in range(SAMPLES)).view(
        frames, height // SAMPLES, width // SAMPLES, SAMPLES, channels
    )
    return sum(rows[..., k, :] for k in range(SAMPLES)) / SAMPLES**2


def _chequer(place: Tensor) -> Tensor:
    """Chequer in [-1, 1] of tiles of side 1 at (frames, height, width, 2), averaged over each pixel's footprint.

    The average has a closed form, for a triangle wave is the integral of a square wave.
    """
    across = F.pad((place[:, :, 1:] - place[:, :, :-1]).abs(), (0, 0, 0, 1))
    down = F.pad((place[:, 1:] - place[:, :-1]).abs(), (0, 0, 0, 0, 0, 1))
    footprint = torch.maximum(across, down).clamp_(min=1e-4)
    high, low = (place + footprint / 2) / 2, (place - footprint / 2) / 2
    wave = ((high - high.floor()) - 0.5).abs() - ((low - low.floor()) - 0.5).abs()
    return (2 * wave / footprint).prod(-1).nan_to_num(0)
