"""Before a run: can the output folder be written to, and does it have room?"""

import shutil
from pathlib import Path

from fitting.export.atomic import atomic_path
from models.errors import InputError

FRAME_BYTES = {
    "smpl_params": 85_000,
    "obj": 420_000,
    "ply": 260_000,
    "pc2": 83_000,
    "mdd": 83_000,
    "abc": 83_000,
}  # the formats that store every vertex of every frame


def check_folder(folder: Path) -> None:
    """Makes the folder where it is missing. Raises InputError when nothing can be written into it."""
    probe = folder / ".thetafit-probe"
    with atomic_path(probe) as temporary:
        temporary.write_bytes(bytes(2**16))
    probe.unlink(missing_ok=True)  # another process of the run may have been quicker


def check_space(folder: Path, frames: int, formats: list[str]) -> None:
    """Raises InputError when the meshes of so many frames have no room on the folder's disk."""
    needed, free = frames * sum(FRAME_BYTES.get(name, 0) for name in formats), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} has {free / 1e6:.0f} MB free; {frames} frames as {', '.join(formats)} need about "
            f"{needed / 1e6:.0f} MB. Free some space, choose another folder with --out, or leave out smpl_params and "
            "obj with --formats."
        )
