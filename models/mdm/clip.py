"""CLIP's text network, read from OpenAI's ViT-B-32.pt: a sentence becomes 512 numbers.

The image half of the file stays unread, and nothing of the file is run. The package that OpenAI publishes with it is
not used: where it imports it gives the same numbers, but it runs the archive's program and downloads what it misses.
Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021; openai/CLIP.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import InputError
from models.torch_files import read_weights

NAMES = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
HEAD_WIDTH = 64


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Attention to the tokens up to each one, then two linear layers; each after a normalisation, each added."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = (("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(4 * width, width)))
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        """x (batch, tokens, width); later (tokens, tokens) -inf where a token may not look."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=later)[0]
        return x + self.mlp(self.ln_2(x))


class ClipTextNetwork(nn.Module):
    """The text half of CLIP. Names of its parameters are those of OpenAI's state dict."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, embedding: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(Block(width) for _ in range(layers))})
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding))

    @classmethod
    def load(cls, path: str | Path) -> "ClipTextNetwork":
        """The network in ViT-B-32.pt, or in a state dict of the same names; frozen, float32.

        Its linear layers are rounded to half precision as OpenAI's loader does (in OpenAI's file they are), and
        computed in single precision, as that loader does on the CPU. Raises InputError for another network.
        """
        weights = {
            name: value for name, value in read_weights(path, skip=("visual.",)).items() if name.startswith(NAMES)
        }
        layers = len({name.split(".")[2] for name in weights if name.startswith("transformer.resblocks.")})
        try:
            vocabulary, width = weights["token_embedding.weight"].shape
            network = cls(
                vocabulary, len(weights["positional_embedding"]), width, layers, len(weights["text_projection"].T)
            )
            network.load_state_dict(weights)
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path}: not the weights of CLIP's text network as OpenAI publishes it: {error}"
            ) from None
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.MultiheadAttention):
                for parameter in module.parameters():
                    parameter.data = parameter.half().float()
        network.text_projection.data = network.text_projection.half().float()
        return network.eval().requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, <= 77), each text's last one the highest number, to (batch, 512), not normalised."""
        last = tokens.argmax(-1)
        tokens = tokens[
            :, : last.max() + 1
        ]  # no token looks at later ones, so what follows the last text's end is idle
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        later = torch.full((tokens.shape[1],) * 2, -torch.inf, device=x.device).triu(1)
        for block in self.transformer["resblocks"]:
            x = block(x, later)
        return self.ln_final(x[torch.arange(len(x)), last]) @ self.text_projection
