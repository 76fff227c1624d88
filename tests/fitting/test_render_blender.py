"""Blender as the renderer: it sees what we see, its scene is saved, OBJ folders come in as one moving object."""

import numpy as np
import pytest
from PIL import Image

from fitting.blender import blender_command, run_in_blender
from fitting.cli import main
from fitting.convert import read_result
from fitting.environments import BPY
from fitting.export import export
from fitting.tracks import Bodies
from tests.fits import smooth_fit
from tests.runs import ROOT

READER = ROOT / "tests" / "blender_reader.py"
IMPORTER = ROOT / "fitting" / "export" / "import_obj_sequence.py"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    try:
        blender_command(READER)
    except ValueError:
        pytest.skip(f"no Blender: set {BPY.variable} to a Python with bpy 5.0.1, or install one")
    return smooth_fit(4, text="").save(tmp_path_factory.mktemp("fit") / "turns", ("npz",))[0]


def shown(path, frames) -> np.ndarray:
    """Vertices (frames, V, 3) that Blender shows of a file."""
    found = path.with_name("found.npz")
    run_in_blender(READER, [str(path), str(found), "20", *map(str, frames)], found)
    with np.load(found) as file:
        return file["vertices"]


def body_of(path) -> np.ndarray:
    """Where a transparent picture is opaque."""
    with Image.open(path) as image:
        return np.asarray(image)[..., 3] > 200


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_still_by_cycles_shows_the_same_body_and_its_scene_is_saved(saved, tmp_path):
    ours, theirs, blend = (tmp_path / name for name in ("ours.png", "theirs.png", "scene.blend"))
    options = ["--still", "2", "--size", "96", "--transparent", "--camera", "orbit"]
    assert main(["render", str(saved), "--out", str(ours), *options]) == 0
    assert (
        main(["render", str(saved), "--out", str(theirs), *options, "--engine", "blender", "--blend", str(blend)]) == 0
    )
    assert body_of(ours).sum() > 300 and overlap(body_of(ours), body_of(theirs)) > 0.93
    fit = read_result(saved, Bodies(None))
    expected = (fit.vertices() - fit.transl[0]).numpy()  # pictures are made near the origin
    np.testing.assert_allclose(shown(blend, range(4)), expected, atol=1e-4)


def test_a_clip_by_workbench_moves_as_ours(saved, tmp_path):
    options = ["--size", "96", "--transparent", "--style", "both"]
    for name, engine in (("ours", "torch"), ("theirs", "blender")):
        assert main(["render", str(saved), "--out", str(tmp_path / name), *options, "--engine", engine]) == 0
    for frame in range(4):
        a, b = (
            np.asarray(Image.open(tmp_path / name / f"frame{frame:03d}.png"))[..., 3] > 110
            for name in ("ours", "theirs")
        )
        assert overlap(a, b) > 0.85


def test_an_obj_folder_comes_in_as_one_moving_object(saved, tmp_path):
    fit = read_result(saved, Bodies(None))
    (folder,) = export(fit, tmp_path, ["obj"])
    blend = tmp_path / "moving.blend"
    run_in_blender(IMPORTER, [str(folder), "12.5", "--save", str(blend)], blend)
    np.testing.assert_allclose(shown(blend, range(4)), fit.vertices().numpy(), atol=2e-6)  # OBJ has six decimals
