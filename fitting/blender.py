"""Blender: its own Python package in an environment of its own, or an installed program; scripts run in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from models.errors import InputError

VARIABLE = "THETAFIT_BLENDER"
PYTHON = "3.11"  # what bpy 5.0 is built for
PACKAGES = ("bpy==5.0.1", "numpy<2")
# What bpy loads, by Debian's names.
LIBRARIES = "libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1 libegl1 libgl1-mesa-dri"
LAST_LINES = 4  # of what Blender said, for a message


def venv_python() -> Path:
    """Where a Python with bpy of our own is looked for."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "thetafit" / "blender" / "bin" / "python"


def find_blender() -> str | None:
    """A Python that has bpy, or a Blender: $THETAFIT_BLENDER, else `venv_python`, else `blender` on the PATH."""
    if asked := os.environ.get(VARIABLE):
        return shutil.which(asked)
    return str(venv_python()) if venv_python().exists() else shutil.which("blender")


def how_to_install() -> str:
    """The line that makes `venv_python`."""
    return "thetafit doctor --install blender"


def install() -> None:
    """Make `venv_python` with bpy. Raises InputError without a Python 3.11, and where pip fails."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which(f"python{PYTHON}")
    if python is None:
        raise InputError(
            f"bpy, Blender's Python package, needs Python {PYTHON}, and there is no python{PYTHON} on the PATH. "
            f"Install Blender itself (`blender` on the PATH is found), or set {VARIABLE} to a Python that has bpy."
        )
    venv = venv_python().parent.parent
    for command in ([python, "-m", "venv", str(venv)], [str(venv_python()), "-m", "pip", "install", *PACKAGES]):
        print(" ".join(command), flush=True)
        if subprocess.run(command).returncode != 0:
            raise InputError(f"this did not work: {' '.join(command)}")
    print(f"Blender is in {venv}. It loads these libraries too; on Debian: apt-get install {LIBRARIES}")


def blender_command(script: Path) -> list[str]:
    """The command line that runs a script in Blender, up to the script's own arguments.

    Raises InputError where there is no Blender, which says how to get one.
    """
    program = find_blender()
    if program is None:
        asked = os.environ.get(VARIABLE)
        places = f"{VARIABLE} is not set, {venv_python()} does not exist, `blender` is not on the PATH"
        places = f"{VARIABLE} is {asked!r}, which is no program" if asked else places
        raise InputError(
            f"fbx, usd, abc and --engine blender are Blender's work, and there is none: {places}. Install Blender, or "
            f"where there is a Python {PYTHON} run `{how_to_install()}`."
        )
    if Path(program).name.startswith("blender"):
        return [program, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(script), "--"]
    return [program, "-I", str(script), "--"]


def check_blender() -> None:
    """Raises InputError where there is no Blender."""
    blender_command(Path())


def run_in_blender(script: Path, arguments: list[str], made: Path) -> None:
    """Run a script of ours, which writes `made`. Raises InputError when it fails, with Blender's last words."""
    command = blender_command(script)
    run = subprocess.run(
        [*command, *arguments], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if run.returncode != 0 or not made.exists():
        raise InputError(_failure(command[0], run.stdout))


def _failure(program: str, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    words = " / ".join(lines[-LAST_LINES:]) or "nothing"
    if "cannot open shared object file" in said or "EGL" in said:
        return f"Blender's libraries are not all there ({words}). On Debian: apt-get install {LIBRARIES}."
    if "No module named 'numpy'" in said:
        return f"{program}'s Python has no numpy, which its importers need. On Debian: apt-get install python3-numpy."
    if "get_rna_type" in said:
        return (
            f"{program} was built without the exporter of this format, as Debian's Blender is without USD and Alembic. Take "
            f"Blender's own build, or where there is a Python {PYTHON} run `{how_to_install()}`."
        )
    if "No module named 'bpy'" in said:
        return f"{program} has no bpy. Run `{program} -m pip install bpy==5.0.1` (Python 3.11), or set {VARIABLE}."
    return f"Blender ({program}) could not write the file. It said: {words}"
