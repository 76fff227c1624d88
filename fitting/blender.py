"""Where Blender is: its own Python package in an environment of its own, or an installed program."""

import os
import shutil
from pathlib import Path

from models.errors import InputError

VARIABLE = "THETAFIT_BLENDER"


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
    venv = venv_python().parent.parent
    return f"python3.11 -m venv {venv} && {venv}/bin/pip install bpy==5.0.1"


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
            f"fbx, usd and abc are written by Blender, and there is none: {places}. Install Blender, or where there "
            f"is a Python 3.11 run `{how_to_install()}`."
        )
    if Path(program).name.startswith("blender"):
        return [program, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(script), "--"]
    return [program, "-I", str(script), "--"]


def check_blender() -> None:
    """Raises InputError where there is no Blender."""
    blender_command(Path())
