"""The methods that peers.py compares: thetafit's presets, the reference's loop, packages from PyPI, a plain baseline.

Each is a function prepare(body, max_seconds) -> run(joints, true) where joints are (L, 22, 3) metres, and `true`
(vertices (L, V, 3), joints (L, 24, 3)) for methods that need a mesh, else None. run returns thetas (L, 24, 3),
betas (B,) or (L, B), transl (L, 3) and a word on how it ended.
"""

import importlib.util
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.func import jacfwd

from experiments.benchmarks.reference_loop import fit_reference
from experiments.benchmarks.solver import mean_pose, pickled_body
from fitting.data import Motion, collate
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.prior import PosePrior
from models.safe_pickle import load_pickle

Fitted = tuple[Tensor, Tensor, Tensor, str]
Run = Callable[[Tensor, Any], Fitted]

TRUNK = (0, 1, 2, 3, 6, 9, 12, 16, 17)
JOINTS, PRIOR, LIMITS, SHAPE = 600.0, 2.57**0.5, 250**0.5, 5.0  # square roots of the weights of preset `quick`


@dataclass
class Method:
    """input: what it is given; packages: those from PyPI that it needs; warm_up: a small fit before the clock."""

    prepare: Callable[[BodyModel, float], Run]
    input: str = "22 joints"
    packages: tuple[str, ...] = ()
    needs_vertices: bool = False
    warm_up: bool = True

    def missing(self) -> str:
        """Names of the packages that are not installed, for pip install."""
        return " ".join(name for name in self.packages if importlib.util.find_spec(name) is None)


# --- ours, and the loop of MDM


def thetafit(preset: str, solver: str, body: BodyModel, max_seconds: float) -> Run:
    module = SMPLify3D(preset=preset, solver=solver)

    def run(joints: Tensor, true: None) -> Fitted:
        (result,) = module.fit(collate([Motion("clip", joints=joints.numpy())]))
        return result.thetas, result.betas, result.transl, result.status

    return run


def reference_loop(body: BodyModel, max_seconds: float) -> Run:
    """MDM's SMPLify3D transcribed: L-BFGS over all frames, the whole mesh at every evaluation, one shape a frame."""
    prior = PosePrior.load(dtype=torch.float64)
    gmm = {"means": prior.means, "covars": prior.covariances, "weights": prior.log_weights.exp()}
    gmm = {name: value.numpy() for name, value in gmm.items()}

    def run(joints: Tensor, true: None) -> Fitted:
        start = mean_pose(None), np.zeros(body.num_betas)
        fitted = fit_reference(joints.numpy(), pickled_body(), gmm, *start, max_seconds=max_seconds)
        status = "converged" if fitted["converged"] else f"stopped after {max_seconds:g} s"
        return fitted["pose"].unflatten(1, (24, 3)), fitted["betas"], fitted["transl"], status

    return run


# --- smplfitter


def smplfitter(body: BodyModel, max_seconds: float) -> Run:
    """Closed form from the true mesh and all 24 joints: the task it was made for."""
    fitter = _smplfitter(body)

    def run(joints: Tensor, true: tuple[Tensor, Tensor]) -> Fitted:
        return _smplfitter_answer(fitter.fit(*true, beta_regularizer=0, **SMPLFITTER))

    return run


def smplfitter_joints(body: BodyModel, max_seconds: float) -> Run:
    """The same without a mesh: vertices with weight 0, hands in the place of the wrists with weight 0.

    It is not made for this: rotations about bones are then arbitrary.
    """
    fitter = _smplfitter(body)

    def run(joints: Tensor, true: None) -> Fitted:
        vertices = body.v_template + joints[:, :1]
        weights = torch.ones(len(joints), 24)
        weights[:, 22:] = 0
        with_hands = torch.cat((joints, joints[:, 20:22]), 1)
        nothing = vertices.new_zeros(vertices.shape[:2])
        unseen = {"vertex_weights": nothing, "joint_weights": weights, "beta_regularizer": 0.1}
        return _smplfitter_answer(fitter.fit(vertices, with_hands, **unseen, **SMPLFITTER))

    return run


SMPLFITTER = {"share_beta": True, "requested_keys": ["pose_rotvecs", "shape_betas", "trans"]}


def _smplfitter(body: BodyModel) -> Any:
    """A BodyFitter of the embedded body, from a folder with the files it looks for."""
    import smplfitter.pt

    content = load_pickle(pickled_body())
    content["kintree_table"] = content["kintree_table"].astype(np.int64)
    content["kintree_table"][0, 0] = -1
    with tempfile.TemporaryDirectory(prefix="thetafit-") as folder:
        (Path(folder) / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl").write_bytes(pickle.dumps(content))
        np.save(Path(folder) / "kid_template.npy", np.zeros_like(content["v_template"]))
        return smplfitter.pt.BodyFitter(smplfitter.pt.BodyModel("smpl", "neutral", model_root=folder))


def _smplfitter_answer(found: dict[str, Tensor]) -> Fitted:
    return found["pose_rotvecs"].unflatten(1, (24, 3)), found["shape_betas"], found["trans"], "closed form"


# --- general least squares, one frame after the other


@dataclass
class Plain:
    """Residuals of one frame: joints, the prior's best component, limits, shape, with the weights of preset `quick`.

    Unknowns (75 + B): transl, thetas of all 24 joints, betas.
    """

    body: BodyModel
    target: Tensor
    prior: PosePrior
    factors: Tensor  # (K, 69, 69) of the precisions, L with P = L L^T
    constants: Tensor  # (K,)

    @classmethod
    def of(cls, body: BodyModel, target: Tensor) -> "Plain":
        prior, factors, constants = _double_prior()
        return cls(body, target.to(body.v_template), prior, factors, constants)

    def __call__(self, x: Tensor) -> Tensor:
        transl, thetas, betas = split(x)
        joints = self.body.joints(betas, thetas, transl)[:22]
        pose = thetas.flatten()[3:]
        z = torch.einsum("ki,kij->kj", pose - self.prior.means, self.factors)
        best = (z.detach().square().sum(1) / 2 + self.constants).argmin()
        low, high = self.prior.limits.flatten(0, 1).unbind(-1)
        outside = (pose - high).relu() - (low - pose).relu()
        prior = z.index_select(0, best[None])[0] / 2**0.5
        parts = (JOINTS * (joints - self.target).flatten(), PRIOR * prior, LIMITS * outside, SHAPE * betas)
        return torch.cat(parts)


@cache
def _double_prior() -> tuple[PosePrior, Tensor, Tensor]:
    prior = PosePrior.load(dtype=torch.float64)
    constants = torch.logdet(prior.covariances) / 2 - prior.log_weights
    return prior, torch.linalg.cholesky(prior.precisions), constants


def split(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unknowns (75 + B,) -> transl (3,), thetas (24, 3), betas (B,)."""
    return x[:3], x[3:75].unflatten(0, (24, 3)), x[75:]


def first_guess(body: BodyModel, target: Tensor) -> Tensor:
    """The mean pose and shape, its trunk laid on the target's."""
    pose = torch.cat((torch.zeros(3), PosePrior.load().mean_pose)).to(body.v_template)
    zeros = pose.new_zeros(body.num_betas)
    joints = body.joints(zeros, pose.unflatten(0, (24, 3)), pose.new_zeros(3))[list(TRUNK)]
    wanted = target.to(joints)[list(TRUNK)]
    turn, _ = Rotation.align_vectors((wanted - wanted.mean(0)).numpy(), (joints - joints.mean(0)).numpy())
    pose[:3] = torch.tensor(turn.as_rotvec())
    transl = wanted.mean(0) - body.joints(zeros, pose.unflatten(0, (24, 3)), pose.new_zeros(3))[list(TRUNK)].mean(0)
    return torch.cat((transl, pose, zeros))


def frame_by_frame(solve: Callable[[Plain, Tensor], Tensor], body: BodyModel, max_seconds: float) -> Run:
    """Every frame starts from the answer of the frame before."""
    body = BodyModel.load(dtype=torch.float64)

    def run(joints: Tensor, true: None) -> Fitted:
        x, found = first_guess(body, joints[0]), []
        for target in joints:
            x = solve(Plain.of(body, target), x)
            found.append([part.float() for part in split(x)])
        transl, thetas, betas = (torch.stack(parts) for parts in zip(*found, strict=True))
        return thetas, betas, transl, "frame by frame"

    return run


def scipy_solve(residuals: Plain, start: Tensor) -> Tensor:
    """scipy.optimize.least_squares, MINPACK's Levenberg-Marquardt, exact derivatives."""
    derivative = jacfwd(residuals)
    found = least_squares(
        lambda x: residuals(torch.from_numpy(x)).numpy(),
        start.numpy(),
        lambda x: derivative(torch.from_numpy(x)).numpy(),
        method="lm",
        ftol=1e-4,  # as preset `quick`
    )
    return torch.from_numpy(found.x)


def pypose_solve(residuals: Plain, start: Tensor) -> Tensor:
    """pypose.optim.LevenbergMarquardt with its default trust region, until the loss falls by less than 1e-4 of it."""
    from pypose.optim import LevenbergMarquardt

    class Frame(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(start.clone())

        def forward(self, _: None) -> Tensor:
            return residuals(self.x)[:, None]

    frame = Frame()
    optimiser, last = LevenbergMarquardt(frame), float("inf")
    for _ in range(50):
        loss = optimiser.step(None).item()
        if last - loss < 1e-4 * loss:
            break
        last = loss
    return frame.x.detach()


METHODS = {
    "thetafit careful": Method(partial(thetafit, "careful", "lm")),
    "thetafit quick": Method(partial(thetafit, "quick", "lm")),
    "thetafit reference": Method(partial(thetafit, "reference", "lm")),
    "smplfitter": Method(smplfitter, "mesh and 24 joints", ("smplfitter",), needs_vertices=True),
    "smplfitter, joints alone": Method(smplfitter_joints, packages=("smplfitter",)),
    "scipy least_squares": Method(partial(frame_by_frame, scipy_solve), packages=("scipy",)),
    "pypose LM": Method(partial(frame_by_frame, pypose_solve), packages=("pypose",)),
    "reference loop": Method(reference_loop, packages=("smplx",), warm_up=False),
}
