"""Diffusion: the reference's tables and steps, and the samplers on data whose answer is known in closed form."""

import math

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.mdm.diffusion import (
    ancestral_step,
    ddim_step,
    diffuse,
    half_log_snr,
    noise_schedule,
    posterior_mean,
    spaced,
    spaced_in_lambda,
    strided,
)
from models.mdm.sampling import ancestral, ddim, dpm_solver
from tests.mdm import golden

COSINE = noise_schedule("cosine", 1000)
SCHEDULES = {
    "cosine10": noise_schedule("cosine", 10),
    "cosine50": noise_schedule("cosine", 50),
    "cosine1000": COSINE,
    "linear1000": noise_schedule("linear", 1000),
    "cosine1000_to_50": COSINE.keep(spaced(1000, [50])),
    "cosine1000_ddim50": COSINE.keep(strided(1000, 50)),
    "cosine1000_to_10_15_20": COSINE.keep(spaced(1000, [10, 15, 20])),
}
STEPS = {"T50": "cosine50", "T1000": "cosine1000", "T1000_to_50": "cosine1000_to_50"}
MEAN, DEVIATION = 0.7, 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_of_the_reference(reference, name):
    schedule = SCHEDULES[name]
    file = {k.split("__")[1]: v.numpy() for k, v in golden(reference, "diffusion_tables").items() if f"{name}__" in k}
    of_clean, of_x = schedule.posterior_weights
    ours = {
        "betas": schedule.betas,
        "alphas_cumprod": schedule.alpha_bar,
        "alphas_cumprod_prev": schedule.alpha_bar_before,
        "posterior_variance": schedule.posterior_variance,
        "posterior_mean_coef1": of_clean,
        "posterior_mean_coef2": of_x,
    }
    for table, values in ours.items():
        np.testing.assert_allclose(values, file[f"{table}_f64"], rtol=1e-9, err_msg=table)
    np.testing.assert_array_equal(schedule.timesteps, file["timestep_map"])


def test_kept_steps_of_the_reference(reference):
    file = golden(reference, "diffusion_tables")
    for name, kept in (
        ("s300_10_15_20", spaced(300, [10, 15, 20])),
        ("s1000_50", spaced(1000, [50])),
        ("s1000_str", spaced(1000, [7, 13])),
        ("s1000_ddim100", strided(1000, 100)),
        ("s50_ddim10", strided(50, 10)),
    ):
        assert kept == file[f"steps_{name}"].tolist(), name


@pytest.mark.parametrize("name", STEPS)
def test_single_steps_of_the_reference(reference, name):
    """Every entry of the golden batch is at a level of its own."""
    file, schedule = golden(reference, "diffusion_steps"), SCHEDULES[STEPS[name]]
    for b, level in enumerate(file[f"{name}_t"].tolist()):
        x0, x, noise, output = (file[key][b] for key in ("x0", "xt", "noise", "net_output"))
        filled = torch.where(file["inpainting_mask"][b], file["inpainted_motion"][b], output)
        found = {
            "q_sample": diffuse(schedule, x0, level, noise),
            "mean": posterior_mean(schedule, output, x, level),
            "p_sample": ancestral_step(schedule, output, x, level, noise),
            "p_sample_clipped": ancestral_step(schedule, output.clamp(-1, 1), x, level, noise),
            "p_sample_inpaint": ancestral_step(schedule, filled, x, level, noise),
            "p_sample_const_noise": ancestral_step(schedule, output, x, level, file["noise"][0]),
        }
        for key, value in found.items():
            torch.testing.assert_close(value, file[f"{name}_{key}"][b], atol=1e-5, rtol=0)
        assert schedule.timesteps[level] == file[f"{name}_model_t"][b]


def fresh_share(signal, target):
    """Deviation of DDIM's fresh noise at eta 1."""
    return np.sqrt((1 - target) / (1 - signal)) * np.sqrt(1 - signal / target)


@pytest.mark.parametrize("name", STEPS)
def test_ddim_steps_of_the_reference(reference, name):
    """The reference forms 1 - alpha_bar in single precision, wrong by up to 1e-3 of itself near clean motion.

    That moves its steps by up to 6.5e-4; with its rounding put in, ours are its own.
    """
    file, schedule = golden(reference, "diffusion_steps"), SCHEDULES[STEPS[name]]
    single = schedule.alpha_bar.astype(np.float32)
    for b, level in enumerate(file[f"{name}_t"].tolist()):
        x, noise, output = (file[key][b] for key in ("xt", "noise", "net_output"))
        signal, target = schedule.alpha_bar[level], float(single[level - 1]) if level else 1.0
        eta = 0.7 * float(fresh_share(single[level], single[level - 1])) / fresh_share(signal, target) if level else 0.0
        for key, value in (
            ("ddim_eta0", ddim_step(output, x, signal, target)),
            ("ddim_eta0p7", ddim_step(output, x, signal, target, noise, eta)),
        ):
            torch.testing.assert_close(value, file[f"{name}_{key}"][b], atol=1e-5, rtol=0)
    for b, level in enumerate(file[f"{name}_ddim_reverse_t"].tolist()):
        noisier = ddim_step(file["net_output"][b], file["xt"][b], schedule.alpha_bar[level], float(single[level + 1]))
        torch.testing.assert_close(noisier, file[f"{name}_ddim_reverse"][b], atol=1e-5, rtol=0)


def test_inversion_undoes_a_ddim_step():
    clean, x = torch.randn(2, 5, 7, dtype=torch.float64)
    back = ddim_step(clean, ddim_step(clean, x, 0.5, 0.8), 0.8, 0.5)
    torch.testing.assert_close(back, x)


def known_denoiser(schedule):
    """The best possible denoiser of motion whose every number is drawn from N(MEAN, DEVIATION^2)."""
    levels = dict(zip(schedule.timesteps.tolist(), schedule.alpha_bar.tolist(), strict=True))

    def denoise(x, timestep):
        signal = levels[timestep]
        gain = DEVIATION**2 * math.sqrt(signal) / (DEVIATION**2 * signal + 1 - signal)
        return MEAN + gain * (x - math.sqrt(signal) * MEAN)

    return denoise


def along_the_ode(x, start, end):
    """Where the probability flow takes x from alpha_bar start to end: the marginals are normal, so it only rescales."""
    spread = [DEVIATION**2 * signal + 1 - signal for signal in (start, end)]
    return math.sqrt(end) * MEAN + math.sqrt(spread[1] / spread[0]) * (x - math.sqrt(start) * MEAN)


def ode_error(sampler, kept) -> float:
    schedule = COSINE.keep(kept)
    denoise = known_denoiser(schedule)
    x = torch.randn(2, 30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = denoise(along_the_ode(x, schedule.alpha_bar[-1], schedule.alpha_bar[0]), 0)
    return (sampler(denoise, x, schedule) - exact).abs().max().item()


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (dpm_solver, 2)])
def test_order_of_convergence(sampler, order):
    coarse, fine = (ode_error(sampler, spaced(1000, [n])) for n in (80, 160))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_ten_steps_of_dpm_solver_beat_a_hundred_of_ddim():
    assert ode_error(dpm_solver, spaced_in_lambda(COSINE, 10)) < ode_error(ddim, spaced(1000, [100]))


@pytest.mark.parametrize("sampler", [ancestral, lambda *given: ddim(*given, eta=1.0)], ids=["ancestral", "ddim eta 1"])
def test_samples_have_the_datas_distribution(sampler):
    torch.manual_seed(0)
    schedule = noise_schedule("cosine", 200)
    samples = sampler(known_denoiser(schedule), torch.randn(4, 5000, 1), schedule)
    assert samples.mean() == pytest.approx(MEAN, abs=0.02)
    assert samples.std() == pytest.approx(DEVIATION, rel=0.03)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [50, 1000])
def test_schedules_end_in_noise(name, steps):
    schedule = noise_schedule(name, steps)
    assert len(schedule) == steps and schedule.posterior_variance[0] == 0
    assert (np.diff(schedule.alpha_bar) < 0).all() and schedule.alpha_bar[-1] < 1e-4 < 0.9 < schedule.alpha_bar[0]


def test_even_spacing_in_lambda():
    kept = spaced_in_lambda(COSINE, 12)
    assert kept[0] == 0 and kept[-1] == 999 and len(kept) <= 12
    steps = np.diff(half_log_snr(COSINE.alpha_bar[kept]))
    assert steps[2:-2].std() < 0.1 * abs(steps[2:-2].mean())


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda: noise_schedule("sigmoid", 50), "cosine, linear"),
        (lambda: noise_schedule("cosine", 0), "0 diffusion steps"),
        (lambda: noise_schedule("linear", 10), "too few"),
        (lambda: spaced(50, [51]), "between 1 and 50"),
        (lambda: spaced(50, [0]), "between 1 and 50"),
        (lambda: strided(1000, 300), "300 of 1000"),
    ],
)
def test_steps_that_cannot_be(ask, words):
    with pytest.raises(InputError, match=words):
        ask()
