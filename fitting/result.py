"""The answer of a fit for one clip."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from fitting.data import Motion
from models.body import BodyModel, smpl_thetas
from models.proportions import adapted, bone_factors
from models.rotations import axis_angle_to_rot6d

Curves = dict[str, dict[str, Tensor]]  # stage -> term -> (iterations + 1,)


@dataclass
class FitResult:
    """Parameters of one clip of L frames, on the CPU: what every exporter starts from.

    thetas (L, 24, 3) axis-angle in radians, root first, or (L, J, 3) of every joint of the body's file where fingers
    were fitted, (L, 52, 3) for SMPL-H; betas (B,), or (L, B) where each frame was given its own shape;
    transl (L, 3) metres, SMPL's: pelvis in the world = rest pelvis of the betas + transl. y up.
    status "converged", "stopped", "failed" or "not fitted", and message, the sentence that goes with it.
    energy: final total; losses: curves of every term, stage by stage.
    """

    thetas: Tensor
    betas: Tensor
    transl: Tensor
    body: BodyModel
    motion: Motion
    status: str = "not fitted"
    message: str = "The file holds rotations already; nothing was fitted."
    iterations: int = 0
    energy: float | None = None
    losses: Curves = field(default_factory=dict)

    @property
    def length(self) -> int:
        return len(self.thetas)

    @property
    def fps(self) -> float:
        return self.motion.fps

    @property
    def rot6d(self) -> Tensor:
        """(L, J, 6), J as in thetas: first two rows of each rotation matrix."""
        return axis_angle_to_rot6d(self.thetas)

    @property
    def smpl_thetas(self) -> Tensor:
        """(L, 24, 3): thetas for formats that know SMPL's joints only; without fingers."""
        return smpl_thetas(self.thetas)

    @property
    def bone_factors(self) -> dict[str, float] | None:
        """Length of each bone over what the betas give it, by the joint it ends in; None without adapt_skeleton."""
        return bone_factors(self.body, self.betas)

    def joints(self) -> Tensor:
        """(L, 22, 3) metres: the body's joints in the order of the input's."""
        return self.body.joints(self.betas, self.thetas, self.transl)[:, :22]

    @cached_property
    def _vertices(self) -> Tensor:
        return self.body.vertices(self.betas, self.thetas, self.transl)

    def vertices(self) -> Tensor:
        """(L, V, 3) metres: the skinned mesh, computed once."""
        return self._vertices

    @property
    def report(self) -> dict:
        """The numbers of report.json for this clip."""
        from fitting.report import clip_report

        return clip_report(self, [])

    def save(self, path: str | Path, formats: tuple[str, ...] = ("smpl_params", "npz", "glb")) -> list[Path]:
        """Write files named after `path` in the given formats; returns them."""
        from fitting.export import export

        path = Path(path)
        self.motion.name = path.stem
        return export(self, path.parent, formats)

    @classmethod
    def from_rotations(cls, motion: Motion, body: BodyModel) -> "FitResult":
        """A motion file that holds rotations and the pelvis' path needs no fit: transl = pelvis - rest pelvis.

        The file's betas and bones serve where they belong to this body, else zeros and the body's own.
        """
        own = motion.betas is not None and motion.body == body.name
        betas = torch.as_tensor(motion.betas, dtype=torch.float32) if own else torch.zeros(body.num_betas)
        if own and motion.joint_offsets is not None:
            body = adapted(body, torch.as_tensor(motion.joint_offsets))
        root = torch.as_tensor(motion.root, dtype=torch.float32)
        transl = root - body.rest_joints(betas)[..., 0, :].cpu()
        return cls(torch.as_tensor(motion.thetas, dtype=torch.float32), betas, transl, body, motion)
