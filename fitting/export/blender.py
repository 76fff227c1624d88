"""NAME.fbx, NAME.usdc and NAME.abc: written by Blender, in a process of its own, from the GLB of the same fit."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fitting.export.glb import write_glb
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.result import FitResult

VARIABLE = "THETAFIT_BLENDER"
SCRIPT = Path(__file__).with_name("blender_script.py")
LIBRARIES = "libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1"  # what bpy loads, by Debian's names
LAST_LINES = 4  # of what Blender said, for a message


def write_through_blender(result: "FitResult", path: Path, rig: str = "smpl") -> None:
    """The fit in the format of the path's suffix: .fbx, .usdc or .abc.

    Raises InputError when Blender is not there, or fails; its last words are in the message.
    """
    command = blender_command()
    with TemporaryDirectory(prefix="thetafit-") as folder:
        glb = Path(folder) / f"{result.motion.name}.glb"
        write_glb(result, glb, rig)
        run = subprocess.run(
            [*command, str(glb), str(path), repr(float(result.fps))], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    if run.returncode != 0 or not path.exists():
        raise InputError(_failure(command[0], run.stdout))


def venv_python() -> Path:
    """Where a Python with bpy of our own is looked for."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "thetafit" / "blender" / "bin" / "python"


def blender_command() -> list[str]:
    """The command line that runs the script in Blender, up to the script's own arguments.

    Taken in this order: $THETAFIT_BLENDER, a Python that has bpy or a Blender; `venv_python`; `blender` on the PATH.
    Raises InputError, which says how to get one.
    """
    asked = os.environ.get(VARIABLE)
    if asked and not shutil.which(asked):
        raise InputError(f"{VARIABLE} is {asked!r}, which is no program. It names a Python with bpy, or a blender.")
    program = asked or (str(venv_python()) if venv_python().exists() else shutil.which("blender"))
    if program is None:
        venv = venv_python().parent.parent
        raise InputError(
            f"fbx, usd and abc are written by Blender, and there is none: {VARIABLE} is not set, {venv_python()} does "
            f"not exist, `blender` is not on the PATH. Install Blender, or where there is a Python 3.11 run "
            f"`python3.11 -m venv {venv} && {venv}/bin/pip install bpy==5.0.1`."
        )
    if Path(program).name.startswith("blender"):
        return [program, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(SCRIPT), "--"]
    return [program, "-I", str(SCRIPT), "--"]


def _failure(program: str, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    words = " / ".join(lines[-LAST_LINES:]) or "nothing"
    if "cannot open shared object file" in said:
        return f"Blender's libraries are not all there ({words}). On Debian: apt-get install {LIBRARIES}."
    if "No module named 'bpy'" in said:
        return f"{program} has no bpy. Run `{program} -m pip install bpy==5.0.1` (Python 3.11), or set {VARIABLE}."
    return f"Blender ({program}) could not write the file. It said: {words}"
