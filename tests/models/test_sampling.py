"""Sampling loops of the reference, guidance in an interval, inpainting, seeds, prefix after prefix."""

import pytest
import torch

from models.errors import InputError
from models.mdm.denoiser import Condition
from models.mdm.diffusion import diffuse, noise_schedule, strided
from models.mdm.edit_masks import upper_body
from models.mdm.sampling import (
    ancestral,
    autoregressive,
    conditioned,
    corrected,
    ddim,
    dpm_solver,
    guided,
    inpainted,
    seeded_noise,
)
from tests.mdm import as_frames, golden, golden_network, small_condition, small_network

TEN = noise_schedule("cosine", 10)


@pytest.fixture
def loops(reference):
    """The golden file in frames, its guided and plain denoisers, and a maker of its noise."""
    file = golden(reference, "diffusion_loops")
    network, condition = golden_network(reference, "trans_enc"), Condition(text=file["text_embed"][0])
    scale = file["cfg_scale"]
    draws = as_frames(file["step_noise"].flatten(0, 1)).unflatten(0, file["step_noise"].shape[:2])
    frames = {key: as_frames(value) for key, value in file.items() if value.ndim == 4}

    def noise():
        rest = iter(draws)
        return lambda x: next(rest)

    return frames, guided(network, condition, scale), conditioned(network, condition), noise


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=5e-4, rtol=0)


def test_ancestral_loops_of_the_reference(loops):
    file, with_guidance, plain, noise = loops
    close(ancestral(with_guidance, file["init_noise"], TEN, noise()), file["p_sample_loop_T10_cfg"])
    close(ancestral(plain, file["init_noise"], TEN, noise()), file["p_sample_loop_T10_nocfg"])


def test_ddim_loop_of_the_reference(loops):
    file, with_guidance, _, _ = loops
    schedule = noise_schedule("cosine", 1000)
    schedule = schedule.keep(strided(1000, 10))
    close(ddim(with_guidance, file["init_noise"], schedule), file["ddim_loop_1000_ddim10_cfg"])


def test_edits_of_the_reference(loops):
    file, with_guidance, _, noise = loops
    for name, mask in (("in_between", file["in_between_mask"]), ("upper_body", upper_body())):
        denoise = inpainted(with_guidance, file["inpainted_motion"], mask)
        close(ancestral(denoise, file["init_noise"], TEN, noise()), file[f"p_sample_loop_T10_{name}_cfg"])


def test_start_from_a_motion_as_the_reference(loops):
    file, with_guidance, _, noise = loops
    start = diffuse(TEN, file["inpainted_motion"], 6, file["init_noise"])
    close(ancestral(with_guidance, start, TEN.keep(range(7)), noise()), file["p_sample_loop_T10_skip3_init"])


def test_guidance_where_it_matters_costs_less():
    """Inside the interval two evaluations a step, outside one: the plain network's."""
    network, rows = small_network(), []
    network.output_process["poseFinal"].register_forward_hook(lambda module, given, output: rows.append(len(output)))
    condition = small_condition(network.config, 3)
    x = torch.randn(3, 6, 7)
    partly = guided(network, condition, 4.0, interval=(3, 5))
    for t, reference in ((2, conditioned(network, condition)), (3, guided(network, condition, 4.0))):
        torch.testing.assert_close(partly(x, t), reference(x, t))
    rows.clear()
    ancestral(partly, x, TEN)
    assert rows == [3, 3, 3, 3, 6, 6, 6, 3, 3, 3]


@pytest.mark.parametrize("changes", [{"condition": "none"}, {"condition": "action", "condition_drop": 0.0}])
def test_guidance_of_a_network_that_cannot_have_it(changes):
    with pytest.raises(InputError, match="trained with and without"):
        guided(small_network(**changes), Condition(), 2.5)


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver])
def test_known_parts_are_kept_exactly(sampler):
    network, known = small_network(), torch.randn(2, 6, 7)
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[:2], mask[:, 3] = True, True
    made = sampler(inpainted(conditioned(network, Condition()), known, mask), torch.randn(2, 6, 7), TEN)
    torch.testing.assert_close(made[:, mask], known[:, mask], atol=1e-6, rtol=1e-6)
    assert (made[:, ~mask] - known[:, ~mask]).abs().min() > 1e-5


def test_a_sample_is_the_same_in_any_batch():
    network = small_network()
    denoise = conditioned(network, Condition())

    def make(seeds):
        noise = seeded_noise(seeds)
        return ancestral(denoise, noise(torch.empty(len(seeds), 6, 7)), TEN, noise)

    together = make([5, 6, 7])
    torch.testing.assert_close(together[1:2], make([6]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(make([5, 6, 7]), together, atol=0, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_prefix_after_prefix():
    """A network that counts on from its prefix makes one long count; what is too long is cut."""
    calls = []

    def predict(prefix, call):
        calls.append((prefix[0, :, 0].tolist(), call))
        return prefix[:, -1:] + torch.arange(1.0, 5)[:, None]

    motion = autoregressive(predict, torch.tensor([[[-2.0], [-1.0], [0.0]]]), frames=10)
    assert motion[0, :, 0].tolist() == list(range(1, 11))
    assert calls == [([-2, -1, 0], 0), ([2, 3, 4], 1), ([6, 7, 8], 2)]


def test_prefix_longer_than_what_is_predicted():
    motion = autoregressive(lambda prefix, call: prefix[:, :2], torch.arange(3.0)[None, :, None], frames=6)
    assert motion[0, :, 0].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_prefix_network_goes_on_and_on():
    network = small_network(arch="trans_dec", text_encoder="bert", context_len=3, pred_len=4, goals=True)
    condition = small_condition(network.config, 2)

    def predict(prefix, call):
        given = Condition(condition.text, condition.text_padding, goals=condition.goals, prefix=prefix)
        return ancestral(guided(network, given, 7.5), torch.randn(2, network.config.pred_len, 7), TEN)

    motion = autoregressive(predict, condition.prefix, frames=9)
    assert motion.shape == (2, 9, 7) and motion.isfinite().all()


def test_only_the_last_levels_are_corrected():
    denoise = corrected(lambda x, timestep: torch.full_like(x, timestep), lambda clean: clean + 100, last=2)
    assert [float(denoise(torch.zeros(1), timestep)) for timestep in (3, 2, 0)] == [3, 102, 100]
