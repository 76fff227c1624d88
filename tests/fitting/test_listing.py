"""report.html in a real Chromium: worst first, sorted and filtered by a click and a word, thousands of clips."""

import json
from pathlib import Path

import pytest

from fitting.page.listing import COLUMNS, write_listing
from fitting.report import CLIP_KEYS
from tests.chromium import CHROMIUM, Chromium

NAMES = "[...document.querySelectorAll('#rows tr')].map(row => row.cells[1].childNodes[0].textContent)"


def clip(i: int) -> dict:
    """A clip of report.json; every hundredth was not fitted."""
    made = dict.fromkeys(CLIP_KEYS) | {
        "name": f"clip{i:04}",
        "source": "data/a.npy",
        "text": "a man walks",
        "frames": 60,
    }
    if i % 100 == 0:
        return made | {"status": "failed", "message": "<b>no</b> joints", "files": [], "text": "he <i>fell</i>"}
    files = [f"data/clip{i:04}{suffix}" for suffix in (".npz", ".glb", "_poster.png")]
    numbers = {key: (37 * i) % 2003 / 20 for key in COLUMNS if key != "frames"}
    return made | numbers | {"status": "converged", "message": "ok", "files": files}


def all_names(browser: Chromium) -> list[str]:
    """The clips from top to bottom, once all 2000 rows have come."""
    browser.until("document.querySelectorAll('#rows tr').length === 2000")
    return browser.run(NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("listing")
    report = {"clips": [clip(i) for i in range(2000)], "seconds": 12.3, "device": "cpu", "preset": "quick", "body": "b"}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_the_page_says_how_many(folder):
    text = write_listing(folder).read_text()
    assert "1980 of 2000 clips written" in text and "preset quick" in text and "<b>no</b>" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")
def test_two_thousand_clips_sort_and_filter(folder):
    with Chromium() as browser:
        browser.open(write_listing(folder))
        names = all_names(browser)
        assert {name for name in names[:20]} == {f"clip{i:04}" for i in range(0, 2000, 100)}
        errors = {f"data/clip{i:04}": clip(i)["mpjpe_mm"] for i in range(2000)}
        falling = [errors[name] for name in names[20:]]
        assert falling == sorted(falling, reverse=True)

        browser.run("[...document.querySelectorAll('th')].find(th => th.textContent.startsWith('error')).click()")
        rising = [errors[name] for name in all_names(browser)[:-20]]
        assert rising == sorted(rising)
        browser.run("document.querySelectorAll('th')[1].click()")
        assert all_names(browser) == sorted(names)

        words = "const box = document.getElementById('filter'); box.value = '{}'; box.dispatchEvent(new Event('input'))"
        browser.run("{" + words.format("Clip0123 walks") + "}")
        assert browser.run(NAMES) == ["data/clip0123"]
        browser.run("{" + words.format("failed") + "}")
        assert len(browser.run(NAMES)) == 20
        assert browser.run("document.querySelector('#rows small').textContent") == "he <i>fell</i>"
        links = "[...document.querySelectorAll('#rows a')].map(a => a.getAttribute('href'))"
        browser.run("{" + words.format("clip0123") + "}")
        assert browser.run(links) == ["data/clip0123.npz", "data/clip0123.glb"]
        pictures = browser.run("document.querySelector('#rows img').getAttribute('src')")
        assert pictures == "data/clip0123_poster.png"
