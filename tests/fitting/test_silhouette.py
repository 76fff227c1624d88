"""The soft silhouette: against closed forms, the rasteriser, differences, and pytorch3d where it is installed."""

import pytest
import torch
from torch import Tensor

from fitting.masks import FixedCamera
from fitting.render.raster import rasterise
from fitting.silhouette import REACH, outline_silhouette, pytorch3d_silhouette, soft_silhouette
from models.body import BodyModel

SIZE = 96


def posed_body(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Points (V, 3) in a picture of SIZE x SIZE, arms before the trunk, and faces."""
    body = BodyModel.load(dtype=dtype)
    thetas = 0.3 * torch.randn(24, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    vertices = body.vertices(torch.zeros(10, dtype=dtype), thetas, torch.zeros(3, dtype=dtype))
    x, y, z = (vertices - vertices.mean(0)).unbind(1)
    return torch.stack((SIZE / 2 + 42 * x, SIZE / 2 - 42 * y, 3 - z), 1), body.faces


def square(low: float, high: float, depth: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two triangles, one turned each way, over columns and rows low to high."""
    corners = [[low, low, depth], [high, low, depth], [high, high, depth], [low, high, depth]]
    return torch.tensor(corners, dtype=torch.float64), torch.tensor([[0, 1, 2], [0, 3, 2]])


def square_silhouette(low: float, high: float) -> Tensor:
    """The closed form, SIZE x SIZE."""
    centre = torch.arange(SIZE, dtype=torch.float64) + 0.5
    beyond = torch.maximum(low - centre, centre - high)  # outside along one axis
    x, y = torch.meshgrid(beyond, beyond, indexing="ij")
    outside = torch.hypot(x.clamp(min=0), y.clamp(min=0))
    return smooth(-(outside + torch.maximum(x, y).clamp(max=0)))


def smooth(signed: Tensor) -> Tensor:
    """0 to 1 from -REACH to REACH."""
    ramp = ((1 + signed / REACH) / 2).clamp(0, 1)
    return 3 * ramp**2 - 2 * ramp**3


def assert_silhouette(points: Tensor, faces: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(outline_silhouette(points[None], faces, SIZE, SIZE)[0], expected)


def test_a_square_is_the_closed_form() -> None:
    assert_silhouette(*square(20.3, 41.9), square_silhouette(20.3, 41.9))


def test_what_lies_within_the_outline_is_not_seen() -> None:
    """Neither a square before it, nor one that leaves the outline at a corner only where it does not."""
    (large, faces), (small, _) = square(20.3, 41.9), square(22.0, 39.5, depth=0.5)
    assert_silhouette(torch.cat((large, small)), torch.cat((faces, faces + 4)), square_silhouette(20.3, 41.9))


def test_an_outline_outside_the_picture_reaches_in() -> None:
    points, faces = square(-1.2, SIZE + 1.2)
    assert_silhouette(points, faces, square_silhouette(-1.2, SIZE + 1.2))
    assert outline_silhouette(points[None], faces, SIZE, SIZE)[0, 0, 30] < 0.99


@pytest.mark.parametrize("seed", [0, 1])
def test_the_half_is_where_the_rasteriser_sees_a_face(seed: int) -> None:
    points, faces = posed_body(seed)
    points[:, :2] = (points[:, :2] * 256).round() / 256  # as the rasteriser snaps them
    hard = torch.zeros(SIZE * SIZE, dtype=torch.bool)
    hard[rasterise(points[None].float(), faces, SIZE, SIZE).pixel] = True
    assert torch.equal(outline_silhouette(points[None], faces, SIZE, SIZE)[0] > 0.5, hard.view(SIZE, SIZE))


def test_faces_may_be_turned_any_way() -> None:
    points, faces = posed_body()
    turned = torch.where(torch.arange(len(faces))[:, None] % 3 == 0, faces.flip(1), faces)[torch.randperm(len(faces))]
    found, expected = (outline_silhouette(points[None], each, SIZE, SIZE) for each in (turned, faces))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_is_that_of_differences(seed: int) -> None:
    """Of a smooth functional of the picture, along a smooth motion of a body whose limbs cover one another.

    Exactly for a step so small that no piece of a contour comes to light, nearly for one over several hundred of them.
    """
    points, faces = posed_body(seed)
    random = torch.Generator().manual_seed(seed)
    waves = torch.randn(3, 2, 3, generator=random, dtype=torch.float64) / 10
    way = torch.cat((torch.sin(torch.einsum("vi,aci->vac", points, waves)).sum(1), torch.zeros(len(points), 1)), 1)
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    weights = torch.sin(row / 7 + seed) * torch.cos(column / 5)

    def value(step: float | Tensor) -> Tensor:
        return (outline_silhouette((points + step * way)[None], faces, SIZE, SIZE)[0] * weights).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    with torch.no_grad():
        small, wide = ((value(size) - value(-size)).item() / (2 * size) for size in (1e-5, 0.15))
    assert abs(slope) > 5
    assert slope.item() == pytest.approx(small, rel=1e-4)
    assert slope.item() == pytest.approx(wide, rel=0.1)


def test_gradient_of_a_square_is_that_of_the_closed_form() -> None:
    """At its corners too, and where pixels' centres lie on an edge."""
    points, faces = square(20.5, 41.9)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    picture = outline_silhouette((points * torch.stack((scale, scale, scale.detach())))[None], faces, SIZE, SIZE)
    (slope,) = torch.autograd.grad(picture.sum(), scale)
    larger, smaller = (square_silhouette(20.5 * size, 41.9 * size).sum().item() for size in (1 + 1e-6, 1 - 1e-6))
    assert slope.item() == pytest.approx((larger - smaller) / 2e-6, rel=0.005)  # one centre lies on a corner


def test_leading_axes_and_a_batch_are_one_by_one() -> None:
    body = BodyModel.load()
    thetas = 0.3 * torch.randn(2, 3, 24, 3, generator=torch.Generator().manual_seed(0))
    vertices = body.vertices(torch.zeros(10), thetas, torch.zeros(3)) - torch.tensor([0, 0.2, 0])
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    view = FixedCamera(
        48, 32, torch.tensor([60.0, 60.0]), torch.tensor([16.0, 24.0]), facing, torch.tensor([0, 0, 3.0])
    )
    pictures = soft_silhouette(vertices, body.faces, view)
    assert pictures.shape == (2, 3, 48, 32) and 0 < pictures.mean() < 0.5
    torch.testing.assert_close(pictures[1, 2], soft_silhouette(vertices[1, 2], body.faces, view))
    assert soft_silhouette(vertices[:0], body.faces, view).shape == (0, 3, 48, 32)


def test_faces_behind_the_camera_are_left_out() -> None:
    (seen, faces), (behind, _) = square(20.3, 41.9), square(5.0, 60.0, depth=-1.0)
    behind[0, :2] = torch.inf  # as where the depth is zero
    assert_silhouette(torch.cat((seen, behind)), torch.cat((faces, faces + 4)), square_silhouette(20.3, 41.9))


def test_pytorch3d_sees_the_same() -> None:
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed here")
    points, faces = posed_body(dtype=torch.float32)
    pictures = []
    for render in (outline_silhouette, pytorch3d_silhouette):
        given = points[None].clone().requires_grad_()
        picture = render(given, faces, SIZE, SIZE)[0]
        row = torch.arange(SIZE) + 0.5
        (slope,) = torch.autograd.grad((picture * torch.sin(row / 9)[:, None]).sum(), given)
        pictures.append((picture.detach(), slope[0, :, :2].sum(0)))
    (ours, our_slope), (theirs, their_slope) = pictures
    assert (ours - theirs).abs().mean() < 0.03  # theirs is a little wider: a product over many small faces
    assert torch.cosine_similarity(our_slope, their_slope, 0) > 0.9
