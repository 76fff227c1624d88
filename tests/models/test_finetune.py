"""Fine-tuning: where it starts, what stays frozen, adapters that train and merge exactly, the average's warm-up."""

import pytest
import torch

from models.errors import InputError
from models.mdm.checkpoint import DEFAULTS, OURS, config_of, load_checkpoint, save_checkpoint
from models.mdm.denoiser import Condition, Denoiser
from models.mdm.finetune import freeze_parts, matching, start_from
from models.mdm.lora import add_adapters, merged
from models.mdm.module import MDM
from tests.mdm import small_condition, small_network

OPTIONS = {"latent_dim": 16, "ff_size": 32, "layers": 2, "heads": 2, "diffusion_steps": 20}


def saved(folder, average: bool = False, **options):
    """Random weights with args.json; where there is an average, it is zero."""
    torch.manual_seed(0)
    network = Denoiser(config_of(DEFAULTS | OURS | OPTIONS | options))
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()} if average else None
    save_checkpoint(folder / "model000000001.pt", network, OPTIONS | options, zeros)
    return folder / "model000000001.pt"


def train(network: Denoiser, steps: int = 60) -> list[float]:
    """Losses of teaching a network one motion, whatever it is given."""
    condition, x = small_condition(network.config, 4), torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.01)
    losses = []
    for _ in range(steps):
        loss = (network(x, torch.arange(4), condition) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("average", [False, True])
def test_either_form_is_started_from(average, tmp_path):
    module = MDM({"lambda_vel": 0.5}, init_from=str(saved(tmp_path, average)))
    start = load_checkpoint(tmp_path / "model000000001.pt").denoiser
    for name, value in module.denoiser.state_dict().items():
        assert torch.equal(value, start.state_dict()[name])
    assert all(not p.any() for p in module.denoiser.parameters()) == average
    assert module.options["latent_dim"] == 16 and module.options["lambda_vel"] == 0.5
    assert len(module.schedule) == 20


def test_options_of_another_network_are_named(tmp_path):
    with pytest.raises(InputError, match="latent_dim is 16 there, 32 here.*left out"):
        start_from(saved(tmp_path), {"latent_dim": 32})
    denoiser, options = start_from(saved(tmp_path), {"mask_frames": True, "cond_mask_prob": 0.2, "diffusion_steps": 10})
    assert denoiser.config.mask_frames and denoiser.config.condition_drop == 0.2 and options["diffusion_steps"] == 10


def test_a_network_may_get_convolutions_that_change_nothing_at_first(tmp_path):
    path, x = saved(tmp_path), torch.randn(2, 6, 263)
    plain, (refined, options) = load_checkpoint(path).denoiser, start_from(path, {"refine": 5})
    condition = small_condition(plain.config, 2)
    assert options["refine"] == 5
    assert torch.equal(*(net.eval()(x, torch.tensor([0, 9]), condition) for net in (plain, refined)))
    refined.refine.out.reset_parameters()
    save_checkpoint(path, refined, options)
    assert torch.equal(start_from(path, {})[0].refine.out.weight, refined.refine.out.weight)
    with pytest.raises(InputError, match="refine is 5 there, 6 here"):
        start_from(path, {"refine": 6})
    assert MDM(init_from=str(path), lora_rank=1).denoiser.config.refine == 5
    with pytest.raises(InputError, match="would stay so: leave out one"):
        MDM(OPTIONS | {"refine": 5}, lora_rank=1)


def test_missing_weights_are_named(tmp_path):
    path = saved(tmp_path)
    state = torch.load(path, weights_only=True)
    state.pop("output_process.poseFinal.bias")
    torch.save(state | {"extra.weight": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"missing output_process.poseFinal.bias; left over extra.weight"):
        MDM(init_from=str(path))


def test_frozen_parts_stay_and_others_move():
    network = small_network()
    before = {name: value.clone() for name, value in network.named_parameters()}
    freeze_parts(network, ["seqTransEncoder.layers.[0].*", "input_process.*"])
    train(network, 2)
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    frozen = {name for name in before if ".layers.0." in name or name.startswith("input_process")}
    assert moved == before.keys() - frozen


def test_patterns_that_match_nothing_or_everything():
    network = small_network()
    with pytest.raises(InputError, match=r"'layers.\*' matches no parameter.*poseEmbedding"):
        matching([name for name, _ in network.named_parameters()], ["*.bias", "layers.*"])
    with pytest.raises(InputError, match="nothing would be trained"):
        freeze_parts(network, ["*"])
    with pytest.raises(InputError, match="leave out `freeze`"):
        MDM(OPTIONS | {"unconstrained": True}, lora_rank=2, freeze=["input_process.*"])


@pytest.mark.parametrize("arch", ["trans_enc", "trans_dec"])
def test_adapters_change_nothing_at_first_then_learn_and_merge(arch):
    network = small_network(arch=arch)
    condition, x, t = small_condition(network.config, 4), torch.randn(4, 6, 7), torch.arange(4)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        plain = network(x, t, condition)
        add_adapters(network, rank=2, alpha=4.0)
        torch.testing.assert_close(network(x, t, condition), plain, atol=1e-6, rtol=1e-5)
    losses = train(network)
    assert losses[-1] < 0.7 * losses[0]
    one = merged(network)
    assert list(one.state_dict()) == list(start)
    with torch.no_grad():
        torch.testing.assert_close(one(x, t, condition), network(x, t, condition), atol=1e-6, rtol=1e-5)
    changed = {name for name, value in one.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == set(matching(start, ["*attn.in_proj_weight", "*attn.out_proj.weight", "*.linear?.weight"]))
    for name in changed:
        assert torch.linalg.matrix_rank((one.state_dict()[name] - start[name]).double(), rtol=1e-4) == 2


def test_merging_leaves_the_network_and_its_copies_in_training():
    module = MDM(OPTIONS | {"unconstrained": True}, lora_rank=2)
    merged(module.average)
    merged(module.denoiser)
    module.denoiser(torch.zeros(1, 4, 263), torch.zeros(1, dtype=torch.int64), Condition()).sum().backward()
    trained = {name for name, value in module.denoiser.named_parameters() if value.grad is not None}
    assert trained and all(".parametrizations." in name for name in trained)


def test_adapters_of_the_papers_network_are_under_two_percent():
    with torch.device("meta"):
        network = Denoiser(config_of(DEFAULTS | OURS))
        whole = sum(p.numel() for p in network.parameters())
        add_adapters(network, rank=4, alpha=16.0)
    adapters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert adapters == 196_608 and adapters < 0.02 * whole


def test_adapters_where_none_can_be():
    with pytest.raises(InputError, match="matches no parameter"):
        add_adapters(small_network(arch="gru"), 2, 4.0)
    with pytest.raises(InputError, match="rank 20"):
        add_adapters(small_network(), 20, 4.0)
    with pytest.raises(InputError, match=r"cannot have an adapter"):
        add_adapters(small_network(), 2, 4.0, ["*.bias"])


def test_a_short_runs_average_is_of_its_end():
    """With warm-up the first step keeps a tenth; without it, the reference's way, nearly all of the random start."""
    shares = []
    for warmup in (True, False):
        module = MDM(OPTIONS | {"unconstrained": True}, ema=0.9999, ema_warmup=warmup)
        start = next(module.average.parameters()).clone()
        next(module.denoiser.parameters()).data += 1
        module.update_average()
        shares.append((next(module.average.parameters()) - start).mean().item())
    assert shares == pytest.approx([0.9, 1e-4], rel=1e-2)
