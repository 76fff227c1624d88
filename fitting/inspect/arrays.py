"""What the axes of an array mean, told from its shape."""

from dataclasses import dataclass

import numpy as np

from fitting.checks import JOINT_COUNTS
from models.mdm.features import JOINTS_BY_WIDTH
from models.skeleton import SKELETONS

COUNTS = {len(skeleton.joints) for skeleton in SKELETONS.values()} | JOINT_COUNTS.keys()
ROT6D = (
    "rotations: rows 0 to 23 are SMPL's joints, root first, as the first two ROWS of each rotation matrix; row 24 is "
    "the pelvis x, y, z and three zeros"
)
FEATURES = (
    "motion features: 0 half the yaw a frame, 1:3 root x, z speed, 3 root height, then joints without the root as "
    "positions, rotations (two COLUMNS of each matrix) and velocities, four foot contacts"
)
AXIS_ANGLE = "SMPL poses as axis-angle, radians, root first: 24 joints x 3"


@dataclass(frozen=True)
class Layout:
    """A shape, of numbers, J (a known count of joints), W (a width of features) and None for any; and its meaning."""

    shape: tuple[int | str | None, ...]
    axes: str
    meaning: str
    motion: bool = False

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(map(_fits, self.shape, shape))


def _fits(wanted: int | str | None, size: int) -> bool:
    return size in {"J": COUNTS, "W": JOINTS_BY_WIDTH}.get(wanted, (size if wanted is None else wanted,))


JOINTS = "joint positions"
# In the order in which they are tried; motions as fitting.formats.arrange takes them.
LAYOUTS = (
    Layout((None, "W"), "frames, channels", FEATURES, True),
    Layout((25, 6, None), "rows, rot6d, frames", ROT6D, True),
    Layout(("W", 1, None), "channels, 1, frames", FEATURES, True),
    Layout(("J", 3, None), "joints, xyz, frames", JOINTS, True),
    Layout((None, None, "W"), "clips, frames, channels", FEATURES, True),
    Layout((None, "J", 3), "frames, joints, xyz", JOINTS, True),
    Layout((None, 25, 6, None), "clips, rows, rot6d, frames", ROT6D, True),
    Layout((None, "W", 1, None), "clips, channels, 1, frames", FEATURES, True),
    Layout((None, "J", 3, None), "clips, joints, xyz, frames", JOINTS, True),
    Layout((None, None, "J", 3), "clips, frames, joints, xyz", JOINTS, True),
    Layout(("W",), "channels", "one number for each channel of motion features: Mean.npy or Std.npy"),
    Layout((None, 72), "frames, numbers", AXIS_ANGLE),
    Layout((None, 75), "frames, numbers", f"{AXIS_ANGLE}; then translation x, y, z in metres"),
    Layout((None, 82), "frames, numbers", f"{AXIS_ANGLE}; then 10 betas"),
    Layout((None, 85), "frames, numbers", f"{AXIS_ANGLE}; then 10 betas and translation x, y, z"),
    Layout((None, 156), "frames, numbers", "SMPL-H poses as axis-angle, radians: 22 body joints, 15 a hand, x 3"),
    Layout((None, 165), "frames, numbers", "SMPL-X poses as axis-angle, radians: 22 body joints, face, hands, x 3"),
    Layout((None, 24, 3), "frames, joints, axis-angle", "SMPL poses, radians, root first"),
)


def find_layout(array: np.ndarray) -> Layout | None:
    """The first layout that an array of numbers fits; None for any other."""
    if array.dtype.kind not in "fiu" or array.dtype == np.uint8:
        return None
    return next((layout for layout in LAYOUTS if layout.fits(array.shape)), None)


def describe(array: np.ndarray) -> tuple[str, str]:
    """The names of an array's axes and its meaning; ("", "") where the shape does not tell."""
    if array.dtype == bool and array.ndim == 1:
        return "frames", "yes or no for each frame, such as foot contact"
    layout = find_layout(array)
    if layout is None:
        return "", ""
    if "J" not in layout.shape:
        return layout.axes, layout.meaning
    return layout.axes, f"positions of {_joints(array.shape[layout.shape.index('J')])}"


def _joints(count: int) -> str:
    """What is known about that many joints."""
    for skeleton in SKELETONS.values():
        if len(skeleton.joints) == count and skeleton.alone:
            unit = "millimetres" if skeleton.unit == 0.001 else "metres"
            return f"{skeleton.name}'s {count} joints ({skeleton.joints[0]} ... {skeleton.joints[-1]}), {unit}"
    return JOINT_COUNTS[count].partition("; ")[0]
