"""The examples run as they are, in a folder of their own, and what they print bears out what they claim."""

import json
import re
import runpy
from pathlib import Path

import pytest

from tests.runs import ROOT

FOLDER = ROOT / "experiments" / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
LONGEST = 60  # lines of an example


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Examples write into the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(number: int, capsys: pytest.CaptureFixture) -> str:
    """What example `number` prints."""
    runpy.run_path(str(SCRIPTS[number - 1]), run_name="__main__")
    return capsys.readouterr().out


def numbers(pattern: str, text: str) -> list[float]:
    """The numbers that the pattern's one group finds."""
    return [float(number) for number in re.findall(pattern, text)]


def test_they_are_numbered_short_and_say_how_they_are_run() -> None:
    assert [script.name[:3] for script in SCRIPTS] == [f"{number:02}_" for number in range(1, len(SCRIPTS) + 1)]
    for script in SCRIPTS:
        lines = script.read_text().splitlines()
        assert len(lines) <= LONGEST, script.name
        assert lines[0].startswith(f'"""{script.name[:2]}: ')
        assert lines[2] == f"python experiments/examples/{script.name}"


def test_01_fits_an_array(capsys, empty_folder) -> None:
    text = run(1, capsys)
    assert numbers(r"([\d.]+) mm on average", text)[0] < 1
    assert {path.name for path in empty_folder.iterdir()} == {"walk_smpl_params.npy", "walk.npz", "walk.glb"}


def test_02_fits_every_clip_of_a_folder(capsys, empty_folder) -> None:
    errors = numbers(r"frames +([\d.]+) mm", run(2, capsys))
    assert len(errors) == 3 and max(errors) < 1
    assert len(list((empty_folder / "clips" / "fits").glob("*.npz"))) == 3


def test_03_gets_closer_to_the_truth_than_what_it_was_given(capsys) -> None:
    text = run(3, capsys)
    given, fitted = numbers(r"given +([\d.]+)", text), numbers(r"fitted +([\d.]+)", text)
    assert fitted[0] < 1 and fitted[1] < given[1] / 2 and fitted[2] < given[2] / 2
    assert fitted[4] < given[4] / 2 and fitted[4] < fitted[3] / 2  # the confidence tells what to believe


def test_04_goes_from_thetas_to_a_glb(capsys, empty_folder) -> None:
    text = run(4, capsys)
    assert text.count("True") == 2 and (empty_folder / "wave.glb").stat().st_size > 100_000
    assert numbers(r"at most ([\d.e-]+)", text)[0] < 1e-5


def test_05_follows_live_frames(capsys) -> None:
    text = run(5, capsys)
    assert max(numbers(r"error +([\d.]+) mm", text)) < 2 and text.count("1 joint not seen") == 2


def test_06_brings_the_mesh_to_the_floor(capsys) -> None:
    steps = [numbers(r"(-?[\d.]+)", line.split(":")[1]) for line in run(6, capsys).splitlines() if line[:6] == "lowest"]
    assert min(steps[0]) > 60 and max(map(abs, steps[-1])) < 0.01


def test_07_features_lead_back_and_a_network_is_sampled(capsys) -> None:
    text = run(7, capsys)
    assert numbers(r"at most ([\d.e-]+) mm", text)[0] < 1e-6 and "joints (2, 60, 22, 3)" in text


def test_08_the_term_holds_the_wrist(capsys) -> None:
    depths = numbers(r"up to +([\d.]+) mm", run(8, capsys))
    assert depths[0] > 40 and depths[1] < 5


def test_the_notebook_runs_from_top_to_bottom(empty_folder) -> None:
    """Its cells one after the other in one namespace, as a kernel would; it is kept without outputs."""
    cells = json.loads((FOLDER / "tour.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"tour.ipynb, {cell['id']}", "exec"), names)
    assert names["result"].status == "converged" and (empty_folder / "tour" / "walk.glb").exists()
