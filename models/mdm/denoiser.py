"""The network of MDM: noised motion, a timestep and a condition in, clean motion out.

Module names (`seqTransEncoder`, `poseEmbedding`, ...) are those of the reference's state dicts, so that its weights
load as they are. Motion is (batch, frames, features) throughout, normalised; the reference's joints x feats x frames
differ only in order. Source: Tevet et al., Human Motion Diffusion Model, 2022; GuyTevet/motion-diffusion-model.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import InputError
from models.mdm.words import WordEncoder

TEXT_WIDTHS = {"clip": 512, "bert": 768}
TEXT_ENCODERS = (*TEXT_WIDTHS, "words")
GOALS = ("pelvis", "left_foot", "right_foot", "left_wrist", "right_wrist", "head", "trajectory", "heading")
POSITIONS = 5000


@dataclass(frozen=True)
class DenoiserConfig:
    """What a network is built from.

    features: channels of a frame (263 humanml, 251 kit, 150 = 25 x rot6d for actions). condition_drop: share of
    training samples that lose their condition. time_token: the decoder's target starts with the timestep
    (`emb_trans_dec`). mask_frames: attention leaves out padded frames. context_len, pred_len: frames given and frames
    predicted by a prefix model (DiP), 0 for all others. goals: takes positions to reach. gru_over_batch: recur across
    the batch, as the reference's GRU was trained by mistake. words: how many words a network has numbers for that
    reads sentences itself (text_encoder "words"). frames_per_token: frames that attention sees as one. overlap: frames
    before and after its own of which a token speaks too; there it is averaged with its neighbour, without which motion
    jumps from token to token. refine: width of convolutions over frames that correct what the layers say last, 0 for
    none; they see how far a foot moves from frame to frame.
    Raises InputError for what no network exists for.
    """

    features: int = 263
    arch: Literal["trans_enc", "trans_dec", "gru"] = "trans_enc"
    condition: Literal["text", "action", "none"] = "text"
    text_encoder: Literal["clip", "bert", "words"] = "clip"
    actions: int = 0
    latent_dim: int = 512
    ff_size: int = 1024
    layers: int = 8
    heads: int = 4
    dropout: float = 0.1
    condition_drop: float = 0.1
    time_token: bool = False
    mask_frames: bool = False
    context_len: int = 0
    pred_len: int = 0
    goals: bool = False
    goal_layers: int = 1
    gru_over_batch: bool = False
    words: int = 0
    frames_per_token: int = 1
    overlap: int = 0
    refine: int = 0

    def __post_init__(self) -> None:
        if self.arch not in _TRUNKS:
            raise InputError(f"architecture {self.arch!r} is unknown; known are {', '.join(_TRUNKS)}")
        if self.condition == "text" and self.text_encoder not in TEXT_ENCODERS:
            raise InputError(f"text encoder {self.text_encoder!r} is unknown; known are {', '.join(TEXT_ENCODERS)}")
        if self.condition == "text" and self.text_encoder == "bert" and self.arch != "trans_dec":
            raise InputError(f"BERT gives one embedding a token, which only trans_dec attends to, not {self.arch}")
        if min(self.latent_dim, self.ff_size, self.layers, self.heads, self.frames_per_token) < 1:
            raise InputError("latent_dim, ff_size, layers, heads and frames_per_token of a network are at least 1")
        if self.refine < 0:
            raise InputError(f"refine {self.refine} is a width: 0 for no convolutions, or above")
        if not 0 <= 2 * self.overlap <= self.frames_per_token:
            raise InputError(
                f"overlap {self.overlap} is at least 0 and at most half of frames_per_token {self.frames_per_token}"
            )
        if self.context_len % self.frames_per_token:
            raise InputError(
                f"context_len {self.context_len} is no multiple of frames_per_token {self.frames_per_token}"
            )
        if self.latent_dim % (2 * self.heads):
            raise InputError(f"latent_dim {self.latent_dim} does not divide into {self.heads} heads of even width")


@dataclass(frozen=True)
class Condition:
    """What a batch of motions shall be. Everything absent is unconditional.

    text: (batch, width), or (tokens, batch, width) with text_padding (batch, tokens), True = no token; of a network
    that reads words (batch, READ) int64; one text may stand for the whole batch. action: (batch,) int64.
    goals: (batch, 8, 4), for each of GOALS x, y, z, valid (1 or 0). prefix: (batch, context_len, features), the frames
    before. mask: (batch, frames), True = a frame, False = padding.
    """

    text: Tensor | None = None
    text_padding: Tensor | None = None
    action: Tensor | None = None
    goals: Tensor | None = None
    prefix: Tensor | None = None
    mask: Tensor | None = None

    def twice(self) -> "Condition":
        """The same condition for a batch that follows itself; a text for the whole batch stays one."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(self, **{name: _twice(value, name) for name, value in given.items()})


def _twice(value: Tensor, name: str) -> Tensor:
    axis = 1 if name == "text" and value.ndim == 3 else 0
    return value if name.startswith("text") and value.shape[axis] == 1 else torch.cat((value, value), axis)


def sinusoids(positions: int, width: int) -> Tensor:
    """Table (positions, width): even columns sin(p w_i), odd columns cos(p w_i), w_i = 10000^(-2i / width)."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)


class _PositionTable(nn.Module):
    """Adds to tokens (batch, tokens, width) their position's row of the sinusoid table, `pe` (positions, 1, width)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pe", sinusoids(POSITIONS, width)[:, None])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(tokens + self.pe[: tokens.shape[1], 0])


class _TimeEmbedding(nn.Module):
    """Timesteps (batch,) to (batch, 1, width): the position table's row through Linear, SiLU, Linear."""

    def __init__(self, width: int, table: _PositionTable) -> None:
        super().__init__()
        self.sequence_pos_encoder = table
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.time_embed(self.sequence_pos_encoder.pe[timesteps])


def _goal_network(width: int, layers: int) -> nn.Sequential:
    hidden = [part for _ in range(layers) for part in (nn.SiLU(), nn.Linear(width, width))]
    return nn.Sequential(nn.Linear(4 * len(GOALS), width), *hidden)


class _Refiner(nn.Module):
    """Corrects motion (batch, frames, features) by what it is in the frames around, six to either side.

    At first it changes nothing, so a trained network may get one.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.refine
        self.into = nn.Linear(config.features, width)
        self.over = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(3))
        self.out = nn.Linear(width, config.features)
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, motion: Tensor, mask: Tensor | None) -> Tensor:
        """mask (batch, frames): what is padding is as if it were not there."""
        hidden = self.into(motion)
        for layer in self.over:
            seen = nn.functional.gelu(hidden)
            seen = seen if mask is None else seen * mask[..., None]
            hidden = hidden + layer(seen.mT).mT
        return motion + self.out(nn.functional.gelu(hidden))


class Denoiser(nn.Module):
    """x_t, t, condition -> x_0. See DenoiserConfig for the variants."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config, width = config, config.latent_dim
        joined, token = width if config.arch == "gru" else 0, config.features * config.frames_per_token
        self.input_process = nn.ModuleDict({"poseEmbedding": nn.Linear(token + joined, width)})
        self.sequence_pos_encoder = _PositionTable(width, config.dropout)
        self.embed_timestep = _TimeEmbedding(width, self.sequence_pos_encoder)
        if config.goals:
            self.embed_target_cond = nn.ModuleDict({"mlp": _goal_network(width, config.goal_layers)})
        if config.condition == "text":
            of_words = config.text_encoder == "words"
            self.embed_text = (
                WordEncoder(config.words, width) if of_words else nn.Linear(TEXT_WIDTHS[config.text_encoder], width)
            )
        if config.condition == "action":
            self.embed_action = nn.ParameterDict({"action_embedding": torch.randn(config.actions, width)})
        name, build = _TRUNKS[config.arch]
        self.add_module(name, build(config))
        spoken = token + 2 * config.features * config.overlap
        self.output_process = nn.ModuleDict({"poseFinal": nn.Linear(width, spoken)})
        if config.refine:
            self.refine = _Refiner(config)

    def forward(
        self, x: Tensor, timesteps: Tensor, condition: Condition = Condition(), keep: Tensor | None = None
    ) -> Tensor:
        """Predicted clean motion, shaped as x.

        x: (batch, frames, features) noised motion. timesteps: (batch,) int64. keep: (batch,), 1 = with its text or
        action, 0 = without (the embedding is multiplied by it; goals and prefix stay); None = all with.
        Raises InputError where the condition does not fit the network.
        """
        return self.refined(self.rough(x, timesteps, condition, keep), timesteps, condition)

    def refined(self, motion: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Predicted motion, at timestep 0 corrected by the convolutions over frames, where the network has them.

        Corrected earlier too, samples would go astray: what is done to each of ten predictions adds up. In training the
        convolutions run at any timestep, because DDP wants each step to use every weight.
        """
        last = timesteps[:, None, None] == 0
        if not self.config.refine or not (self.training or last.any()):
            return motion
        return torch.where(last, self.refine(motion, condition.mask), motion)

    def rough(self, x: Tensor, timesteps: Tensor, condition: Condition, keep: Tensor | None = None) -> Tensor:
        """As forward, not refined: guidance is of this, so that what it adds is refined too."""
        self._check(x, condition)
        time = self.embed_timestep(timesteps)
        if condition.goals is not None:
            time = time + self.embed_target_cond["mlp"](condition.goals.flatten(1))[:, None]
        embedding = time + self._embed_condition(condition, None if keep is None else keep[:, None, None])
        whole = x if condition.prefix is None else torch.cat((condition.prefix, x), 1)
        tokens = whole.unflatten(1, (-1, self.config.frames_per_token)).flatten(2)
        trunk = {"trans_enc": self._encode, "trans_dec": self._decode, "gru": self._recur}[self.config.arch]
        spoken = self.output_process["poseFinal"](trunk(tokens, time, embedding, condition))
        found = spoken.unflatten(2, (-1, x.shape[-1]))
        if self.config.overlap:
            found = met(found, self.config.overlap, self._empty(condition))
        return found.flatten(1, 2)[:, -x.shape[1] :]

    def _embed_condition(self, condition: Condition, keep: Tensor | None) -> Tensor | float:
        """Embedding (batch, tokens, width) of text or action. Without a text it is what dropping leaves."""
        if condition.text is not None:
            text = condition.text[:, None] if condition.text.ndim == 2 else condition.text.transpose(0, 1)
            return self.embed_text(text if keep is None else text * keep)
        if condition.action is not None:
            action = self.embed_action["action_embedding"][condition.action][:, None]
            return action if keep is None else action * keep
        if self.config.condition == "text":
            like = next(self.embed_text.parameters())
            return self.embed_text(like.new_zeros(1, 1, self.embed_text.in_features))
        return 0.0

    def _encode(self, x: Tensor, time: Tensor, embedding: Tensor, condition: Condition) -> Tensor:
        tokens = torch.cat((embedding, self.input_process["poseEmbedding"](x)), 1)
        padding = self._frame_padding(condition, first_token=True)
        return self.seqTransEncoder(self.sequence_pos_encoder(tokens), src_key_padding_mask=padding)[:, 1:]

    def _decode(self, x: Tensor, time: Tensor, embedding: Tensor, condition: Condition) -> Tensor:
        tokens, skipped = self.input_process["poseEmbedding"](x), int(self.config.time_token)
        if skipped:
            tokens = torch.cat((time, tokens), 1)
        text_padding = condition.text_padding
        return self.seqTransDecoder(
            self.sequence_pos_encoder(tokens),
            embedding,
            tgt_key_padding_mask=self._frame_padding(condition, first_token=bool(skipped)),
            memory_key_padding_mask=None if text_padding is None else text_padding.expand(len(x), -1),
        )[:, skipped:]

    def _recur(self, x: Tensor, time: Tensor, embedding: Tensor, condition: Condition) -> Tensor:
        joined = torch.cat((x, embedding.expand(-1, x.shape[1], -1)), -1)
        tokens = self.sequence_pos_encoder(self.input_process["poseEmbedding"](joined))
        if self.config.gru_over_batch:
            return self.gru(tokens.transpose(0, 1))[0].transpose(0, 1)
        return self.gru(tokens)[0]

    def _frame_padding(self, condition: Condition, first_token: bool) -> Tensor | None:
        """Key padding (batch, tokens), True = left out of attention; the prefix and a first token never are."""
        empty = self._empty(condition) if self.config.mask_frames else None
        return None if empty is None else nn.functional.pad(empty, (int(first_token), 0), value=False)

    def _empty(self, condition: Condition) -> Tensor | None:
        """Which tokens (batch, tokens), those of the prefix first, hold padding alone; None = none of them."""
        if condition.mask is None:
            return None
        prefix = 0 if condition.prefix is None else condition.prefix.shape[1]
        empty = ~condition.mask.unflatten(1, (-1, self.config.frames_per_token)).any(2)
        return nn.functional.pad(empty, (prefix // self.config.frames_per_token, 0), value=False)

    def _check(self, x: Tensor, condition: Condition) -> None:
        """Raises InputError that says what was given and what the network takes."""
        config, width = self.config, x.shape[-1]
        if width != config.features:
            raise InputError(f"motion has {width} features a frame; this network takes {config.features}")
        if x.shape[1] + config.context_len >= POSITIONS:
            raise InputError(f"{x.shape[1]} frames are too many at once; {POSITIONS - 1 - config.context_len} at most")
        if x.shape[1] % config.frames_per_token:
            raise InputError(f"{x.shape[1]} frames; this network takes multiples of {config.frames_per_token}")
        for given, kind in ((condition.text, "text"), (condition.action, "action")):
            if given is not None and config.condition != kind:
                raise InputError(f"{kind} was given to a network whose condition is {config.condition!r}")
        if condition.text is not None and condition.text.shape[-1] != self.embed_text.in_features:
            wanted = f"{self.embed_text.in_features}, those of {config.text_encoder}"
            raise InputError(f"text embeddings are {condition.text.shape[-1]} wide; this network takes {wanted}")
        if condition.goals is not None and not config.goals:
            raise InputError("goals were given to a network trained without them (multi_target_cond false)")
        context = 0 if condition.prefix is None else condition.prefix.shape[1]
        if context != config.context_len:
            raise InputError(f"a prefix of {context} frames was given; this network takes {config.context_len}")


def met(spoken: Tensor, overlap: int, empty: Tensor | None) -> Tensor:
    """What tokens say (batch, tokens, overlap + frames + overlap, features) of their own frames, and neighbours too.

    The neighbour's share of a frame falls from the border on, so that of a jump between two tokens a ramp is left.
    Empty tokens (batch, tokens) say nothing of others.
    """
    own = spoken[:, :, overlap:-overlap].clone()
    share = torch.arange(overlap, 0, -1).to(own)[:, None] / (2 * overlap + 1)
    if empty is not None:
        share = share * ~(empty[:, 1:] | empty[:, :-1])[..., None, None]
    first, last = own[:, 1:, :overlap], own[:, :-1, -overlap:]
    first += share * (spoken[:, :-1, -overlap:] - first)
    last += share.flip(-2) * (spoken[:, 1:, :overlap] - last)
    return own


def _transformer_layer(kind: type[nn.Module], config: DenoiserConfig) -> nn.Module:
    width, dropout = config.latent_dim, config.dropout
    return kind(width, config.heads, config.ff_size, dropout, activation="gelu", batch_first=True)


# arch -> name in the state dict, what builds it. Nested tensors would leave zeros where frames are padding.
_TRUNKS = {
    "trans_enc": (
        "seqTransEncoder",
        lambda c: nn.TransformerEncoder(
            _transformer_layer(nn.TransformerEncoderLayer, c), c.layers, enable_nested_tensor=False
        ),
    ),
    "trans_dec": (
        "seqTransDecoder",
        lambda c: nn.TransformerDecoder(_transformer_layer(nn.TransformerDecoderLayer, c), c.layers),
    ),
    "gru": ("gru", lambda c: nn.GRU(c.latent_dim, c.latent_dim, c.layers, batch_first=True)),
}
