"""The reference's fitting loop: SMPLify3D as MDM runs it, written from a description, to be measured against.

Nothing of the product uses this file. What makes it faithful: one L-BFGS over the parameters of all frames, 10 + 150
outer steps of up to 150 iterations each, the whole body (every vertex) through smplx at every evaluation, one shape a
frame, no stop of its own.
"""

import contextlib
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import smplx
import torch
from torch import Tensor

TORSO = (2, 1, 17, 16)  # right hip, left hip, right shoulder, left shoulder
SEEN = 22  # target joint i is model joint i; the hands (22, 23) are not observed
SIGMA = 100.0  # of the robust error: for metres practically a square
JOINTS, POSE, ANGLE, SHAPE, PRESERVE, DEPTH = 600.0, 4.78 * 1.5, 15.2, 5.0, 5.0, 100.0  # squared where they are used
# Of the 69, with the sign of unnatural bending: y of the elbows (joints 18, 19), x of the knees (4, 5).
BENDS = {52: 1.0, 55: -1.0, 9: -1.0, 12: -1.0}


class Mixture:
    """The pose prior: -log of the best component of a Gaussian mixture over the 69 axis-angle numbers of joints 1..23.

    gmm: means (K, 69), covars (K, 69, 69), weights (K,), as in gmm_08.pkl. The constants are rounded to float32
    before the logarithm, as in the reference, so a component whose weight underflows there (energy inf) is never
    chosen: a fault that is kept on purpose.
    """

    def __init__(self, gmm: Mapping[str, np.ndarray]) -> None:
        covars = np.asarray(gmm["covars"], np.float64)
        roots = np.sqrt(np.linalg.det(covars))
        weights = np.asarray(gmm["weights"], np.float64) / ((2 * np.pi) ** (covars.shape[-1] / 2) * roots / roots.min())
        self.means = torch.tensor(np.asarray(gmm["means"]), dtype=torch.float32)
        self.precisions = torch.tensor(np.linalg.inv(covars), dtype=torch.float32)
        self.costs = -torch.tensor(weights, dtype=torch.float32).log()

    def __call__(self, body_pose: Tensor) -> Tensor:
        """(T, 69) -> (T,)"""
        offset = body_pose[:, None] - self.means
        mahalanobis = torch.einsum("tki,kij,tkj->tk", offset, self.precisions.to(offset), offset)
        return (0.5 * mahalanobis + self.costs.to(offset)).amin(1)


def gmof(x: Tensor, sigma: float = SIGMA) -> Tensor:
    """Geman-McClure error of each number: s^2 x^2 / (s^2 + x^2)."""
    return sigma**2 * x**2 / (sigma**2 + x**2)


def guess_translation(model_joints: Tensor, joints: Tensor) -> Tensor:
    """Mean offset of the torso joints: model (T, >=22, 3), target (T, >=22, 3) -> (T, 1, 3)."""
    torso = list(TORSO)
    return (joints[:, torso] - model_joints[:, torso]).mean(1, keepdim=True)


def camera_loss(model_joints: Tensor, translation: Tensor, guess: Tensor, joints: Tensor) -> Tensor:
    """Stage 1, summed over frames: torso joints, and the translation held at its guess.

    The factor 4 comes from the reference's shapes: (T, 1, 3) is broadcast over the four torso joints before the sum.
    """
    torso = list(TORSO)
    error = ((model_joints[:, torso] + translation - joints[:, torso]) ** 2).sum()
    return error + len(TORSO) * DEPTH**2 * ((translation - guess) ** 2).sum()


def body_terms(
    body_pose: Tensor,
    betas: Tensor,
    model_joints: Tensor,
    translation: Tensor,
    joints: Tensor,
    initial_pose: Tensor,
    mixture: Mixture,
    confidence: Tensor | None = None,
) -> dict[str, Tensor]:
    """Stage 2, each weighted term for each frame: values (T,).

    body_pose and initial_pose (T, 69) axis-angle, betas (T, B), model_joints (T, >=22, 3) without translation,
    translation (T, 1, 3), joints (T, >=22, 3) metres, confidence (22,) or None for ones.
    """
    error = gmof(model_joints[:, :SEEN] + translation - joints[:, :SEEN]).sum(-1)
    if confidence is not None:
        error = confidence**2 * error
    bends = sum(torch.exp(2 * sign * body_pose[:, i]) for i, sign in BENDS.items())
    return {
        "joints": JOINTS**2 * error.sum(-1),
        "pose": POSE**2 * mixture(body_pose),
        "angle": ANGLE**2 * bends,
        "shape": SHAPE**2 * (betas**2).sum(-1),
        "preserve": PRESERVE**2 * ((body_pose - initial_pose) ** 2).sum(-1),
    }


@dataclass
class Problem:
    """Targets (T, 22, 3), the body for T frames, the mixture, initial pose (72,) and shape (B,)."""

    joints: Tensor
    body: torch.nn.Module
    mixture: Mixture
    mean_pose: Tensor
    mean_shape: Tensor

    def model_joints(self, pose: Tensor, betas: Tensor) -> Tensor:
        """(T, 72), (T, B) -> (T, 45, 3), without translation; the vertices are made too, as in the reference."""
        return self.body(global_orient=pose[:, :3], body_pose=pose[:, 3:], betas=betas).joints

    def terms(self, pose: Tensor, betas: Tensor, translation: Tensor) -> dict[str, Tensor]:
        """Stage 2 at pose (T, 72), betas (T, B), translation (T, 1, 3)."""
        initial = self.mean_pose[None, 3:]
        args = (pose[:, 3:], betas, self.model_joints(pose, betas), translation, self.joints, initial, self.mixture)
        return body_terms(*args)


def load_problem(
    joints: np.ndarray, body_pkl: Path, gmm: Mapping[str, np.ndarray], mean_pose: np.ndarray, mean_shape: np.ndarray
) -> Problem:
    """joints (T, 22, 3) metres; body_pkl: SMPL, smplx unpickles it (trusted); mean_pose (72,); mean_shape (B,)."""
    with contextlib.redirect_stdout(io.StringIO()):  # smplx prints a warning about 10 shape coefficients
        body = smplx.SMPL(str(body_pkl), batch_size=len(joints)).requires_grad_(False)
    body.vertex_joint_selector.extra_joints_idxs %= len(body.v_template)  # bodies of fewer vertices serve too
    tensors = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in (joints, mean_pose, mean_shape)]
    return Problem(tensors[0], body, Mixture(gmm), *tensors[1:])


@dataclass
class Clock:
    """Counts evaluations and CPU seconds, keeps the loss of each, and says when the time is up."""

    limit: float
    start: float = field(default_factory=time.process_time)
    trace: list[tuple[int, float, float]] = field(default_factory=list)  # stage, CPU seconds, loss

    def seconds(self) -> float:
        return time.process_time() - self.start

    def note(self, stage: int, loss: Tensor) -> Tensor:
        self.trace.append((stage, self.seconds(), loss.item()))
        return loss

    def up(self) -> bool:
        return self.seconds() > self.limit


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor], steps: int, stage: int, clock: Clock) -> bool:
    """Take the outer steps of one stage; True when all were taken and the last ones no longer changed the loss."""
    optimiser = torch.optim.LBFGS(parameters, lr=0.01, max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = clock.note(stage, loss())
        value.backward()
        return value

    before, now = math.inf, math.inf
    for _ in range(steps):
        if clock.up():
            return False
        before, now = now, optimiser.step(closure).item()  # the loss that the step began with
    return before - now < 1e-6 * abs(now)


def fit_reference(
    joints: np.ndarray,
    body_pkl: Path,
    gmm: Mapping[str, np.ndarray],
    mean_pose: np.ndarray,
    mean_shape: np.ndarray,
    steps: tuple[int, int] = (10, 150),
    max_seconds: float = math.inf,
) -> dict:
    """Fit joints (T, 22, 3) as the reference does; arguments as in load_problem.

    max_seconds: CPU seconds after which no further outer step is begun.
    Returns what `summary` returns and evaluations, cpu_seconds, converged, trace [(stage, CPU seconds, loss)].
    """
    problem = load_problem(joints, body_pkl, gmm, mean_pose, mean_shape)
    frames = len(problem.joints)
    start = problem.mean_pose.repeat(frames, 1)
    orient, body_pose, betas = start[:, :3].clone(), start[:, 3:].clone(), problem.mean_shape.repeat(frames, 1)
    guess = guess_translation(problem.model_joints(start, betas), problem.joints)
    translation = guess.clone()
    clock = Clock(max_seconds)

    def camera() -> Tensor:
        model_joints = problem.model_joints(torch.cat([orient, body_pose], 1), betas)
        return camera_loss(model_joints, translation, guess, problem.joints)

    def body() -> Tensor:
        return sum(problem.terms(torch.cat([orient, body_pose], 1), betas, translation).values()).sum()

    for parameter in (orient, translation):
        parameter.requires_grad_()
    _minimise(camera, [orient, translation], steps[0], 1, clock)
    for parameter in (body_pose, betas):
        parameter.requires_grad_()
    converged = _minimise(body, [body_pose, betas, orient, translation], steps[1], 2, clock)
    seconds = clock.seconds()

    pose = torch.cat([orient, body_pose], 1).detach()
    result = summary(problem, pose, betas.detach(), translation.detach()[:, 0])
    run = {"evaluations": len(clock.trace), "cpu_seconds": seconds, "converged": converged, "trace": clock.trace}
    return result | run


@torch.no_grad()
def summary(problem: Problem, pose: Tensor, betas: Tensor, transl: Tensor) -> dict:
    """Any fit, pose (T, 72), betas (T, B), transl (T, 3), judged by the reference's loss.

    Returns these and joints (T, 22, 3) with the translation, terms (sums over frames), energy and energy_preserve
    (their total without and with the preserve term), error_mm (mean distance of the joints).
    """
    terms = {name: term.double().sum().item() for name, term in problem.terms(pose, betas, transl[:, None]).items()}
    joints = problem.model_joints(pose, betas)[:, :SEEN] + transl[:, None]
    total = sum(terms.values())
    return {
        "pose": pose,
        "betas": betas,
        "transl": transl,
        "joints": joints,
        "terms": terms,
        "energy": total - terms["preserve"],
        "energy_preserve": total,
        "error_mm": 1000 * (joints - problem.joints).norm(dim=-1).mean().item(),
    }
