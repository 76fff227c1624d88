"""NAME.fbx, NAME.usdc and NAME.abc: written by Blender, in a process of its own, from the GLB of the same fit."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fitting.blender import VARIABLE, blender_command
from fitting.export.glb import write_glb
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.result import FitResult

SCRIPT = Path(__file__).with_name("blender_script.py")
LIBRARIES = "libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1"  # what bpy loads, by Debian's names
LAST_LINES = 4  # of what Blender said, for a message


def write_through_blender(result: "FitResult", path: Path, rig: str = "smpl") -> None:
    """The fit in the format of the path's suffix: .fbx, .usdc or .abc.

    Raises InputError when Blender is not there, or fails; its last words are in the message.
    """
    command = blender_command(SCRIPT)
    with TemporaryDirectory(prefix="thetafit-") as folder:
        glb = Path(folder) / f"{result.motion.name}.glb"
        write_glb(result, glb, rig)
        run = subprocess.run(
            [*command, str(glb), str(path), repr(float(result.fps))], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    if run.returncode != 0 or not path.exists():
        raise InputError(_failure(command[0], run.stdout))


def _failure(program: str, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    words = " / ".join(lines[-LAST_LINES:]) or "nothing"
    if "cannot open shared object file" in said:
        return f"Blender's libraries are not all there ({words}). On Debian: apt-get install {LIBRARIES}."
    if "No module named 'bpy'" in said:
        return f"{program} has no bpy. Run `{program} -m pip install bpy==5.0.1` (Python 3.11), or set {VARIABLE}."
    return f"Blender ({program}) could not write the file. It said: {words}"
