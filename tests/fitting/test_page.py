"""The page of a run, in a real Chromium: it plays, shows our vertices, and asks nobody for anything."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fitting.page import PAGE, choose, page, read_curves
from models.body import BodyModel
from tests.chromium import CHROMIUM, Chromium
from tests.runs import fit, report, save_joints, save_results

TWO_FRAMES = "new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with three clips of two sources, one of them with a text that looks like HTML, and one failure."""
    folder = tmp_path_factory.mktemp("page")
    sources = [save_results(folder / "results.npy", (24, 12)), save_joints(folder / "walk.npy", 16, start=30)]
    content = np.load(sources[0], allow_pickle=True).item()
    content["text"][0] = 'a man says "</script><b>hello</b>" & waves'
    np.save(sources[0], np.array(content, dtype=object))
    (folder / "notes.npy").write_text("not an array")
    out = folder / "out"
    options = ("--preset", "quick", "--formats", "html", "--device", "cpu")
    assert fit(*sources, folder / "notes.npy", "--out", out, *options) == 1
    assert not any(file.endswith(".html") for clip in report(out)["clips"] for file in clip["files"])
    return out


@pytest.fixture(scope="module")
def browser(run):
    with Chromium() as chromium:
        chromium.open(run / PAGE)
        chromium.until("window.thetafit && thetafit.ready")
        yield chromium


def ours(run: Path, name: str, frame: int) -> np.ndarray:
    """Vertices (V, 3) of a written clip by linear blend skinning."""
    with np.load(run / f"{name}.npz") as file:
        betas, poses, trans = (torch.from_numpy(file[key]) for key in ("betas", "poses", "trans"))
    return BodyModel.load().vertices(betas, poses[frame].view(24, 3), trans[frame]).numpy()


@needs_chromium
def test_it_plays_by_itself(browser):
    browser.run("thetafit.open(0)")
    browser.run("thetafit.play(true)")
    browser.until("thetafit.frame > 3")
    before = browser.run("thetafit.frame")
    browser.until(f"Math.abs(thetafit.frame - {before}) > 2")
    browser.run("document.getElementById('play').click()")
    stopped = browser.run("thetafit.frame")
    assert browser.run("new Promise(go => setTimeout(() => go(thetafit.frame), 300))") == stopped
    assert browser.run("document.getElementById('play').textContent") == "Play"


@needs_chromium
def test_its_vertices_are_ours(run, browser):
    names = browser.run("[...document.querySelectorAll('#clips option')].map(option => option.text.split(',')[0])")
    for index, name in enumerate(names[:3]):
        browser.run(f"thetafit.play(false); thetafit.open({index})")
        for frame in (0, 11, 7, 1000, 5):  # beyond the end, and back again
            browser.run(f"thetafit.seek({frame})")
            shown = np.array(browser.run("thetafit.clip.vertices()")).reshape(-1, 3)
            with np.load(run / f"{name}.npz") as file:
                frame = min(frame, len(file["poses"]) - 1)
            np.testing.assert_allclose(shown, ours(run, name, frame), atol=1e-5)  # metres


@needs_chromium
def test_it_names_every_clip_and_shows_words_as_words(browser):
    options = browser.run("[...document.querySelectorAll('#clips option')].map(o => [o.text, o.disabled])")
    assert len(options) == 4 and [disabled for _, disabled in options] == [False, False, False, True]
    assert "mm, converged" in options[0][0] and "notes" in options[3][0]
    browser.run("thetafit.open(0)")
    assert browser.run("document.getElementById('caption').textContent") == 'a man says "</script><b>hello</b>" & waves'
    assert browser.run("document.querySelectorAll('#curves polyline').length") > 3
    assert browser.run("document.querySelectorAll('#numbers tr').length") == 9


@needs_chromium
def test_names_in_curves_are_no_markup(browser):
    stage = """{stage: '<img src=x onerror="window.ran = 1">', terms: {'<b>joints</b>': [2, 1]}}"""
    browser.run(f"thetafit.loaded.get(0).entry.curves = [{stage}]; thetafit.open(0)")
    assert browser.run("document.querySelectorAll('#curves img, #curves b').length") == 0
    assert browser.run("document.querySelector('#curves figcaption').textContent").startswith("<img src=x")
    assert browser.run("window.ran") is None


@needs_chromium
def test_boxes_hide_what_they_name(browser):
    for box, shown in (("body", "clip.scene"), ("skeleton", "clip.joints.group"), ("input", "clip.input.group")):
        visible = browser.run(f"thetafit.{shown}.visible")
        browser.run(f"document.getElementById('{box}').click()")
        assert browser.run(f"thetafit.{shown}.visible") is not visible
        browser.run(f"document.getElementById('{box}').click()")


@needs_chromium
def test_the_body_is_in_the_picture(browser):
    browser.run("thetafit.play(false); thetafit.open(1)")
    browser.run(TWO_FRAMES)

    def middle() -> np.ndarray:
        picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB"), dtype=int)
        return picture[150:500, 250:620]

    with_body = middle()
    browser.run("document.getElementById('body').click()")
    browser.run(TWO_FRAMES)
    without = middle()
    browser.run("document.getElementById('body').click()")
    assert (np.abs(with_body - without).sum(-1) > 20).mean() > 0.03


@needs_chromium
def test_nothing_leaves_it_and_nothing_complains(run, browser):
    assert set(browser.requests()) <= {(run / PAGE).as_uri()}
    assert browser.complaints() == []
    refused = "fetch('https://example.org').then(() => 'sent', () => 'refused')"
    with Chromium() as other:  # its policy refuses what a later change might ask for
        other.open(run / PAGE)
        assert other.run(refused) == "refused"


@needs_chromium
def test_a_phone_shows_stage_and_controls(run):
    with Chromium(500, 900) as phone:
        phone.open(run / PAGE)
        phone.until("window.thetafit && thetafit.ready")
        assert phone.run("document.documentElement.scrollWidth <= innerWidth")
        assert phone.run("document.getElementById('stage').clientHeight") > 300
        assert phone.run("document.getElementById('play').getBoundingClientRect().bottom < innerHeight")


def test_data_cannot_end_its_element():
    text = page("t", [{"text": "</script><script>alert(1)</script>"}], [])
    assert text.count("</script>") == 2 and "alert(1)</" not in text


def test_what_is_too_much_is_named(run, monkeypatch):
    clips = report(run)["clips"]
    monkeypatch.setattr("fitting.page.BUDGET", 1.5 * (run / clips[0]["files"][-1]).stat().st_size)
    shown, others = choose(clips, run)
    assert len(shown) == 1 and len(others) == 3 and "its size" in others[0]["message"]


def test_curves_are_read_by_clip_and_stage(run):
    curves = read_curves(run / "logs" / "losses.csv")
    assert len(curves) == 3 and "walk/walk" in curves
    stages = curves["walk/walk"]
    assert [stage["stage"] for stage in stages] == ["pose"]
    assert stages[0]["terms"]["total"][0] > stages[0]["terms"]["total"][-1] > 0
