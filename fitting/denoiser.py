"""Where the joints of a noisy clip are: a small network from joints to joints, beside the learned start's.

A frame is seen with those around it from the place of its trunk, so a heading changes nothing. Clips without noise are
left as they are. It is trained by experiments/fitter/start.yaml; docs/learned-start.md tells what it is worth.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fitting.noise import Noise
from fitting.problem import Problem
from fitting.start import kabsch
from fitting.window import averaged
from models.proportions import TRUNK

OBSERVED = 22
RATE = 20.0  # frames a second that the network sees, more or less
REACH = 7  # frames before and after, with which a frame is seen
CALM = 2.0  # frames: deviation of the window over which joints are averaged first
SPREAD, BODY, TOLD = 0.1, 0.3, 0.04  # metres: sizes of what the network sees, and of noise
CHANGE = 0.75  # times the noise: what the network changes, about
AT_ONCE = 4096  # frames whose surroundings are in memory together
FEATURES = OBSERVED * (3 * (2 * REACH + 1) + 4) + 4
CLEAN, NOISY = 0.006, 0.014  # metres: noise up to which joints are left as they are, and from which they are replaced
ROUGH = 0.03  # what is left of the smoothing that the noise asked for


@dataclass
class Shown:
    """Noisy clips: joints (clips, frames, 22, 3) in metres, gaps bridged; which of them were seen (clips, frames, 22);
    mask (clips, frames), false on padding; level (clips,): the deviation of their noise in metres."""

    joints: Tensor
    seen: Tensor
    mask: Tensor
    level: Tensor


class Step(nn.Module):
    """Residual: channels normalised at every frame, then a convolution over three frames `dilation` apart."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        """x (clips, frames, width), zero where shown (clips, frames, 1) is 0 -> the same."""
        return x + shown * self.conv((shown * self.norm(x)).mT).mT.relu()


class Denoiser(nn.Module):
    """From joints averaged in time to where they are: a linear filter, and convolutions in time."""

    def __init__(self, width: int = 160, dilations: tuple[int, ...] = (1, 2, 4, 8, 1)):
        super().__init__()
        self.first = nn.Linear(FEATURES, width)
        self.filter = nn.Linear(FEATURES, 3 * OBSERVED, bias=False)
        self.steps = nn.ModuleList(Step(width, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, 3 * OBSERVED)
        for weight in (self.filter.weight, self.last.weight, self.last.bias):
            nn.init.zeros_(weight)

    def forward(self, shown: Shown, rest: Tensor) -> Tensor:
        """Where the joints are, (clips, frames, 22, 3); rest (22 or more, 3): joints of the body at rest.

        What is masked changes nothing.
        """
        calm = averaged(shown.joints.flatten(2), shown.mask, torch.full_like(shown.level, CALM))
        calm = calm.view_as(shown.joints)
        trunk = rest[list(TRUNK)]
        turn = kabsch(trunk.expand(*shown.mask.shape, *trunk.shape), calm[:, :, list(TRUNK)])
        size = CHANGE * shown.level[:, None, None, None]
        return calm + size * self._change(shown, calm, turn) @ turn.mT

    def _change(self, shown: Shown, calm: Tensor, turn: Tensor) -> Tensor:
        """In the frame of the trunk, without size: (clips, frames, 22, 3)."""
        count, most = shown.mask.shape[1], max(AT_ONCE // len(calm), 1)
        spans = [slice(start, min(start + most, count)) for start in range(0, count, most)]
        seen = (features(shown, calm, turn, span) for span in spans)
        parts = [(self.first(x), self.filter(x)) for x in seen]
        x, filtered = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        there = shown.mask[..., None].to(x)
        x = there * x
        for step in self.steps:
            x = step(x, there)
        return (self.last(self.norm(x)) + filtered).unflatten(-1, (OBSERVED, 3))


def features(shown: Shown, calm: Tensor, turn: Tensor, span: slice) -> Tensor:
    """Features (clips, span, FEATURES) of the frames of a span, in the frame of the trunk.

    Joints of the frames around beside the averaged one of this frame, as far as they were seen; this one beside the
    trunk's middle; which were seen, where up is, the noise.
    """
    seen = (shown.seen & shown.mask[..., None]).to(calm)
    here, turn = calm[:, span], turn[:, span]
    padded = pad(torch.cat((shown.joints, seen[..., None]), -1), (0, 0, 0, 0, REACH, REACH))
    around = padded[:, span.start : span.stop + 2 * REACH].unfold(1, 2 * REACH + 1, 1).movedim(-1, 2)
    beside = (around[..., :3] - here[:, :, None]) * around[..., 3:]
    parts = (
        (beside.flatten(2, 3) @ turn).flatten(2) / SPREAD,
        ((here - here[:, :, list(TRUNK)].mean(2, keepdim=True)) @ turn).flatten(2) / BODY,
        seen[:, span],
        turn[:, :, 1],
        (shown.level / TOLD)[:, None, None].expand(-1, here.shape[1], 1),
    )
    return torch.cat(parts, -1)


def denoised(network: Denoiser, problem: Problem, seen: Tensor) -> Problem:
    """The problem with the seen joints of noisy clips where the network says they are, which then are smoothed less.

    seen (clips, frames, 22). Clips without noise, or whose noise is not measured, stay as they are.
    """
    noise = problem.noise
    share = 0 if noise is None else ((noise.level - CLEAN) / (NOISY - CLEAN)).clamp(0, 1)
    if noise is None or not share.any():
        return problem
    joints = problem.targets[:, :OBSERVED].unflatten(0, problem.mask.shape)
    strides = (problem.fps / RATE).round().clamp_min(1).long()
    found = joints.clone()
    for stride in strides[share > 0].unique().tolist():
        rows = (strides == stride) & (share > 0)
        shown = Shown(joints[rows], seen[rows], problem.mask[rows], noise.level[rows])
        found[rows] = _at_rate(network, shown, problem.rig.rest_template, stride)
    weight = share[:, None, None] * seen
    moved = torch.lerp(joints, found, weight[..., None]).flatten(0, 1)
    left = Noise(noise.level * (1 - share), noise.trust, noise.smoothing * (1 - share * (1 - ROUGH))[:, None])
    return replace(problem, targets=torch.cat((moved, problem.targets[:, OBSERVED:]), 1), noise=left)


@torch.no_grad()
def _at_rate(network: Denoiser, shown: Shown, rest: Tensor, stride: int) -> Tensor:
    """What the network says of every stride-th frame, from the first, the second ... on: (clips, frames, 22, 3)."""
    clips, frames = shown.mask.shape
    extra = -frames % stride

    def apart(values: Tensor) -> Tensor:
        filled = torch.cat((values, values.new_zeros(clips, extra, *values.shape[2:])), 1)
        return filled.unflatten(1, (-1, stride)).movedim(2, 1).flatten(0, 1)

    parts = (apart(values) for values in (shown.joints, shown.seen, shown.mask))
    found = network(Shown(*parts, shown.level.repeat_interleave(stride)), rest)
    return found.unflatten(0, (clips, stride)).movedim(1, 2).flatten(1, 2)[:, :frames]
