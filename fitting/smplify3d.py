"""SMPLify3D, the method: joints of a batch of clips in, SMPL parameters out.

Read from top to bottom: the camera stage places the body, the pose stage finds rotations and shape, the answer is
unpacked. What is minimised stands in the preset (fitting/presets), the terms in fitting/terms, the solver in
fitting/solver.
"""

import math
from dataclasses import replace

import lightning
import torch
from torch import Tensor
from torch.nn.functional import pad

from fitting.adaptation import adaptable
from fitting.contact import find_contacts
from fitting.data import Batch
from fitting.denoiser import denoised
from fitting.energy import Energy
from fitting.fingers import with_fingers
from fitting.gaps import bridge
from fitting.learned import PoseNetwork, believe, learned_start
from fitting.mixture import Mixture
from fitting.noise import measure
from fitting.observed import observe, place_unseen
from fitting.preset import load_preset
from fitting.problem import Problem, fitted_dims
from fitting.recall import recall
from fitting.result import FitResult
from fitting.rig import Rig, State
from fitting.solver import Solution, SolverName, solve
from fitting.start import aligned_start, geometric_start, mean_start
from fitting.terms.believed import Believed
from fitting.unpack import unpack
from models.body import BodyModel
from models.errors import InputError
from models.prior import PosePrior, load_mean_params
from models.skeleton import LANDMARKS

PRIOR_SHARE = 0.5  # of the pose prior's weight beside a learned start, which knows more of the same
ON_FEET = ("contact", "near", "floor")  # terms that need to know where feet stand


class SMPLify3D(lightning.LightningModule):
    """Fits a body to motion joints.

    body: path of a body file, None = the embedded body; preset: "careful", "quick", "reference" or a YAML file;
    prior: gmm_08.pkl or an npz of the same form, None = the preset's, which is the own prior unless it was tuned;
    mean_params: neutral_smpl_mean_params.h5, None = the prior's mean pose; solver: "lm", or "lbfgs" and "adam" for
    comparison; adapt_skeleton: fit each clip's bones too, for people outside the body's shape space
    (fitting/adaptation.py); floor: its height in metres in the input, None = read off each clip's feet; start:
    "geometric", or "learned": a network's rotations, which the fit also stays near, or the file of a training of it.
    Raises InputError for files that are not what they should be, for adapt_skeleton with a preset of one shape a frame,
    for a floor with a preset that has no terms on feet, and for a learned start with another solver than "lm".
    """

    def __init__(
        self,
        body: str | None = None,
        preset: str = "careful",
        prior: str | None = None,
        mean_params: str | None = None,
        solver: SolverName = "lm",
        adapt_skeleton: bool = False,
        floor: float | None = None,
        start: str = "geometric",
    ):
        super().__init__()
        self.save_hyperparameters()
        self.preset = load_preset(preset)
        self.solver = solver
        self.adapt_skeleton = adapt_skeleton
        self.floor = floor
        if floor is not None and not math.isfinite(floor):
            raise InputError(f"floor is a height in metres, such as 0; got {floor}.")
        if floor is not None and not self.preset.has(*ON_FEET):
            raise InputError(
                f"preset {preset!r} has no terms on feet, so it knows no floor; leave it out, or try careful."
            )
        if adapt_skeleton and self.preset.shape == "frame":
            raise InputError(
                f"adapt_skeleton needs one shape a clip, and preset {preset!r} has one a frame; try careful."
            )
        self.body = BodyModel.load(body)
        self.prior = PosePrior.load(prior or self.preset.prior, dtype=torch.float64)
        self.mean_pose = torch.cat((torch.zeros(3), self.prior.mean_pose))
        self.mean_betas = torch.zeros(self.body.num_betas)
        if mean_params:
            self.mean_pose, self.mean_betas = load_mean_params(mean_params)
        self.learned = None
        if start != "geometric":
            self._learn_start(start)
        self.limits = self.prior.limits if self.prior.limits is not None else PosePrior.load().limits

    def _learn_start(self, start: str) -> None:
        """Load the network; stages that fit rotations stay near what it believes, and less near the prior."""
        if self.solver != "lm":
            raise InputError(f"start {start!r} is the solver lm's; with {self.solver!r} leave it out.")
        self.learned = PoseNetwork.load(None if start == "learned" else start)
        for stage in self.preset.stages.values():
            if stage.unknowns == "all":
                stage.terms["believed"] = Believed(self.preset.belief)
                if "pose_prior" in stage.terms:
                    stage.terms["pose_prior"].weight *= PRIOR_SHARE

    @torch.no_grad()
    def fit(self, batch: Batch) -> list[FitResult]:
        """Fit every clip of a batch on this module's device; results are on the CPU, in the order of batch.motions."""
        centre, problem = self.problem(batch)
        solutions = self.run_stages(problem)
        by_frame = self.preset.shape == "frame"
        results = unpack(batch, centre, solutions, problem, self.body.on_cpu(), self.prior, by_frame)
        return [with_fingers(result, list(self.preset.stages.values())[-1].terms) for result in results]

    @torch.no_grad()
    def run_stages(self, problem: Problem) -> dict[str, Solution]:
        """The solution of each stage, by its name."""
        root, betas = self.mean_pose[:3].to(problem.targets), self.mean_betas.to(problem.targets)
        betas = pad(betas, (0, problem.rig.num_betas - len(betas)))  # bones start as the body's
        state = mean_start(problem, root, betas)
        problem = replace(problem, guess=state.transl.flatten(0, 1))
        calm = problem.calmed()
        if self.solver == "lm":  # the others are there to repeat what the reference does, which aligns nothing
            state = aligned_start(calm, state)
        solutions: dict[str, Solution] = {}
        for name, stage in self.preset.stages.items():
            energy = Energy(stage.terms, problem, stage.unknowns)
            if stage.unknowns == "all" and self.solver == "lm":
                state = self.best_start(replace(energy, problem=calm), state)
            steps = stage.iterations if self.solver == "lm" else stage.steps
            solutions[name] = solve(energy, state, steps, stage.tolerance, self.solver)
            state = solutions[name].state
        return solutions

    def problem(self, batch: Batch) -> tuple[Tensor, Problem]:
        """The middle of each clip (clips, 3), and what is fitted about it with all its constants."""
        body = adaptable(self.body) if self.adapt_skeleton else self.body
        rig = Rig(body, tuple(range(22)), self.preset.fitted, [p for p in batch.skeleton.shows if p in LANDMARKS])
        mask = batch.mask.to(body.v_template.device)
        fps = batch.fps.to(body.v_template)
        joints, seen, confidence = observe(batch, rig, mask)
        placed, known = place_unseen(joints, seen, rig)
        bridged, sure = recall(*bridge(placed, known), known, fps)
        confidence = torch.where(seen, confidence, torch.where(known, 0, sure))
        centre = (bridged[:, :, 0] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        targets = torch.where(mask[..., None, None], bridged - centre[:, None, None], 0)
        unseen = torch.where(seen[..., None], targets, torch.nan)
        noise = measure(unseen[:, :, :22], fps, rig) if self.preset.follow_noise else None
        contact = None
        if self.preset.has(*ON_FEET):
            contact = find_contacts(targets[:, :, :22], seen[:, :, :22], fps, body, self._floor(batch, centre))
        if self.preset.shape == "frame":  # every frame is a clip of its own
            fps = fps.repeat_interleave(mask.shape[1])
            targets, mask = targets.flatten(0, 1)[:, None], mask.flatten()[:, None]
        dims = fitted_dims(rig)
        mixture = Mixture(self.prior.to(joints.device), dims, joints.dtype)
        limits, mean_pose = self.limits.flatten(0, 1).to(joints)[dims], self.mean_pose[3:].to(joints)
        targets, confidence = targets.flatten(0, 1), (confidence * mask.view(*confidence.shape[:2], 1)).flatten(0, 1)
        problem = Problem(rig, targets, confidence, mask, fps, mixture, limits, mean_pose, None, noise, contact)
        if self.learned is not None:
            problem = denoised(self.learned.denoiser, problem, seen[:, :, :22])
            problem.belief = believe(self.learned, problem.calmed())
        return centre, problem

    def _floor(self, batch: Batch, centre: Tensor) -> Tensor | None:
        """Height (clips,) of the floor that was given, over the middle of each clip (clips, 3)."""
        if self.floor is None:
            return None
        floor = torch.full((len(centre),), self.floor, dtype=torch.float64)
        if batch.origin is not None:
            floor -= batch.origin[:, 1]
        return floor.to(centre) - centre[:, 1]

    def best_start(self, energy: Energy, placed: State) -> State:
        """The learned start; without one the start whose energy is lowest after a few iterations, for each clip.

        Frames are not tied in time yet.
        """
        if energy.problem.belief is not None:
            return learned_start(energy.problem)
        makers = {"mean": lambda: placed, "geometric": lambda: geometric_start(energy.problem, placed)}
        starts = [makers[name]() for name in self.preset.starts]
        if len(starts) == 1:
            return starts[0]
        terms = {name: term for name, term in energy.terms.items() if not term.ties_frames}
        tried = [solve(replace(energy, terms=terms), start, self.preset.probe, 0) for start in starts]
        best, *others = tried
        state, lowest = best.state, best.energy
        for other in others:
            better = other.energy < lowest
            state, lowest = other.state.where(better, state), torch.minimum(lowest, other.energy)
        return state

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[FitResult]:
        """Fit a batch; where the GPU's memory does not hold it, in halves. Rotations are passed on unfitted."""
        if not batch.joints.shape[2]:
            return [FitResult.from_rotations(motion, self.body.on_cpu()) for motion in batch.motions]
        try:
            return self.fit(batch)
        except torch.OutOfMemoryError:
            if len(batch.motions) == 1:
                raise
            torch.cuda.empty_cache()
            middle = len(batch.motions) // 2
            halves = batch.clips(slice(None, middle)), batch.clips(slice(middle, None))
            return [result for half in halves for result in self.predict_step(half)]
