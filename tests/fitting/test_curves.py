"""Loss curves: rows that add up, one CSV for stages with different terms."""

import csv
from pathlib import Path

from fitting.curves import curve_rows, write_csv

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
