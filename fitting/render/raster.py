"""A z-buffer rasteriser in plain torch, on CPU or CUDA: triangles in, the nearest face of every covered pixel out."""

from typing import NamedTuple

import torch
from torch import Tensor

SUBPIXELS = (
    256  # corners are snapped to 1/256 pixel: every edge function is then a whole number that float64 holds exactly
)


class Fragments(NamedTuple):
    """The covered pixels of a batch of pictures, one entry a pixel, in ascending order of `pixel`."""

    pixel: Tensor  # (N,) int64, (picture * height + row) * width + column
    face: Tensor  # (N,) int64, the nearest face
    weights: Tensor  # (N, 3) float32, perspective-correct barycentric weights of that face's corners, summing to 1
    depth: Tensor  # (N,) float32, distance along the viewing axis


class Spans(NamedTuple):
    """The runs of pixels that triangles cover, row by row."""

    triangle: Tensor  # (n,) int64
    row: Tensor  # (n,) int64
    first: Tensor  # (n,) int64, column
    count: Tensor  # (n,) int64, at least 1
    edges: Tensor  # (3, n) edge functions at the first column
    steps: Tensor  # (3, n) by how much they grow per column


def rasterise(points: Tensor, faces: Tensor, height: int, width: int, cull: bool = False) -> Fragments:
    """Find what each pixel sees of a batch of triangle meshes that share their faces.

    points: (batch, vertices, 3): x to the right and y downwards in pixels, then depth along the viewing axis (> 0).
    faces: (F, 3) int64 indices. cull: drop faces whose corners run clockwise as seen in the picture (the far side of a
    closed mesh).

    A pixel is covered when its centre (column + 0.5, row + 0.5) lies in a triangle or on its edge, in exact arithmetic
    on corners snapped to 1/256 pixel, so neighbours leave no crack between them. The smallest depth wins, then the
    smallest face index: the answer depends on no order of execution. A face that reaches behind the camera is left out.
    """
    corners, kept = _usable_faces(points[:, faces].flatten(0, 1), cull)
    spans = _spans(corners, height, width)
    # What is linear in the picture is 1/depth, and any quantity over depth: so corners weigh edge function / depth.
    scale = corners[..., 2].T.index_select(1, spans.triangle) * spans.edges.sum(0)
    at_first, per_column = spans.edges / scale, spans.steps / scale
    inverse_depth, inverse_step = at_first.sum(0), per_column.sum(0)

    face = kept[spans.triangle]  # picture * F + face
    start = (face // len(faces) * height + spans.row) * width + spans.first
    span, offset = _expand(spans.count)
    depth = 1 / (inverse_depth.index_select(0, span) + inverse_step.index_select(0, span) * offset)
    pixel = start.index_select(0, span) + offset
    nearest = _nearest(pixel, depth.float(), face.index_select(0, span), len(points) * height * width)

    span, offset, depth = span[nearest], offset[nearest], depth[nearest]
    weights = (at_first.index_select(1, span) + per_column.index_select(1, span) * offset) * depth
    return Fragments(pixel[nearest], face[span] % len(faces), weights.T.float(), depth.float())


def interpolate(values: Tensor, faces: Tensor, fragments: Fragments, pixels: int) -> Tensor:
    """Values at the vertices (batch, V, channels) -> at the fragments (N, channels). pixels = height x width."""
    corner = faces[fragments.face] + (fragments.pixel // pixels * values.shape[1])[:, None]
    flat = values.flatten(0, 1)
    return sum(flat.index_select(0, corner[:, k]) * fragments.weights[:, k, None] for k in range(3))


def _usable_faces(corners: Tensor, cull: bool) -> tuple[Tensor, Tensor]:
    """Of (n, 3, 3): those in front of the camera and not edge-on, x and y in 1/256 pixel, float64; their indices."""
    x, y = (corners[..., :2] * SUBPIXELS).round().double().unbind(2)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    kept = (corners[..., 2] > 0).all(1) & ((area < 0) if cull else (area != 0))  # < 0: anticlockwise, for y points down
    kept = kept.nonzero()[:, 0]
    corners = torch.stack([x, y, corners[..., 2].double()], 2)
    return corners.index_select(0, kept), kept


def _spans(corners: Tensor, height: int, width: int) -> Spans:
    triangle, row = _rows(corners[..., 1], height)
    edges, per_column, per_row = (part.index_select(1, triangle) for part in _edge_functions(corners))
    edges = edges + per_row * row
    crossing = (
        -edges / per_column
    )  # the column where an edge function changes sign; a quotient never rounds across a whole
    never = (per_column == 0) & (edges < 0)
    first = torch.where(per_column > 0, crossing.ceil(), 0).amax(0).clamp(min=0)
    last = torch.where(per_column < 0, crossing.floor(), width - 1).amin(0).clamp(max=width - 1)
    full = ((first <= last) & ~never.any(0)).nonzero()[:, 0]
    first, last = first[full], last[full]
    edges, per_column = edges.index_select(1, full), per_column.index_select(1, full)
    return Spans(
        triangle[full], row[full], first.long(), (last - first).long() + 1, edges + per_column * first, per_column
    )


def _rows(y: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Every row of pixel centres that triangles with corners y (n, 3) reach: index of the triangle, row."""
    first = (y.amin(1) / SUBPIXELS - 0.5).ceil().clamp(min=0)
    last = (y.amax(1) / SUBPIXELS - 0.5).floor().clamp(max=height - 1)
    triangle, step = _expand((last - first + 1).clamp(min=0).long())
    return triangle, first.long().index_select(0, triangle) + step


def _edge_functions(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each (3, n): value at pixel (0, 0), growth per column, growth per row.

    The k-th edge function, at a pixel's centre, is the doubled area spanned with the edge opposite corner k, positive
    inside: a barycentric weight times the triangle's doubled area.
    """
    x, y = corners[..., 0].T, corners[..., 1].T
    x, y, dx, dy = x[[1, 2, 0]], y[[1, 2, 0]], x[[2, 0, 1]] - x[[1, 2, 0]], y[[2, 0, 1]] - y[[1, 2, 0]]
    turn = (dx[0] * dy[1] - dy[0] * dx[1]).sign()
    dx, dy = turn * dx, turn * dy
    return dx * (SUBPIXELS / 2 - y) - dy * (SUBPIXELS / 2 - x), -SUBPIXELS * dy, SUBPIXELS * dx


def _expand(count: Tensor) -> tuple[Tensor, Tensor]:
    """[2, 3] -> [0, 0, 1, 1, 1] and [0, 1, 0, 1, 2]."""
    index = torch.repeat_interleave(count)
    return index, torch.arange(len(index), device=count.device) - (count.cumsum(0) - count).index_select(0, index)


def _nearest(pixel: Tensor, depth: Tensor, face: Tensor, pixels: int) -> Tensor:
    """Which fragments win, in order of pixels. Key: bits of the depth (positive floats sort as integers do), face."""
    key = depth.view(torch.int32).long() << 32 | face
    unset = torch.iinfo(torch.int64).max
    best = torch.full((pixels,), unset, device=pixel.device).scatter_reduce_(0, pixel, key, "amin")
    winners = (key == best.index_select(0, pixel)).nonzero()[:, 0]
    at = torch.full_like(best, -1).scatter_(0, pixel.index_select(0, winners), winners)  # no face is twice at a pixel
    return at[at >= 0]
