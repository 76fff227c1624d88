"""The fit of a live motion: one frame in, one pose out.

Every frame starts where the last ones lead and takes a Gauss-Newton step or two of preset `quick`'s energy. Two things
carry over from the past. Motion: each unknown is held near where its velocity would bring it, and the more so the
noisier the last second was. Shape: what every frame
said about the betas is kept as the Schur complement of its normal equations (the border of the arrow that the offline
solver builds for a whole clip, fitting/solver/blocks.py), summed up as in an information filter, so the shape settles.
"""

import math
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fitting.checks import check_finite, check_joints
from fitting.data import Motion, collate
from fitting.energy import Energy
from fitting.mixture import Completion
from fitting.rig import State
from fitting.smplify3d import SMPLify3D
from fitting.solver.blocks import FLOOR
from fitting.start import aligned_start, geometric_start, mean_start
from fitting.terms import Normal
from models.body import BodyModel
from models.errors import InputError
from models.rotations import matrix_to_axis_angle

JOINTS = 22
STEPS_AT_START, MOST_STEPS = 20, 6  # of a new start; of a frame that follows another
SMALL_STEP = 0.05  # metres or radians: a step below it is the last one of its frame
DAMPING = 1e-3
# weight of squared accelerations in SI units: of clean input, and what a squared metre of noise adds; the second was
# tuned on three clips with noise of 1 and 4 cm
SMOOTHING, NOISY = 0.0005, 160.0
WINDOW = 1.0  # seconds from which the noise of the input is read
CALM = 0.5  # the share of a frame's own step in the velocity; the rest is the velocity before
REST = 0.2  # seconds in which a motion that is not seen any more comes to rest
REACH, FASTEST = 0.25, 12.0  # metres, metres a second: what is farther from its last place than both allow has jumped
WARM_UP = 4  # calls after which a recording is at its speed
BONE = 2.0  # a bone longer or shorter than the body's by this factor is none
# an error above WORSE x the usual one + TOLERATED metres is tried from a new start as well
WORSE, TOLERATED = 2.0, 0.03

Lesson = tuple[Tensor, Tensor]  # information (B, B) and evidence (B,) of a frame about the betas


@dataclass
class Pose:
    """One fitted frame: metres, radians, y up; float32 tensors on the CPU.

    thetas (24, 3) axis-angle, root first; betas (B,) as known so far; transl (3,), SMPL's: pelvis = rest pelvis +
    transl; joints (22, 3) of the fitted body; error: mean distance in metres of the joints from the input's, of those
    that were believed; seen (22,) says which, none of them in a bridged frame, whose error is NaN.
    """

    thetas: Tensor
    betas: Tensor
    transl: Tensor
    joints: Tensor
    error: float
    seen: Tensor


class Stream:
    """Fits frames as they come: `pose = stream(joints)`, joints (22, 3) in SMPL's order, metres, y up, NaN = unseen.

    fps: frames a second of the input; body: path of a body file, or a BodyModel, None = the embedded body.
    A joint that is far from where it was, on a bone that nobody has, is not believed. A frame with less than half of
    its joints left is bridged: the motion goes on and comes to rest. A body that jumps is bridged too, and followed as
    soon as the next frame confirms it. Raises InputError for an fps that is none and for files that are no body.
    """

    def __init__(self, fps: float = 20.0, body: str | BodyModel | None = None):
        if not 1 <= fps <= 1000:
            raise InputError(f"fps is {fps}; expected 1 to 1000 frames a second.")
        self.fps = fps
        module = SMPLify3D(None if isinstance(body, BodyModel) else body, "quick")
        if isinstance(body, BodyModel):
            module.body = body
        self.body = module.body
        nobody = Motion("live", joints=np.zeros((1, JOINTS, 3), np.float32), fps=fps)
        _, problem = module.problem(collate([nobody]))
        self.problem = problem
        self.mean_root, self.mean_betas = module.mean_pose[:3].float(), module.mean_betas.float()
        self.parents = list(problem.rig.parents[:JOINTS])
        self.reset()
        self._trace(module)

    def reset(self) -> None:
        """Forget the person: the next frame is the first of another."""
        betas = self.body.num_betas
        self.state: State | None = None
        # what past frames say about the betas b: the quadratic b^T information b - 2 b^T evidence
        self.information, self.evidence = torch.zeros(betas, betas), torch.zeros(betas)
        self.velocity = torch.zeros(6 + self.problem.mixture.size)  # step a frame
        self.jumped: np.ndarray | None = None  # the frame before, if it was somewhere else
        self.gap = 0  # frames since one was fitted
        self.usual_error = 0.0
        self.recent: deque[np.ndarray] = deque(maxlen=max(8, round(WINDOW * self.fps)))  # frames, NaN = not believed

    def __call__(self, joints: np.ndarray | Tensor) -> Pose:
        """Fit one frame (22, 3).

        Raises InputError for another shape, and while nobody was seen yet for what is not a whole person in metres,
        y up; the stream is then as it was before.
        """
        given = np.asarray(joints, dtype=np.float64)
        if given.shape != (JOINTS, 3):
            raise InputError(f"a frame has shape {given.shape}; expected (22, 3), joints in SMPL's order.")
        with torch.inference_mode(), np.errstate(over="ignore", invalid="ignore"):
            seen = self._start(given) if self.state is None else self._follow(given)
            pose = self._answer(seen)
        return Pose(**{name: x.clone() if isinstance(x, Tensor) else x for name, x in vars(pose).items()})

    def _start(self, given: np.ndarray) -> np.ndarray:
        check_finite(given[None], "coordinates of the first frame")
        check_joints(given[None])
        self._restart(given)
        return np.ones(JOINTS, bool)

    def _follow(self, given: np.ndarray) -> np.ndarray:
        """Move on by a frame; which joints of it were believed (22,)."""
        self.gap += 1
        seen = self._believed(given)
        if 2 * seen.sum() > JOINTS and self._near(given[seen], self._joints()[seen]):
            self._track(given, seen)
        elif seen.all() and self.jumped is not None and self._near(given, self.jumped):
            self._restart(given)
        else:
            self.jumped = given if seen.all() else None
            self._bridge()
            return np.zeros(JOINTS, bool)
        self.gap, self.jumped = 0, None
        return seen

    # --- what to believe

    def _joints(self) -> np.ndarray:
        """The body's joints (22, 3) in the world."""
        return self.joints.double().numpy() + self.centre

    def _near(self, points: np.ndarray, others: np.ndarray) -> bool:
        """Whether most points are no farther from the others than a body moves in the time since it was seen."""
        return np.median(np.linalg.norm(points - others, axis=-1)) < REACH + FASTEST * self.gap / self.fps

    def _believed(self, given: np.ndarray) -> np.ndarray:
        """Joints that are numbers, and near their last place or at the end of a bone of the body's length (22,)."""
        ours = self._joints()
        near = np.linalg.norm(given - ours, axis=-1) < REACH + FASTEST * self.gap / self.fps
        lengths, expected = (np.linalg.norm(x[1:] - x[self.parents[1:]], axis=-1) for x in (given, ours))
        bones = (lengths < BONE * expected) & (lengths > expected / BONE)
        at_pelvis = [i for i, parent in enumerate(self.parents[1:]) if parent == 0]
        return np.isfinite(given).all(-1) & (near | np.r_[bones[at_pelvis].any(), bones])

    # --- moving on

    def _restart(self, given: np.ndarray) -> None:
        """Fit a whole frame from the geometric start, with the shape as known so far."""
        self.centre = given[0].copy()
        self.recent.clear()
        self._place(given, np.ones(JOINTS, bool))
        self._learn(self._fit_afresh())
        self.velocity = torch.zeros_like(self.velocity)

    def _track(self, given: np.ndarray, seen: np.ndarray) -> None:
        """Fit a frame from where the motion leads; if that ends badly, from the geometric start as well."""
        self._place(given, seen)
        steady = torch.zeros_like(self.velocity)
        followed = self.gap == 1
        wanted = self.velocity if followed else steady
        weight = SMOOTHING + NOISY * noise_level(self.recent) ** 2
        lesson, moved = self._settle(weight * (self.fps / self.gap) ** 4, wanted, MOST_STEPS)
        self.velocity = torch.lerp(self.velocity, moved, CALM) if followed else steady
        error = self._error()
        if error > WORSE * self.usual_error + TOLERATED:
            tracked = self.state, self.joints, lesson, self.velocity
            lesson, self.velocity = self._fit_afresh(), steady
            if self._error() > error:
                self.state, self.joints, lesson, self.velocity = tracked
        self._learn(lesson)
        self.usual_error += (self._error() - self.usual_error) / 10

    def _bridge(self) -> None:
        """Go on without input, slower and slower."""
        self.velocity = self.velocity * math.exp(-1 / (REST * self.fps))
        self.state = self.state.moved(self.velocity.view(1, 1, -1), 0)
        self._pose()

    def _place(self, given: np.ndarray, seen: np.ndarray) -> None:
        """Make a frame the target; joints that are not believed stay where they are and count nothing."""
        self.recent.append(np.where(seen[:, None], given, np.nan))
        targets = given - self.centre
        if not seen.all():
            targets[~seen] = self.joints.double().numpy()[~seen]
        self.targets = torch.as_tensor(targets, dtype=torch.float32)[None]
        self.confidence = torch.as_tensor(seen, dtype=torch.float32)[None]

    def _fit_afresh(self) -> Lesson:
        """Fit the target from the geometric start; what it says about the shape."""
        problem = replace(self.problem, targets=self.targets, confidence=self.confidence)
        betas = self.mean_betas if self.state is None else self.state.betas[0]
        start = aligned_start(problem, mean_start(problem, self.mean_root, betas))
        self.state = geometric_start(problem, start)
        return self._settle(0.0, torch.zeros_like(self.velocity), STEPS_AT_START)[0]

    def _settle(self, pull: float, wanted: Tensor, most: int) -> tuple[Lesson, Tensor]:
        """Gauss-Newton steps from `wanted` away until they are small.

        Their sum is held near `wanted` (D,) with weight `pull`. Returns what the frame says about the shape, and the
        sum.
        """
        self.state, moved = self.state.moved(wanted.view(1, 1, -1), 0), wanted
        lesson = torch.zeros_like(self.information), torch.zeros_like(self.evidence)
        for _ in range(most):
            state, step, news = self._step(pull, moved - wanted)
            largest = float(step.abs().max())
            if not math.isfinite(largest):  # the target is out of this world, the state stays in it
                break
            self.state, moved, lesson = state, moved + step, news
            if largest < SMALL_STEP:
                break
        self._pose()
        return lesson, moved

    def _learn(self, lesson: Lesson) -> None:
        """Add what a frame says about the shape to what is known."""
        self.information, self.evidence = self.information + lesson[0], self.evidence + lesson[1]

    # --- the hot path, recorded once by torch.jit.trace: without Python between operations it takes half the time

    def _trace(self, module: SMPLify3D) -> None:
        """Record a step and a pose; the first calls of a recording are slow, so make them here."""
        problem, rig, terms = self.problem, self.problem.rig, module.preset.stages["pose"].terms
        completion = Completion(module.prior, problem.fitted_dims)

        def step(
            transl: Tensor, root: Tensor, pose: Tensor, betas: Tensor, targets: Tensor, seen: Tensor, *memory: Tensor
        ):
            state = State(transl, root, pose, betas)
            energy = Energy(terms, replace(problem, targets=targets, confidence=seen))
            step, betas_step, *lesson = arrow_step(energy.normal(rig.posed(state)), betas[0], *memory)
            moved = state.moved(step.view(1, 1, -1), betas_step)
            return *vars(moved).values(), step, *lesson

        def pose(transl: Tensor, root: Tensor, pose: Tensor, betas: Tensor):
            thetas = torch.cat((matrix_to_axis_angle(root[0]), completion(pose.view(1, -1)).view(23, 3)))
            return thetas, rig.posed(State(transl, root, pose, betas)).joints[0, :JOINTS]

        rest = mean_start(problem, self.mean_root, self.mean_betas)
        state = [x.clone() for x in vars(rest).values()]
        frame = [problem.targets, problem.confidence.clone()]
        memory = [self.information, self.evidence, torch.tensor(0.0), self.velocity]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes are recorded as constants, which they are
            self._traced_step = torch.jit.trace(step, (*state, *frame, *memory), check_trace=False)
            self._traced_pose = torch.jit.trace(pose, tuple(state), check_trace=False)
        with torch.inference_mode():
            for _ in range(WARM_UP):
                self._traced_step(*state, *frame, *memory)
                self._traced_pose(*state)

    def _step(self, pull: float, apart: Tensor) -> tuple[State, Tensor, Lesson]:
        """One Gauss-Newton step on the target: the state after it, the step (D,), what the frame says of the shape."""
        memory = self.information, self.evidence, torch.tensor(pull), apart
        out = self._traced_step(*vars(self.state).values(), self.targets, self.confidence, *memory)
        return State(*out[:4]), out[4], out[5:]

    def _pose(self) -> None:
        self.thetas, self.joints = self._traced_pose(*vars(self.state).values())

    # --- the answer

    def _error(self) -> float:
        """Mean distance of the believed joints from the body's, in metres."""
        seen = self.confidence[0]
        return float(seen @ (self.joints - self.targets[0]).norm(dim=-1) / seen.sum())

    def _answer(self, seen: np.ndarray) -> Pose:
        transl = self.state.transl[0, 0].double().numpy() + self.centre
        transl, joints = (torch.as_tensor(x, dtype=torch.float32) for x in (transl, self._joints()))
        error = self._error() if seen.any() else math.nan
        return Pose(self.thetas, self.state.betas[0], transl, joints, error, torch.as_tensor(seen))


def noise_level(frames: Sequence[np.ndarray]) -> float:
    """Deviation in metres of white noise on frames (22, 3), NaN where nothing was seen; 0 for less than eight frames.

    From fourth differences: a person's are small, those of noise of deviation s have the deviation sqrt(70) s. The
    median keeps jumps and gaps out.
    """
    if len(frames) < 8:
        return 0.0
    differences = np.abs(np.diff(frames, 4, axis=0))
    known = differences[np.isfinite(differences)]
    return 1.4826 * float(np.median(known)) / math.sqrt(70) if len(known) else 0.0


def arrow_step(
    normal: Normal, betas: Tensor, information: Tensor, evidence: Tensor, pull: Tensor, apart: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The Gauss-Newton step of a frame's D unknowns and of the betas (B,), past frames counting by their quadratic.

    normal: of this frame, with its border; betas (B,) where it was built; information (B, B), evidence (B,) of past
    frames; pull, apart (D,): weight and residual that hold the frame's unknowns. Returns the two steps, and information
    and evidence of this frame: the Schur complement of its unknowns.
    """
    size = len(apart)
    matrix, gradient = normal.matrix[0], normal.gradient[0]
    frame = matrix[:size, :size].clone()
    diagonal = frame.diagonal()
    diagonal += DAMPING * diagonal + (pull + FLOOR)
    right = torch.cat(((gradient[:size] + pull * apart)[:, None], matrix[:size, size:]), 1)
    factor = torch.linalg.cholesky_ex(frame)[0]
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    along, border = half[:, :1], half[:, 1:]
    schur = matrix[size:, size:] - border.T @ border
    reduced = gradient[size:] - (border.T @ along)[:, 0]
    total = information + schur
    total.diagonal().add_(FLOOR)
    betas_step = torch.linalg.solve_ex(total, evidence - information @ betas - reduced)[0]
    turned = along + border @ betas_step[:, None]
    step = -torch.linalg.solve_triangular(factor.T, turned, upper=True)[:, 0]
    return step, betas_step, schur, schur @ betas - reduced
