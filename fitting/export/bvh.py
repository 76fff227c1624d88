"""NAME.bvh: the skeleton of the fitted shape and its motion, metres, y up; resting in the body's T pose."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitting.export.bones import depth_first, joint_names
from models.bvh import POSITIONS, Bvh, write_bvh

if TYPE_CHECKING:
    from fitting.result import FitResult

ROTATIONS = ("Zrotation", "Yrotation", "Xrotation")  # Blender's own order when it exports
END = 0.05  # metres by which an end site prolongs the last bone


def to_bvh(result: "FitResult", rig: str = "smpl") -> Bvh:
    """The joints of the body file, depth first, with an end site behind each last one; bones are named as on `rig`.

    Rest pose: all rotations zero is the T pose of the fitted (mean) shape. The root's position channels are the pelvis
    in the world, and its OFFSET is zero, so that readers which add the two agree with those which replace one.
    """
    parents, rotations = result.body.parents, result.body.full_rotations(result.thetas).double().numpy(force=True)
    betas = result.betas.reshape(-1, result.body.num_betas).mean(0)
    bones = _bones(result.body.rest_joints(betas).double().numpy(force=True), parents)
    names, written = joint_names(len(parents), rig), []  # written: (name, joint or None, parent's place, offset)
    places: dict[int, int] = {}
    for joint in depth_first(parents):
        places[joint] = len(written)
        written.append((names[joint], joint, places.get(parents[joint], -1), bones[joint]))
        if joint not in parents:
            direction = bones[joint] / np.linalg.norm(bones[joint]).clip(1e-9)
            written.append((f"{names[joint]}_end", None, places[joint], END * direction))
    still = np.broadcast_to(np.eye(3), (result.length, 3, 3))
    return Bvh(
        names=tuple(name for name, *_ in written),
        parents=tuple(parent for *_, parent, _ in written),
        offsets=np.array([offset for *_, offset in written]),
        channels=tuple(_channels(joint) for _, joint, *_ in written),
        rotations=np.stack([still if joint is None else rotations[:, joint] for _, joint, *_ in written], 1),
        translation=result.joints()[:, 0].double().numpy(force=True),
        fps=result.fps,
    )


def write_bvh_file(result: "FitResult", path: Path, rig: str = "smpl") -> None:
    """The motion of `to_bvh`: joints within 1e-5 m of the fit's, six decimals."""
    write_bvh(path, to_bvh(result, rig))


def _bones(rest: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(J, 3) from each joint's parent to it; zero for the root."""
    bones = rest - rest[list(parents)]
    bones[0] = 0
    return bones


def _channels(joint: int | None) -> tuple[str, ...]:
    return () if joint is None else (*POSITIONS, *ROTATIONS) if joint == 0 else ROTATIONS
