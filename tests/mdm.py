"""MDM networks for tests: those of the golden files, and small ones with random weights."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.mdm.denoiser import Condition, Denoiser, DenoiserConfig

VARIANTS = ("trans_enc", "trans_dec", "trans_dec_emb", "trans_dec_bert", "dip_prefix", "gru", "action")
CONDITIONS = {"text": "text", "action": "action", "no_cond": "none"}


def as_frames(motion: Tensor) -> Tensor:
    """The reference's (batch, joints, feats, frames) as (batch, frames, joints * feats)."""
    return motion.flatten(1, 2).transpose(1, 2)


def golden(reference: Path, name: str) -> dict[str, Tensor]:
    with np.load(reference / "golden" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def golden_config(reference: Path, name: str, **changes) -> DenoiserConfig:
    given = json.loads((reference / "golden" / "mdm_configs.json").read_text())[name]
    known = {
        "features": given["njoints"] * given["nfeats"],
        "arch": given["arch"],
        "condition": CONDITIONS[given["cond_mode"]],
        "text_encoder": given["text_encoder_type"],
        "actions": given["num_actions"],
        "latent_dim": given["latent_dim"],
        "ff_size": given["ff_size"],
        "layers": given["num_layers"],
        "heads": given["num_heads"],
        "time_token": given["emb_trans_dec"],
        "mask_frames": given["mask_frames"],
        "context_len": given["context_len"],
        "pred_len": given["pred_len"],
        "gru_over_batch": given["arch"] == "gru",
    }
    return DenoiserConfig(**(known | changes))


def golden_network(reference: Path, name: str, **changes) -> Denoiser:
    """The golden network in eval mode, its weights put in without the loader under test."""
    network = Denoiser(golden_config(reference, name, **changes))
    state = torch.load(reference / "golden" / f"mdm_{name}.pt", weights_only=True)
    state = state.get("model", state)
    network.load_state_dict({key: value for key, value in state.items() if not key.endswith(".pe")}, strict=False)
    return network.eval()


def golden_condition(file: dict[str, Tensor]) -> Condition:
    return Condition(
        text=file["text_embed"][0] if "text_embed" in file else file.get("text_tokens"),
        text_padding=file.get("text_pad_mask"),
        action=file["action"][:, 0] if "action" in file else None,
        prefix=as_frames(file["prefix"]) if "prefix" in file else None,
        mask=file["mask"][:, 0, 0],
    )


def small_network(**changes) -> Denoiser:
    """Seven features, 16 wide, two layers, random weights, also where a new network has zeros, eval mode."""
    torch.manual_seed(0)
    config = {"features": 7, "latent_dim": 16, "ff_size": 32, "layers": 2, "heads": 2, "actions": 5}
    network = Denoiser(DenoiserConfig(**(config | changes))).eval()
    if network.config.refine:
        network.refine.out.reset_parameters()
    return network


def small_condition(config: DenoiserConfig, batch: int) -> Condition:
    """A random condition that fits a small network; BERT's last two tokens of every second text are padding."""
    draw = torch.Generator().manual_seed(1)
    words = torch.randn(5, batch, 768, generator=draw)
    padding = (torch.arange(5) > 2) & (torch.arange(batch)[:, None] % 2 == 1)
    with_text, bert = config.condition == "text", config.text_encoder == "bert"
    return Condition(
        text=(words if bert else words[0, :, :512]) if with_text else None,
        text_padding=padding if with_text and bert else None,
        action=torch.arange(batch) % 5 if config.condition == "action" else None,
        goals=torch.randn(batch, 8, 4, generator=draw) if config.goals else None,
        prefix=torch.randn(batch, config.context_len, 7, generator=draw) if config.context_len else None,
    )
