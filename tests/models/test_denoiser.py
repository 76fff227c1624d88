"""The denoiser: the reference's outputs and state dicts for every variant, and what must hold of any weights."""

import json

import pytest
import torch

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of
from models.mdm.denoiser import GOALS, Condition, Denoiser, DenoiserConfig, met, sinusoids
from models.mdm.sampling import guided
from tests.mdm import (
    VARIANTS,
    as_frames,
    golden,
    golden_condition,
    golden_network,
    small_condition,
    small_network,
)

BERT = {"arch": "trans_dec", "text_encoder": "bert"}
DIP = {**BERT, "context_len": 3, "pred_len": 4}
SMALL = {
    "trans_enc": {},
    "trans_dec": {"arch": "trans_dec"},
    "trans_dec_emb": {"arch": "trans_dec", "time_token": True},
    "bert": BERT,
    "dip": DIP,
    "dip_goals": {**DIP, "goals": True, "mask_frames": True},
    "gru": {"arch": "gru"},
    "gru_over_batch": {"arch": "gru", "gru_over_batch": True},
    "action": {"condition": "action"},
    "overlap": {"frames_per_token": 2, "overlap": 1},
    "refine": {"refine": 5},
}
FULL_SIZE = {
    "humanml_trans_enc_512": {},
    "humanml_trans_dec_512": {"arch": "trans_dec"},
    "humanml_trans_dec_emb_512": {"arch": "trans_dec", "emb_trans_dec": True},
    "humanml_trans_dec_bert_512": {"arch": "trans_dec", "text_encoder_type": "bert"},
    "humanml_gru_512": {"arch": "gru"},
    "kit_trans_enc_512": {"dataset": "kit"},
    "humanact12": {"dataset": "humanact12"},
    "unconstrained_humanact12": {"dataset": "humanact12", "unconstrained": True},
    "dip_target_single": {
        "arch": "trans_dec",
        "text_encoder_type": "bert",
        "context_len": 20,
        "pred_len": 40,
        "multi_target_cond": True,
    },
}


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_outputs_of_the_reference(reference, name):
    file, network = golden(reference, f"mdm_{name}"), golden_network(reference, name)
    x, t, condition = as_frames(file["x"]), file["timesteps"], golden_condition(file)
    torch.testing.assert_close(network(x, t, condition), as_frames(file["out_cond"]), atol=2e-4, rtol=0)
    dropped = network(x, t, condition, keep=torch.zeros(len(x)))
    torch.testing.assert_close(dropped, as_frames(file["out_uncond"]), atol=2e-4, rtol=0)
    assert (as_frames(file["out_cond"]) - dropped).abs().max() > 1e-2  # the condition matters
    time = network.embed_timestep(t).transpose(0, 1)
    torch.testing.assert_close(time, file["time_emb"], atol=2e-4, rtol=0)


@torch.no_grad()
def test_inner_values_of_the_reference(reference):
    file, network = golden(reference, "mdm_trans_enc"), golden_network(reference, "trans_enc")
    projected = network.input_process["poseEmbedding"](as_frames(file["x"]))
    torch.testing.assert_close(projected.transpose(0, 1), file["input_proj"], atol=2e-4, rtol=0)
    embedding = network.embed_timestep(file["timesteps"])[:, 0] + network.embed_text(file["text_embed"][0])
    torch.testing.assert_close(embedding[None], file["text_plus_time_emb"], atol=2e-4, rtol=0)


@torch.no_grad()
def test_masked_frames_and_one_text_for_all_as_in_the_reference(reference):
    file, network = golden(reference, "mdm_trans_enc"), golden_network(reference, "trans_enc", mask_frames=True)
    x, t, condition = as_frames(file["x"]), file["timesteps"], golden_condition(file)
    one_text = Condition(text=condition.text[:1], mask=condition.mask)
    for given, keep, name in (
        (condition, None, "out_cond_mask_frames"),
        (condition, torch.zeros(len(x)), "out_uncond_mask_frames"),
        (one_text, None, "out_cond_mask_frames_single_text"),
    ):
        torch.testing.assert_close(network(x, t, given, keep), as_frames(file[name]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_state_dicts_have_the_references_names_and_shapes(reference, name):
    expected = json.loads((reference / "golden" / "mdm_state_dict_shapes.json").read_text())[name]
    with torch.device("meta"):
        network = Denoiser(config_of(DEFAULTS | OURS | FULL_SIZE[name]))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected["state_dict"]
    assert sum(p.numel() for p in network.parameters()) == expected["trainable_parameters"]


@pytest.mark.parametrize("name", SMALL)
def test_batched_guidance_equals_two_calls(name):
    network = small_network(**SMALL[name])
    condition = small_condition(network.config, 4)
    x, scale = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(2)), torch.tensor([0.0, 1.0, 2.5, 7.5])
    with torch.no_grad():
        time = torch.zeros(4, dtype=torch.long)
        first, second = (network.rough(x, time, condition, k) for k in (torch.ones(4), torch.zeros(4)))
        wanted = network.refined(second + scale[:, None, None] * (first - second), time, condition)
    found = guided(network, condition, scale)(x, 0)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_a_sample_depends_on_itself_only(name):
    """All but the reference's GRU, which recurs across the batch."""
    network = small_network(**SMALL[name])
    condition = small_condition(network.config, 4)
    x = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = network(x, torch.arange(4), condition)
        x[0] += 1
        after = network(x, torch.arange(4), condition)
    assert not torch.allclose(before[0], after[0])
    assert torch.allclose(before[1:], after[1:], atol=1e-6) == (name != "gru_over_batch")


@pytest.mark.parametrize("name", SMALL)
def test_no_text_equals_a_dropped_one(name):
    network = small_network(**SMALL[name])
    full = small_condition(network.config, 2)
    x, t = torch.randn(2, 6, 7), torch.tensor([3, 40])
    with torch.no_grad():
        dropped = network(x, t, full, torch.zeros(2))
        absent = network(x, t, Condition(goals=full.goals, prefix=full.prefix))
    torch.testing.assert_close(dropped, absent, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", ["trans_enc", "trans_dec"])
def test_what_stands_in_padding_does_not_matter_where_frames_are_masked(arch):
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    for masking in (True, False):
        network = small_network(arch=arch, mask_frames=masking)
        x, condition = torch.randn(2, 6, 7), Condition(mask=mask)
        noisy = torch.where(mask[..., None], x, 50.0)
        with torch.no_grad():
            found = [network(motion, torch.tensor([3, 40]), condition)[mask] for motion in (x, noisy)]
        assert torch.allclose(*found, atol=1e-5) == masking


@pytest.mark.parametrize("overlap", [1, 2])
def test_of_a_jump_between_two_tokens_a_ramp_is_left(overlap):
    heights = torch.tensor([0.0, 1.0, 1.0]).double()
    found = met(heights[None, :, None, None].expand(1, 3, 4 + 2 * overlap, 5), overlap, None).flatten(1, 2)[0]
    wanted = ((torch.arange(12) - 3.5 + overlap + 0.5) / (2 * overlap + 1)).clamp(0, 1).double()
    torch.testing.assert_close(found, wanted[:, None].expand(12, 5))


@pytest.mark.parametrize("options", [{"frames_per_token": 2, "overlap": 1}, {"refine": 5}])
def test_padding_says_nothing_of_others(options):
    """A batch's longest clip decides how much padding there is; a clip is the same in any batch."""
    network = small_network(**options, mask_frames=True)
    x, t = torch.randn(1, 8, 7), torch.tensor([0])
    with torch.no_grad():
        alone = network(x[:, :4], t, Condition(mask=torch.ones(1, 4, dtype=torch.bool)))
        padded = network(x, t, Condition(mask=(torch.arange(8) < 4)[None]))
    torch.testing.assert_close(padded[:, :4], alone, rtol=0, atol=1e-5)


def test_what_is_said_last_is_refined_by_six_frames_to_either_side():
    network = small_network(refine=5)
    motion = torch.randn(2, 20, 7).requires_grad_()
    found = network.refined(motion, torch.tensor([0, 1]), Condition())
    assert torch.equal(found[1], motion[1]) and not torch.allclose(found[0], motion[0], atol=0.01)
    (heard,) = torch.autograd.grad(found[0, 10].sum(), motion)
    assert heard[0].any(1).nonzero()[:, 0].tolist() == list(range(4, 17))


def test_with_and_without_gradients_is_the_same():
    """Without gradients torch takes a fused path through the encoder."""
    network = small_network(mask_frames=True)
    x, mask = torch.randn(2, 6, 7), torch.arange(6) < torch.tensor([[6], [4]])
    plain = network(x, torch.tensor([3, 40]), Condition(mask=mask))
    with torch.no_grad():
        fused = network(x, torch.tensor([3, 40]), Condition(mask=mask))
    torch.testing.assert_close(plain.detach()[mask], fused[mask], atol=1e-5, rtol=1e-5)


def test_double_precision():
    network = small_network().double()
    assert network(torch.randn(2, 6, 7).double(), torch.tensor([3, 40])).dtype == torch.float64


def test_goals_move_only_those_who_have_them():
    network = small_network(**SMALL["dip_goals"])
    condition = small_condition(network.config, 2)
    goals = condition.goals.clone()
    goals[0, GOALS.index("head"), 0] += 1
    x, t = torch.randn(2, 4, 7), torch.tensor([3, 40])
    moved = Condition(condition.text, condition.text_padding, goals=goals, prefix=condition.prefix)
    with torch.no_grad():
        change = (network(x, t, condition) - network(x, t, moved)).abs().amax((1, 2))
    assert change[0] > 1e-4 and change[1] < 1e-6


def test_sinusoids():
    table = sinusoids(50, 8).double()
    for p, i in ((0, 0), (3, 1), (49, 3)):
        angle = torch.tensor(p * 10000 ** (-2 * i / 8), dtype=torch.float64)
        torch.testing.assert_close(
            table[p, 2 * i : 2 * i + 2], torch.stack((angle.sin(), angle.cos())), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"arch": "mamba"}, "trans_enc, trans_dec, gru"),
        ({"text_encoder": "t5"}, "clip, bert"),
        ({"text_encoder": "bert"}, "trans_dec"),
        ({"latent_dim": 30, "heads": 4}, "30"),
        ({"heads": 0}, "at least 1"),
        ({"refine": -1}, "refine -1 is a width"),
        ({"frames_per_token": 4, "overlap": 3}, "overlap 3 .* half of frames_per_token 4"),
    ],
)
def test_networks_that_do_not_exist(changes, words):
    with pytest.raises(InputError, match=words):
        DenoiserConfig(**changes)


def test_more_frames_than_positions():
    with pytest.raises(InputError, match="5000 frames.*4999"):
        small_network()(torch.zeros(1, 5000, 7), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    "network, condition, features, words",
    [
        ({}, {}, 8, "7"),
        ({"condition": "action"}, {"text": torch.zeros(1, 512)}, 7, "action"),
        ({}, {"text": torch.zeros(1, 768)}, 7, "768.*512.*clip"),
        ({}, {"goals": torch.zeros(1, 8, 4)}, 7, "multi_target_cond"),
        ({}, {"prefix": torch.zeros(1, 2, 7)}, 7, "2 frames.*0"),
        (DIP, {}, 7, "0 frames.*3"),
    ],
)
def test_conditions_that_do_not_fit(network, condition, features, words):
    with pytest.raises(InputError, match=words):
        small_network(**network)(torch.zeros(1, 4, features), torch.zeros(1, dtype=torch.int64), Condition(**condition))
