"""curves.html: what metrics.csv says, one picture a kind of number, later starts over earlier ones."""

import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from fitting.page.curves import HEIGHT, POINTS, WIDTH, page, picture, read_metrics, thinned, write_curves


def save_metrics(run: Path, version: int, text: str) -> None:
    folder = run / "logs" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two starts, the second from step 1 again; version 10 comes after version 9."""
    save_metrics(tmp_path, 9, "epoch,step,train/loss,val/loss\n0,0,8.0,\n0,1,4.0,\n0,1,,5.0\n0,2,nan,\n")
    save_metrics(tmp_path, 10, "epoch,step,train/loss,samples/speed\n0,1,3.0,\n0,2,2.0,\n0,2,,0.9\n")
    return tmp_path


def points(picture: str) -> list[list[tuple[float, float]]]:
    """The corners of every curve of a picture."""
    svg = xml.fromstring(picture[picture.index("<svg") : picture.index("</svg>") + len("</svg>")])
    return [[tuple(map(float, at.split(","))) for at in line.get("points").split()] for line in svg]


def test_starts_are_joined(run: Path) -> None:
    assert read_metrics(run) == {
        "samples/speed": [(2, 0.9)],
        "train/loss": [(0, 8.0), (1, 3.0), (2, 2.0)],
        "val/loss": [(1, 5.0)],
    }


def test_curves_lie_where_their_values_are() -> None:
    first, second = points(picture({"a": [(0, 1.0), (10, 3.0)], "b": [(5, 2.0)]}))
    assert first == [(0, HEIGHT), (WIDTH, 0)] and second == [(WIDTH / 2, HEIGHT / 2)]


def test_steep_curves_are_drawn_by_their_logarithm() -> None:
    drawn = picture({"a": [(0, 100.0), (1, 10.0), (2, 1.0)]})
    assert points(drawn)[0] == [(0, 0), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT)] and "logarithmic" in drawn
    assert "logarithmic" not in picture({"a": [(0, 100.0), (1, 0.0)]})
    assert points(picture({"a": [(3, 5.0)]})) == [[(0, HEIGHT)]]


def test_losses_share_a_picture_and_the_page_stands_alone(run: Path) -> None:
    text = write_curves(run).read_text()
    assert text.count("<svg") == 2 and "train/loss 2<" in text and "val/loss 5<" in text
    assert "http" not in text and "<script" not in text and "src=" not in text
    assert "<b>" not in page("<b>", {})


def test_long_curves_stay_small() -> None:
    found = thinned([(i, float(i)) for i in range(10 * POINTS + 1)])
    assert len(found) <= POINTS and found[-1][0] == 10 * POINTS
    assert thinned([(0, 1.0), (1, 2.0)]) == [(0, 1.0), (1, 2.0)]


def test_no_page_without_numbers(tmp_path: Path) -> None:
    assert write_curves(tmp_path) is None and not list(tmp_path.iterdir())
