"""The pose prior restricted to what is fitted: energies of its components, and what it expects of the rest."""

import math

import torch
from torch import Tensor

from models.prior import PosePrior


class Mixture:
    """The prior's Gaussian mixture over some of the 69 numbers of a body pose: the exact marginal of the full one.

    Component energy, in logarithms so that nothing underflows:
    0.5 |L_k^T (theta - mean_k)|^2 + c_k, with P_k = L_k L_k^T and c_k = -log(w_k / ((2 pi)^(d/2) r_k)),
    r_k = sqrt(det C_k) relative to the smallest (Bogo et al., "Keep it SMPL", as its published code normalises).
    """

    def __init__(self, prior: PosePrior, dims: Tensor, dtype: torch.dtype = torch.float32):
        covariances = prior.covariances.double()[:, dims[:, None], dims]
        means = prior.means.double()[:, dims]
        precisions = torch.linalg.inv(covariances)
        factors = torch.linalg.cholesky(precisions)
        half_log_det = torch.linalg.slogdet(covariances).logabsdet / 2
        self.count, self.size = means.shape
        self.factors = factors.permute(1, 0, 2).flatten(1).to(dtype)  # (d, components x d)
        self.offset = torch.einsum("kd,kde->ke", means, factors).flatten().to(dtype)
        self.precisions = precisions.flatten(1).to(dtype)  # (components, d x d)
        self.constant = (
            half_log_det - half_log_det.min() - prior.log_weights.double() + self.size / 2 * math.log(2 * math.pi)
        ).to(dtype)

    def whitened(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """pose (N, d) -> L_k^T (theta - mean_k) (N, components, d), component energies (N, components)."""
        z = (pose @ self.factors - self.offset).unflatten(-1, (self.count, self.size))
        return z, z.square().sum(-1) / 2 + self.constant

    def shares(self, pose: Tensor) -> Tensor:
        """Responsibilities of the components (N, components) for pose (N, d)."""
        return torch.softmax(-self.whitened(pose)[1], -1)


def complete_pose(prior: PosePrior, dims: Tensor, pose: Tensor) -> Tensor:
    """The 69 numbers of a body pose from the fitted ones: pose (N, d) at dims -> (N, 69) radians.

    What the joints cannot see is the mixture's conditional mean: E[u | v] = m_u + C_uv C_vv^-1 (v - m_v) by component.
    """
    mixture = Mixture(prior, dims, pose.dtype)
    full = pose.new_zeros(len(pose), 69)
    full[:, dims] = pose
    hidden = torch.ones(69, dtype=torch.bool, device=pose.device)
    hidden[dims] = False
    hidden = hidden.nonzero()[:, 0]
    if len(hidden):
        covariances, means = prior.covariances.double(), prior.means.double()
        gain = torch.linalg.solve(covariances[:, dims[:, None], dims], covariances[:, dims[:, None], hidden])
        deviation = pose.double()[:, None] - means[:, dims]
        expected = means[:, hidden] + torch.einsum("nkv,kvu->nku", deviation, gain)
        full[:, hidden] = (mixture.shares(pose).double()[..., None] * expected).sum(1).to(pose)
    return full
