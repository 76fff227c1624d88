"""The check for collapse: speeds and spreads of known motion, and what is said of frozen, exploding, equal samples."""

import math

import pytest
import torch

from models.mdm.collapse import against_data, complaints, mean_speed, spread


def swings(phases: list[float], size: float = 1.0, frames: int = 60) -> list[torch.Tensor]:
    """Clips (frames, 3, 3): the root goes along z, two joints swing about it."""
    clips = []
    for phase in phases:
        clip = torch.zeros(frames, 3, 3)
        clip[..., 2] = torch.arange(frames)[:, None] / 20
        clip[:, 1:, 0] += size * torch.sin(torch.arange(frames)[:, None] / 5 + phase)
        clips.append(clip)
    return clips


def test_speed_is_in_metres_a_second():
    clip = torch.arange(10.0)[:, None, None] * torch.tensor([0.3, 0.0, 0.4]).expand(1, 2, 3)
    assert mean_speed([clip, torch.zeros(10, 2, 3)], 20) == pytest.approx(5.0)


def test_spread_is_about_the_root_over_common_frames():
    still = torch.zeros(10, 2, 3)
    raised = still[:6] + torch.tensor([7.0, 0.0, 0.0])  # elsewhere, a shorter clip
    raised[:, 1, 1] += 0.5
    assert spread([still, raised]) == pytest.approx(0.25)


def test_real_motion_of_other_phases_is_fine():
    shares = against_data(swings([0.3, 1.4, 2.9]), swings([0.0, 1.0, 2.5]), 20)
    assert shares["speed"] == pytest.approx(1, abs=0.02) and complaints(shares) == []


@pytest.mark.parametrize(
    "samples, word",
    [
        ([0.1 * clip for clip in swings([0, 1, 2])], "frozen"),
        ([clip + torch.randn(clip.shape) for clip in swings([0, 1, 2])], "exploding"),
        (swings([1, 1, 1]), "alike"),
        ([math.nan * clip for clip in swings([0, 1, 2])], "not finite"),
    ],
)
def test_collapse_is_named(samples, word):
    said = complaints(against_data(samples, swings([0.0, 1.0, 2.5]), 20))
    assert any(word in sentence for sentence in said)
