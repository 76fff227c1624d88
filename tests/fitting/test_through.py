"""What training through the fit looks at: windows inside clips, and the pace that shall stay."""

import pytest
import torch

from fitting.through import first, pace_change, places
from models.mdm.takes import collate


def test_pace_is_a_share_of_the_clips_own_speed():
    wanted = torch.randn(2, 8, 22, 3, generator=torch.Generator().manual_seed(0)).cumsum(1)
    found, mask = wanted * torch.tensor([0.8, 1.0])[:, None, None, None], torch.ones(2, 8, dtype=torch.bool)
    torch.testing.assert_close(pace_change(found, wanted, mask), torch.tensor([0.2, 0.0]), rtol=0, atol=1e-6)
    mask[1, 5:] = False
    found[1, 5:] += 100
    assert pace_change(found, wanted, mask)[1] < 1e-6


def test_windows_lie_in_their_clips_and_anywhere_in_them():
    lengths = torch.tensor([40, 16, 10]).repeat(200)
    frames = places(lengths, 16, torch.Generator().manual_seed(0))
    assert (frames.diff(dim=1) == 1).all() and (frames[:, 0] >= 0).all()
    assert (frames[lengths >= 16].amax(1) < lengths[lengths >= 16]).all() and (frames[lengths < 16, 0] == 0).all()
    assert set(frames[lengths == 40, 0].tolist()) == set(range(25))


@pytest.mark.parametrize("count", [2, 5])
def test_the_first_clips_of_a_batch(count):
    batch = collate([(torch.full((4 + number, 3), float(number)), f"clip {number}") for number in range(3)])
    few = first(batch, count)
    assert few.texts == batch.texts[:count] and len(few.motion) == len(few.mask) == min(count, 3)
    assert few.prefix is None and torch.equal(few.motion, batch.motion[:count])
