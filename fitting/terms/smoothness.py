"""Terms that tie a frame to its neighbours: accelerations of the root and of the joints' rotations."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap
from torch.nn.functional import pad

from fitting import so3
from fitting.problem import Problem
from fitting.rig import Posed, State
from fitting.terms.base import Normal, Term
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle


def angular_steps(rotations: Tensor) -> Tensor:
    """Rotation vectors log(R_t^T R_t+1) between neighbouring frames: (clips, T, K, 3, 3) -> (clips, T - 1, K, 3)."""
    return matrix_to_axis_angle(rotations[:, :-1].mT @ rotations[:, 1:])


@dataclass
class Smoothness(Term):
    """weight x |acceleration|^2: of transl in m/s^2, of the root's and the joints' rotations in rad/s^2.

    Rotations are compared on the manifold, so a full turn is no jump; in SI units, so fps does not change the answer.
    weight is that of the joints; transl and root are relative to it; a noisy clip adds what its noise asks for
    (fitting/noise.py). Frames at the ends of a clip have no acceleration.
    """

    transl: float = 1.0
    root: float = 1.0
    ties_frames = 2

    def _steps(self, posed: Posed) -> tuple[Tensor, Tensor]:
        """Steps of transl, root and joints (clips, T - 1, 2 + fitted, 3); rotations (clips, T, 1 + fitted, 3, 3)."""
        joints = posed.local.unflatten(0, (posed.clips, posed.frames))
        rotations = torch.cat((posed.state.root[:, :, None], joints), 2)
        transl = posed.state.transl.diff(dim=1)[:, :, None]
        return torch.cat((transl, angular_steps(rotations)), 2), rotations

    def _weights(self, posed: Posed, problem: Problem) -> Tensor:
        """(clips, T - 2, 2 + fitted): weights of squared second differences; 0 where a frame is padding."""
        relative = [torch.as_tensor(x).to(problem.fps) for x in (self.transl, self.root, 1.0)]
        groups = [*relative[:2], *relative[2:] * posed.pose.shape[1]]
        group = self.weight * torch.stack(groups) + (0 if problem.noise is None else problem.noise.smoothing)
        whole = problem.mask[:, 2:] & problem.mask[:, 1:-1] & problem.mask[:, :-2]
        per_clip = problem.fps[:, None] ** 4 * group
        return per_clip[:, None] * whole[..., None]

    def energy(self, posed: Posed, problem: Problem) -> Tensor:
        out = posed.transl.new_zeros(posed.clips, posed.frames)
        if posed.frames > 2:
            steps, _ = self._steps(posed)
            square = steps.diff(dim=1).square().sum(-1)
            out[:, 1:-1] = (self._weights(posed, problem) * square).sum(-1)
        return out.flatten()

    def add_to(self, normal: Normal, posed: Posed, problem: Problem, unknowns: str) -> None:
        """See Term: each second difference ties three neighbouring frames; fewer than three have none."""
        if posed.frames < 3:
            return
        steps, rotations = self._steps(posed)
        groups = 2 if unknowns == "rigid" else steps.shape[2]
        weight = self._weights(posed, problem)[:, :, :groups, None, None]
        residual = steps.diff(dim=1)[:, :, :groups, :, None]
        before, after = self._step_jacobians(steps, rotations, posed)
        # the residual of frames t, t + 1, t + 2 is step_t+1 - step_t
        rows = [before[:, :-1], -before[:, 1:] - after[:, :-1], after[:, 1:]]
        rows = [row[:, :, :groups] for row in rows]
        count, matrix, gradient = posed.frames - 2, self._frame_views(normal, posed, groups), normal.gradient
        gradient = gradient.unflatten(0, (posed.clips, posed.frames))[:, :, : 3 * groups].unflatten(-1, (groups, 3))
        shape = (posed.clips, posed.frames - 1, groups, 3, 3)
        normal.next1 = residual.new_zeros(shape) if normal.next1 is None else normal.next1
        normal.next2 = residual.new_zeros(shape)[:, 1:] if normal.next2 is None else normal.next2
        for i, row in enumerate(rows):
            weighted = weight * row.mT
            gradient[:, i : i + count] += (weighted @ residual)[..., 0]
            matrix[:, i : i + count] += (weighted @ row).permute(0, 1, 3, 4, 2)
            if i < 2:
                normal.next1[:, i : i + count] += weighted @ rows[i + 1]
        normal.next2 += weight * rows[0].mT @ rows[2]

    def add_curvature_to(self, normal: Normal, posed: Posed, problem: Problem) -> None:
        """Add half of sum_t f_t . d2 step_t, f_t = dE/d(step_t), where step_t is the turn from frame t to t + 1."""
        if posed.frames < 3:
            return
        steps, _ = self._steps(posed)
        pull = self._weights(posed, problem)[..., None] * steps.diff(dim=1)
        pull = (pad(pull, (0, 0, 0, 0, 1, 0)) - pad(pull, (0, 0, 0, 0, 0, 1)))[:, :, 1:]
        bent = _bend_of_steps(pull, posed.state)
        frames = self._frame_views(normal, posed, 1 + bent.shape[-1])[..., 1:]
        frames[:, :-1] += bent[:, :, 0, 0]
        frames[:, 1:] += bent[:, :, 1, 1]
        normal.next1[:, :, 1:] += bent[:, :, 0, 1].movedim(-1, 2)

    @staticmethod
    def _frame_views(normal: Normal, posed: Posed, groups: int) -> Tensor:
        """The 3 x 3 diagonal blocks of every frame's matrix as a view (clips, T, 3, 3, groups)."""
        matrix = normal.matrix[:, : 3 * groups, : 3 * groups].unflatten(0, (posed.clips, posed.frames))
        return matrix.unflatten(3, (groups, 3)).unflatten(2, (groups, 3)).diagonal(dim1=2, dim2=4)

    @staticmethod
    def _step_jacobians(steps: Tensor, rotations: Tensor, posed: Posed) -> tuple[Tensor, Tensor]:
        """Derivative of step_t by the unknowns of frame t (negated) and of frame t + 1, (clips, T - 1, groups, 3, 3).

        log(exp(-d_t) E exp(d_t+1)) = log E - J_l^-1 d_t + J_r^-1 d_t+1, with d the turn from the right in the body's
        frame: R^T d for the root, which the unknown turns from the left, and J_r d for rotation vectors.
        """
        left = posed.left.unflatten(0, (posed.clips, posed.frames))
        turn = torch.cat((rotations[:, :, :1].mT, left.mT), 2)
        inverse = so3.left_jacobian_inverse(steps[:, :, 1:])
        eye = torch.eye(3).to(steps).expand(*steps.shape[:2], 1, 3, 3)
        return torch.cat((eye, inverse @ turn[:, :-1]), 2), torch.cat((eye, inverse.mT @ turn[:, 1:]), 2)


def _bend_of_steps(pull: Tensor, state: State) -> Tensor:
    """Second derivatives (clips, T - 1, side, side, 3, 3, 1 + fitted) of the pulls' work along the turning steps.

    pull (clips, T - 1, 1 + fitted, 3); sides: the frames before and after each step.
    """
    roots, vectors = (torch.stack((x[:, :-1], x[:, 1:]), 2) for x in (state.root, state.pose))

    def work(turn: Tensor) -> Tensor:
        """turn (clips, T - 1, 2, 1 + fitted, 3): moves the frames before and after each step."""
        root = axis_angle_to_matrix(turn[:, :, :, :1]) @ roots[:, :, :, None]
        rotations = torch.cat((root, axis_angle_to_matrix(vectors + turn[:, :, :, 1:])), 3)
        return (pull * matrix_to_axis_angle(rotations[:, :, 0].mT @ rotations[:, :, 1])).sum()

    zero = pull.new_zeros(*pull.shape[:2], 2, *pull.shape[2:])
    directions = torch.eye(6).to(pull).view(6, 1, 1, 2, 1, 3).expand(6, *zero.shape)
    bent = vmap(lambda direction: jvp(grad(work), (zero,), (direction,))[1])(directions)
    return bent.unflatten(0, (2, 3)).permute(2, 3, 4, 0, 6, 1, 5)
