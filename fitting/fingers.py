"""Fingers, where a clip shows them and the body has them: a second, small fit after the body's.

Wrists are the body's business, for which knuckles are observed. Seen from its wrist each finger stands alone, and what
its joints show is where its two bones point. So ten chains about one root are fitted, each in axes of its own: x along
the first bone at rest, y to the palm, z about which the finger bends. Bones have the body's lengths: the fingers of
another hand point the same way. Thirty joints more in the body's own solve would take 3.7 times its linear algebra;
this takes 0.9 times, in fewer iterations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fitting.data import Motion
from fitting.energy import Energy
from fitting.observed import arrange
from fitting.problem import Problem
from fitting.result import FitResult
from fitting.rig import Posed, Rig, State
from fitting.solver import solve
from fitting.start import swing
from fitting.terms import Normal, Term
from fitting.terms.pose import Limits, Preserve
from fitting.unpack import curves
from models.body import BODY_JOINTS, BodyModel, forward_kinematics
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from models.skeleton import FINGERS, PHALANGES, Skeleton

WRISTS = (20, 21)
THUMBS = (4, 9)  # among the ten fingers, five of each hand in the order of FINGERS
# Degrees of twist, spread and bend (positive to the palm) of a finger's first and second joint, and of a thumb's two
LIMITS = (((-20, 20), (-25, 25), (-30, 100)), ((-10, 10), (-10, 10), (-10, 115)))
THUMB_LIMITS = (((-60, 60), (-60, 60), (-60, 60)),) * 2
FOLLOW = 2 / 3  # of the bend of its middle joint a finger's last joint makes, which no joint shows
LIMIT_WEIGHT, MEAN_WEIGHT, HOLD = 1e4, 1.0, 1e12  # a bone of 3 cm off by a radian costs 324 at the joints' weight
ITERATIONS, TOLERANCE = 30, 1e-5


def shows_fingers(skeleton: Skeleton) -> bool:
    """Whether its joints show how fingers bend: some joint behind a knuckle."""
    return not PHALANGES.keys().isdisjoint(skeleton.shows)


def lacks_fingers(body: BodyModel, motions: Iterable[Motion]) -> bool:
    """Whether some of the motions show fingers and the body has none."""
    return not body.has_fingers and any(shows_fingers(motion.skeleton) for motion in motions)


def left_out(body: BodyModel) -> str:
    """What is said where a clip shows fingers and the body has none."""
    return (
        f"Fingers were left out: the body {body.name} has none. SMPL-H (52 joints) and SMPL-X (55) have; give such a "
        "file with --body (docs/bring-your-smpl.md)."
    )


def with_fingers(result: FitResult, terms: Mapping[str, Term]) -> FitResult:
    """The fit with thetas (L, J, 3) of every joint of the body's file, where its clip shows fingers.

    Data and smoothness are weighted by the body's `terms`. A finger that was not seen is the file's mean hand's; a
    last joint follows its middle joint, a thumb's stays at the mean. Where the body has no fingers the message says so.
    """
    body, motion = result.body, result.motion
    if not shows_fingers(motion.skeleton):
        return result
    if lacks_fingers(body, [motion]):
        return replace(result, message=f"{result.message} {left_out(body)}")
    chains = Chains.of(body, result.betas.view(-1, body.num_betas).mean(0))
    energy = Energy(_terms(terms), _problem(result, chains))
    solution = solve(energy, _start(energy.problem, chains), ITERATIONS, TOLERANCE, "lm")
    bends = solution.state.pose.view(-1, 10, 2, 3)
    last = chains.mean[:, 2] + chains.follow * (bends[:, :, 1] - chains.mean[:, 1])
    fingers = torch.cat((bends, last[:, :, None]), 2) @ chains.axes.mT
    others = body.fixed_thetas[: -len(FINGERS)].expand(result.length, -1, 3)
    thetas = torch.cat((result.thetas[:, :BODY_JOINTS], others, fingers.flatten(1, 2)), 1)
    losses = result.losses | curves({"fingers": solution}, slice(0, 1))
    return replace(result, thetas=thetas, losses=losses)


@dataclass(frozen=True)
class Chains:
    """The fingers of a body as a skeleton for `Rig`: a root, then three joints of each finger, the first at the root.

    axes (10, 3, 3): columns x, y and z of each finger in its wrist's axes; bones (10, 2, 3) and mean (10, 3, 3), the
    rotation vectors of the mean hand, are in the finger's axes.
    """

    axes: Tensor
    bones: Tensor
    mean: Tensor
    num_betas = 0
    parents = (-1, *(0 if i % 3 == 0 else i for i in range(len(FINGERS))))

    @classmethod
    def of(cls, body: BodyModel, betas: Tensor) -> "Chains":
        """betas (B,)."""
        rest = body.rest_joints(betas)[-len(FINGERS) :].view(10, 3, 3)
        bones = rest.diff(dim=1)
        x = normalize(bones[:, 0], dim=-1)
        palm = x.new_tensor([0.0, -1.0, 0.0]).expand_as(x)  # in the T pose palms face the floor
        z = normalize(torch.linalg.cross(x, palm), dim=-1)
        axes = torch.stack((x, torch.linalg.cross(z, x), z), -1)
        return cls(axes, bones @ axes, body.fixed_thetas[-len(FINGERS) :].view(10, 3, 3) @ axes)

    @property
    def rest_template(self) -> Tensor:
        places = torch.cat((torch.zeros_like(self.bones[:, :1]), self.bones.cumsum(1)), 1).flatten(0, 1)
        return torch.cat((torch.zeros_like(places[:1]), places))

    @property
    def rest_dirs(self) -> Tensor:
        return self.rest_template[..., None][..., :0]

    @property
    def follow(self) -> Tensor:
        """(10, 1): the share of its middle joint's bend that a finger's last joint makes."""
        return torch.tensor([[0.0 if finger in THUMBS else FOLLOW] for finger in range(10)])

    @property
    def limits(self) -> Tensor:
        """(10, 2, 3, 2) radians; the mean hand is within them."""
        degrees = [THUMB_LIMITS if finger in THUMBS else LIMITS for finger in range(10)]
        low, high = torch.tensor(degrees).to(self.mean).deg2rad().unbind(-1)
        return torch.stack((torch.minimum(low, self.mean[:, :2]), torch.maximum(high, self.mean[:, :2])), -1)


def _terms(body: Mapping[str, Term]) -> dict[str, Term]:
    shared = {name: body[name] for name in ("joints", "smoothness") if name in body}
    return shared | {"limits": Limits(LIMIT_WEIGHT), "mean_hand": Preserve(MEAN_WEIGHT), "held": Held(HOLD)}


@dataclass
class Held(Term):
    """Transl and root stay where they start, for a weight that outdoes all others: a finger's axes are known."""

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        return posed.transl.new_zeros(posed.count)

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        normal.matrix.diagonal(dim1=1, dim2=2)[:, :6] += self.weight


def _problem(result: FitResult, chains: Chains) -> Problem:
    """Targets (L, 20, 3): the ends of every finger's two bones, laid from its knuckle on in the finger's axes."""
    directions, sure = _seen_bones(result, chains)
    lengths = chains.bones.norm(dim=-1, keepdim=True)
    targets = (lengths * normalize(directions, dim=-1)).cumsum(2).flatten(1, 2)
    rig = Rig(chains, tuple(j for j in range(1, 1 + len(FINGERS)) if j % 3 != 1))
    mask, fps = torch.ones(1, result.length, dtype=torch.bool), targets.new_tensor([result.fps])
    return Problem(rig, targets, sure, mask, fps, None, chains.limits.view(-1, 2), chains.mean.flatten())


def _seen_bones(result: FitResult, chains: Chains) -> tuple[Tensor, Tensor]:
    """Bones of the input's fingers (L, 10, 2, 3) in the fingers' axes, unit vectors where unseen; confidence (L, 20).

    The second bone is laid on the end of the first, so it is seen only with it.
    """
    motion, body = result.motion, result.body
    given = torch.where(torch.from_numpy(motion.seen)[..., None], torch.as_tensor(motion.joints), torch.nan)
    joints = arrange(given, motion.skeleton, FINGERS, torch.nan).unflatten(1, (10, 3))
    confidence = torch.ones(given.shape[:2]) if motion.confidence is None else torch.as_tensor(motion.confidence)
    sure = arrange(confidence[..., None], motion.skeleton, FINGERS, 0.0).unflatten(1, (10, 3))[..., 0]
    sure = torch.where(joints.isfinite().all(-1), sure, 0).cummin(2).values
    betas = result.betas if result.betas.ndim > 1 else result.betas[None]
    world, _ = forward_kinematics(body.full_rotations(result.thetas), body.rest_joints(betas), body.parents)
    axes = world[:, WRISTS, :, :].repeat_interleave(5, 1) @ chains.axes
    bones = joints.diff(dim=2).to(axes) @ axes
    return torch.where(sure[:, :, 1:, None] > 0, bones, chains.bones), sure[:, :, 1:].flatten(1).to(axes)


def _start(problem: Problem, chains: Chains) -> State:
    """The mean hand, its bones swung onto those that were seen, the first before the second."""
    ends = problem.targets.unflatten(1, (10, 2))
    bones = torch.cat((ends[:, :, :1], ends.diff(dim=2)), 2)
    parent, bends = torch.eye(3).to(bones), []
    for joint in range(2):
        mean = axis_angle_to_matrix(chains.mean[:, joint])
        here = parent @ mean @ chains.bones[:, joint, :, None]
        turn = swing(here[..., 0].expand_as(bones[:, :, joint]), bones[:, :, joint])
        seen = problem.confidence.unflatten(1, (10, 2))[:, :, joint, None, None] > 0
        turned = torch.where(seen, turn @ parent @ mean, parent @ mean)
        bends.append(matrix_to_axis_angle(parent.mT @ turned))
        parent = turned
    frames = len(bones)
    pose = torch.stack(bends, 2).view(1, frames, 20, 3)
    root = torch.eye(3).to(pose).expand(1, frames, 3, 3)
    return State(pose.new_zeros(1, frames, 3), root, pose, pose.new_zeros(1, 0))
