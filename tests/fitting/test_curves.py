"""Loss curves: rows that add up, one CSV for stages with different terms, the same numbers in an offline W&B run."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fitting.curves import curve_rows, offline_without_account, write_csv
from tests.runs import command, process, save_results

NOBODY = ("env", "-u", "WANDB_MODE", "-u", "WANDB_API_KEY")  # runs what follows without an account or a choice of mode
LOSSES = {
    "camera": {"torso": [4.0, 1.0], "total": [4.0, 1.0]},
    "pose": {"joints": [3.0, 2.0, 1.0], "shape": [0.5, 0.25, 0.125], "total": [3.5, 2.25, 1.125]},
}


def test_rows_add_up_and_keep_their_order() -> None:
    rows = list(curve_rows("walk", LOSSES))
    assert [(row["stage"], row["iteration"], row["total"]) for row in rows] == [
        ("camera", 0, 4.0), ("camera", 1, 1.0), ("pose", 0, 3.5), ("pose", 1, 2.25), ("pose", 2, 1.125),
    ]  # fmt: skip


def test_csv_has_a_column_a_term_and_blanks_where_a_stage_lacks_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "losses.csv", curve_rows("walk", LOSSES))
    rows = list(csv.DictReader((tmp_path / "losses.csv").open()))
    assert list(rows[0]) == ["clip", "stage", "iteration", "torso", "joints", "shape", "total"]
    assert rows[0]["joints"] == "" and rows[-1]["torso"] == "" and float(rows[-1]["shape"]) == 0.125


def test_csv_of_nothing_is_a_header(tmp_path: Path) -> None:
    write_csv(tmp_path / "losses.csv", [])
    assert (tmp_path / "losses.csv").read_text().split() == ["clip,stage,iteration,total"]


def records(path: Path) -> Iterator[bytes]:
    """The records of a W&B file, a LevelDB log: 32 KiB blocks, pieces after checksum (4), length (2) and kind (1)."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def test_an_offline_run_holds_the_same_curves_and_the_config(tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2 as wandb_file

    source, out = save_results(tmp_path / "results.npy"), tmp_path / "out"
    words = command("fit", source, "--out", out, "--preset", "quick", "--formats", "npz", "--logger", "wandb")
    (tmp_path / "home").mkdir()
    done = process([*NOBODY, *words], HOME=str(tmp_path / "home"), cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("logs/wandb/offline-run-*/*.wandb")
    logged, config = {}, {}
    for data in records(path):
        record = wandb_file.Record.FromString(data)
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        logged |= {(name, row["trainer/global_step"]): value for name, value in row.items() if name.count("/") == 2}
        config |= {item.key: json.loads(item.value_json) for item in [*record.run.config.update, *record.config.update]}
    expected = {}
    for row in csv.DictReader((out / "logs" / "losses.csv").open()):
        clip, stage, iteration = (row.pop(name) for name in ("clip", "stage", "iteration"))
        expected |= {(f"{clip}/{stage}/{term}", int(iteration)): float(value) for term, value in row.items() if value}
    assert len(expected) > 20
    assert logged == pytest.approx(expected, rel=1e-6)
    assert config["config"]["preset"] == "quick" and config["config"]["sources"] == [str(source)]


def test_without_an_account_wandb_is_offline(tmp_path: Path) -> None:
    code = "import os; from fitting.curves import offline_without_account as f; f(); print(os.environ['WANDB_MODE'])"
    (tmp_path / "home").mkdir()
    done = process([*NOBODY, command()[0], "-c", code], HOME=str(tmp_path / "home"))
    assert done.stdout.split() == ["offline"]


def test_a_chosen_mode_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    offline_without_account()
    assert os.environ["WANDB_MODE"] == "disabled"
