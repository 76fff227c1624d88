"""A silhouette that is differentiable: how far every pixel lies inside or outside the outline of a projected mesh.

S rises smoothly from 0 to 1 (3 t^2 - 2 t^3) while d, the signed distance from a pixel's centre to the outline, goes
from -REACH to REACH. So S = 1/2 on the outline itself, for meshes of any fineness, and the gradient of a pixel goes to
the edge that is nearest to it: n.dq for that edge's nearest place q and the outward normal n there.

How many triangles lie over a point changes, along a row of pixels, by one at each side of a triangle; at an edge that
two triangles share from either side the changes cancel. What remains are the contour edges, some hundred of a body's
20,000. They alone are scan converted, and those parts of them that have no triangle on one side are the outline.
"""

import importlib.util
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

REACH = 2.0  # pixels
MARGIN = 3  # pixels around the picture that are drawn too, since outlines outside it reach into it; above REACH
FINE = 3  # pixels are cut in 3 x 3 to see which side of an edge is empty; odd, so that centres stay centres
PROBE = 0.25  # pixels from the edge is looked: its own triangles show up to 0.236 beyond it, half a fine diagonal


class View(Protocol):
    """A camera: the size of its picture in pixels; world (..., V, 3) in metres -> column, row, depth (..., V, 3)."""

    height: int
    width: int

    def project(self, points: Tensor) -> Tensor: ...


class Contours(NamedTuple):
    """The edges at which the count of triangles changes, in a batch of pictures with a margin."""

    picture: Tensor  # (C,)
    ends: Tensor  # (C, 2) vertices
    lines: Tensor  # (C, 2, 2) the ends' column and row in pixels
    left: Tensor  # (C,) how many triangles lie on its left less those on its right, rows counted downwards

    def outward(self) -> Tensor:
        """(C, 2) unit normals, away from the side with more triangles."""
        way = self.lines[:, 1] - self.lines[:, 0]
        across = torch.stack((-way[:, 1], way[:, 0]), 1)
        return across * (self.left.sign() / way.norm(dim=1).clamp(min=1e-9))[:, None]


class Pieces(NamedTuple):
    """Parts of contours, about a pixel long."""

    contour: Tensor  # (P,)
    first: Tensor  # (P,) where it starts on the way between the contour's ends, 0 to 1
    last: Tensor  # (P,) where it stops


def soft_silhouette(vertices: Tensor, faces: Tensor, view: View) -> Tensor:
    """Meshes (..., V, 3) in metres that share their faces (F, 3) -> pictures (..., height, width) in [0, 1].

    Differentiable once, with respect to the vertices. Faces that reach behind the camera are left out. Where pytorch3d
    is installed its renderer makes them, else `outline_silhouette`.
    """
    render = outline_silhouette if importlib.util.find_spec("pytorch3d") is None else pytorch3d_silhouette
    points = view.project(vertices)
    lead = points.shape[:-2]
    pictures = render(points.reshape(lead.numel(), *points.shape[-2:]), faces, view.height, view.width)
    return pictures.reshape(*lead, view.height, view.width)


def outline_silhouette(points: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """Points (n, V, 3), column and row in pixels and depth, -> (n, height, width), by the signed distance."""
    flat = points[..., :2] + MARGIN
    size = (len(points), height + 2 * MARGIN, width + 2 * MARGIN)
    with torch.no_grad():
        contours = _contours(flat, points[..., 2] > 0, faces)
        covered = _coverage(contours, *size)
        pieces = _outline(contours, covered)
        pixel, nearest = _nearest(contours, pieces, *size)
        inside = covered[:, FINE // 2 :: FINE, FINE // 2 :: FINE].flatten()
        pieces = Pieces(*(part[nearest] for part in pieces))
    centres = torch.stack((pixel % size[2], pixel // size[2] % size[1]), 1).to(flat) + 0.5
    signed = _signed_distances(flat, contours, pieces, centres, inside[pixel])
    ramp = (1 + signed / REACH) / 2
    pictures = inside.to(flat).index_put((pixel,), ramp.square() * (3 - 2 * ramp)).view(size)
    return pictures[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def pytorch3d_silhouette(points: Tensor, faces: Tensor, height: int, width: int, layers: int = 50) -> Tensor:
    """The same by pytorch3d, as SoftRas has it (Liu et al., ICCV 2019): 1 - prod(1 - sigmoid(+-d^2 / s)) over faces.

    s = (REACH / 3)^2 in pytorch3d's coordinates, in which the picture's shorter side is 2, x to the left, y upwards;
    layers: faces of a pixel that are multiplied at most, the nearest to the camera.
    """
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    short = min(height, width)
    place = (torch.tensor([width, height]).to(points) - 2 * points[..., :2]) / short
    meshes = Meshes(torch.cat((place, points[..., 2:]), -1), faces.expand(len(points), -1, -1))
    found, _, _, distance = rasterize_meshes(meshes, (height, width), (4 * REACH / short) ** 2, layers)
    clear = torch.sigmoid(distance / (2 * REACH / 3 / short) ** 2)  # squared distance, negative inside
    return 1 - torch.where(found < 0, 1, clear).prod(-1)


def _contours(flat: Tensor, in_front: Tensor, faces: Tensor) -> Contours:
    """flat (n, V, 2), in_front (n, V): a face turned clockwise has its sides' way on the other side."""
    start, stop = faces, faces.roll(-1, 1)
    key = torch.minimum(start, stop) * flat.shape[1] + torch.maximum(start, stop)
    keys, edge = key.unique(return_inverse=True)
    a, b, c = (flat[:, corner] for corner in faces.T)
    area = (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]  # > 0: clockwise as seen
    turn = torch.where(in_front[:, faces].all(-1), area.sign(), 0)
    along = torch.where(start < stop, -1, 1).to(turn)  # rows count downwards: the inside of a clockwise face is right
    left = torch.zeros(len(flat), len(keys)).to(turn)
    left.index_add_(1, edge.flatten(), (turn[..., None] * along).flatten(1))
    picture, edge = left.nonzero().unbind(1)
    ends = torch.stack((keys[edge] // flat.shape[1], keys[edge] % flat.shape[1]), 1)
    return Contours(picture, ends, flat[picture[:, None], ends], left[picture, edge])


def _coverage(contours: Contours, pictures: int, height: int, width: int) -> Tensor:
    """Whether each fine pixel's centre is in a triangle: (pictures, FINE height, FINE width)."""
    height, width = FINE * height, FINE * width
    (x, y), (x2, y2) = (end.unbind(1) for end in (FINE * contours.lines).unbind(1))
    first = (torch.minimum(y, y2) - 0.5).ceil().clamp(0, height).long()
    count = (torch.maximum(y, y2) - 0.5).ceil().clamp(0, height).long() - first  # half-open: no row is crossed twice
    line, step = _parts(count)
    row = first[line] + step
    crossing = x[line] + (row + 0.5 - y[line]) * ((x2 - x) / (y2 - y))[line]
    column = (crossing - 0.5).ceil().clamp(0, width).long()
    change = torch.where(y2 > y, contours.left, -contours.left)[line]  # left of a way downwards is the right of the row
    counts = torch.zeros(pictures * height * (width + 1)).to(change)
    counts.index_add_(0, (contours.picture[line] * height + row) * (width + 1) + column, change)
    return counts.view(pictures, height, width + 1).cumsum(2)[..., :-1] > 0.5


def _outline(contours: Contours, covered: Tensor) -> Pieces:
    """The pieces of contours, in sight, that have nothing on their outer side."""
    height, width = covered.shape[1:]
    way = contours.lines[:, 1] - contours.lines[:, 0]
    count = way.norm(dim=1).ceil().clamp(1, height + width)
    line, step = _parts(count.long())
    first, last = step / count[line], (step + 1) / count[line]
    probe = contours.lines[line, 0] + ((first + last) / 2)[:, None] * way[line] + PROBE * contours.outward()[line]
    column, row = (FINE * probe).floor().long().unbind(1)
    shown = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    bare = ~covered[contours.picture[line], row.clamp(0, height - 1), column.clamp(0, width - 1)]
    kept = (shown & bare).nonzero()[:, 0]
    return Pieces(line[kept], first[kept], last[kept])


def _nearest(contours: Contours, pieces: Pieces, pictures: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Every pixel within REACH of a piece, and the piece nearest to it: (m,) each, of (pictures, height, width)."""
    lines, picture = contours.lines[pieces.contour], contours.picture[pieces.contour]
    middle = torch.lerp(lines[:, 0], lines[:, 1], ((pieces.first + pieces.last) / 2)[:, None]).floor().long()
    offset = torch.arange(-int(REACH) - 1, int(REACH) + 2, device=lines.device)
    column, row = middle[:, :1] + offset.repeat(len(offset)), middle[:, 1:] + offset.repeat_interleave(len(offset))
    x, y = column + 0.5, row + 0.5
    place = _nearest_places(lines, pieces, x, y)
    start, way = lines[:, 0], lines[:, 1] - lines[:, 0]
    distance = torch.hypot(start[:, :1] + place * way[:, :1] - x, start[:, 1:] + place * way[:, 1:] - y)
    near = (distance < REACH) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    piece, box = near.nonzero().unbind(1)
    pixel = (picture[piece] * height + row[piece, box]) * width + column[piece, box]
    key = distance[piece, box].float().view(torch.int32).long() << 32 | piece  # bits of positive floats sort as they do
    unset = torch.iinfo(torch.int64).max
    best = torch.full((pictures * height * width,), unset, device=pixel.device).scatter_reduce_(0, pixel, key, "amin")
    pixel = (best < unset).nonzero()[:, 0]
    return pixel, best[pixel] & (2**32 - 1)


def _nearest_places(lines: Tensor, pieces: Pieces, x: Tensor, y: Tensor) -> Tensor:
    """Where on lines (P, 2, 2), within the pieces, points x, y (P, k) are nearest: (P, k), 0 at end 0, 1 at end 1."""
    start, way = lines[:, 0], lines[:, 1] - lines[:, 0]
    along = (x - start[:, :1]) * way[:, :1] + (y - start[:, 1:]) * way[:, 1:]
    place = along / way.square().sum(1, keepdim=True).clamp(min=1e-12)
    return place.clamp(pieces.first[:, None], pieces.last[:, None])


def _signed_distances(flat: Tensor, contours: Contours, pieces: Pieces, centres: Tensor, inside: Tensor) -> Tensor:
    """From pixels' centres (m, 2) to a piece each, positive inside: (m,), differentiable by flat (n, V, 2).

    The place on the piece and the normal are held still: neither changes the distance, for the place is the nearest.
    """
    with torch.no_grad():
        lines = contours.lines[pieces.contour]
        place = _nearest_places(lines, pieces, centres[:, :1], centres[:, 1:])
        apart = torch.lerp(lines[:, 0], lines[:, 1], place) - centres
        distance = apart.norm(dim=1, keepdim=True)
        outward = apart / distance.clamp(min=1e-9) * torch.where(inside, 1, -1)[:, None]
        outward = torch.where(distance > 1e-6, outward, contours.outward()[pieces.contour])
    ends = flat[contours.picture[pieces.contour, None], contours.ends[pieces.contour]]
    return (outward * (torch.lerp(ends[:, 0], ends[:, 1], place) - centres)).sum(1)


def _parts(count: Tensor) -> tuple[Tensor, Tensor]:
    """[2, 3] -> [0, 0, 1, 1, 1] and [0, 1, 0, 1, 2]."""
    index = torch.repeat_interleave(count)
    return index, torch.arange(len(index), device=count.device) - (count.cumsum(0) - count)[index]
