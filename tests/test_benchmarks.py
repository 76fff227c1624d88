"""The comparison with peers runs on a tiny case, and its own least squares is one of the same energy's."""

import json

import pytest
import torch

from experiments.benchmarks import peers
from experiments.benchmarks.peer_methods import METHODS, Plain, first_guess, scipy_solve, split
from models.body import BodyModel


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """Set the command line of peers.py, without the reference folder; returns where its figures go."""

    def set_to(*words: str):
        path = tmp_path / "figures.json"
        monkeypatch.setattr("sys.argv", ["peers.py", *words, "--json", str(path)])
        monkeypatch.setattr(peers, "REFERENCE", tmp_path)
        monkeypatch.setattr(peers, "KNOWN", ("dance",))
        return path

    return set_to


def test_our_presets_on_a_tiny_case(arguments, capsys):
    path = arguments("--only", "ours", "--frames", "8")
    peers.main()
    record = json.loads(path.read_text())
    assert [row["method"] for row in record["rows"]] == ["thetafit careful", "thetafit quick", "thetafit reference"]
    for row in record["rows"]:
        assert row["frames"] == 8 and row["cpu_seconds"] > 0
        assert 0 < row["joint_mm"] < 5 and row["joint_mm"] < row["core_vertex_mm"] < 15
    assert record["machine"]["torch"] == torch.__version__
    assert str(path.parent) not in path.read_text()  # no paths of the machine in the figures
    assert "| thetafit quick |" in capsys.readouterr().out


def test_a_missing_peer_is_named_and_left_out(arguments, capsys, monkeypatch):
    monkeypatch.setattr(METHODS["pypose LM"], "packages", ("no_such_package_here",))
    path = arguments("--only", "pypose LM,thetafit quick", "--frames", "4")
    peers.main()
    record = json.loads(path.read_text())
    assert record["missing"] == {"pypose LM": "no_such_package_here"} and len(record["rows"]) == 1
    assert "pip install no_such_package_here" in capsys.readouterr().out


def test_an_unknown_method_lists_the_known(arguments, capsys):
    arguments("--only", "mixamo")
    with pytest.raises(SystemExit):
        peers.main()
    assert "known: ours, thetafit careful" in capsys.readouterr().err


def test_plain_least_squares_lowers_its_energy_to_the_joints():
    body = BodyModel.load(dtype=torch.float64)
    clip = peers.known_clips(BodyModel.load(), 1)[1]
    residuals, start = Plain.of(body, clip.joints[0]), first_guess(body, clip.joints[0])
    found = scipy_solve(residuals, start)
    assert residuals(found).square().sum() < 0.1 * residuals(start).square().sum()
    transl, thetas, betas = split(found)
    assert (body.joints(betas, thetas, transl)[:22] - clip.joints[0]).norm(dim=-1).mean() < 0.003
