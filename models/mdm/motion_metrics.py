"""How good generated motion is, from embeddings: FID, R-precision, distance to the text, diversity, multimodality.

Embeddings are float64 inside. Sources: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017 (FID);
Guo et al., Generating Diverse and Natural 3D Human Motions from Text, 2022 (the others), as MDM's evaluation has them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import InputError

GROUP = 32  # motions that a sentence is compared with


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """FID of embeddings (N, D) and (M, D): that of two normal distributions, |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)).

    The eigenvalues of S1 S2 are those of the symmetric sqrt(S1) S2 sqrt(S1), so nothing becomes complex where a
    covariance is singular. Raises InputError for fewer than two rows, and for numbers that are not finite.
    """
    if min(len(one), len(other)) < 2:
        raise InputError(f"FID of {len(one)} and {len(other)} motions: two of each are needed, hundreds make sense")
    if not (one.isfinite().all() and other.isfinite().all()):
        raise InputError("FID: an embedding is not finite; is the motion?")
    one, other = one.double(), other.double()
    first, second = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    distance = (one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * product
    return max(float(distance), 0.0)


def text_distances(text: Tensor, motion: Tensor) -> Tensor:
    """Euclidean distances (groups, 32, 32) of sentences and motions (N, D) of equal rank, in groups of 32.

    What does not fill a group is left out. Raises InputError for fewer than 32.
    """
    groups = len(text) // GROUP
    if groups == 0 or len(text) != len(motion):
        raise InputError(f"{len(text)} sentences, {len(motion)} motions: expected are as many of both, {GROUP} or more")
    text, motion = (x[: groups * GROUP].double().unflatten(0, (groups, GROUP)) for x in (text, motion))
    return (text[:, :, None] - motion[:, None]).norm(dim=-1)


def r_precision(distances: Tensor, most: int = 3) -> Tensor:
    """Share of sentences whose own motion is among the nearest 1, 2, ... `most`, (most,), of text_distances."""
    own = distances.diagonal(dim1=1, dim2=2)
    nearer = (distances < own[..., None]).sum(-1)
    return torch.stack([(nearer < k).double().mean() for k in range(1, most + 1)])


def matching_distance(distances: Tensor) -> float:
    """Mean distance of a sentence and its own motion, of text_distances."""
    return float(distances.diagonal(dim1=1, dim2=2).mean())


def diversity(motion: Tensor, first: Tensor, second: Tensor) -> float:
    """Mean distance of pairs of embeddings (N, D); first and second: indices of the pairs."""
    return float((motion[first].double() - motion[second].double()).norm(dim=-1).mean())


def multimodality(motion: Tensor, first: Tensor, second: Tensor) -> float:
    """Mean distance of pairs made from the same sentence. motion (sentences, samples, D); indices of the samples."""
    return float((motion[:, first].double() - motion[:, second].double()).norm(dim=-1).mean())


def random_pairs(count: int, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices below `count` for pairs, each half without repetition; fewer pairs where count is less."""
    first, second = (torch.randperm(count, generator=generator)[:pairs] for _ in range(2))
    return first, second


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of motions whose largest logit is that of their action. logits (N, actions), labels (N,)."""
    return float((logits.argmax(-1) == labels).double().mean())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over n replications and half its 95 % interval, 1.96 std / sqrt(n) as published tables have it."""
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(1.96 * values.std(correction=0) / math.sqrt(len(values)))
