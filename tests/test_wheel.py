"""The wheel: what it ships, and that it works where there is no clone."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "fitting", "models", "tests")
USE = """
import importlib.metadata, pathlib, sys
import fitting, models
from fitting.cli import build_parser
from fitting.preset import load_preset
from models.body import BodyModel
from models.prior import PosePrior
home = pathlib.Path(sys.argv[1]).resolve()
for module in (fitting, models):
    assert home in pathlib.Path(module.__file__).resolve().parents, module.__file__
assert BodyModel.load().num_joints == 24
assert PosePrior.load().mean_pose.shape == (69,)
assert load_preset("careful").name == "careful"
assert "SOURCES" in build_parser()._subparsers._group_actions[0].choices["fit"].format_help()
print(importlib.metadata.version("thetafit"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the sources without asking any package index."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source], check=True)
    return next(folder.glob("thetafit-*.whl"))


def test_wheel_ships_the_packages_and_assets_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"fitting", "models"}
    shipped = {name for name in names if not name.endswith(".py")}
    for folder in ("fitting", "models"):
        data = {
            p.relative_to(ROOT).as_posix()
            for p in (ROOT / folder).rglob("*")
            if p.is_file() and p.suffix not in (".py", ".pyc")
        }
        assert data <= shipped, f"not in the wheel: {data - shipped}"
    assert any(name.endswith("licenses/NOTICE") for name in names) and any(
        name.endswith("licenses/LICENSE") for name in names
    )
    assert not [name for name in names if "test" in Path(name).stem]


def test_wheel_works_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(home)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{USE}", str(home)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [wheel.name.split("-")[1]]
