"""Has a network collapsed? What it samples, measured against real motion of the same sentences.

Small data and long fine-tunings end in people who stand still, fly apart, or do the same whatever they are told. The
loss hardly shows it, since the mean of all motions has a low one.
"""

import math
from collections.abc import Sequence
from itertools import combinations

from torch import Tensor

FROZEN, EXPLODING = 0.5, 2.0  # of the data's speed
ALIKE = 0.25  # of the data's distance between clips; other draws of the same sentences stay above it


def mean_speed(clips: Sequence[Tensor], fps: float) -> float:
    """Speed of the joints of clips (frames, J, 3), averaged over joints, frames and clips, in their unit a second."""
    return sum(float(clip.diff(dim=0).norm(dim=-1).mean()) for clip in clips) * fps / len(clips)


def spread(clips: Sequence[Tensor]) -> float:
    """Distance of joints about the root between two clips (frames, J, 3), averaged over pairs; frames both have."""
    about_root = [clip - clip[:, :1] for clip in clips]
    pairs = list(combinations(about_root, 2))
    shortest = [min(len(one), len(other)) for one, other in pairs]
    apart = [float((one[:n] - other[:n]).norm(dim=-1).mean()) for (one, other), n in zip(pairs, shortest, strict=True)]
    return sum(apart) / len(apart)


def against_data(samples: Sequence[Tensor], data: Sequence[Tensor], fps: float) -> dict[str, float]:
    """speed and spread of samples as shares of the data's; clips (frames, J, 3), two or more of each."""
    return {
        "speed": mean_speed(samples, fps) / max(mean_speed(data, fps), 1e-9),
        "spread": spread(samples) / max(spread(data), 1e-9),
    }


def complaints(shares: dict[str, float]) -> list[str]:
    """What is wrong with samples of these shares, a sentence each; nothing where all is well."""
    speed, apart = shares["speed"], shares["spread"]
    if not math.isfinite(speed + apart):
        return ["exploding: not finite"]
    found = []
    if speed < FROZEN:
        found.append(f"frozen: joints move at {speed:.2f} of the data's speed")
    if speed > EXPLODING:
        found.append(f"exploding: joints move at {speed:.2f} times the data's speed")
    if apart < ALIKE:
        found.append(f"all alike: they differ by {apart:.2f} of what the data's clips do")
    return found
