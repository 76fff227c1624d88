"""The renderer: coverage, depth and perspective of the rasteriser, framing, light, and what film and poster show."""

import math
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fitting.render.camera import MARGIN, Camera, follow, orientation
from fitting.render.caption import caption_overlay, draw_caption
from fitting.render.figures import PosedBodies, figure, survey
from fitting.render.film import film_of, write_film
from fitting.render.poster import BODIES, write_poster
from fitting.render.poster import _along_path as along_path
from fitting.render.poster import _deed as deed
from fitting.render.poster import _in_a_row as in_a_row
from fitting.render.raster import interpolate, rasterise
from fitting.render.scene import Stage, encode, over
from fitting.render.scene import _chequer as chequer
from fitting.render.sticks import StickFigure
from models.body import BodyModel
from models.errors import InputError
from models.skeleton import SKELETONS

# --- the rasteriser ---------------------------------------------------------------------------------------------------


def soup(count: int, size: int, seed: int, step: int = 256) -> Tensor:
    """Triangles (1, 3 * count, 3) in and around a picture, corners on a grid of 1/step pixel, depths from 1 to 3."""
    random = np.random.default_rng(seed)
    xy = random.integers(-4 * step, (size + 4) * step, (3 * count, 2)) / step
    return torch.tensor(np.column_stack([xy, random.uniform(1, 3, 3 * count)]), dtype=torch.float64)[None]


def corners_of(count: int) -> Tensor:
    return torch.arange(3 * count).view(count, 3)


def brute_force(points: Tensor, faces: Tensor, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face (size, size), -1 for none, and its depth: every triangle at every pixel, edges in whole numbers."""
    nearest, depth = np.full((size, size), -1), np.full((size, size), np.inf)
    row, column = np.mgrid[:size, :size] * 256 + 128
    for index, corners in enumerate(points[0, faces].numpy()):
        x, y = np.round(corners[:, :2].T * 256).astype(np.int64)
        edges = np.stack(
            [(x[b] - x[a]) * (row - y[a]) - (y[b] - y[a]) * (column - x[a]) for a, b in ((1, 2), (2, 0), (0, 1))]
        )
        area = edges[:, 0, 0].sum()
        weights = edges * np.sign(area)
        inverse = (edges / area / corners[:, 2, None, None]).sum(0) if area else np.zeros((size, size))
        closer = (weights >= 0).all(0) & (area != 0) & (1 / np.where(inverse > 0, inverse, 1e-9) < depth)
        nearest[closer], depth[closer] = index, 1 / inverse[closer]
    return nearest, depth


def dense(fragments, size: int) -> tuple[np.ndarray, np.ndarray]:
    nearest, depth = np.full(size * size, -1), np.full(size * size, np.inf)
    nearest[fragments.pixel.numpy()], depth[fragments.pixel.numpy()] = fragments.face.numpy(), fragments.depth.numpy()
    return nearest.reshape(size, size), depth.reshape(size, size)


@pytest.mark.parametrize("step", [256, 2, 1])  # at 2 and 1, corners and edges run exactly through pixel centres
def test_coverage_is_exact(step):
    for seed in range(40):
        points = soup(1, 24, seed, step)
        expected, _ = brute_force(points, corners_of(1), 24)
        found, _ = dense(rasterise(points, corners_of(1), 24, 24), 24)
        np.testing.assert_array_equal(found, expected)


def test_hidden_surfaces_of_crossing_triangles():
    points, faces = soup(30, 40, 7), corners_of(30)
    expected, depth = brute_force(points, faces, 40)
    fragments = rasterise(points, faces, 40, 40)
    found, found_depth = dense(fragments, 40)
    assert (expected >= 0).mean() > 0.8 and len(np.unique(expected)) > 8
    np.testing.assert_allclose(found_depth, depth, rtol=1e-6)
    assert (found == expected).mean() > 0.995  # where two cross within float32's rounding of the depth, either may win
    assert (fragments.pixel.diff() > 0).all()


def test_neighbours_leave_no_crack():
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-1, 33, 30), np.linspace(-1, 33, 30)), -1)
    grid[1:-1, 1:-1] += random.uniform(-0.3, 0.3, (28, 28, 2))
    points = torch.tensor(np.column_stack([grid.reshape(-1, 2), np.ones(900)]), dtype=torch.float32)[None]
    a = (np.arange(29)[:, None] * 30 + np.arange(29)).ravel()
    faces = torch.tensor(
        np.concatenate([np.column_stack([a, a + 30, a + 1]), np.column_stack([a + 1, a + 30, a + 31])])
    )
    assert len(rasterise(points, faces, 32, 32, cull=True).pixel) == 32 * 32  # anticlockwise as seen, y down
    assert len(rasterise(points, faces.flip(1), 32, 32, cull=True).pixel) == 0
    assert len(rasterise(points, faces.flip(1), 32, 32).pixel) == 32 * 32


def test_equal_depth_goes_to_the_smaller_face():
    points = torch.tensor([[[0.0, 0, 1], [0, 8, 1], [8, 0, 1]]])
    faces = torch.tensor([[0, 1, 2]] * 3)
    assert rasterise(points, faces, 8, 8).face.unique().tolist() == [0]


def test_faces_behind_the_camera_and_outside_the_picture_are_left_out():
    triangle = torch.tensor([[[0.0, 0, 1], [0, 8, 1], [8, 0, 1]]])
    assert len(rasterise(triangle, corners_of(1), 8, 8).pixel) > 0
    assert len(rasterise(triangle * torch.tensor([1, 1, -1]), corners_of(1), 8, 8).pixel) == 0
    assert len(rasterise(triangle + torch.tensor([100, 0, 0]), corners_of(1), 8, 8).pixel) == 0


def test_a_batch_equals_one_by_one():
    points, faces = torch.cat([soup(20, 30, seed) for seed in range(3)]), corners_of(20)
    together = rasterise(points, faces, 30, 30)
    for picture in range(3):
        alone = rasterise(points[picture : picture + 1], faces, 30, 30)
        mine = together.pixel // 900 == picture
        assert torch.equal(together.pixel[mine] % 900, alone.pixel) and torch.equal(together.face[mine], alone.face)
        assert torch.equal(together.weights[mine], alone.weights) and torch.equal(together.depth[mine], alone.depth)


def test_interpolation_is_perspective_correct():
    """A point put together from the corners' positions in space must project back to its pixel."""
    camera = Camera(orientation(0.3, 0.2), torch.zeros(1, 3), 3.0, 48, 64)
    world = torch.tensor([[[-1.0, -1, 0.8], [1.5, -0.7, -2], [0.2, 1.2, 0.5], [-1, 0.5, -3]]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    projected = camera.project(world.float()).double()
    fragments = rasterise(projected, faces, 48, 64)
    points = interpolate(world, faces, fragments, 48 * 64)
    back = camera.project(points.float()[None])[0]
    centres = torch.stack([fragments.pixel % 64 + 0.5, fragments.pixel // 64 + 0.5], 1)
    assert len(points) > 300 and projected[..., 2].max() > 2 * projected[..., 2].min()
    torch.testing.assert_close(back[:, :2], centres, atol=0.01, rtol=0)  # corners are snapped to 1/256 pixel
    torch.testing.assert_close(back[:, 2], fragments.depth, atol=1e-3, rtol=1e-3)


def sphere(rings: int = 60) -> tuple[Tensor, Tensor]:
    """Unit sphere (1, V, 3) with outward faces."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij")
    points = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1)
    a = (np.arange(rings)[:, None] * (2 * rings + 1) + np.arange(2 * rings)).ravel()
    b = a + 2 * rings + 1
    faces = np.concatenate([np.column_stack([a, b, a + 1]), np.column_stack([a + 1, b, b + 1])])
    return torch.tensor(points.reshape(1, -1, 3), dtype=torch.float32), torch.tensor(faces)


@pytest.mark.parametrize("cull", [True, False])
def test_sphere_against_ray_casting(cull):
    camera = Camera(orientation(0.7, 0.4), torch.zeros(1, 3), 5.0, 96, 96)
    points, faces = sphere()
    fragments = rasterise(camera.project(points), faces, 96, 96, cull)
    rays = camera.rays(torch.arange(96), torch.arange(96)[:, None]).view(-1, 3)
    b, c = rays @ camera.eye[0], camera.eye[0].square().sum() - 1
    root = b**2 - rays.square().sum(1) * c
    depth = (-b - root.clamp(min=0).sqrt()) / rays.square().sum(1)  # rays have length 1 along the axis
    hit = torch.zeros(96 * 96, dtype=torch.bool)
    hit[fragments.pixel] = True
    rim = root.abs() < 0.03 * root.max()  # half a pixel where the polygon's edge may lie elsewhere than the circle's
    assert torch.equal(hit[~rim], root[~rim] > 0) and hit.sum() > 1000
    inner = ~rim[fragments.pixel]
    torch.testing.assert_close(fragments.depth[inner], depth[fragments.pixel][inner], atol=4e-3, rtol=0)


# --- camera, light, floor ---------------------------------------------------------------------------------------------


def moving_boxes(path: Tensor, rotation: Tensor) -> Tensor:
    """(L, 2, 3): boxes along the camera's axes of a 0.6 x 1.8 x 0.4 m body standing on (L, 3)."""
    signs = torch.tensor([[x, y, z] for x in (-0.3, 0.3) for y in (0, 1.8) for z in (-0.2, 0.2)])
    along = (path[:, None] + signs) @ rotation.T
    return torch.stack([along.amin(1), along.amax(1)], 1)


def paths(length: int = 120) -> dict[str, Tensor]:
    time = torch.arange(length)[:, None] / 20
    random = torch.rand(length, 3, generator=torch.Generator().manual_seed(0))
    return {
        "stands": 0.1 * time.sin() * torch.ones(3),
        "walks": time * torch.tensor([0.5, 0.0, 1.2]),
        "runs and stops": time.clamp(max=3) * torch.tensor([7.0, 0.0, 0.0]),
        "jumps": (6 * time).sin().clamp(min=0) * torch.tensor([0.0, 1.0, 0.0]),
        "noise": 20 * random,
        "one frame": torch.zeros(1, 3),
    }


@pytest.mark.parametrize("name", paths())
def test_the_person_never_leaves_the_picture(name):
    rotation, path = orientation(0.5, 0.25), paths()[name]
    camera = follow(moving_boxes(path, rotation), rotation, 20.0, 256, 256)
    signs = torch.tensor([[x, y, z] for x in (-0.3, 0.3) for y in (0, 1.8) for z in (-0.2, 0.2)])
    pixels = camera.project(path[:, None] + signs)[..., :2]
    assert pixels.min() >= 256 * MARGIN - 0.5 and pixels.max() <= 256 * (1 - MARGIN) + 0.5
    assert (pixels[..., 1].amax(1) - pixels[..., 1].amin(1)).min() > 0.45 * 256  # and stays large
    if name == "stands":
        assert camera.target.std(0).max() < 1e-6  # a camera at rest
    if name == "walks":
        shake = camera.target.diff(dim=0).diff(dim=0).norm(dim=1).max() * 20**2
        assert shake < 2.0  # m/s2: it neither jerks nor stands still
        assert camera.target.diff(dim=0).norm(dim=1).max() > 0.02


def test_rays_point_where_the_camera_projects():
    camera = Camera(orientation(-1.0, 0.3), torch.tensor([[0.5, 1.0, -2.0]]), 4.0, 40, 60)
    row, column = torch.arange(0, 40, 7), torch.arange(0, 60, 9)[:, None]
    points = camera.eye + 2.5 * camera.rays(column, row).view(-1, 3)
    expected = torch.stack(torch.broadcast_tensors(column + 0.5, row + 0.5, torch.tensor(2.5)), -1).view(-1, 3)
    torch.testing.assert_close(camera.project(points[None])[0], expected, atol=1e-3, rtol=1e-4)
    rotation = orientation(-1.0, 0.3)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0 and rotation[1, 1] > 0


def test_normals_of_a_sphere_are_its_radii():
    points, faces = sphere(30)
    stage = Stage(faces, points.shape[1], 0.0, -1.0, 3.5)
    normals = stage.normals(points)[0]
    inner = points[0, :, 1].abs() < 0.98  # the poles' rows are degenerate
    assert ((normals * points[0]).sum(1)[inner] > 0.99).all()


def test_shadow_lies_under_the_body_and_away_from_the_lamp():
    points, faces = sphere(30)
    stage = Stage(faces, points.shape[1], 0.0, -1.0, 2 * math.sqrt(3))
    lit = stage.light(points)
    lamp = stage.lights.key
    opposite = -2 * lamp[::2] / lamp[1] / 2  # where the shadow of the middle, 1 m up, falls
    probe = torch.stack([torch.zeros(2), opposite, -3 * opposite, torch.tensor([3.2, 0.0])])
    light = stage.lights.at_floor(lit, probe.view(1, 4, 1, 2))[0, :, 0]
    assert light[0] < 0.5 and light[1] < 0.5  # where it touches, and in the cast shadow
    assert light[2] > 0.85 and light[3] > 0.85
    key = lit.vertices[0, :, 3]
    facing = points[0] @ lamp
    assert key[facing > 0.4].min() > 0.95 and key[facing < -0.4].mean() < 0.03


def test_sRGB():
    linear = torch.tensor([-1.0, 0.0, 0.0025, 0.21586, 0.5, 1.0, 7.0])
    assert encode(linear).tolist() == [0, 0, 8, 128, 188, 255, 255]


def test_over_mixes_by_coverage():
    top = torch.tensor([0.25, 0.0, 0.1, 0.5])
    torch.testing.assert_close(over(top, torch.tensor([1.0, 0.5, 0.0])), torch.tensor([0.75, 0.25, 0.1]))


def test_chequer_averages_over_the_pixel():
    column, row = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="xy")
    place = torch.stack([column, row], -1)[None]
    near = chequer(place / 16 + 0.031)[0, :-1, :-1]
    assert near[4, 4] == near[20, 20] == -near[4, 20] and near[4, 4].abs() == pytest.approx(1)
    fine = torch.arange(640) / 40 + 0.0131  # each of 64 pixels sampled 10 x 10 times, tiles of 4 pixels
    wave = torch.where(fine.floor() % 2 == 0, 1.0, -1.0)
    wave = torch.nn.functional.avg_pool1d(wave[None, None], 10)[0, 0]
    centre = (torch.arange(64) + 0.5) / 4 + 0.0131 - 0.0125
    centre = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)[None]
    torch.testing.assert_close(chequer(centre)[0, :-1, :-1], torch.outer(wave, wave)[:-1, :-1], atol=0.1, rtol=0)
    assert chequer(place * 30.3)[0, :-1, :-1].abs().max() < 0.01  # far off, tiles melt into grey


# --- film and poster --------------------------------------------------------------------------------------------------


@cache
def body() -> BodyModel:
    return BodyModel.load()


@dataclass
class Result:
    """What the renderer uses of a FitResult."""

    thetas: Tensor
    transl: Tensor
    betas: Tensor
    body: BodyModel
    fps: float = 20.0
    text: str = ""

    @property
    def motion(self):
        return SimpleNamespace(text=self.text)


def standing(places: list[tuple[float, float, float]], **more) -> Result:
    """A T-pose, arms down, at each of the places."""
    thetas = torch.zeros(len(places), 24, 3)
    thetas[:, 16, 2], thetas[:, 17, 2] = -1.2, 1.2
    return Result(thetas, torch.tensor(places), torch.zeros(body().num_betas), body(), **more)


def skin(picture: np.ndarray) -> np.ndarray:
    """Where a picture shows the blue body rather than grey floor."""
    return picture[..., 2].astype(int) - picture[..., 0] > 60


def frames_of(result: Result, size: int = 96) -> np.ndarray:
    return np.stack(list(film_of([figure(result)], height=size, width=size).pictures()))


def test_film_decodes_to_what_was_asked(tmp_path):
    result = standing([(0, 0, 0.02 * k) for k in range(7)], fps=12.5, text="a person glides")
    path = tmp_path / ".film.tmp-73.mp4"
    write_film(result, path, size=98)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12.5 and "mp4" in container.format.name
        assert float(stream.duration * stream.time_base) == pytest.approx(7 / 12.5)
    assert np.shape(frames) == (7, 98, 98, 3)
    drawn = frames_of(result, 98)
    assert np.abs(np.stack(frames).astype(int) - drawn).mean() < 3  # colours survive the way through YUV
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded


@pytest.mark.parametrize("name", ["humanml3d", "kit"])
def test_a_stick_figure_is_closed_around_its_bones(name):
    skeleton = SKELETONS[name]
    joints = torch.randn(5, len(skeleton.joints), 3, generator=torch.Generator().manual_seed(0))
    figure = StickFigure(joints, skeleton, fps=20.0)
    vertices, bones = figure.vertices(slice(1, 4)), torch.tensor(figure.bones)
    places = joints[1:4]
    ends, starts = places[:, bones[:, 0]], places[:, bones[:, 1]]
    along = ends - starts
    share = ((vertices[:, :, None] - starts[:, None]) * along[:, None]).sum(-1) / along.square().sum(-1)[:, None]
    nearest = starts[:, None] + share.clamp(0, 1)[..., None] * along[:, None]
    away = (vertices[:, :, None] - nearest).norm(dim=-1).amin(-1)
    assert away.max() < 0.0321 and len(figure) == 5
    balls = 42 * len(skeleton.joints)
    a, b, c = (vertices[:, figure.faces[:, k]] for k in range(3))
    normals, middles = torch.linalg.cross(b - a, c - a), (a + b + c) / 3
    centres = places.repeat_interleave(80, 1)
    faces = 80 * len(skeleton.joints)
    assert (figure.faces[:faces] < balls).all() and (figure.faces[faces:] >= balls).all()
    assert ((normals * middles)[:, :faces] - (normals[:, :faces] * centres)).sum(-1).min() > 0  # balls face outwards
    own = ((starts + ends) / 2).repeat_interleave(16, 1)
    assert ((middles[:, faces:] - own) * normals[:, faces:]).sum(-1).min() > 0  # and so do tubes


def test_film_of_an_odd_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="97 x 97.*even"):
        write_film(standing([(0, 0, 0)]), tmp_path / "x.mp4", size=97)
    assert not list(tmp_path.iterdir())


def test_silhouette_moves_with_the_person():
    step = 0.15
    result = standing([(step * k, 0, 0) for k in range(4)])  # so short a path that the camera stands still
    centres = [np.argwhere(skin(picture)).mean(0) for picture in frames_of(result)]
    down, right = np.diff(centres, axis=0).T
    assert (right > 3).all() and np.ptp(right) < 1  # the camera looks from the front: the person's left is right
    assert (np.abs(down) < np.abs(right)).all()
    risen = standing([(0, 0, 0), (0, 0.15, 0)])
    low, high = (np.argwhere(skin(picture)).mean(0) for picture in frames_of(risen))
    assert high[0] < low[0] - 3 and abs(high[1] - low[1]) < 1


def test_the_floor_moves_under_a_walker():
    walk = standing([(0, 0, 0.2 * k) for k in range(60)])
    pictures = frames_of(walk, 64)
    centres = np.array([np.argwhere(skin(picture)).mean(0) for picture in pictures])
    assert np.ptp(centres[10:50], axis=0).max() < 12  # twelve metres, and still in the middle
    corner = pictures[:, -12:, :12].astype(int).mean(-1)
    assert np.ptp(corner, axis=0).max() > 5  # while tiles pass by


@pytest.mark.parametrize("offset", [(0.0, 3.0, 0.0), (65536.0, 0.0, -131072.0)])
def test_the_picture_does_not_depend_on_where_the_clip_stands(offset):
    steps = torch.tensor([(0.25 * k, 0.0, 0.5 * k) for k in range(3)])  # exact in float32 at 131 km, too
    here, there = standing(steps.tolist()), standing((steps + torch.tensor(offset)).tolist())
    np.testing.assert_array_equal(frames_of(here), frames_of(there))


def test_the_floor_is_under_the_feet_but_not_under_an_outlier():
    stage_heights = []
    for places in ([(0, 3, 0)] * 5, [(0, 0, 0)] * 400 + [(0, -1, 0)]):
        clip = PosedBodies(standing(places))
        _, (stage,) = survey(figure(clip.result), orientation(0, 0.2), 0.0)
        stage_heights.append(stage.ground - float(clip.vertices(slice(0, 1))[..., 1].min()))
    np.testing.assert_allclose(stage_heights, 0, atol=1e-4)


def test_same_clip_same_bytes(tmp_path):
    result = standing([(0, 0, 0), (0.1, 0, 0)], text="same")
    for name in "ab":
        write_film(result, tmp_path / f"{name}.mp4", size=64)
        write_poster(result, tmp_path / f"{name}.png")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pictures_do_not_depend_on_the_threads_and_threads_are_given_back():
    result, threads = standing([(0, 0, 0.03 * k) for k in range(9)]), torch.get_num_threads()
    one = frames_of(result)
    torch.set_num_threads(3)
    try:
        np.testing.assert_array_equal(frames_of(result), one)
        next(film_of([figure(result)], height=64, width=64).pictures())  # a film given up half way
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_a_shape_per_frame():
    result = standing([(0, 0, 0)] * 2)
    result.betas = torch.zeros(2, body().num_betas)
    result.betas[1, 0] = 3.0  # the first beta of the embedded body is size
    small, tall = (np.ptp(np.argwhere(skin(picture))[:, 0]) for picture in frames_of(result))
    assert tall > small + 3


def test_poster_of_a_walk(tmp_path):
    write_poster(standing([(0, 0, 0.1 * k) for k in range(41)], text="a walk"), tmp_path / "poster.tmp")
    with Image.open(tmp_path / "poster.tmp") as picture:
        assert picture.format == "PNG" and picture.width == 1600
        image = np.asarray(picture.convert("RGB"))
    strength = image[..., 2].astype(int) - image[..., 0]
    first, last = (np.quantile(part[part > 22], 0.9) for part in (strength[:, :450], strength[:, 1150:]))
    assert first + 25 < last  # pale at the start, full colour at the end, which is on the right


@pytest.mark.parametrize("stride", [0.0, 2.0])  # metres a frame: the person stays, or goes far
def test_poster_in_a_row(tmp_path, stride):
    result = standing([(0, 0, stride * k) for k in range(30)])
    result.thetas[:, 16, 2] = torch.linspace(-1.2, 1.2, 30)
    write_poster(result, tmp_path / "row.png")
    with Image.open(tmp_path / "row.png") as picture:
        strength = np.asarray(picture).astype(int)[..., 2] - np.asarray(picture)[..., 0]
    rows, columns = np.argwhere(strength > 25).T  # floor: below 12
    assert np.ptp(columns) > 1000 and np.ptp(rows) > 200 and np.ptp(np.argwhere(strength > 60)[:, 0]) > 200


def test_bodies_in_a_row_stand_apart_at_their_own_height():
    clip = PosedBodies(standing([(0.3 * k, 0.2 * k, -0.5 * k) for k in range(5)]))
    before, right = clip.vertices(slice(None)), torch.tensor([0.8, 0.0, 0.6])
    after = before + in_a_row(before, right)[:, None]
    place = after @ right
    assert (place[1:].amin(1) > place[:-1].amax(1)).all()
    torch.testing.assert_close(after[..., 1], before[..., 1])
    torch.testing.assert_close(after.diff(dim=1), before.diff(dim=1), atol=1e-5, rtol=0)
    assert (after.mean(1) @ torch.tensor([-0.6, 0.0, 0.8])).abs().max() < 1e-5  # one line, seen side by side


def test_poster_of_one_frame(tmp_path):
    write_poster(standing([(0, 0, 0)]), tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        shown = skin(np.asarray(picture))
    rows, columns = np.argwhere(shown).T
    assert np.ptp(rows) > 0.6 * shown.shape[0] and shown[:, 800].sum() > 200


def test_bodies_of_a_poster_keep_their_distance():
    angle = torch.linspace(0, 12 * math.pi, 12_000)  # round and round
    track = torch.stack([2 * angle.cos(), 2 * angle.sin()], 1)
    frames = along_path(track, len(track) - 1)
    assert 4 <= len(frames) <= BODIES and frames[-1] == 11_999 and (frames.diff() > 0).all()
    between = torch.cdist(track[frames], track[frames])
    assert between[~torch.eye(len(frames), dtype=torch.bool)].min() > 1.0


def test_a_poster_ends_with_what_was_done_at_the_end_of_the_path():
    """Two metres of way, then a bow and upright again: the bow. Without one the last frame."""
    joints = torch.zeros(60, 22, 3)
    joints[..., 1] = torch.linspace(0, 1.7, 22)
    joints[..., 2] = torch.linspace(0, 2, 40).clamp(max=2)[torch.arange(60).clamp(max=39)][:, None]
    assert deed(joints) == 59
    joints[48:54, 5:, 1] *= 0.4
    joints[20:25, 5:, 1] *= 0.1  # on the way, which is not its end
    assert 48 <= deed(joints) < 54


TEXTS = ["", " \n\t ", "a person walks", "走る人がいる", "идёт é ü", "🕺 ‮ \x00 \ud800", "x" * 3000, "word " * 400]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_captions_of_any_text_stay_inside(text):
    image = Image.new("RGB", (256, 256), "white")
    draw_caption(image, text)
    ink = np.argwhere(np.asarray(image).min(-1) < 128)
    assert len(ink) > 0 or not text.strip()
    if len(ink):
        assert ink.min() >= 4 and ink.max() <= 251 and ink[:, 0].min() > 160
    colour, opacity = caption_overlay(256, 256, text)
    assert colour.shape[:2] == opacity.shape[:2] and len(opacity) < 96
