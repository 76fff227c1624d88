"""The fit as a differentiable function of the joints and of the energy's own numbers, by the implicit function theorem.

Where the fit ends, the energy's gradient is zero whatever y the energy depends on: grad_x E(x(y), y) = 0, so
dx/dy = -H^-1 d2E/dxdy with H the true Hessian. y are the joints, and any tensors of which weights, terms or the prior
are made. Backward solves H u = dL/dx by conjugate gradients and returns -(d2E/dxdy)^T u. Both products come from one
pass of automatic differentiation through the gradient, so they are exact; the preconditioner is a factorisation made
once, at the end of the fit.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fitting.curvature import CurvedEnergy
from fitting.data import Batch
from fitting.energy import Energy
from fitting.noise import Noise
from fitting.problem import Problem
from fitting.rig import State
from fitting.smplify3d import SMPLify3D
from fitting.solver import solve
from fitting.solver.arrow import Arrow
from fitting.unpack import all_thetas
from models.errors import InputError

ITERATIONS = 200  # of the damped Newton method that goes on after the fit
NEWTON = 6  # undamped steps after those, down to rounding
EPS = torch.finfo(torch.float64).eps
CONJUGATE = 100  # directions of conjugate gradients


def fit_layer(
    joints: Tensor,
    mask: Tensor | None = None,
    fps: float | Tensor = 20.0,
    module: SMPLify3D | str = "careful",
    tensors: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """joints (clips, frames, 22, 3), metres, y up -> thetas (clips, frames, 24, 3), betas (clips, B), transl (clips,
    frames, 3), differentiable by the joints and by `tensors`.

    mask (clips, frames): true on valid frames, the first of each clip; padding gives zeros and gets a zero gradient.
    fps: one for all, or (clips,). module: a SMPLify3D, or the name of a preset; betas are (clips, frames, B) for a
    preset with one shape a frame, and those of fitting.adaptation.adaptable(module.body) with adapt_skeleton. A clip
    without a minimum to differentiate at gets a zero gradient and a warning. tensors: those, requiring gradients, of
    which the module's preset or prior is made (`fitting.knobs.Knobs.applied` makes such a module).
    Everything is computed in float64 (the Hessian's condition is 1e6, which float32 does not bear); the answer has the
    joints' dtype. Raises InputError for other shapes and for solvers but "lm".
    """
    module = SMPLify3D(preset=module) if isinstance(module, str) else module
    mask = joints.new_ones(joints.shape[:2], dtype=torch.bool) if mask is None else mask.to(joints.device)
    _check(joints, mask, module)
    shared = {id(own): own for own in (module.preset, module.prior)}  # a copy would not follow `tensors`
    module = copy.deepcopy(module, shared).to(joints.device, torch.float64)
    fps = torch.as_tensor(fps, dtype=torch.float64, device=joints.device).expand(len(joints))
    minimum = Minimum(module, joints.double(), mask, fps, torch.finfo(joints.dtype).eps, tensors)
    if not minimum.settled.all():
        _warn(minimum.settled, "the fit ended at no minimum")
    step, betas_step, centre = _Implicit.apply(minimum, joints.double(), *tensors)
    state = minimum.state.moved(step, betas_step)
    thetas = all_thetas(state, minimum.energy.problem, module.prior).view(*mask.shape, 24, 3)
    transl = state.transl.view(*mask.shape, 3) + centre[:, None]
    betas = state.betas.unflatten(0, mask.shape) if module.preset.shape == "frame" else state.betas
    thetas, transl = torch.where(mask[..., None, None], thetas, 0), torch.where(mask[..., None], transl, 0)
    return thetas.to(joints), betas.to(joints), transl.to(joints)


def _warn(good: Tensor, reason: str) -> None:
    clips = (~good).nonzero()[:, 0].tolist()
    warnings.warn(f"fit_layer: {reason} for clips {clips}: their gradient is set to zero.", stacklevel=3)


def _check(joints: Tensor, mask: Tensor, module: SMPLify3D) -> None:
    if joints.dim() != 4 or joints.shape[2] < 22 or joints.shape[3] != 3 or mask.shape != joints.shape[:2]:
        found = f"joints {tuple(joints.shape)} and mask {tuple(mask.shape)}"
        raise InputError(f"fit_layer takes joints (clips, frames, 22, 3) and mask (clips, frames); given: {found}.")
    if not mask.any(1).all():
        raise InputError("fit_layer: a clip has no valid frame in its mask; leave such clips out.")
    if module.solver != "lm":
        raise InputError(f"fit_layer needs a minimum, which solver {module.solver!r} does not reach; use 'lm'.")


def _held(problem: Problem) -> Problem:
    """The problem with constant weights: the confidence in the joints and their noise do not follow a derivative."""
    noise = problem.noise and Noise(*(value.detach() for value in vars(problem.noise).values()))
    return replace(problem, confidence=problem.confidence.detach(), noise=noise)


class _Implicit(torch.autograd.Function):
    """Joints, and what else the energy is made of, to a step of zero from the minimum, and the centre.

    The derivative is that of the minimum.
    """

    @staticmethod
    def forward(ctx, minimum: "Minimum", joints: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.minimum = minimum
        step = joints.new_zeros(*minimum.state.transl.shape[:2], minimum.arrow.size)
        return step, torch.zeros_like(minimum.state.betas), minimum.centre.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx, step: Tensor, betas_step: Tensor, centre: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.minimum.pull_back(torch.cat((step.flatten(1), betas_step), 1), centre)


class Minimum:
    """A fit solved down to rounding, and what its derivative needs.

    state: the parameters about each clip's centre (clips, 3); settled (clips,): whether a minimum was reached.
    Unknowns are a vector (members, frames x D + betas); a member is a clip, or a frame where each has its own shape.
    tensors: what the module's energy is made of, to be differentiated by.
    """

    def __init__(
        self,
        module: SMPLify3D,
        joints: Tensor,
        mask: Tensor,
        fps: Tensor,
        accuracy: float = EPS,
        tensors: Sequence[Tensor] = (),
    ):
        self.mask, self.accuracy, self.tensors = mask, accuracy, tuple(tensors)
        self.joints = joints.detach().requires_grad_()
        with torch.enable_grad():
            valid = torch.where(mask[..., None, None], self.joints, 0)
            self.centre, problem = module.problem(Batch(valid, mask, [], fps))
        problem = _held(problem)
        self.energy = CurvedEnergy(list(module.preset.stages.values())[-1].terms, problem)
        with torch.no_grad():
            state = list(module.run_stages(problem).values())[-1].state
            self.state = solve(self.energy, state, ITERATIONS, 16 * EPS).state
            self.arrow = self._factor()
        self.settled = self._settle().view(len(joints), -1).all(1)

    def _factor(self) -> Arrow:
        """The curved matrix factored; Gauss-Newton's for a clip whose curved one is not positive definite."""
        posed = self.energy.problem.rig.posed(self.state)
        sizes = posed.clips, posed.rig.num_betas
        normal = self.energy.normal(posed)
        arrow = Arrow(normal, *sizes)
        if not arrow.definite.all():
            rows = ~arrow.definite.repeat_interleave(posed.frames)
            normal = self.energy.normal(posed)  # the factors may have taken its memory
            normal.matrix[rows] = Energy.normal(self.energy, posed).matrix[rows]
            arrow = Arrow(normal, *sizes)
        return arrow

    def _moved(self, step: Tensor) -> State:
        """The state after a step (members, unknowns)."""
        body = self.arrow.frames * self.arrow.size
        return self.state.moved(step[:, :body].unflatten(1, (self.arrow.frames, -1)), step[:, body:])

    def _differentiate(self) -> Tensor:
        """Keep the energy's gradient as a function of unknowns, joints and tensors; return the energies (members,)."""
        size = self.arrow.frames * self.arrow.size + self.state.betas.shape[1]
        with torch.enable_grad():
            self.unknowns = self.state.transl.new_zeros(len(self.state.betas), size, requires_grad=True)
            energy = replace(self.energy)  # the parts of its problem were cut without derivatives
            values = energy.evaluate(self._moved(self.unknowns))[1].sum((0, 2))
            self.gradient = torch.autograd.grad(values.sum(), self.unknowns, create_graph=True)[0]
        return values.detach()

    def _settle(self) -> Tensor:
        """Newton steps until what they win of the energy is rounding; which members came there (members,)."""
        for _ in range(NEWTON):
            values = self._differentiate()
            step, solved = self.solve(-self.gradient.detach(), EPS)
            won = (self.gradient.detach() * step).sum(1).abs()
            settled = solved & (won <= 100 * EPS**1.5 * (values.abs() + self.arrow.frames))
            if (settled | ~solved).all():
                break
            self.state = self._moved(torch.where((solved & ~settled)[:, None], step, 0)).map(torch.detach)
        return settled

    def solve(self, right: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
        """H u = right (members, unknowns) by preconditioned conjugate gradients: u, and which members were solved.

        They end where the squared residual, in the preconditioner's norm, has fallen by the factor `accuracy`.
        A member is given up where H is not positive: it is at no minimum.
        """
        u, residual = torch.zeros_like(right), right
        direction = self.arrow.solve(right)
        size = start = (residual * direction).sum(1)
        solved = ~right.any(1)
        going = size > 0  # false for NaN
        for _ in range(CONJUGATE):
            if not going.any():
                break
            direction = torch.where(going[:, None], direction, 0)
            bent = torch.autograd.grad(self.gradient, self.unknowns, direction, retain_graph=True)[0]
            curvature = (direction * bent).sum(1)
            going = going & (curvature > 0)
            length = torch.where(going, size / curvature, 0)[:, None]
            u, residual = u + length * direction, residual - length * bent
            conditioned = self.arrow.solve(residual)
            before, size = size, (residual * conditioned).sum(1)
            done = going & (size <= accuracy * start)
            solved, going = solved | done, going & ~done
            direction = conditioned + torch.where(going, size / before, 0)[:, None] * direction
        return torch.where(solved[:, None], u, 0), solved

    def pull_back(self, slope: Tensor, centre_slope: Tensor) -> tuple[Tensor | None, ...]:
        """dL/d(unknowns) (members, unknowns) and dL/d(centre) (clips, 3) -> dL/d(joints), dL/d(tensors).

        None for a tensor of which the energy is not made, zero for one whose derivative is not finite.
        """
        valid = self.energy.problem.mask & self.settled.repeat_interleave(len(slope) // len(self.mask))[:, None]
        free = torch.cat(
            (valid.repeat_interleave(self.arrow.size, 1), valid.any(1, keepdim=True).expand_as(self.state.betas)), 1
        )
        u, solved = self.solve(torch.where(free, slope, 0), self.accuracy)
        solved = solved.view(len(self.mask), -1).all(1)
        slopes = (-u, torch.where(self.settled[:, None], centre_slope, 0))
        by = (self.joints, *self.tensors)
        out, *rest = torch.autograd.grad(
            (self.gradient, self.centre), by, slopes, retain_graph=True, allow_unused=bool(self.tensors)
        )
        good = solved & out.isfinite().flatten(1).all(1)
        if not (good | ~self.settled).all():
            _warn(good | ~self.settled, "no finite derivative was found")
        out = torch.where((self.mask & (good & self.settled)[:, None])[..., None, None], out, 0)
        return out, *(x if x is None or x.isfinite().all() else torch.zeros_like(x) for x in rest)
