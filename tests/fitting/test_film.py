"""`thetafit render`: where cameras stand, what each style shows, files of every kind read back, and its refusals."""

import math
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from fitting.cli import main
from fitting.render.command import MOST, POSTER, Request, check, read_size
from fitting.render.figures import Figure, PosedBodies, figure
from fitting.render.film import Film, at_rate, captioned, film_of, rendered, shots_of, side_by_side
from fitting.render.poster import arranged, draw_poster
from fitting.render.scene import decode, encode, finish
from fitting.render.sinks import SINKS, _bayer, write_gif
from fitting.render.sticks import StickFigure
from fitting.render.views import CAMERAS
from models.errors import InputError
from models.skeleton import SKELETONS
from tests.fits import smooth_fit


@pytest.fixture(scope="module")
def fit():
    """Nine frames of a person who faces +z and stays where he is."""
    fit = smooth_fit(9, text="a person waves")
    fit.thetas[:, 0] = 0.02 * fit.thetas[:, 0]
    fit.transl[:] = fit.transl[:1] + torch.linspace(0, 0.1, 9)[:, None] * torch.tensor([1.0, 0, 0])
    fit.motion.joints = fit.joints().numpy()
    return fit


@pytest.fixture(scope="module")
def saved(fit, tmp_path_factory):
    return str(next(path for path in fit.save(tmp_path_factory.mktemp("fit") / "waves", ("npz",))))


def still(shown: Figure, render=rendered, camera="follow") -> np.ndarray:
    """A frame without its text."""
    return next(film_of([replace(shown, text="")], camera, 96, 96, render).pictures([4]))


def bare(shot) -> Film:
    return rendered(shot, transparent=True)


# --- cameras ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera, right", [("front", (1, 0)), ("side", (0, 1)), ("back", (-1, 0))])
def test_a_known_point_lands_on_its_known_pixel(fit, camera, right):
    """A pinhole by hand: a point that is r metres to the picture's right of the target lies f r / distance from it."""
    (shot,) = shots_of(figure(fit), CAMERAS[camera], 120, 160)
    across = torch.tensor([right[0], 0.0, right[1]], dtype=torch.float32)
    first = shot.camera.at(torch.tensor([0]))
    focal = 160 / 2 / math.tan(math.radians(14))
    points = torch.stack([first.target[0], first.target[0] + 0.3 * across])
    middle, beside = first.project(points[None])[0]
    torch.testing.assert_close(middle, torch.tensor([80.0, 60.0, first.distance]), atol=1e-3, rtol=0)
    facing = figure(fit).facing
    aside = 0.3 * math.cos(facing)  # he looks nearly, not exactly, along +z
    assert float(beside[0]) == pytest.approx(80 + focal * aside / float(beside[2]), abs=0.05)


def test_orbit_goes_round_once_and_keeps_the_person_in_the_picture(fit):
    (shot,) = shots_of(figure(fit), CAMERAS["orbit"], 96, 96)
    eyes = (shot.camera.eye - shot.camera.target)[:, [0, 2]]
    turned = torch.atan2(eyes[:, 0], eyes[:, 1]).diff().remainder(2 * math.pi)
    torch.testing.assert_close(turned, torch.full_like(turned, 2 * math.pi / 9), atol=1e-4, rtol=0)
    pixels = shot.camera.project(PosedBodies(fit).vertices(slice(None)))[..., :2]
    assert 0 < pixels.min() and pixels.max() < 96
    rays = shot.camera.rays(torch.arange(96), torch.arange(96)[:, None])
    points = shot.camera.eye[:, None, None] + 2 * rays
    back = shot.camera.project(points.flatten(1, 2)).unflatten(1, (96, 96))
    assert (back[..., 0] - torch.arange(96) - 0.5).abs().max() < 1e-2


def test_a_fixed_camera_stands_still(fit):
    walk = smooth_fit(9)
    (fixed,), (follow,) = (shots_of(figure(walk), CAMERAS[name], 96, 96) for name in ("fixed", "follow"))
    assert fixed.camera.target.std(0).max() < 1e-6 < 0.1 < follow.camera.target.std(0).max()


def test_the_grid_is_front_side_and_back_from_one_distance(fit):
    shots = shots_of(figure(fit), CAMERAS["grid"], 96, 96)
    assert len({shot.camera.distance for shot in shots}) == 1
    assert still(figure(fit), camera="grid").shape == (96, 3 * 96, 3)


# --- styles -----------------------------------------------------------------------------------------------------------


def share(picture: np.ndarray, what: str) -> float:
    """Share of a transparent picture's pixels that are well covered and of a colour."""
    red, green, blue, opacity = np.moveaxis(picture.astype(int), -1, 0)
    there = (opacity > 100) & {
        "blue": blue - red > 35,
        "orange": (red - blue > 20),
        "dark": (red + green + blue < 3 * 95) & (red + green + blue > 60),
    }[what]
    return float(there.mean())


def test_styles_show_what_they_say(fit):
    shown = {style: still(figure(fit, style), bare) for style in ("body", "skeleton", "both", "ghost")}
    assert share(shown["body"], "blue") > 0.02 and share(shown["body"], "orange") == 0
    assert 0.005 < share(shown["skeleton"], "dark") < share(shown["body"], "blue") / 2
    assert share(shown["ghost"], "orange") > 0.005 and share(shown["both"], "orange") == 0
    body, both = (shown[style][..., 3].astype(int) for style in ("body", "both"))
    see_through = (body == 255) & (both < 200)
    assert 0.3 < see_through.sum() / (body == 255).sum() < 0.9  # the rest is skeleton


def test_joints_that_were_not_seen_are_not_drawn():
    joints = torch.zeros(2, 22, 3)
    joints[:, :, 0] = torch.arange(22) / 10
    joints[1, 5] = math.nan
    sticks = StickFigure(joints, SKELETONS["humanml3d"])
    vertices = sticks.vertices(slice(None))
    a, b, c = (vertices[:, sticks.faces[:, k]] for k in range(3))
    areas = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    balls = areas[:, : 22 * 80].unflatten(1, (22, 80)).amin(2) > 0
    assert balls[0].all() and (~balls[1]).nonzero().flatten().tolist() == [5]
    tubes = areas[:, 22 * 80 :].unflatten(1, (21, 16)).amax(2) > 0
    gone = [bone for bone, there in zip(sticks.bones, tubes[1].tolist(), strict=True) if not there]
    assert gone == [bone for bone in sticks.bones if 5 in bone] and vertices.isfinite().all()


def test_a_fit_without_input_joints_has_no_ghost():
    fit = smooth_fit(3)
    fit.motion.joints = None
    with pytest.raises(InputError, match="--style ghost.*none"):
        figure(fit, "ghost")


# --- transparency -----------------------------------------------------------------------------------------------------


def test_without_a_floor_only_body_and_shadow_are_there(fit):
    """Laid over the floor's colours as they would be without shadow, the picture darkens it where the film does."""
    clear, full = still(figure(fit), bare), still(figure(fit))
    assert clear.shape == (96, 96, 4)
    opacity = clear[..., 3]
    assert (opacity[:8] == 0).all() and (opacity[:60, :8] == 0).all() and (opacity[:60, -8:] == 0).all()
    body = opacity == 255
    assert 0.02 < body.mean() < 0.4
    np.testing.assert_allclose(clear[body][:, :3].astype(int), full[body].astype(int), atol=1)
    shadow = (opacity > 40) & (opacity < 200) & (clear[..., :3].max(-1) == 0)
    assert shadow.sum() > 20 and full[shadow].mean() < 200 < full[opacity == 0].mean()


def test_a_transparent_poster(fit):
    picture = draw_poster(arranged(figure(fit), 400), transparent=True)
    assert picture.shape[1:] == (400, 4) and (picture[:4, :, 3] == 0).all() and (picture[..., 3] == 255).mean() > 0.01


def test_finish_takes_coverage_out_again():
    colour = torch.tensor([0.5, 0.1, 0.02])
    for coverage in (1.0, 0.4):
        pixel = finish(torch.cat([coverage * colour, torch.tensor([coverage])])[None])[0]
        assert pixel[:3].tolist() == encode(colour).tolist() and int(pixel[3]) == round(255 * coverage)
    assert finish(torch.zeros(1, 4)).tolist() == [[0, 0, 0, 0]]
    every = torch.arange(256, dtype=torch.uint8)
    assert (encode(decode(every)).int() - every.int()).abs().max() <= 1


# --- side by side, captions, rates ------------------------------------------------------------------------------------


def counting(width: int, length: int, fps: float) -> Film:
    """Pictures all of whose pixels are the frame's number."""

    def draw(frames):
        return np.broadcast_to(frames.numpy().astype(np.uint8)[:, None, None, None], (len(frames), 64, width, 3))

    return Film(64, width, fps, length, draw)


def test_clips_of_different_rates_and_lengths_keep_step():
    film = side_by_side([counting(64, 5, 10.0), counting(96, 12, 20.0)])
    assert (film.width, film.fps, film.length) == (160, 20.0, 12)
    left, right = np.stack(list(film.pictures()))[:, 0, [0, -1], 0].T
    assert right.tolist() == list(range(12))
    assert left.tolist() == [
        0,
        0,
        1,
        2,
        2,
        2,
        3,
        4,
        4,
        4,
        4,
        4,
    ]  # the nearest frame, halves to even; the last one stays
    assert at_rate(torch.arange(4), 20.0, 20.0, 99).tolist() == [0, 1, 2, 3]


def test_a_caption_is_as_opaque_as_both_layers_together():
    clear = Film(64, 256, 20.0, 1, lambda frames: np.zeros((1, 64, 256, 4), np.uint8))
    white = Film(64, 256, 20.0, 1, lambda frames: np.full((1, 64, 256, 3), 255, np.uint8))
    over_nothing, over_white = (next(captioned(film, "words").pictures()).astype(float) for film in (clear, white))
    opacity = over_nothing[..., 3:] / 255
    laid = over_nothing[..., :3] * opacity + 255 * (1 - opacity)
    assert opacity.max() == 1 and np.abs(laid - over_white).max() < 4


# --- files ------------------------------------------------------------------------------------------------------------


def read_back(path) -> tuple[int, tuple[int, int], float]:
    """Frames, (width, height), seconds."""
    if path.is_dir():
        pictures = sorted(path.iterdir())
        assert [picture.name for picture in pictures] == [f"frame{k:03d}.png" for k in range(len(pictures))]
        return len(pictures), Image.open(pictures[-1]).size, math.nan
    if path.suffix == ".gif":
        with Image.open(path) as image:
            seconds = 0
            for frame in range(image.n_frames):
                image.seek(frame)
                seconds += image.info["duration"] / 1000
            return image.n_frames, image.size, seconds
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        return len(frames), (frames[0].width, frames[0].height), len(frames) / float(stream.average_rate)


@pytest.mark.parametrize("suffix", SINKS)
def test_every_kind_of_file_reads_back(saved, tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    other = str(shutil.copy(saved, tmp_path / "other.npz"))
    assert main(["render", saved, other, "--out", str(path), "--size", "96x64"]) == 0
    frames, size, seconds = read_back(path)
    assert frames == 9 and size == (192, 64) and (math.isnan(seconds) or seconds == pytest.approx(9 / 20, abs=0.01))


def test_a_gif_keeps_colours_rate_and_transparency(tmp_path):
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)

    def draw(frames):
        return np.stack([np.roll(ramp, 3 * int(frame), 1) for frame in frames])

    write_gif(Film(64, 64, 120.0, 12, draw), tmp_path / "fast.gif")  # every third picture: browsers show 50 a second
    assert read_back(tmp_path / "fast.gif") == (4, (64, 64), pytest.approx(0.1))
    with Image.open(tmp_path / "fast.gif") as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - ramp).mean() < 6 and np.abs((shown - ramp).mean()) < 1.5

    half = np.concatenate([ramp, np.full((64, 64, 1), 255, np.uint8)], -1)
    half[:, 32:, 3] = 0
    clear = Film(64, 64, 20.0, 3, lambda frames: np.stack([np.roll(half, int(frame), 0) for frame in frames]))
    write_gif(clear, tmp_path / "clear.gif")
    with Image.open(tmp_path / "clear.gif") as image:
        for frame in range(3):
            image.seek(frame)
            opacity = np.asarray(image.convert("RGBA"))[..., 3]
            assert (opacity[:, :32] == 255).all() and (opacity[:, 32:] == 0).all()


def test_bayers_pattern_has_each_threshold_once():
    pattern = _bayer(3)
    steps = ((pattern + 0.5) * 64 - 0.5).round().astype(int)
    assert sorted(steps.ravel()) == list(range(64)) and abs(pattern.mean()) < 1e-9
    assert np.abs(np.diff(pattern, axis=1)).min() > 0.2  # neighbours lie far apart


def test_stills_and_posters(saved, tmp_path):
    assert main(["render", saved, "--out", str(tmp_path / "still.png"), "--still", "3", "--size", "64"]) == 0
    poster = ["--still", POSTER, "--size", "200", "--transparent"]
    assert main(["render", saved, "--out", str(tmp_path / "p.png"), *poster]) == 0
    with Image.open(tmp_path / "still.png") as image, Image.open(tmp_path / "p.png") as poster:
        assert (image.size, image.mode) == ((64, 64), "RGB") and (poster.width, poster.mode) == (200, "RGBA")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, path, said",
    [
        ({"camera": "drone"}, "x.mp4", "--camera 'drone'.*follow, fixed, orbit"),
        ({"style": "nice"}, "x.mp4", "--style 'nice'.*ghost"),
        ({"engine": "unity"}, "x.mp4", "--engine 'unity'.*torch, blender"),
        ({}, "x.avi", r"x\.avi: a film ends in \.mp4, \.mkv, \.gif"),
        ({}, "x.png", "--still makes one .png"),
        ({"still": "5"}, "x.mp4", "does not end in .png"),
        ({"transparent": True}, "x.mp4", "h264 in .mp4 has no transparency.*folder of PNGs"),
        ({"blend": "x.blend"}, "x.mp4", "goes with --engine blender"),
        ({"still": POSTER, "camera": "orbit"}, "x.png", "camera of its own"),
        ({"device": "abacus"}, "x.mp4", "unknown device 'abacus'.*cpu, cuda"),
    ],
)
def test_refusals_name_what_would_work(options, path, said, tmp_path):
    with pytest.raises(InputError, match=said):
        check(Request(**options), tmp_path / path)


@pytest.mark.parametrize("text", ["big", "12", "640x", "1x2x3", "-512", "640x6e2"])
def test_a_size_that_is_none(text):
    with pytest.raises(InputError, match="--size takes 512 or 1280x720"):
        read_size(text)
    assert (read_size("512"), read_size("1280x720"), read_size(None)) == ((512, 512), (1280, 720), None)


def test_sources_that_cannot_be_shown(saved, tmp_path, capsys):
    many = [str(shutil.copy(saved, tmp_path / f"clip{k}.npz")) for k in range(MOST + 1)]
    for words, said in (
        ([saved, "--out", str(tmp_path / "x.png"), "--still", "9"], "here 0 to 8"),
        ([*many[:2], "--out", str(tmp_path / "x.png"), "--still", POSTER], "of one clip"),
        ([str(tmp_path), "--out", str(tmp_path / "x.mp4")], "9 clips, and 8 fit side by side"),
        ([str(tmp_path / "absent"), "--out", str(tmp_path / "x.mp4")], "no such file"),
    ):
        assert main(["render", *words]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))
