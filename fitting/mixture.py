"""The pose prior restricted to what is fitted: energies of its components, and what it expects of the rest."""

import math

import torch
from torch import Tensor

from fitting.window import averaged
from models.prior import PosePrior

STEADY = 0.25  # seconds: deviation of the window over which the choice of components is averaged


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


class Completion:
    """What the prior expects of the numbers of a body pose that are not fitted, with its constants computed once."""

    def __init__(self, prior: PosePrior, dims: Tensor, dtype: torch.dtype = torch.float32):
        self.mixture, self.dims = Mixture(prior, dims, dtype), dims
        hidden = torch.ones(69, dtype=torch.bool, device=dims.device)
        hidden[dims] = False
        self.hidden = hidden.nonzero()[:, 0]
        covariances, means = prior.covariances.double(), prior.means.double()
        self.means, self.expected = means[:, dims], means[:, self.hidden]
        seen = covariances[:, dims[:, None], dims]
        self.gain = torch.linalg.solve(seen, covariances[:, dims[:, None], self.hidden])

    def __call__(self, pose: Tensor, shares: Tensor) -> Tensor:
        """The 69 numbers of a body pose from the fitted ones: pose (N, d) at dims -> (N, 69) radians.

        What the joints cannot see is the mixture's conditional mean, E[u | v] = m_u + C_uv C_vv^-1 (v - m_v) by
        component, each with its share of shares (N, components).
        """
        full = pose.new_zeros(len(pose), 69)
        full[:, self.dims] = pose
        if len(self.hidden):
            deviation = pose.double()[:, None] - self.means
            expected = self.expected + torch.einsum("nkv,kvu->nku", deviation, self.gain)
            full[:, self.hidden] = (shares.double()[..., None] * expected).sum(1).to(pose)
        return full


def complete_pose(prior: PosePrior, dims: Tensor, pose: Tensor, mask: Tensor, fps: Tensor) -> Tensor:
    """The 69 numbers of body poses from the fitted ones: pose (clips, frames, d) at dims -> (clips, frames, 69).

    The choice of components is averaged over time: what joints cannot see does not jump where the best one changes.
    mask (clips, frames): false on padding; fps (clips,).
    """
    completion = Completion(prior, dims, pose.dtype)
    shares = completion.mixture.shares(pose.flatten(0, 1)).unflatten(0, mask.shape)
    shares = averaged(shares, mask, STEADY * fps)
    return completion(pose.flatten(0, 1), shares.flatten(0, 1)).unflatten(0, mask.shape)
