"""A small BVH reader for tests: the rotations and positions of every joint in the world."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass
class Bvh:
    """names (J); rotations (frames, J, 3, 3) and positions (frames, J, 3) in the world, in file units; fps."""

    names: list[str]
    rotations: np.ndarray
    positions: np.ndarray
    fps: float


def _hierarchy(words: list[str]) -> list[tuple[str, int, np.ndarray, list[str]]]:
    """Joints as (name, parent index or -1, offset (3,), channel names), in file order; end sites are left out."""
    joints, open_joints, i = [], [], 0
    while i < len(words):
        match words[i]:
            case "ROOT" | "JOINT":
                joints.append((words[i + 1], open_joints[-1] if open_joints else -1, np.zeros(3), []))
            case "{":
                open_joints.append(len(joints) - 1)
            case "}":
                open_joints.pop()
            case "End":  # End Site { OFFSET x y z }
                i += 7
            case "OFFSET":
                joints[-1][2][:] = [float(x) for x in words[i + 1 : i + 4]]
            case "CHANNELS":
                joints[-1][3].extend(words[i + 2 : i + 2 + int(words[i + 1])])
        i += 1
    return joints


def read_bvh(path: Path) -> Bvh:
    """Read a BVH file and run its forward kinematics."""
    head, motion = path.read_text().split("MOTION")
    joints = _hierarchy(head.split())
    lines = motion.strip().splitlines()
    fps = 1 / float(lines[1].split(":")[1])
    values = np.array([line.split() for line in lines[2:] if line.strip()], dtype=np.float64)

    rotations = np.empty((len(values), len(joints), 3, 3))
    positions = np.empty((len(values), len(joints), 3))
    column = 0
    for j, (_, parent, offset, channels) in enumerate(joints):
        block = values[:, column : column + len(channels)]
        column += len(channels)
        turns = [i for i, name in enumerate(channels) if name.endswith("rotation")]
        order = "".join(channels[i][0] for i in turns)
        rotation = Rotation.from_euler(order, block[:, turns], degrees=True).as_matrix()
        moves = [channels.index(f"{axis}position") for axis in "XYZ" if f"{axis}position" in channels]
        position = block[:, moves] if moves else np.broadcast_to(offset, (len(values), 3))
        if parent < 0:
            rotations[:, j], positions[:, j] = rotation, position
        else:
            rotations[:, j] = rotations[:, parent] @ rotation
            positions[:, j] = positions[:, parent] + np.einsum("fab,fb->fa", rotations[:, parent], position)
    return Bvh([name for name, *_ in joints], rotations, positions, fps)
