"""A machine without GL and without X is enough: no library of theirs is loaded but what a wheel brings along."""

import sys
from pathlib import Path

import pytest

from fitting.export import FORMATS
from tests.runs import process, save_joints

GRAPHICS = (
    "libGL",
    "libEGL",
    "libOSMesa",
    "libOpenGL",
    "libX",
    "libxcb",
    "libSM.",
    "libICE.",
    "libwayland",
    "libcairo",
)
RUN = """
import pathlib, sys
from fitting.cli import main
print("exit code", main(sys.argv[1:]))
for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
    if "/" in line:
        print("mapped", line[line.index("/"):])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")
def test_every_format_but_blenders_needs_no_graphics_library(tmp_path: Path) -> None:
    formats = ",".join(name for name, format in FORMATS.items() if format.needs is None)
    source = save_joints(tmp_path / "walk.npy", frames=3)
    words = ["fit", str(source), "--out", str(tmp_path / "out"), "--preset", "quick", "--formats", formats]
    done = process([sys.executable, "-c", RUN, *words])
    assert "exit code 0" in done.stdout, done.stderr
    mapped = {Path(line.removeprefix("mapped ")) for line in done.stdout.splitlines() if line.startswith("mapped ")}
    assert any("libtorch" in path.name for path in mapped)  # the list is one of libraries
    system = [path for path in mapped if "site-packages" not in path.parts]
    assert not [str(path) for path in system if path.name.startswith(GRAPHICS)]
