"""pyrender as the renderer: it sees what we see, from the same cameras, and says what it lacks."""

import sys

import numpy as np
import pytest
from PIL import Image

from fitting.cli import main
from fitting.environments import PYRENDER
from fitting.pyrender import check_pyrender
from models.errors import InputError
from tests.fits import smooth_fit


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return smooth_fit(4, text="").save(tmp_path_factory.mktemp("fit") / "turns", ("npz",))[0]


@pytest.fixture(scope="module")
def pyrender():
    try:
        check_pyrender()
    except InputError as error:
        pytest.skip(str(error))


def opacity(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)[..., 3]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(("style", "least"), [("body", 0.98), ("skeleton", 0.95)])  # bones are a few pixels wide
def test_a_film_has_the_silhouettes_of_ours(saved, pyrender, tmp_path, style, least):
    options = ["--size", "256x200", "--transparent", "--camera", "orbit", "--style", style]
    for engine in ("torch", "pyrender"):
        assert main(["render", str(saved), "--out", str(tmp_path / engine), *options, "--engine", engine]) == 0
    for frame in range(4):
        ours, theirs = (opacity(tmp_path / engine / f"frame{frame:03d}.png") > 200 for engine in ("torch", "pyrender"))
        assert ours.sum() > 300 and overlap(ours, theirs) > least


def test_a_poster_has_the_silhouettes_of_ours(saved, pyrender, tmp_path):
    options = ["--still", "poster", "--size", "400", "--transparent"]
    for engine in ("torch", "pyrender"):
        assert main(["render", str(saved), "--out", str(tmp_path / f"{engine}.png"), *options, "--engine", engine]) == 0
    ours, theirs = (opacity(tmp_path / f"{engine}.png") > 130 for engine in ("torch", "pyrender"))
    assert ours.sum() > 3000 and overlap(ours, theirs) > 0.98


def test_a_body_is_brighter_where_the_lamp_is(saved, pyrender, tmp_path):
    """The lamp hangs at the camera's upper left."""
    picture = tmp_path / "still.png"
    words = ["render", str(saved), "--out", str(picture), "--still", "0", "--size", "128", "--transparent"]
    assert main([*words, "--engine", "pyrender"]) == 0
    image = np.asarray(Image.open(picture)).astype(float)
    body = image[..., 3] > 250
    rows, columns = np.nonzero(body)
    grey = image[..., :3].mean(-1)[body]
    left, right = (grey[side] for side in (columns < np.median(columns), columns > np.median(columns)))
    assert left.mean() > right.mean() + 5 and grey.min() > 5


def test_what_lacks_is_named(saved, tmp_path, monkeypatch, capsys):
    words = ["render", str(saved), "--out", str(tmp_path / "a.mp4"), "--engine", "pyrender"]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(PYRENDER.variable, raising=False)
    assert main(words) == 2 and "thetafit doctor --install pyrender" in capsys.readouterr().err
    monkeypatch.setenv(PYRENDER.variable, "false")  # ends at once, and says nothing
    assert main(words) == 2 and "apt-get install libegl1" in capsys.readouterr().err
    monkeypatch.setenv(PYRENDER.variable, sys.executable)  # has no pyrender
    assert main(words) == 2 and "No module named" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
