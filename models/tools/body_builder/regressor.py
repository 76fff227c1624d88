"""The joint regressor: which vertices' weighted mean is each joint."""

import numpy as np
from scipy.optimize import nnls

from models.skeleton import SMPL_PARENTS

CANDIDATES = 260  # nearest vertices among which a joint's are chosen
FAR = 0.3  # metres added to the distance of vertices that move with other bones
RIDGE = 8.0  # spreads a row over many vertices: 27 to 227 of them
EXACT = 100.0  # weight of sitting on the joint and of summing to one
BLIND = 5 / 0.005  # weight of standing still under the girth directions: 5 for each 5 mm


def joint_regressor(points: np.ndarray, weights: np.ndarray, joints: np.ndarray, girth: np.ndarray) -> np.ndarray:
    """(24, V), rows non-negative, sparse, summing to one, exact on the template: regressor @ points == joints.

    points (V, 3); weights (V, 24); joints (24, 3); girth (V, 3, k): shape directions that should not move the joints
    (weight, gender), since a skeleton does not change with the fat around it.
    """
    near = np.stack([weights[:, j] + (weights[:, p] if p >= 0 else 0) for j, p in enumerate(SMPL_PARENTS)])
    return np.stack([row(points, joint, girth, near[j] < 0.02) for j, joint in enumerate(joints)])


def row(points: np.ndarray, joint: np.ndarray, girth: np.ndarray, foreign: np.ndarray) -> np.ndarray:
    """One row (V,): non-negative least squares over the nearest vertices, then the correction that makes it exact."""
    distances = np.linalg.norm(points - joint, axis=1)
    chosen = np.argsort(distances + FAR * foreign)[:CANDIDATES]
    arms, distances = points[chosen] - joint, distances[chosen]
    radius = distances.mean()
    count = len(chosen)
    equations = np.concatenate(
        [
            EXACT * arms.T / radius,
            np.full((1, count), EXACT),
            BLIND * girth[chosen].transpose(2, 1, 0).reshape(-1, count),
            RIDGE * np.diag(np.maximum(distances / radius, 0.5)),
        ]
    )
    wanted = np.zeros(len(equations))
    wanted[3] = EXACT
    shares, _ = nnls(equations, wanted, maxiter=50 * count)
    shares[shares < 2e-3 * shares.max()] = 0
    result = np.zeros(len(points))
    result[chosen] = exact(shares, arms)
    return result


def exact(shares: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """The shares (n,) scaled so that they sum to one and the weighted mean of `arms` (n, 3) is zero.

    Each gets its own factor near one: zeros stay zero and no sign changes.
    """
    constraints = np.concatenate([arms.T, np.ones((1, len(arms)))])
    missing = np.array([0, 0, 0, 1.0]) - constraints @ shares
    return shares + shares * np.linalg.lstsq(constraints * shares, missing, rcond=None)[0]
