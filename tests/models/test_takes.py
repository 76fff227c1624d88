"""Performed sentences as training data: the cache, holds, batches of similar lengths, several processes, resuming."""

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.mdm.features import features_to_joints
from models.mdm.takes import SimilarLengths, TakeCrops, TakesData, collate, held, load_takes, make_takes, statistics


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        load_takes(0, 40)
        return load_takes(0, 40)  # read back


def test_the_cache_holds_what_was_made(takes):
    made = make_takes(0, 3)
    frames = made.lengths.sum()
    np.testing.assert_array_equal(takes.features[:frames], made.features)
    assert takes.texts[:3].tolist() == made.texts.tolist() and takes.actions[1].count("|") <= 1
    assert takes.lengths.sum() == len(takes.features) and (takes.lengths % 4 == 0).all()


def test_a_held_clip_stands_still(takes):
    clip = torch.from_numpy(takes.features[: takes.lengths[0]].astype(np.float32))
    joints = features_to_joints(held(clip, len(clip) + 20))
    assert joints[-20:].diff(dim=0).abs().max() < 1e-5
    torch.testing.assert_close(joints[: len(clip)], features_to_joints(clip))


def test_path_and_positions_count_most(takes):
    crops = TakeCrops(takes, statistics(takes), hold=False)
    rows = torch.cat([crops[0, i, int(takes.lengths[i] // 4 * 4)][0] for i in range(len(crops))])
    spread = [rows[:, channels].std(0).mean() for channels in (slice(0, 4), slice(4, 67), slice(67, 193))]
    assert spread == pytest.approx([3, 1, 0.25], rel=0.25)


def test_processes_share_the_batches_of_one(takes):
    crops = TakeCrops(takes, statistics(takes), hold=True, seed=3)
    alone = list(SimilarLengths(crops, 1, 0, batch=8))
    shares = [list(SimilarLengths(crops, 2, rank, batch=4)) for rank in (0, 1)]
    assert [key for pair in zip(*shares, strict=True) for key in pair] == alone
    assert len({clip for _, clip, _ in alone}) == 40
    spread = [
        max(key[2] for key in alone[i : i + 8]) - min(key[2] for key in alone[i : i + 8]) for i in range(0, 40, 8)
    ]
    lengths = [key[2] for key in alone]
    assert np.mean(spread) < 0.5 * (max(lengths) - min(lengths))
    batch = collate([crops[key] for key in alone[:8]])
    assert batch.mask.sum(1).tolist() == batch.lengths.tolist() == lengths[:8]
    assert (batch.motion[~batch.mask] == 0).all()


def test_an_epoch_goes_on_where_it_was_left(takes):
    crops = TakeCrops(takes, statistics(takes), hold=True)
    sampler = SimilarLengths(crops, 1, 0, batch=8)
    whole = list(sampler)
    sampler.skip = 16
    assert list(sampler) == whole[16:] and list(sampler) == whole
    sampler.set_epoch(1)
    assert list(sampler) != whole


def test_too_few_takes_are_refused():
    with pytest.raises(InputError, match="at least batch_size 64"):
        TakesData(count=20)
