"""A mixture of Gaussians that is its own mirror image: EM from a k-means start, with shrunk covariances."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Mixture:
    """weights (K,), means (K, D), covars (K, D, D)."""

    weights: np.ndarray
    means: np.ndarray
    covars: np.ndarray

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """log w_k N(x; m_k, C_k) for x (N, D): (N, K)."""
        chol = np.linalg.cholesky(self.covars)
        columns = []
        for weight, mean, lower in zip(self.weights, self.means, chol, strict=True):
            white = np.linalg.solve(lower, (x - mean).T)
            log_det = np.log(np.diag(lower)).sum()
            columns.append(np.log(weight) - log_det - 0.5 * (white**2).sum(0) - 0.5 * x.shape[1] * np.log(2 * np.pi))
        return np.stack(columns, axis=1)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log-density of x (N, D): (N,)."""
        return np.logaddexp.reduce(self.log_joint(x), axis=1)


def fit_mirrored(
    x: np.ndarray,
    mirror: Callable[[np.ndarray], np.ndarray],
    *,
    alone: int,
    pairs: int,
    prior: np.ndarray,
    shrink: float,
    seed: int = 0,
    steps: int = 60,
) -> Mixture:
    """Maximum a posteriori mixture of x (N, D) and its mirror image.

    `alone` components are their own mirror image and `pairs` pairs are each other's, so the mixture is exactly
    symmetric. mirror: linear map (..., D) -> (..., D), its own inverse; prior (D, D): covariance that each component
    is mixed with, in the share `shrink` (0..1) (Ledoit and Wolf, 2004: (1 - a) S + a T with a fixed target T).
    """
    both = np.concatenate([x, mirror(x)])
    count = alone + 2 * pairs
    partner = np.array([*range(alone), *(i + 1 - 2 * ((i - alone) % 2) for i in range(alone, count))])
    shares = _kmeans_shares(both, mirror, partner, np.random.default_rng(seed))
    previous = -np.inf
    for _ in range(steps):
        mixture = _m_step(both, shares, mirror, partner, prior, shrink)
        joint = mixture.log_joint(both)
        total = np.logaddexp.reduce(joint, axis=1)
        shares = np.exp(joint - total[:, None])
        if total.mean() - previous < 1e-4:
            break
        previous = total.mean()
    return mixture


def _m_step(x, shares, mirror, partner, prior, shrink) -> Mixture:
    """Weights, means and shrunk covariances of responsibilities (N, K), then made symmetric."""
    mass = shares.sum(0) + 1e-9
    means = shares.T @ x / mass[:, None]
    covars = np.empty((len(mass), x.shape[1], x.shape[1]))
    for k, mean in enumerate(means):
        centred = x - mean
        scatter = (centred * shares[:, k : k + 1]).T @ centred
        covars[k] = (1 - shrink) * scatter / mass[k] + shrink * prior
    weights = mass / mass.sum()
    mirrored_covars = mirror(mirror(covars).transpose(0, 2, 1)).transpose(0, 2, 1)
    covars = 0.5 * (covars + mirrored_covars[partner])
    return Mixture(
        weights=0.5 * (weights + weights[partner]),
        means=0.5 * (means + mirror(means)[partner]),
        covars=0.5 * (covars + covars.transpose(0, 2, 1)),
    )


def _kmeans_shares(x, mirror, partner, rng, steps: int = 30) -> np.ndarray:
    """Hard responsibilities (N, K) of a mirror-symmetric k-means, started far apart as in k-means++."""
    centres: list[np.ndarray] = []
    while len(centres) < len(partner):
        far = np.min([((x - c) ** 2).sum(1) for c in centres], axis=0) if centres else np.ones(len(x))
        seed = x[rng.choice(len(x), p=far / far.sum())]
        alone = partner[len(centres)] == len(centres)
        centres += [0.5 * (seed + mirror(seed))] if alone else [seed, mirror(seed)]
    means = np.stack(centres)
    for _ in range(steps):
        distance = (x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)
        shares = np.eye(len(means))[distance.argmin(1)]
        moved = shares.T @ x / np.maximum(shares.sum(0), 1)[:, None]
        means = np.where(shares.sum(0)[:, None] > 0, moved, means)
        means = 0.5 * (means + mirror(means)[partner])
    return shares
