"""The second derivatives of the energy that Gauss-Newton leaves out: how bent the skeleton's motion and the prior are.

With f_i = dE/dx_i the force on joint i, d_i = x_i - x_b its arm about a turned joint b, and m the world axis of an
unknown, the derivative of the force's work by an ancestor's axis m_a and then by m_b is m_a^T S_b m_b,
S_b = sum over the joints i moved by b of d_i f_i^T - (d_i . f_i) I.
"""

from functools import partial

import torch
from torch import Tensor
from torch.func import jvp

from fitting import so3
from fitting.energy import Energy
from fitting.problem import Problem
from fitting.rig import Posed, State
from fitting.terms import Normal, PosePriorTerm


class CurvedEnergy(Energy):
    """An energy whose `normal` holds its true second derivatives, so that the solver takes Newton steps.

    Exact for terms on joints, whatever pulls them, up to the bend of a robust function; for the mixture, limits and
    shape. The bend of time terms is left out: it is small, and whoever needs it exactly iterates (fitting/layer.py).
    The values of a clip are spread evenly over its frames, which gives them one damping: near the minimum a step that
    lowers the clip's energy raises that of some frames.
    """

    def evaluate(self, state: State) -> tuple[Posed, Tensor]:
        posed, values = super().evaluate(state)
        return posed, values.mean(2, keepdim=True).expand_as(values)

    def normal(self, posed: Posed) -> Normal:
        normal = super().normal(posed)
        if self.unknowns == "all":
            add_joint_curvature(normal, posed, self._forces(posed))
            for term in self.terms.values():
                if isinstance(term, PosePriorTerm) and term.components == "soft":
                    add_mixture_curvature(normal, posed, self.problem, term.weight)
        return normal

    def clips(self, index: Tensor) -> "CurvedEnergy":
        return CurvedEnergy(self.terms, self.problem.clips(index), self.unknowns)

    @torch.enable_grad()
    def _forces(self, posed: Posed) -> Tensor:
        """dE/dx of every joint (N, J, 3), zero on padding."""
        loose = Posed(posed.rig, posed.state)
        loose.joints = joints = posed.joints.detach().requires_grad_()
        mask = self.problem.mask
        values = [term.energy(loose, self.problem).view_as(mask) for term in self.terms.values()]
        return torch.autograd.grad(sum(torch.where(mask, value, 0).sum() for value in values), joints)[0]


def add_joint_curvature(normal: Normal, posed: Posed, forces: Tensor) -> None:
    """Add half of sum_i f_i . d2 x_i of forces (N, J, 3) to the frames' matrices."""
    rig = posed.rig
    turned = torch.cat((rig.turning.new_zeros(1), rig.turning))
    moves = rig.chain - torch.eye(rig.size).to(rig.chain)  # 1 where the column turns the row
    above = rig.chain[turned][:, turned].mT  # 1 where the row is the column or turns it
    swept, twisted = _moments(posed, forces, moves)
    parents = posed.parent_globals[:, rig.turning]
    axes = parents @ posed.left[:, : len(rig.turning)]
    axes = torch.cat((torch.eye(3).to(axes).expand(posed.count, 1, 3, 3), axes), 1)

    blocks = torch.einsum("naji,nbjk,ab->naibk", axes, swept[:, turned] @ axes, above)
    own = blocks.diagonal(dim1=1, dim2=3)  # (N, 3, 3, turned), a view
    own[..., 1:] += _chart(posed, (parents.mT @ twisted[:, rig.turning, :, None])[..., 0]).permute(0, 2, 3, 1)
    own.copy_((own + own.transpose(1, 2)) / 4)  # halved, as the transpose is added below
    blocks = blocks.flatten(3, 4).flatten(1, 2)
    body = slice(3, 3 + blocks.shape[-1])
    normal.matrix[:, body, body] += (blocks + blocks.mT) / 2

    arms = posed._shape_jacobian().permute(0, 2, 3, 1)  # (N, J, 3, betas)
    cross = partial(torch.linalg.cross, dim=2)
    moment = (moves.mT @ cross(arms, forces[..., None]).flatten(2)).unflatten(2, (3, -1))
    moment = moment - cross(arms, (moves.mT @ forces)[..., None])
    border = (axes.mT @ moment[:, turned]).flatten(1, 2) / 2
    normal.matrix[:, body, -rig.num_betas :] += border
    normal.matrix[:, -rig.num_betas :, body] += border.mT


def _moments(posed: Posed, forces: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Of each joint: S_b (N, J, 3, 3), and the torque sum of d_i x f_i (N, J, 3)."""
    x, total = posed.joints, moves.mT @ forces
    outer = (moves.mT @ (x[..., :, None] * forces[..., None, :]).flatten(2)).unflatten(2, (3, 3))
    outer = outer - x[..., :, None] * total[..., None, :]  # sum of d_i f_i^T
    trace = outer.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    torque = (moves.mT @ torch.linalg.cross(x, forces)) - torch.linalg.cross(x, total)
    return outer - trace * torch.eye(3).to(x), torque


def _chart(posed: Posed, torque: Tensor) -> Tensor:
    """d (J_l(v)^T torque) / dv (N, turning, 3, 3) of rotation vectors v: their axes change as they grow."""
    v = posed.pose[:, : torque.shape[1]]
    turned = partial(_transposed_times, torque)
    return torch.stack([jvp(turned, (v,), (axis.expand_as(v).contiguous(),))[1] for axis in torch.eye(3).to(v)], -1)


def _transposed_times(torque: Tensor, v: Tensor) -> Tensor:
    return (so3.left_jacobian(v).mT @ torque[..., None])[..., 0]


def add_mixture_curvature(normal: Normal, posed: Posed, problem: Problem, weight: float) -> None:
    """Take half of weight x the covariance of the components' gradients, under their shares, from the matrices."""
    mixture = problem.mixture
    z, energies = mixture.whitened(posed.pose.flatten(1))
    share = torch.softmax(-energies, -1)[..., None] * problem.mask.flatten()[:, None, None]
    slopes = torch.einsum("dke,nke->nkd", mixture.factors.unflatten(1, (mixture.count, -1)), z)
    spread = share.sqrt() * (slopes - (share * slopes).sum(1, keepdim=True))
    body = slice(6, 6 + mixture.size)
    normal.matrix[:, body, body] -= weight / 2 * spread.mT @ spread
