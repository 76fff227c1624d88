"""Checkpoints of MDM: the reference's files load, what does not fit is named and refused, nothing in a file runs."""

import json
import os
import pickle
import zipfile

import pytest
import torch

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, load_checkpoint, read_args, save_checkpoint
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.diffusion import spaced_in_lambda
from models.mdm.sampling import dpm_solver, guided, seeded_noise
from tests.mdm import VARIANTS, as_frames, golden, golden_condition, golden_config

TINY = {"latent_dim": 16, "ff_size": 32, "layers": 2, "heads": 2, "diffusion_steps": 50}


def tiny(**changes) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(config_of(DEFAULTS | OURS | TINY | changes))


@pytest.fixture
def saved(tmp_path):
    """Weights of a tiny network with args.json beside them; returns the path and the network."""
    network = tiny()
    save_checkpoint(tmp_path / "model000000100.pt", network, TINY)
    return tmp_path / "model000000100.pt", network


def change_args(path, **changes):
    file = path.parent / "args.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def args_of(reference, name) -> dict:
    """The args.json of a golden network, and the width of its feed-forward layers, which real files never change."""
    config = golden_config(reference, name)
    return DEFAULTS | {
        "dataset": "humanact12" if config.condition == "action" else "humanml",
        "arch": config.arch,
        "text_encoder_type": config.text_encoder,
        "emb_trans_dec": config.time_token,
        "layers": config.layers,
        "latent_dim": config.latent_dim,
        "mask_frames": config.mask_frames,
        "context_len": config.context_len,
        "pred_len": config.pred_len,
        "ff_size": config.ff_size,
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_files_of_the_reference_load(reference, tmp_path, name):
    weights = tmp_path / "model000475000.pt"
    weights.write_bytes((reference / "golden" / f"mdm_{name}.pt").read_bytes())
    (tmp_path / "args.json").write_text(json.dumps(args_of(reference, name)))
    checkpoint, file = load_checkpoint(weights), golden(reference, f"mdm_{name}")
    with torch.no_grad():
        found = checkpoint.denoiser(as_frames(file["x"]), file["timesteps"], golden_condition(file))
    torch.testing.assert_close(found, as_frames(file["out_cond"]), atol=2e-4, rtol=0)
    assert not checkpoint.denoiser.training and len(checkpoint.schedule) == 1000


@pytest.mark.parametrize("use_ema, output", [(True, "out_avg"), (False, "out_raw")])
def test_averaged_weights_where_the_options_say_so(reference, tmp_path, use_ema, output):
    weights = tmp_path / "model000475000.pt"
    weights.write_bytes((reference / "golden" / "mdm_trans_enc_ema.pt").read_bytes())
    (tmp_path / "args.json").write_text(json.dumps(args_of(reference, "trans_enc_ema") | {"use_ema": use_ema}))
    file = golden(reference, "mdm_trans_enc_ema")
    with torch.no_grad():
        network = load_checkpoint(weights).denoiser
        found = network(as_frames(file["x"]), file["timesteps"], golden_condition(file))
    torch.testing.assert_close(found, as_frames(file[output]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("averaged", [False, True])
def test_what_was_saved_comes_back(tmp_path, averaged):
    network, other = tiny(), tiny()
    average = {key: value + 1 for key, value in other.state_dict().items()} if averaged else None
    save_checkpoint(tmp_path / "model.pt", network, TINY, average)
    loaded = load_checkpoint(tmp_path / "model.pt")
    for key, value in loaded.denoiser.named_parameters():
        torch.testing.assert_close(value, (average or network.state_dict())[key], atol=0, rtol=0)
    assert loaded.args["diffusion_steps"] == len(loaded.schedule) == 50


def test_a_full_size_checkpoint_in_the_references_form_loads_and_samples(tmp_path):
    """As the reference writes it: averaged weights, its own options only, 17.9 million parameters."""
    torch.manual_seed(0)
    network = Denoiser(config_of(DEFAULTS | OURS))
    assert sum(p.numel() for p in network.parameters()) == 17_880_327
    torch.save({"model": network.state_dict(), "model_avg": network.state_dict()}, tmp_path / "model000600000.pt")
    (tmp_path / "args.json").write_text(json.dumps(DEFAULTS | {"use_ema": True, "batch_size": 64}))
    loaded = load_checkpoint(tmp_path / "model000600000.pt")
    denoise = guided(loaded.denoiser, Condition(text=torch.randn(1, 512)), 2.5, interval=(100, 900))
    noise = seeded_noise([0])
    few = loaded.schedule.keep(spaced_in_lambda(loaded.schedule, 4))
    motion = dpm_solver(denoise, noise(torch.empty(1, 60, 263)), few)
    assert motion.shape == (1, 60, 263) and motion.isfinite().all()


def test_the_references_gru_recurs_over_the_batch_and_ours_over_time(tmp_path):
    for over_time in (False, True):
        options = TINY | {"arch": "gru", "gru_over_time": over_time}
        save_checkpoint(tmp_path / "model.pt", tiny(**options), options)
        assert load_checkpoint(tmp_path / "model.pt").denoiser.config.gru_over_batch != over_time


def test_options_of_the_first_release(tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"cond_mode": "no_cond", "dataset": "humanact12"}))
    with pytest.warns(UserWarning, match="lacks arch"):
        args = read_args(tmp_path / "args.json")
    assert config_of(args).condition == "none"


def test_text_encoder_entries_are_passed_over(saved):
    path, network = saved
    torch.save(network.state_dict() | {"clip_model.visual.proj": torch.zeros(3)}, path)
    load_checkpoint(path)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("embed_text.bias"), "missing embed_text.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "left over extra"),
        (lambda state: state.update({"embed_text.bias": torch.zeros(3)}), r"embed_text.bias is \(3,\), not \(16,\)"),
    ],
)
def test_entries_that_do_not_fit_are_named(saved, change, words):
    path, network = saved
    state = network.state_dict()
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=words):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"arch": "trans_dec"}, "holds trans_enc, but args.json beside it says trans_dec"),
        ({"layers": 3}, r"missing seqTransEncoder\.layers\.2"),
        ({"layers": 1}, r"left over seqTransEncoder\.layers\.1.* and \d+ more"),
        ({"latent_dim": 32}, r"is \(16"),
        ({"dataset": "kit"}, "263"),
        ({"dataset": "humanact12"}, "missing embed_action"),
        ({"dataset": "babel"}, "babel.*humanml, kit"),
        ({"unconstrained": True}, "left over embed_text"),
        ({"text_encoder_type": "bert"}, "trans_dec"),
        ({"use_ema": "yes"}, "use_ema = 'yes'"),
        ({"layers": True}, "layers = True"),
        ({"layers": 2.5}, "layers = 2.5"),
        ({"noise_schedule": "sigmoid"}, "cosine, linear"),
        ({"sigma_small": False}, "sigma_small"),
        ({"multi_target_cond": True, "multi_encoder_type": "split"}, "split"),
    ],
)
def test_options_at_odds_with_the_weights(saved, changes, words):
    change_args(saved[0], **changes)
    with pytest.raises(InputError, match=words):
        load_checkpoint(saved[0])


def test_average_promised_but_absent(saved):
    path, network = saved
    torch.save({"model": network.state_dict()}, path)
    change_args(path, use_ema=True)
    with pytest.raises(InputError, match="model_avg"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content, words",
    [
        ({"state_dict": {}, "pytorch-lightning_version": "2"}, "Lightning"),
        ({"state": {}, "param_groups": []}, "optimiser"),
        ({"movement_encoder": {}, "text_encoder": {}}, "evaluator"),
        ({"weights": [1, 2]}, "unknown form, with entries weights"),
        ({"embed.weight": torch.zeros(2)}, "no network of MDM's"),
        ([torch.zeros(2)], "holds a list"),
        ({}, "holds a dict"),
    ],
)
def test_torch_files_of_another_form(saved, content, words):
    torch.save(content, saved[0])
    with pytest.raises(InputError, match=words):
        load_checkpoint(saved[0])


def test_args_missing_or_broken(saved):
    path, file = saved[0], saved[0].parent / "args.json"
    file.write_text("{'dataset':")
    with pytest.raises(InputError, match="no JSON"):
        load_checkpoint(path)
    file.write_text("[]")
    with pytest.raises(InputError, match="holds a list"):
        load_checkpoint(path)
    file.unlink()
    with pytest.raises(InputError, match="args.json: missing"):
        load_checkpoint(path)


def test_files_that_are_no_weights(saved):
    path = saved[0]
    whole = path.read_bytes()
    for data in (b"", b"<html>", whole[: len(whole) // 2], os.urandom(2000)):
        path.write_bytes(data)
        with pytest.raises(InputError, match="no torch file, or cut"):
            load_checkpoint(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(path)


class Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_wants_to_run_code(saved, zipped):
    path, trace = saved[0], saved[0].parent / "ran"
    if zipped:
        torch.save({"model": Touch(str(trace))}, path)
        assert zipfile.is_zipfile(path)
    else:
        path.write_bytes(pickle.dumps(Touch(str(trace)), protocol=2))
    with pytest.raises(InputError, match="system.*nothing was run"):
        load_checkpoint(path)
    assert not trace.exists()
