"""Training MDM: the reference's losses and optimiser steps, timesteps by loss, exact resume, processes as one."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from models.body import BodyModel
from models.errors import InputError
from models.mdm.checkpoint import load_checkpoint
from models.mdm.denoiser import Condition
from models.mdm.diffusion import diffuse, noise_schedule
from models.mdm.features import features_to_joints
from models.mdm.losses import GeometricWeights, action_joints, loss_terms, masked_l2
from models.mdm.module import MDM, known_options
from models.mdm.timesteps import REMEMBERED, TimestepSampler
from models.optimizer import rate_factor
from tests.mdm import as_frames, golden, golden_network
from tests.runs import process

FIFTY = noise_schedule("cosine", 50)
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
}
OPTIONS = {"latent_dim": 16, "ff_size": 32, "layers": 1, "heads": 2, "diffusion_steps": 20}


def noised(file: dict[str, Tensor], prefix: str) -> tuple[Tensor, Tensor, Tensor]:
    """Clean motion, noised motion, and mask of a golden batch."""
    clean, noise = (as_frames(file[f"{prefix}_{key}"]) for key in ("x0", "noise"))
    rows = [diffuse(FIFTY, c, int(t), n) for c, n, t in zip(clean, noise, file[f"{prefix}_t"], strict=True)]
    return clean, torch.stack(rows), file[f"{prefix}_mask"][:, 0, 0]


def test_masked_l2_of_the_reference(reference):
    file = golden(reference, "training")
    found = masked_l2(as_frames(file["ml2_a"]), as_frames(file["ml2_b"]), file["ml2_mask"][:, 0, 0])
    torch.testing.assert_close(found, file["ml2_out"], rtol=1e-4, atol=0)
    assert not file["ml2_mask"][-1].any() and found[-1] == 0


@pytest.mark.parametrize("mask_frames, name", [(False, "hml_loss"), (True, "hml_loss_mask_frames")])
@torch.no_grad()
def test_loss_of_sentences_of_the_reference(reference, mask_frames, name):
    file, network = golden(reference, "training"), golden_network(reference, "trans_enc", mask_frames=mask_frames)
    clean, x, mask = noised(file, "hml")
    found = network(x, file["hml_t"], Condition(text=file["hml_text_embed"][0], mask=mask))
    terms = loss_terms(found, clean, mask, GeometricWeights())
    torch.testing.assert_close(sum(terms.values()), file[name], rtol=1e-4, atol=0)


@torch.no_grad()
def test_geometric_losses_of_the_reference(reference):
    file, network = golden(reference, "training"), golden_network(reference, "action")
    to_joints = partial(action_joints, body=BodyModel.load(reference / "golden" / "small_body.npz"))
    clean, x, mask = noised(file, "a2m")
    found = network(x, file["a2m_t"], Condition(action=file["a2m_action"][:, 0], mask=mask))
    terms = loss_terms(found, clean, mask, GeometricWeights(1, 1, 1), to_joints)
    for ours, name in (("features", "rot_mse"), ("velocity", "vel_mse"), ("joints", "rcxyz_mse"), ("contact", "fc")):
        torch.testing.assert_close(terms[ours], file[f"a2m_{name}"], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(sum(terms.values()), file["a2m_loss"], rtol=1e-4, atol=0)


def test_geometric_losses_have_finite_gradients_at_rest():
    rest = torch.zeros(1, 4, 25, 6)
    rest[..., 0], rest[..., 4] = 1, 1
    found = (rest.flatten(2) + 1e-4).requires_grad_()
    to_joints = partial(action_joints, body=BodyModel.load())
    terms = loss_terms(found, rest.flatten(2), torch.ones(1, 4) > 0, GeometricWeights(1, 1, 1), to_joints)
    sum(terms.values()).sum().backward()
    assert found.grad.isfinite().all() and found.grad.abs().max() > 0


def test_losses_of_joints_need_joints():
    motion = torch.zeros(1, 4, 263)
    with pytest.raises(InputError, match="lambda_fc"):
        loss_terms(motion, motion, torch.ones(1, 4) > 0, GeometricWeights(joints=1.0))


def test_a_standing_foot_that_slides_costs_its_way():
    """Two centimetres a frame, sideways, of a person who stands: the mean over the coordinates of four foot joints."""
    still = torch.zeros(1, 10, 263)
    still[..., 3], still[..., 4:67] = 0.9, torch.randn(63)
    sliding = still.clone()
    sliding[..., 1] = 0.02
    for wanted, expected in ((still, 0.02**2 / 3), (sliding, 0)):
        terms = loss_terms(sliding, wanted, torch.ones(1, 10) > 0, GeometricWeights(contact=1.0), features_to_joints)
        assert terms["contact"].item() == pytest.approx(expected, rel=1e-4)


def test_three_steps_of_the_reference(reference):
    """AdamW, mean loss and running average, without dropout (eval mode) or dropped texts."""
    file = golden(reference, "training")
    lr, decay, _, beta2, ema = file["opt_hyper"].tolist()
    options = {"latent_dim": 64, "ff_size": 128, "layers": 2, "diffusion_steps": 50}
    module = MDM(options, lr=lr, weight_decay=decay, beta2=beta2, ema=ema, ema_warmup=False).eval()
    for network in (module.denoiser, module.average):
        network.load_state_dict(golden_network(reference, "trans_enc").state_dict())
    optimizer = module.configure_optimizers()["optimizer"]
    clean, x, mask = noised(file, "hml")
    given = file["hml_t"], Condition(text=file["hml_text_embed"][0], mask=mask)
    for expected in file["opt_losses"]:
        loss = sum(loss_terms(module.denoiser(x, *given), clean, mask, module.geometric).values()).mean()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.update_average()
    for network, name in ((module.denoiser, "opt_out_after"), (module.average, "opt_ema_out_after")):
        with torch.no_grad():
            torch.testing.assert_close(network(clean, *given), as_frames(file[name]), rtol=0, atol=5e-4)


def test_timesteps_are_uniform_until_every_loss_is_known():
    sampler = TimestepSampler(5, loss_aware=True)
    sampler.learn(torch.arange(4).repeat(REMEMBERED), torch.rand(4 * REMEMBERED))
    assert (sampler.probabilities() == 0.2).all()
    sampler.learn(torch.full((REMEMBERED,), 4), torch.rand(REMEMBERED))
    assert (sampler.probabilities() != 0.2).any()


def test_timesteps_by_loss_keep_the_mean_loss():
    """Each drawn loss times its weight averages to the plain mean, with less variance than uniform draws have."""
    sampler, sizes = TimestepSampler(5, loss_aware=True), torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0])
    sampler.learn(torch.arange(5).repeat(2 * REMEMBERED), torch.cat((torch.rand(50), sizes.repeat(REMEMBERED))))
    timesteps, weights = sampler.draw(20_000, torch.Generator().manual_seed(0))
    found = sizes[timesteps] * weights
    assert found.mean() == pytest.approx(sizes.mean().item(), rel=0.01)
    assert found.std() < 0.2 * sizes.std()
    counts = timesteps.bincount(minlength=5) / 20_000
    torch.testing.assert_close(counts.double(), sampler.probabilities(), atol=0.01, rtol=0)


def test_learning_rate():
    assert [rate_factor(step, 4, 100, "none") for step in (0, 1, 3, 4, 50)] == [0.25, 0.5, 1, 1, 1]
    assert [rate_factor(step, 0, 100, "linear") for step in (0, 50, 100, 200)] == [1, 0.5, 0, 0]
    assert rate_factor(55, 10, 100, "cosine") == pytest.approx(0.5)


@dataclass
class Batch:
    motion: Tensor
    mask: Tensor
    texts: list[str]
    prefix: Tensor | None = None


class Waves(Dataset):
    """Sine waves of 12 frames in 263 channels; a clip's phase is its own, its last frames are padding."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        motion = torch.sin(torch.arange(12)[:, None] / 2 + torch.arange(263) / 40 + i)
        mask = torch.arange(12) < 8 + i % 5
        return motion * mask[:, None], mask


def collate(samples) -> Batch:
    motions, masks = zip(*samples, strict=True)
    return Batch(torch.stack(motions), torch.stack(masks), ["a wave"] * len(samples))


@dataclass
class Embedding:
    tensor: Tensor
    mask: Tensor | None = None


class Ones:
    """Embeds every text as ones."""

    def encode(self, texts: list[str]) -> Embedding:
        return Embedding(torch.ones(len(texts), 512))


def fit(folder: Path, steps: int, resume: Path | None = None, **changes) -> MDM:
    torch.manual_seed(0)
    module = MDM(OPTIONS, Ones(), lr=3e-3, warmup=2, ema=0.9, timesteps="loss_aware", **changes)
    trainer = Trainer(max_steps=steps, default_root_dir=folder, **QUIET)
    data = DataLoader(Waves(), 4, collate_fn=collate)
    trainer.fit(module, data, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"step{steps}.ckpt")
    module.found = trainer.callback_metrics["val/loss"]
    return module


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    """Dropout, timesteps by loss, learning rate and average included."""
    whole = fit(tmp_path, 80)
    fit(tmp_path, 40)
    resumed = fit(tmp_path, 80, resume=tmp_path / "step40.ckpt")
    for (name, value), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert resumed.found == whole.found


@pytest.mark.filterwarnings("ignore")
def test_training_learns_and_exports(tmp_path):
    first, last = fit(tmp_path, 4), fit(tmp_path, 120)
    assert last.found < 0.5 * first.found
    last.export(tmp_path / "model000000120.pt")
    loaded = load_checkpoint(tmp_path / "model000000120.pt")
    for value, other in zip(loaded.denoiser.parameters(), last.average.parameters(), strict=True):
        assert torch.equal(value, other)
    assert any(
        not torch.equal(a, b) for a, b in zip(last.average.parameters(), last.denoiser.parameters(), strict=True)
    )


def fit_shared(devices: int, path: str) -> None:
    """Two steps on eight samples each, whatever the number of processes; run by every one of them."""
    torch.manual_seed(0)
    module = MDM(OPTIONS, Ones(), ema=0.9, timesteps="loss_aware")
    module.denoiser.eval()  # dropout is each process's own
    data = Waves()
    turns = DistributedSampler(data, devices, rank=int(os.environ.get("LOCAL_RANK", 0)), shuffle=False)
    trainer = Trainer(max_epochs=1, devices=devices, strategy="ddp" if devices > 1 else "auto", **QUIET)
    trainer.fit(module, DataLoader(data, 8 // devices, sampler=turns, collate_fn=collate))
    if trainer.is_global_zero:
        torch.save(module.state_dict(), path)


@pytest.mark.filterwarnings("ignore")
def test_two_processes_equal_one(tmp_path):
    fit_shared(1, str(tmp_path / "1.pt"))
    script = tmp_path / "two.py"
    script.write_text(
        f"from tests.models.test_mdm_training import fit_shared\nfit_shared(2, {str(tmp_path / '2.pt')!r})\n"
    )
    done = process([sys.executable, str(script)])
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / f"{devices}.pt", weights_only=True) for devices in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "options, encoder, words",
    [
        ({}, None, "encoder of texts"),
        ({"dataset": "humanact12"}, None, "actions and goals"),
        ({"arch": "trans_dec", "multi_target_cond": True}, Ones(), "actions and goals"),
    ],
)
def test_what_training_could_not_teach_is_refused_at_the_start(options, encoder, words):
    with pytest.raises(InputError, match=words):
        MDM(OPTIONS | options, encoder).on_fit_start()


def test_a_gru_is_trained_over_time():
    assert not MDM(OPTIONS | {"arch": "gru"}).denoiser.config.gru_over_batch


def test_timesteps_of_validation_are_uniform():
    sampler = TimestepSampler(2, loss_aware=True)
    sampler.learn(torch.arange(2).repeat(REMEMBERED), torch.tensor([0.0, 1.0]).repeat(REMEMBERED))
    draws = [
        sampler.train(mode).draw(1000, torch.Generator().manual_seed(0))[0].float().mean() for mode in (True, False)
    ]
    assert draws[0] > 0.99 and draws[1] == pytest.approx(0.5, abs=0.05)


def test_options_that_do_not_exist():
    with pytest.raises(InputError, match="latent_dims.*latent_dim"):
        known_options({"latent_dims": 16})
