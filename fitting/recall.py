"""Long gaps: where joints were hidden for long, what they did at similar moments of the same clip.

People repeat themselves. A Gaussian process, conditioned on the frames in which the joints were seen, says where they
were in the others: its kernel compares two moments by what was seen in both, and by the time between them, so that the
ends of a gap are met (Rasmussen and Williams, "Gaussian Processes for Machine Learning", equations 2.25 and 2.26).
Every moment serves twice, as it was and in the mirror.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from fitting.gaps import CLOSE
from models.anatomy import mirror_index
from models.rotations import matrix_to_axis_angle

JOINTS = 22
ANCHORS = (0, 1, 2, 16, 17)  # pelvis, hips and shoulders: where a body is and where it heads
FLIP = [0, *(1 + mirror_index())[: JOINTS - 1].tolist()]
LONG = 0.3  # seconds: shorter gaps are bridged well enough
RATE, MOST, LEAST = 20.0, 500, 20  # moments compared: a second, the most that lie nearest to a gap, the least
LAG = 0.15  # seconds: a moment is also known by what came before and after it
PACE = 0.1  # seconds that make a length of a speed, to be compared with places
MEMORY = 0.5  # seconds in which a deviation from similar moments fades
DEVIATION, CHANCE = 0.05, 4e-4  # variances of such deviations and of chance, as shares of a joint's own
TRUST = 0.3  # share of the deviation that counts against the pose prior, which adds up frames that err alike


def recall(joints: Tensor, confidence: Tensor, seen: Tensor, fps: Tensor) -> tuple[Tensor, Tensor]:
    """Joints (clips, frames, J, 3) and their confidence (clips, frames, J) with long gaps of SMPL's 22 filled anew.

    joints: metres, y up, bridged already (fitting/gaps.py); seen (clips, frames, J); fps (clips,). Gaps of at most LONG
    stay as they are, and so do those in which an anchor is hidden too or of which less than LEAST moments are seen.
    Confidence is CLOSE / (CLOSE + TRUST x the deviation that the process expects, in metres).
    """
    joints, confidence = joints.clone(), confidence.clone()
    partly = ~seen & seen.any(2, keepdim=True)  # neither padding nor a frame without anybody
    for clip in partly.flatten(1).any(1).nonzero()[:, 0].tolist():
        length = len(seen[clip]) - int(seen[clip].any(1).flip(0).int().argmax())  # without padding
        rate = float(fps[clip])
        hidden = long_gaps(seen[clip, :length, :JOINTS], round(LONG * rate))
        moments = Moments.of(joints[clip, :length, :JOINTS], rate) if hidden.any() else None
        for gap in _runs(hidden.any(1)):
            found = moments.expect(gap, hidden)
            if found is not None:
                places, deviation = (x.to(joints)[hidden[gap]] for x in found)
                rows, columns = hidden[gap].nonzero().T
                joints[clip, gap[rows], columns] = places
                confidence[clip, gap[rows], columns] = CLOSE / (CLOSE + TRUST * deviation)
    return joints, confidence


def long_gaps(seen: Tensor, longest: int) -> Tensor:
    """Where joints, seen (frames, J), are hidden for more than `longest` frames; not those that are never seen."""
    frames = len(seen)
    time = torch.arange(frames, device=seen.device)[:, None].expand(seen.shape)
    before = torch.where(seen, time, -1).cummax(0).values
    after = torch.where(seen, time, frames).flip(0).cummin(0).values.flip(0)
    return ~seen & (after - before - 1 > longest) & seen.any(0)


def _runs(flags: Tensor) -> Iterator[Tensor]:
    """The frames of every run of true flags (frames,)."""
    edges = pad(flags.int(), (1, 1)).diff()
    starts, ends = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    for start, end in zip(starts, ends, strict=True):
        yield torch.arange(start, end, device=flags.device)


@dataclass
class Moments:
    """What the moments of a clip are compared by, each as it was and in the mirror, in metres.

    places (2, frames, 22, 3): joints beside the pelvis, x to the body's left, y up, z ahead; going (2, frames, 5):
    paces of the pelvis and of its turn, and its height. heading (frames, 3, 3) leads from those axes to the world's,
    where the pelvis (frames, 3) is.
    """

    places: Tensor
    going: Tensor
    heading: Tensor
    pelvis: Tensor
    fps: float

    @classmethod
    def of(cls, joints: Tensor, fps: float) -> "Moments":
        """joints (frames, 22, 3) in metres, y up."""
        both = torch.stack((joints, joints[:, FLIP] * joints.new_tensor([-1, 1, 1]))).double()
        pelvis, heading = both[:, :, 0], _heading(both)
        change = (_slope(pelvis)[:, :, None] @ heading)[:, :, 0]
        turn = matrix_to_axis_angle(heading.mT @ heading.roll(-1, 1))[..., 1:2]
        turn = torch.cat((turn[:, :-1], turn[:, -2:-1]), 1)
        going = torch.cat((PACE * fps * change, PACE * fps * turn, pelvis[..., 1:2]), -1)
        return cls((both - pelvis[:, :, None]) @ heading, going, heading[0], pelvis[0], fps)

    def expect(self, gap: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
        """World places (G, 22, 3) of what is hidden in the G frames `gap`, and their deviations (G, 22), in metres.

        hidden (frames, 22): in which frames nothing can be learned about the joint. None where the gap tells nothing.
        """
        shown = (~hidden.any(1)).nonzero()[:, 0][:: max(round(self.fps / RATE), 1)]
        shown = shown[(shown - gap.double().mean()).abs().argsort()[:MOST]]
        asked = hidden[gap].any(0)
        if len(shown) < LEAST or asked[list(ANCHORS)].any():
            return None
        values = self.places[:, shown][:, :, asked].flatten(2).flatten(0, 1)
        average = values.mean(0)
        mean, share = self._condition(self._features(~asked), shown, gap, values - average)
        found = self.places.new_zeros(len(gap), JOINTS, 3)
        found[:, asked] = (mean + average).unflatten(1, (-1, 3))
        spread = (values - average).square().mean(0).view(-1, 3).sum(1).sqrt()
        deviation = found.new_zeros(len(gap), JOINTS)
        deviation[:, asked] = share.sqrt()[:, None] * spread
        return found @ self.heading[gap].mT + self.pelvis[gap][:, None], deviation

    def _features(self, joints: Tensor) -> Tensor:
        """What tells moments apart (2, frames, D): places of some joints and the going, before, then and after."""
        now = torch.cat((self.places[:, :, joints].flatten(2), self.going), 2)
        frame, lag = torch.arange(now.shape[1], device=now.device), max(round(LAG * self.fps), 1)
        return torch.cat([now[:, (frame + shift).clamp(0, len(frame) - 1)] for shift in (-lag, 0, lag)], 2)

    def _condition(self, features: Tensor, shown: Tensor, gap: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (G, V) and variance (G,), as a share of the values', of the process in the frames `gap`.

        values (2 S, V): at the S frames `shown`, as they were and in the mirror.
        """
        known, asked = features[:, shown].flatten(0, 1), features[0, gap]
        scale = (known - known.mean(0)).square().sum(1).mean().clamp_min(1e-6)
        near = self._fading(shown, shown)
        among = torch.exp(-_squares(known, known) / (2 * scale)) + torch.block_diag(near, near)
        among.diagonal().add_(CHANCE)
        across = torch.exp(-_squares(asked, known) / (2 * scale))
        across[:, : len(shown)] += self._fading(gap, shown)  # a mirrored moment is of no time
        solved = torch.linalg.solve(among, torch.cat((values, across.mT), 1))
        left = 1 + DEVIATION - (across * solved[:, values.shape[1] :].mT).sum(1)
        return across @ solved[:, : values.shape[1]], left.clamp_min(CHANCE)

    def _fading(self, frames: Tensor, others: Tensor) -> Tensor:
        """Covariance (F, O) of deviations from similar moments in frames (F,) and others (O,): Matern 3/2 in time."""
        apart = 3**0.5 * (frames[:, None] - others).abs().double() / (self.fps * MEMORY)
        return DEVIATION * (1 + apart) * torch.exp(-apart)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (A, B) between rows of a (A, D) and b (B, D)."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT).clamp_min(0)


def _heading(joints: Tensor) -> Tensor:
    """Rotations (..., 3, 3) whose columns are a body's left over level ground, up, and ahead; joints (..., 22, 3)."""
    left = joints[..., 1, :] - joints[..., 2, :] + joints[..., 16, :] - joints[..., 17, :]
    left = normalize(left * left.new_tensor([1, 0, 1]), dim=-1)
    up = left.new_tensor([0, 1, 0]).expand_as(left)
    return torch.stack((left, up, torch.linalg.cross(left, up)), -1)


def _slope(points: Tensor) -> Tensor:
    """Change of points (2, frames, 3) a frame, from the neighbours on both sides."""
    return torch.gradient(points, dim=1)[0] if points.shape[1] > 1 else torch.zeros_like(points)
