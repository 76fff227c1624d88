"""08: a residual of your own beside those of a preset, in ten lines: the right wrist keeps out of a wall.

python experiments/examples/08_your_own_term.py
"""

import torch
from torch import Tensor

from fitting.data import Motion, collate
from fitting.problem import Problem
from fitting.rig import Posed
from fitting.smplify3d import SMPLify3D
from fitting.terms import residual_term
from models.keyed import walk_joints

RIGHT_WRIST = 21
joints = walk_joints()
clip = collate([Motion("walk", joints=joints)])
wall = float(joints[:, RIGHT_WRIST, 0].min()) + 0.05  # x, metres: the wrist comes 5 cm into it


def in_the_wall(posed: Posed, problem: Problem) -> Tensor:
    """(frames, 1) metres by which the wrist is behind the wall. The fit is about the clip's middle, hence the shift."""
    middle = torch.from_numpy(joints[:, 0, 0]).mean()
    return (wall - middle - posed.joints[:, RIGHT_WRIST, :1]).relu()


module = SMPLify3D()
plain = module.predict_step(clip)[0].joints()
module.preset.stages["pose"].terms["wall"] = residual_term(in_the_wall, weight=1e7)
held = module.predict_step(clip)[0].joints()

for name, fitted in (("without the term", plain), ("with it", held)):
    depth = 1000 * (wall - fitted[:, RIGHT_WRIST, 0]).clamp(min=0).max()
    error = 1000 * (fitted - torch.from_numpy(joints)).norm(dim=-1).mean()
    print(f"{name:17} wrist up to {depth:5.1f} mm in the wall, joints {error:.2f} mm from the input's")
