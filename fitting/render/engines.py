"""What draws: our own rasteriser, Blender, or pyrender. All take the same figures and cameras."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitting.blender import check_blender
from fitting.pyrender import check_pyrender
from fitting.render.blender import blender_films, blender_poster
from fitting.render.film import Film, Shot, rendered
from fitting.render.poster import Arrangement, draw_poster
from fitting.render.pyrender import pyrender_films, pyrender_poster


@dataclass(frozen=True)
class Wanted:
    """frame: the only one to draw, None for all; transparent: no floor but its shadow; blend: where the scene goes."""

    frame: int | None = None
    transparent: bool = False
    blend: Path | None = None


@dataclass(frozen=True)
class Engine:
    """`open(wanted)` gives, as long as it is open, the function from a shot to its film; `poster` draws a poster.

    `check()` raises InputError where what it draws with is not there.
    """

    open: Callable[[Wanted], AbstractContextManager[Callable[[Shot], Film]]]
    poster: Callable[[Arrangement, Wanted], np.ndarray]
    check: Callable[[], None] = lambda: None


@contextmanager
def _torch_films(wanted: Wanted) -> Iterator[Callable[[Shot], Film]]:
    yield lambda shot: rendered(shot, wanted.transparent)


ENGINES = {
    "torch": Engine(_torch_films, lambda arrangement, wanted: draw_poster(arrangement, wanted.transparent)),
    "blender": Engine(blender_films, blender_poster, check_blender),
    "pyrender": Engine(pyrender_films, pyrender_poster, check_pyrender),
}
