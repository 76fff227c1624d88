"""Blender: its own Python package in an environment of its own, or an installed program; scripts run in it."""

import os
import shutil
import subprocess
from pathlib import Path

from fitting.environments import BPY
from models.errors import InputError

LAST_LINES = 4  # of what Blender said, for a message


def find_blender() -> str | None:
    """A Python that has bpy, or a Blender: $THETAFIT_BLENDER, else the environment, else `blender` on the PATH."""
    return BPY.find() or (None if os.environ.get(BPY.variable) else shutil.which("blender"))


def blender_command(script: Path) -> list[str]:
    """The command line that runs a script in Blender, up to the script's own arguments.

    Raises InputError where there is no Blender, which says how to get one.
    """
    program = find_blender()
    if program is None:
        asked = os.environ.get(BPY.variable)
        places = f"{BPY.variable} is not set, {BPY.python} does not exist, `blender` is not on the PATH"
        places = f"{BPY.variable} is {asked!r}, which is no program" if asked else places
        raise InputError(
            f"fbx, usd, abc and --engine blender are Blender's work, and there is none: {places}. Install Blender, or "
            f"where there is a Python {BPY.pythons[0]} run `{BPY.how_to_install}`."
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
        return f"Blender's libraries are not all there ({words}). On Debian: apt-get install {BPY.libraries}."
    if "No module named 'numpy'" in said:
        return f"{program}'s Python has no numpy, which its importers need. On Debian: apt-get install python3-numpy."
    if "get_rna_type" in said:
        return (
            f"{program} was built without the exporter of this format, as Debian's Blender is without USD and Alembic. "
            f"Take Blender's own build, or where there is a Python {BPY.pythons[0]} run `{BPY.how_to_install}`."
        )
    if "No module named 'bpy'" in said:
        return f"{program} has no bpy. Run `{program} -m pip install bpy==5.0.1` (Python 3.11), or set {BPY.variable}."
    return f"Blender ({program}) could not write the file. It said: {words}"
