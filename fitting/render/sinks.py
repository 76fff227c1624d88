"""Where a film goes: one function a kind of file, in one table by suffix."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from models.errors import InputError

if TYPE_CHECKING:
    from fitting.render.film import Film

SAMPLES, SPARSE = 8, 5  # a GIF's colours are chosen from so many pictures, every fifth pixel
CENTISECOND = 2  # the shortest time of a GIF's picture that browsers keep to
DITHER = 6  # how far, in 255ths, the pattern moves a colour
OPAQUE = 128  # a GIF's pixel is there or not


def _video(film: "Film", path: Path, kind: str, options: dict[str, str]) -> None:
    """h264, one picture a frame, at the film's rate. Raises InputError for a size that h264 does not know."""
    height, width = film.height, film.width
    if min(height, width) < 64 or height % 2 or width % 2:
        raise InputError(f"A film of {width} x {height} pixels: h264 wants even sizes, at least 64. Try 512.")
    with av.open(str(path.absolute()), "w", format=kind, options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(film.fps).limit_denominator(1001))
        stream.width, stream.height = width, height
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "preset": "veryfast"}
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        for picture in film.pictures():
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def write_mp4(film: "Film", path: Path) -> None:
    """Browsers play it as it loads."""
    _video(film, path, "mp4", {"movflags": "+faststart"})


def write_mkv(film: "Film", path: Path) -> None:
    """The same pictures in Matroska."""
    _video(film, path, "matroska", {})


def write_gif(film: "Film", path: Path) -> None:
    """255 colours chosen for the whole clip and one for nothing; at most 50 pictures a second, which browsers can show.

    The ordered pattern between two colours stands still on the screen, so that floors do not crawl. A GIF's clock has
    hundredths of a second: pictures are shown for as many as keep the clip's duration.
    """
    step = math.ceil(film.fps * CENTISECOND / 100)
    frames = range(0, film.length, step)
    ends = [round(100 * min(frame + step, film.length) / film.fps) for frame in frames]
    durations = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    palette = _palette(film)
    pictures = (_paletted(picture, palette) for picture in film.pictures(frames))
    first = next(pictures)
    clear = {"transparency": 255, "disposal": 2} if first.info.get("clear") else {}
    first.save(
        path, format="GIF", save_all=True, append_images=pictures, duration=durations, loop=0, optimize=False, **clear
    )


def _palette(film: "Film") -> Image.Image:
    """A picture with the 255 colours that serve some pictures of the film best (median cut, then k-means)."""
    some = sorted({round(share) for share in np.linspace(0, film.length - 1, SAMPLES)})
    shown = np.concatenate([picture.reshape(-1, picture.shape[-1]) for picture in film.pictures(some)])
    colours = shown[shown[:, 3] >= OPAQUE, :3] if shown.shape[1] == 4 else shown
    return Image.fromarray(colours[None, ::SPARSE]).quantize(255, Image.Quantize.MEDIANCUT, kmeans=2)


def _paletted(picture: np.ndarray, palette: Image.Image) -> Image.Image:
    """A picture in the palette's colours, dithered by an 8 x 8 Bayer pattern; number 255 where it is transparent."""
    height, width = picture.shape[:2]
    tiles = np.tile(_bayer(3), (height // 8 + 1, width // 8 + 1))[:height, :width, None]
    moved = (picture[..., :3] + DITHER * tiles + 0.5).clip(0, 255).astype(np.uint8)
    numbers = Image.fromarray(moved).quantize(palette=palette, dither=Image.Dither.NONE)
    if picture.shape[2] == 3:
        return numbers
    cut = np.where(picture[..., 3] < OPAQUE, 255, np.asarray(numbers)).astype(np.uint8)
    image = Image.fromarray(cut, "P")
    image.putpalette(numbers.getpalette())
    image.info["clear"] = True
    return image


def _bayer(order: int) -> np.ndarray:
    """Thresholds (2**order, 2**order) in (-0.5, 0.5), each once (Bayer, 1973)."""
    pattern = np.zeros((1, 1))
    for _ in range(order):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return (pattern + 0.5) / pattern.size - 0.5


def write_pngs(film: "Film", path: Path) -> None:
    """A folder with frame000.png and so on."""
    path.mkdir()
    for number, picture in enumerate(film.pictures()):
        Image.fromarray(picture).save(path / f"frame{number:03d}.png")


SINKS: dict[str, Callable[["Film", Path], None]] = {
    ".mp4": write_mp4,
    ".mkv": write_mkv,
    ".gif": write_gif,
    "": write_pngs,
}
SEE_THROUGH = {".gif", ""}  # the kinds that can leave the background out


def check_kind(path: Path, transparent: bool = False) -> None:
    """Raises InputError for a suffix that no film has, and where the kind of file knows no transparency."""
    if path.suffix not in SINKS:
        known = ", ".join(filter(None, SINKS))
        raise InputError(
            f"--out {path}: a film ends in {known}; a name without suffix is a folder of PNGs; --still makes one .png."
        )
    if transparent and path.suffix not in SEE_THROUGH:
        raise InputError(
            f"--out {path}: h264 in {path.suffix} has no transparency. --transparent goes with a .gif (a pixel is "
            "there or not), a folder of PNGs, and with --still and a .png (soft edges and shadow)."
        )


def write_film_file(film: "Film", path: Path, kind: str) -> None:
    """The film in the kind of file that SINKS has under this suffix; the path's own does not matter."""
    SINKS[kind](film, path)
