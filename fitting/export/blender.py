"""NAME.fbx, NAME.usdc and NAME.abc: written by Blender, in a process of its own, from the GLB of the same fit."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fitting.blender import run_in_blender
from fitting.export.glb import write_glb

if TYPE_CHECKING:
    from fitting.result import FitResult

SCRIPT = Path(__file__).with_name("blender_script.py")


def write_through_blender(result: "FitResult", path: Path, rig: str = "smpl") -> None:
    """The fit in the format of the path's suffix: .fbx, .usdc or .abc.

    Raises InputError when Blender is not there, or fails; its last words are in the message.
    """
    with TemporaryDirectory(prefix="thetafit-") as folder:
        glb = Path(folder) / f"{result.motion.name}.glb"
        write_glb(result, glb, rig)
        run_in_blender(SCRIPT, [str(glb), str(path), repr(float(result.fps))], path)
