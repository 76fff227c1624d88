"""From a solved batch back to clips: parameters in the world, how each solve ended, the curves of its terms."""

import torch
from torch import Tensor

from fitting.adaptation import far_bones, individual
from fitting.data import Batch
from fitting.mixture import complete_pose
from fitting.problem import Problem
from fitting.result import Curves, FitResult
from fitting.rig import State
from fitting.solver import Solution, Status
from models.body import BodyModel
from models.prior import PosePrior
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

Solutions = dict[str, Solution]  # by stage


def unpack(
    batch: Batch,
    centre: Tensor,
    solutions: Solutions,
    problem: Problem,
    body: BodyModel,
    prior: PosePrior,
    by_frame: bool,
) -> list[FitResult]:
    """One result a clip: its valid frames, on the CPU, with centre (clips, 3) added back.

    by_frame: every frame was solved as a clip of its own, so the members of a clip are its frames.
    """
    last = list(solutions.values())[-1]
    clips, frames = batch.mask.shape
    thetas = all_thetas(last.state, problem, prior).view(clips, frames, 24, 3).cpu()
    transl = (last.state.transl.view(clips, frames, 3) + centre[:, None]).cpu()
    betas = last.state.betas.view(clips, -1, problem.rig.num_betas).cpu()
    results = []
    for clip, (motion, length) in enumerate(zip(batch.motions, batch.mask.sum(1).tolist(), strict=True)):
        members = slice(clip * frames, clip * frames + length) if by_frame else slice(clip, clip + 1)
        status = max(last.status[members], key=list(Status).index)
        person, shape = individual(body, betas[clip, :length] if by_frame else betas[clip, 0])
        results.append(
            FitResult(
                thetas[clip, :length],
                shape,
                _put_back(transl[clip, :length], batch.origin, clip),
                person,
                motion,
                str(status),
                status.sentence + far_bones(person, shape),
                int(last.iterations[members].max()),
                float(last.energy[members].sum()),
                curves(solutions, members),
            )
        )
    return results


def _put_back(transl: Tensor, origin: Tensor | None, clip: int) -> Tensor:
    """transl (L, 3) where the clip was: float64 for a clip far from the origin."""
    return transl if origin is None or not origin[clip].any() else transl + origin[clip]


def all_thetas(state: State, problem: Problem, prior: PosePrior) -> Tensor:
    """Rotation vectors of all 24 joints (N, 24, 3), none longer than pi.

    What nothing saw is what a learned start believes of it, else what the prior expects.
    """
    prior, dims = prior.to(state.pose.device), problem.fitted_dims
    fitted = matrix_to_axis_angle(axis_angle_to_matrix(state.pose)).flatten(2)
    pose = complete_pose(prior, dims, fitted, problem.mask, problem.fps)
    body_rotations = axis_angle_to_matrix(pose.view(-1, 23, 3))
    if problem.belief is not None:
        unseen = [joint for joint in range(1, 24) if joint not in problem.rig.fitted]
        body_rotations[:, [joint - 1 for joint in unseen]] = problem.belief.rotations[:, unseen]
    return matrix_to_axis_angle(torch.cat((state.root.reshape(-1, 1, 3, 3), body_rotations), 1))


def curves(solutions: Solutions, members: slice) -> Curves:
    """Energy of each term, and "total", by iteration of each stage, summed over the members of a clip."""
    out: Curves = {}
    for stage, solution in solutions.items():
        length = int(solution.iterations[members].max()) + 1
        values = torch.stack([values[:, members].sum(1) for values in solution.curve[:length]], 1).cpu()
        out[stage] = dict(zip(solution.terms, values, strict=True)) | {"total": values.sum(0)}
    return out
