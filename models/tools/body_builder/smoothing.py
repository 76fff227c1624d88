"""Averages over a mesh's neighbours."""

import numpy as np
from scipy.sparse import csr_matrix, diags


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Cubic step from 0 at x <= 0 to 1 at x >= 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def neighbour_mean(triangles: np.ndarray, count: int) -> csr_matrix:
    """Sparse (count, count): each row is the mean over the vertices that share an edge with the vertex."""
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    linked = csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    linked = ((linked + linked.T) > 0).astype(float)
    return diags(1 / np.asarray(linked.sum(1)).ravel()) @ linked


def smooth_near(points: np.ndarray, triangles: np.ndarray, centres: list[np.ndarray], radius: float) -> np.ndarray:
    """Points (n, 3) smoothed near the centres (3,): Taubin (1995), a step in, a larger one out, no shrinking."""
    mean = neighbour_mean(triangles, len(points))
    near = np.max([smoothstep(1 - np.linalg.norm(points - c, axis=1) / radius) for c in centres], axis=0)
    for _ in range(12):
        for step in (0.5, -0.53):
            points = points + (step * near)[:, None] * (mean @ points - points)
    return points
