"""The learned start: a small network from joints to rotations with twist, and the state that a fit starts from.

The network sees every frame from the trunk's own place, so it knows no heading, at RATE frames a second, whatever the
clip has. It corrects the geometric start: where it has learned nothing, that is its answer. It is trained by
experiments/fitter/start.yaml; docs/learned-start.md tells what it is worth.
"""

import zlib
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from fitting.belief import Belief
from fitting.denoiser import OBSERVED, Denoiser
from fitting.export.atomic import atomic_path
from fitting.problem import Problem
from fitting.rig import CHILD, State
from fitting.start import aligned_start, geometric_start, mean_start
from models.errors import InputError
from models.mdm.recogniser import Block
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_rot6d, rot6d_to_matrix

WEIGHTS = Path(__file__).parents[1] / "models" / "assets" / "learned_start.npz"
RATE = 20.0  # frames a second that the network sees
JOINTS = 24
SHOWN = (*range(1, 10), 12, 13, 14, 16, 17, 18, 19)  # joints whose rotation the geometric start finds in part
FEATURES = OBSERVED * 7 + 3 + 6 * len(SHOWN)
VAGUE, SURE = 1.0, 1200.0  # 1 / rad^2: deviations of 57 and 1.7 degrees, between which the precision lies
STIFF = 1e-4  # m^2: how much a beta of 1 must explain of the squared lengths of bones


class PoseNetwork(nn.Module):
    """Convolutions in time from features of frames to corrections of the geometric start, and their precision.

    denoiser: a network of its own, which says where the joints of a noisy clip are before this one sees them.
    """

    def __init__(self, width: int = 160, dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2)):
        super().__init__()
        self.first = nn.Linear(FEATURES, width)
        self.blocks = nn.ModuleList(Block(width, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.turn = nn.Linear(width, 6 * JOINTS)
        self.certainty = nn.Linear(width, JOINTS)
        self.denoiser = Denoiser()
        for last in (self.turn, self.certainty):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @classmethod
    def load(cls, path: str | Path | None = None) -> "PoseNetwork":
        """Trained weights: a file that the training wrote, by default the one that comes along.

        Raises InputError for a file that is missing or not one.
        """
        path, network = Path(path or WEIGHTS), cls()
        try:
            with np.load(path, allow_pickle=False) as file:
                state = {name: torch.from_numpy(file[name].astype(np.float32)) for name in network.state_dict()}
            network.load_state_dict(state)
        except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error):
            raise InputError(
                f"{path}: not there, or no learned start. --start takes geometric, learned, or a file: "
                "`python train.py fit -c experiments/fitter/start.yaml` makes one"
            ) from None
        return network.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the weights in half precision, under that very name, whole or not at all.

        Raises InputError where the place cannot be written to.
        """
        state = {name: value.cpu().half().numpy() for name, value in self.state_dict().items()}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **state)

    def forward(self, features: Tensor, base: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """features (clips, frames, FEATURES), base (clips, frames, 24, 3, 3), mask (clips, frames) -> rotations
        (clips, frames, 24, 3, 3), precision (clips, frames, 24). What is masked changes nothing.
        """
        shown = mask[..., None].to(features)
        x = shown * self.first(features)
        for block in self.blocks:
            x = block(x, shown)
        x = self.norm(x)
        rotations = rot6d_to_matrix(matrix_to_rot6d(base) + self.turn(x).unflatten(-1, (JOINTS, 6)))
        return rotations, VAGUE * (SURE / VAGUE) ** torch.sigmoid(self.certainty(x))


def believe(network: PoseNetwork, problem: Problem) -> Belief:
    """What the network believes of the frames of a problem, padding included, at any frame rate."""
    slow, places = at_rate(problem)
    with torch.no_grad():
        features, base = seen_by_network(slow)
    rotations, precision = (sampled(value, places) for value in network(features, base, slow.mask))
    return Belief(rot6d_to_matrix(matrix_to_rot6d(rotations)).flatten(0, 1), precision.flatten(0, 1))


def at_rate(problem: Problem) -> tuple[Problem, Tensor]:
    """The targets at RATE frames a second, and where the frames of `problem` stand among its (clips, frames)."""
    clips, frames = problem.mask.shape
    step = problem.fps / RATE  # frames of the clip in one of the network's
    last = problem.mask.sum(1) - 1
    ends = (last / step + 1e-4).floor()  # the last frame at RATE
    count = torch.arange(int(ends.max()) + 1, device=step.device)
    there = torch.minimum(count * step[:, None], last[:, None].to(step))
    values = torch.cat((problem.targets, problem.confidence[..., None]), -1).unflatten(0, (clips, frames))
    values = sampled(values, there)
    mask = count <= ends[:, None]
    confidence = values[..., 3] * mask[..., None]
    slow = replace(
        problem, targets=values[..., :3].flatten(0, 1), confidence=confidence.flatten(0, 1), mask=mask,
        fps=torch.full_like(step, RATE), noise=None, contact=None, guess=None,
    )  # fmt: skip
    return slow, torch.minimum(torch.arange(frames, device=step.device) / step[:, None], ends[:, None].to(step))


def sampled(values: Tensor, places: Tensor) -> Tensor:
    """values (clips, frames, ...) between frames, at places (clips, K) -> (clips, K, ...), along the line."""
    low = places.floor().long()
    high = (low + 1).clamp_max(values.shape[1] - 1)
    clip = torch.arange(len(values), device=values.device)[:, None]
    share = (places - low).view(*places.shape, *[1] * (values.dim() - 2))
    return torch.lerp(values[clip, low], values[clip, high], share.to(values))


def seen_by_network(problem: Problem) -> tuple[Tensor, Tensor]:
    """Features (clips, frames, FEATURES) of a problem at RATE, and the rotations (clips, frames, 24, 3, 3) to correct.

    Joints beside the pelvis, in metres, and their velocities, in m/s, in the frame of the trunk, as far as they were
    seen; how far; where up is in that frame; the geometric start.
    """
    by_frame, rig = problem.mask.shape, problem.rig
    placed = on_trunk(problem)
    geometric = geometric_start(problem, placed)
    base = torch.eye(3).to(placed.root).repeat(*by_frame, JOINTS, 1, 1)
    base[:, :, list(SHOWN)] = axis_angle_to_matrix(geometric.pose)[:, :, [rig.fitted.index(j) for j in SHOWN]]
    joints = problem.targets[:, :OBSERVED].unflatten(0, by_frame)
    seen = problem.confidence[:, :OBSERVED, None].unflatten(0, by_frame)
    beside = (joints - joints[:, :, :1]) @ placed.root
    speed = torch.gradient(joints, dim=1)[0] * RATE if by_frame[1] > 1 else torch.zeros_like(joints)
    inner = torch.arange(by_frame[1], device=seen.device) < problem.mask.sum(1, keepdim=True) - 1
    speed = torch.where(inner[..., None, None], speed, 0) @ placed.root
    parts = (seen * beside, seen * speed, seen, placed.root[:, :, 1:2], matrix_to_rot6d(base[:, :, list(SHOWN)]))
    return torch.cat([part.flatten(2) for part in parts], -1), base


def on_trunk(problem: Problem) -> State:
    """The mean pose laid on the trunk of the targets, from which the network sees them."""
    zero = problem.targets.new_zeros
    return aligned_start(problem, mean_start(problem, zero(3), zero(problem.rig.num_betas)))


def learned_start(problem: Problem) -> State:
    """`learned_state`, with the same needs and shapes, each limb bone swung onto the target's."""
    return geometric_start(problem, learned_state(problem), hinges=False)


def learned_state(problem: Problem) -> State:
    """What the problem's belief says, where the targets are; the shape is the one of the targets' bones.

    problem.belief, whose rotations are (clips * frames, 24, 3, 3), must be there: `believe` makes it. The state is of
    (clips, frames), padding included.
    """
    rig, belief, by_frame = problem.rig, problem.belief, problem.mask.shape
    betas = shape_of_bones(problem)
    root = on_trunk(problem).root @ belief.rotations[:, 0].unflatten(0, by_frame)
    pose = matrix_to_axis_angle(belief.rotations[:, list(rig.fitted)]).unflatten(0, by_frame)
    pelvis = rig.rest_template[0] + betas @ rig.rest_dirs[0].T
    transl = problem.targets[:, 0].unflatten(0, by_frame) - pelvis[:, None]
    return State(transl, root, pose, betas)


def shape_of_bones(problem: Problem) -> Tensor:
    """Betas (clips, B) whose bones have the mean lengths of the targets', as far as the bones were seen.

    Lengths are linear in the betas to first order: dl/dbeta = bone / |bone| . dbone/dbeta, solved with a ridge.
    """
    rig, by_frame = problem.rig, problem.mask.shape
    start, end = torch.tensor(list(CHILD.items()), device=problem.targets.device).T
    bones = rig.rest_template[end] - rig.rest_template[start]
    slopes = torch.einsum(
        "bc,bck->bk", bones / bones.norm(dim=-1, keepdim=True), rig.rest_dirs[end] - rig.rest_dirs[start]
    )
    weights = (problem.confidence[:, start] * problem.confidence[:, end]).unflatten(0, by_frame)
    lengths = (problem.targets[:, end] - problem.targets[:, start]).norm(dim=-1).unflatten(0, by_frame)
    total = weights.sum(1)
    change = (weights * (lengths - bones.norm(dim=-1))).sum(1) / total.clamp_min(1e-9)
    share = (total / problem.mask.sum(1, keepdim=True))[..., None] * slopes
    ridge = STIFF * torch.eye(rig.num_betas).to(slopes)
    return torch.linalg.solve(slopes.T @ share + ridge, (share * change[..., None]).sum(1))
