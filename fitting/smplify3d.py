"""SMPLify3D, the method: joints of a batch of clips in, SMPL parameters out.

Read from top to bottom: the camera stage places the body, the pose stage finds rotations and shape, the answer is unpacked.
What is minimised stands in the preset (fitting/presets), the terms in fitting/terms, the solver in fitting/solver.
"""

from dataclasses import replace

import lightning
import torch
from torch import Tensor

from fitting.data import Batch
from fitting.energy import Energy
from fitting.mixture import Mixture, complete_pose
from fitting.preset import load_preset
from fitting.problem import Problem, fitted_dims
from fitting.result import Curves, FitResult
from fitting.rig import Rig, State
from fitting.solver import Solution, SolverName, Status, solve
from fitting.start import aligned_start, geometric_start, mean_start
from models.body import BodyModel
from models.prior import PosePrior, load_mean_params
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle


class SMPLify3D(lightning.LightningModule):
    """Fits a body to motion joints.

    body: path of a body file, None = the embedded body; preset: "careful", "quick", "reference" or a YAML file;
    prior: gmm_08.pkl or an npz of the same form, None = the own prior; mean_params: neutral_smpl_mean_params.h5, None = the prior's mean pose;
    solver: "lm", or "lbfgs" and "adam" for comparison. Raises InputError for files that are not what they should be.
    """

    def __init__(
        self,
        body: str | None = None,
        preset: str = "careful",
        prior: str | None = None,
        mean_params: str | None = None,
        solver: SolverName = "lm",
    ):
        super().__init__()
        self.save_hyperparameters()
        self.preset = load_preset(preset)
        self.solver = solver
        self.body = BodyModel.load(body)
        self.prior = PosePrior.load(prior, dtype=torch.float64)
        if mean_params:
            self.mean_pose, self.mean_betas = load_mean_params(mean_params)
        else:
            self.mean_pose, self.mean_betas = (
                torch.cat((torch.zeros(3), self.prior.mean_pose)),
                torch.zeros(self.body.num_betas),
            )
        self.limits = self.prior.limits if self.prior.limits is not None else PosePrior.load(dtype=torch.float64).limits

    @torch.no_grad()
    def fit(self, batch: Batch) -> list[FitResult]:
        """Fit every clip of a batch on this module's device; results are on the CPU, in the order of batch.motions."""
        centre, problem = self.problem(batch)
        state = mean_start(problem, self.mean_pose[:3].to(centre), self.mean_betas.to(centre))
        problem = replace(problem, guess=state.transl.flatten(0, 1))
        if self.solver == "lm":  # the others are there to repeat what the reference does, which aligns nothing
            state = aligned_start(problem, state)
        solutions: dict[str, Solution] = {}
        for name, stage in self.preset.stages.items():
            energy = Energy(stage.terms, problem, stage.unknowns)
            if stage.unknowns == "all" and self.solver == "lm":
                state = self.best_start(energy, state)
            steps = stage.iterations if self.solver == "lm" else stage.steps
            solutions[name] = solve(energy, state, steps, stage.tolerance, self.solver)
            state = solutions[name].state
        return self.unpack(batch, problem.rig, centre, solutions)

    def problem(self, batch: Batch) -> tuple[Tensor, Problem]:
        """The batch's targets about the middle of each clip, which is returned first (clips, 3), and the constants of the fit."""
        body = self.body
        rig = Rig(body, tuple(range(22)), self.preset.fitted)
        joints = batch.joints[:, :, :22].to(body.v_template)
        mask = batch.mask.to(joints.device)
        fps = batch.fps.to(joints)
        centre = (joints[:, :, 0] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        targets = torch.where(mask[..., None, None], joints - centre[:, None, None], 0)
        if self.preset.shape == "frame":  # every frame is a clip of its own
            targets, mask, fps = (
                targets.flatten(0, 1)[:, None],
                mask.flatten()[:, None],
                fps.repeat_interleave(mask.shape[1]),
            )
        confidence = mask.flatten()[:, None].to(joints).expand(-1, 22)
        dims = fitted_dims(rig)
        mixture = Mixture(self.prior.to(joints.device), dims, joints.dtype)
        limits = self.limits.flatten(0, 1).to(joints)[dims]
        return centre, Problem(
            rig, targets.flatten(0, 1), confidence, mask, fps, mixture, limits, self.mean_pose[3:].to(joints)
        )

    def best_start(self, energy: Energy, placed: State) -> State:
        """The start whose energy is lowest after a few iterations, for each clip."""
        makers = {"mean": lambda: placed, "geometric": lambda: geometric_start(energy.problem, placed)}
        starts = [makers[name]() for name in self.preset.starts]
        if len(starts) == 1:
            return starts[0]
        tried = [solve(energy, start, self.preset.probe, 0) for start in starts]
        best, *others = tried
        state, lowest = best.state, best.energy
        for other in others:
            better = other.energy < lowest
            state, lowest = other.state.where(better, state), torch.minimum(lowest, other.energy)
        return state

    def unpack(self, batch: Batch, rig: Rig, centre: Tensor, solutions: dict[str, Solution]) -> list[FitResult]:
        """Parameters of each clip's valid frames, back in the world, with what the prior expects of the joints that nothing saw."""
        last = list(solutions.values())[-1]
        clips, frames = batch.mask.shape
        state = last.state
        pose = complete_pose(self.prior.to(state.pose.device), fitted_dims(rig), state.pose.flatten(0, 1).flatten(1))
        rotations = torch.cat((state.root.reshape(-1, 1, 3, 3), axis_angle_to_matrix(pose.unflatten(1, (23, 3)))), 1)
        thetas = matrix_to_axis_angle(rotations).view(clips, frames, 24, 3).cpu()
        transl = (state.transl.view(clips, frames, 3) + centre[:, None]).cpu()
        betas = state.betas.view(clips, -1, rig.num_betas).cpu()
        results = []
        for i, motion in enumerate(batch.motions):
            length = int(batch.mask[i].sum())
            shape = betas[i, :length] if self.preset.shape == "frame" else betas[i, 0]
            members = slice(i * frames, i * frames + length) if self.preset.shape == "frame" else slice(i, i + 1)
            status = worst(last.status[members])
            results.append(
                FitResult(
                    thetas[i, :length],
                    shape,
                    transl[i, :length],
                    self.body,
                    motion,
                    str(status),
                    status.sentence,
                    max(int(s.iterations[members].max()) for s in [last]),
                    float(last.energy[members].sum()),
                    curves(solutions, members),
                )
            )
        return results

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[FitResult]:
        """Fit a batch; where the GPU's memory does not hold it, in halves. Clips that hold rotations already are passed on."""
        if not batch.joints.shape[2]:
            return [FitResult.from_rotations(motion, self.body) for motion in batch.motions]
        try:
            return self.fit(batch)
        except torch.OutOfMemoryError:
            if len(batch.motions) == 1:
                raise
            torch.cuda.empty_cache()
            middle = len(batch.motions) // 2
            return self.predict_step(batch.clips(slice(None, middle))) + self.predict_step(
                batch.clips(slice(middle, None))
            )


def worst(statuses: list[Status]) -> Status:
    """The status of a clip whose frames were solved apart."""
    return max(statuses, key=list(Status).index)


def curves(solutions: dict[str, Solution], members: slice) -> Curves:
    """Energy of each term, and "total", by iteration of each stage, summed over the members of a clip."""
    out: Curves = {}
    for name, solution in solutions.items():
        length = int(solution.iterations[members].max()) + 1
        values = torch.stack([values[:, members].sum(1) for values in solution.curve[:length]], 1).cpu()
        out[name] = dict(zip(solution.terms, values)) | {"total": values.sum(0)}
    return out
