"""What a guided step of sampling costs: ours against a plain transcription of the reference's, with the same weights.

    python experiments/benchmarks/denoiser.py                            # 2 CPU minutes
    python experiments/benchmarks/denoiser.py --batch 8 --repetitions 5
    python experiments/benchmarks/denoiser.py --checkpoint save/humanml_trans_enc_512/model000475000.pt

One thread, CPU seconds of the process, the two in turn. Without --checkpoint, random weights of the full size are
written in the reference's form and read back: what is in them changes nothing about the cost.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.mdm.checkpoint import DEFAULTS, OURS, config_of, load_checkpoint, save_checkpoint  # noqa: E402
from models.mdm.denoiser import Condition, Denoiser, sinusoids  # noqa: E402
from models.mdm.sampling import guided  # noqa: E402


class PlainDenoiser(nn.Module):
    """The reference's trans_enc as described: tokens first, batch second, condition in a dictionary."""

    def __init__(self, width: int = 512, features: int = 263) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 1024, 0.1, activation="gelu")
        self.input_process = nn.ModuleDict({"poseEmbedding": nn.Linear(features, width)})
        self.seqTransEncoder = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_timestep = nn.ModuleDict({"time_embed": time_embed})
        self.embed_text = nn.Linear(512, width)
        self.output_process = nn.ModuleDict({"poseFinal": nn.Linear(width, features)})
        self.register_buffer("pe", sinusoids(5000, width)[:, None], persistent=False)

    def forward(self, x: Tensor, timesteps: Tensor, y: dict) -> Tensor:
        """x: (batch, features, 1, frames), as the reference orders it."""
        text = y["text_embed"] * 0 if y.get("uncond") else y["text_embed"]
        time = self.embed_timestep["time_embed"](self.pe[timesteps]).permute(1, 0, 2)
        frames = self.input_process["poseEmbedding"](x.permute(3, 0, 1, 2).flatten(2))
        tokens = torch.cat((time + self.embed_text(text), frames))
        hidden = self.seqTransEncoder(tokens + self.pe[: len(tokens)])[1:]
        return self.output_process["poseFinal"](hidden)[..., None].permute(1, 2, 3, 0)


def plain_guided(network: PlainDenoiser, x: Tensor, timesteps: Tensor, y: dict) -> Tensor:
    """The reference's guidance: the condition copied, the network called twice."""
    without = deepcopy(y)
    without["uncond"] = True
    conditional, unconditional = network(x, timesteps, y), network(x, timesteps, without)
    return unconditional + y["scale"].view(-1, 1, 1, 1) * (conditional - unconditional)


def load_or_make(path: Path | None) -> Denoiser:
    if path is not None:
        return load_checkpoint(path).denoiser
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_checkpoint(Path(folder) / "model000000000.pt", Denoiser(config_of(DEFAULTS | OURS)), {})
        return load_checkpoint(Path(folder) / "model000000000.pt").denoiser


def cpu_seconds(step: Callable[[], Tensor]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def compare(network: Denoiser, batch: int, frames: int, repetitions: int) -> tuple[float, float, float]:
    """Median CPU seconds of the plain step and of ours, and the largest difference of what they return."""
    plain = PlainDenoiser(network.config.latent_dim, network.config.features).eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if not key.endswith(".pe")})
    x, text = torch.randn(batch, frames, network.config.features), torch.randn(batch, 512)
    y = {"text_embed": text[None], "scale": torch.full((batch,), 2.5)}
    denoise = guided(network, Condition(text=text), 2.5)
    as_reference = x.transpose(1, 2)[:, :, None].contiguous()
    timesteps = torch.full((batch,), 500)

    @torch.no_grad()
    def theirs() -> Tensor:
        return plain_guided(plain, as_reference, timesteps, y)

    def ours() -> Tensor:
        return denoise(x, 500)

    difference = (theirs()[:, :, 0].transpose(1, 2) - ours()).abs().max().item()
    times = [(cpu_seconds(theirs), cpu_seconds(ours)) for _ in range(repetitions)]
    return *(statistics.median(column) for column in zip(*times, strict=True)), difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="weights of a trans_enc with args.json beside them")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--frames", type=int, default=196)
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_or_make(options.checkpoint)
    for batch in options.batch:
        theirs, ours, difference = compare(network, batch, options.frames, options.repetitions)
        print(
            f"batch {batch}, {options.frames} frames, guided step: reference {theirs:.3f}, ours {ours:.3f} CPU s, "
            f"{theirs / ours:.2f} times; outputs differ by {difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
