"""`thetafit render`: films, stills and posters of finished fits, without fitting again."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fitting.convert import find_sources, read_clips
from fitting.device import device_of
from fitting.export.atomic import atomic_path
from fitting.render.engines import ENGINES, Wanted
from fitting.render.figures import STYLES, Figure, figure
from fitting.render.film import SIZE, film_of
from fitting.render.poster import WIDTH, arranged, save_poster
from fitting.render.sinks import check_kind, write_film_file
from fitting.render.views import CAMERAS
from fitting.result import FitResult
from fitting.tracks import Bodies
from models.errors import InputError

MOST = 8  # clips side by side
POSTER = "poster"


@dataclass(frozen=True)
class Request:
    """The options of `thetafit render`, as they were typed."""

    camera: str = "follow"
    style: str = "body"
    engine: str = "torch"
    size: str | None = None
    still: str | None = None
    transparent: bool = False
    blend: str | None = None
    body: str | None = None
    device: str = "cpu"


def render_files(sources: list[str], out: str, request: Request) -> int:
    """Draw the fits in the sources, side by side, into the file or folder `out`; returns the exit code 0.

    Raises InputError for options that do not go together, and for sources that hold no fits or too many.
    """
    check(request, Path(out))
    size, device = read_size(request.size), device_of(request.device)
    figures = [figure(result, request.style, device) for result in read_results(sources, request)]
    wanted = Wanted(_frame(request.still, figures), request.transparent, request.blend and Path(request.blend))
    if request.still == POSTER:
        _poster(figures[0], Path(out), request, size and size[0], wanted)
    else:
        _film(figures, Path(out), request, size or (SIZE, SIZE), wanted)
    print(f"{', '.join(sources)} -> {', '.join(filter(None, (out, request.blend)))}", flush=True)
    return 0


def check(request: Request, path: Path) -> None:
    """Raises InputError for a name that no table has, and for options that do not go together."""
    for option, table in (("camera", CAMERAS), ("style", STYLES), ("engine", ENGINES)):
        if (name := getattr(request, option)) not in table:
            raise InputError(f"unknown --{option} {name!r}. It takes one of: {', '.join(table)}.")
    if request.still is None:
        check_kind(path, request.transparent)
    elif path.suffix != ".png":
        raise InputError(f"--still makes one picture, and --out {path} does not end in .png.")
    if request.still == POSTER and request.camera != Request.camera:
        raise InputError(f"--still {POSTER} has a camera of its own, beside the path: leave out --camera.")
    if request.blend and request.engine != "blender":
        raise InputError("--blend saves the scene that Blender draws: it goes with --engine blender.")
    ENGINES[request.engine].check()
    device_of(request.device)


def read_size(text: str | None) -> tuple[int, int] | None:
    """`512` -> (512, 512), `1280x720` -> (1280, 720): pixels across and down. Raises InputError for anything else."""
    if text is None:
        return None
    numbers = text.split("x")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) >= 64 for number in numbers):
        raise InputError(f"--size takes 512 or 1280x720, pixels across and down from 64 on; got {text!r}.")
    return int(numbers[0]), int(numbers[-1])


def read_results(sources: list[str], request: Request) -> list[FitResult]:
    """The fits in files and folders. Raises InputError where there is none, and where there are too many to show."""
    bodies = Bodies(request.body)
    found = find_sources(sources)
    results = [clip for source in found for clip in read_clips(source.path, bodies, ["mp4"], None)]
    if len(results) > MOST:
        raise InputError(
            f"the sources hold {len(results)} clips, and {MOST} fit side by side. Name some NAME.npz; for a film of "
            "each clip: thetafit convert SOURCES --to mp4"
        )
    alone = f"--still {POSTER}" if request.still == POSTER else request.blend and "--blend"
    if alone and (len(results) > 1 or len(CAMERAS[request.camera]) > 1):
        raise InputError(f"{alone} is of one clip from one side: name one NAME.npz, and no --camera grid.")
    return results


def _frame(still: str | None, figures: list[Figure]) -> int | None:
    """The frame of --still, counted at the highest rate of the clips; None for all. Raises InputError for none."""
    if still in (None, POSTER):
        return None
    length = max(len(figure) for figure in figures)
    if not still.isdecimal() or int(still) >= length:
        raise InputError(f"--still takes {POSTER} or the number of a frame, here 0 to {length - 1}; got {still!r}.")
    return int(still)


def _poster(figure: Figure, path: Path, request: Request, width: int | None, wanted: Wanted) -> None:
    arrangement = arranged(figure, width or WIDTH)
    picture = ENGINES[request.engine].poster(arrangement, wanted)
    with atomic_path(path) as temporary:
        save_poster(arrangement, picture, temporary)


def _film(figures: list[Figure], path: Path, request: Request, size: tuple[int, int], wanted: Wanted) -> None:
    width, height = size
    with ENGINES[request.engine].open(wanted) as draw, atomic_path(path) as temporary:
        film = film_of(figures, request.camera, height, width, draw)
        if wanted.frame is None:
            write_film_file(film, temporary, path.suffix)
        else:
            Image.fromarray(next(film.pictures([wanted.frame]))).save(temporary, format="PNG")
