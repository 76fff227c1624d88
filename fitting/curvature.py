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
from fitting.rig import Posed, State
from fitting.terms import Normal


class CurvedEnergy(Energy):
    """An energy whose `normal` holds its true second derivatives, so that the solver takes Newton steps.

    Exact where terms pull on joints and world rotations, whatever they are, and where they add what their own residuals
    bend (`Term.add_curvature_to`). Others keep their Gauss-Newton blocks; who needs those exactly iterates
    (fitting/layer.py).
    The values of a clip are spread evenly over its frames, which gives them one damping: near the minimum a step that
    lowers the clip's energy raises that of some frames.
    """

    def evaluate(self, state: State) -> tuple[Posed, Tensor]:
        posed, values = super().evaluate(state)
        return posed, values.mean(2, keepdim=True).expand_as(values)

    def normal(self, posed: Posed, room: Normal | None = None) -> Normal:
        """Half gradient and half true second derivatives of all frames, as Energy.normal gives Gauss-Newton's."""
        normal = super().normal(posed, room)
        if self.unknowns == "all":
            add_joint_curvature(normal, posed, *self._forces(posed))
            for term in self.terms.values():
                term.add_curvature_to(normal, posed, self.problem)
        return normal

    def clips(self, index: Tensor) -> "CurvedEnergy":
        return CurvedEnergy(self.terms, self.problem.part(index), self.unknowns)

    @torch.enable_grad()
    def _forces(self, posed: Posed) -> tuple[Tensor, Tensor]:
        """dE/dx of every joint (N, J, 3), and dE/dG of its world rotation (N, J, 3, 3); zero on padding."""
        loose = Posed(posed.rig, posed.state)
        loose.joints, loose.globals = leaves = [x.detach().requires_grad_() for x in (posed.joints, posed.globals)]
        mask = self.problem.mask
        values = [term.energy(loose, self.problem).view_as(mask) for term in self.terms.values()]
        total = sum(torch.where(mask, value, 0).sum() for value in values)
        return torch.autograd.grad(total, leaves, materialize_grads=True)


def add_joint_curvature(normal: Normal, posed: Posed, forces: Tensor, turning: Tensor) -> None:
    """Add half of sum_i f_i . d2 x_i + F_i . d2 G_i to the frames' matrices: forces f (N, J, 3), F (N, J, 3, 3).

    The columns of a world rotation are arms like any other, turned by the joint itself too.
    """
    rig = posed.rig
    turned = torch.cat((rig.turning.new_zeros(1), rig.turning))
    moves = rig.chain - torch.eye(rig.size).to(rig.chain)  # 1 where the column turns the row
    above = rig.chain[turned][:, turned].mT  # 1 where the row is the column or turns it
    swept, twisted = _moments(posed, forces, turning, moves)
    parents, axes = posed.parent_globals[:, rig.turning], posed.axes
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


def _moments(posed: Posed, forces: Tensor, turning: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Of each joint: S_b (N, J, 3, 3), and the torque sum of d_i x f_i (N, J, 3)."""
    x, chain = posed.joints, posed.rig.chain
    outer = moves.mT @ (x[..., :, None] * forces[..., None, :]).flatten(2)
    outer = (outer + chain.mT @ (posed.globals @ turning.mT).flatten(2)).unflatten(2, (3, 3))
    outer = outer - x[..., :, None] * (moves.mT @ forces)[..., None, :]  # sum of d_i f_i^T
    trace = outer.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    twist = outer - outer.mT
    return outer - trace * torch.eye(3).to(x), torch.stack((twist[..., 1, 2], twist[..., 2, 0], twist[..., 0, 1]), -1)


def _chart(posed: Posed, torque: Tensor) -> Tensor:
    """d (J_l(v)^T torque) / dv (N, turning, 3, 3) of rotation vectors v: their axes change as they grow."""
    v = posed.pose[:, : torque.shape[1]]
    turned = partial(_transposed_times, torque)
    return torch.stack([jvp(turned, (v,), (axis.expand_as(v).contiguous(),))[1] for axis in torch.eye(3).to(v)], -1)


def _transposed_times(torque: Tensor, v: Tensor) -> Tensor:
    return (so3.left_jacobian(v).mT @ torque[..., None])[..., 0]
