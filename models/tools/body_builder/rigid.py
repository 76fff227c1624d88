"""Rotations as 3x3 matrices acting on columns, and dual-quaternion skinning; numpy only, for the builder."""

import numpy as np
from scipy.spatial.transform import Rotation


def unit(vector: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length one."""
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rotation whose first column is along `first` and whose second lies in the half plane of `second`."""
    x = unit(first)
    y = unit(second - x * (x @ second))
    return np.stack([x, y, np.cross(x, y)], 1)


def align(first: np.ndarray, second: np.ndarray, to_first: np.ndarray, to_second: np.ndarray) -> np.ndarray:
    """Rotation that takes the direction `first` to `to_first` and, about it, `second` towards `to_second`."""
    return frame(to_first, to_second) @ frame(first, second).T


def swing(direction: np.ndarray, to: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes one direction to another (not opposite ones)."""
    a, b = unit(direction), unit(to)
    x, y, z = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


def blend(start: np.ndarray, end: np.ndarray, amount: float) -> np.ndarray:
    """The rotation at this share of the way from one to another, along the shortest arc."""
    step = Rotation.from_matrix(start.T @ end).as_rotvec()
    return start @ Rotation.from_rotvec(amount * step).as_matrix()


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of quaternions (n, 4), scalar first."""
    scalar = a[:, 0] * b[:, 0] - (a[:, 1:] * b[:, 1:]).sum(1)
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + np.cross(a[:, 1:], b[:, 1:])
    return np.concatenate([scalar[:, None], vector], 1)


def skin(points: np.ndarray, weights: np.ndarray, rotations: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Dual-quaternion skinning (Kavan et al. 2007): points (n, 3) carried by bones x -> R x + t, weights (n, bones).

    Linear blending would pinch the armpits when the arms are raised from MakeHuman's A-pose; this keeps the volume.
    """
    real = Rotation.from_matrix(rotations).as_quat(canonical=True, scalar_first=True)  # scalar >= 0: one hemisphere
    dual = 0.5 * multiply(np.concatenate([np.zeros((len(offsets), 1)), offsets], 1), real)
    real, dual = weights @ real, weights @ dual
    norm = np.linalg.norm(real, axis=1, keepdims=True)
    real, dual = real / norm, dual / norm
    w, v = real[:, :1], real[:, 1:]
    rotated = points + 2 * np.cross(v, np.cross(v, points) + w * points)
    return rotated + 2 * (w * dual[:, 1:] - dual[:, :1] * v + np.cross(v, dual[:, 1:]))
