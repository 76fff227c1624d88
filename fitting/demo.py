"""The demo's motion, written as MDM writes its own, and the error of its fit against the true parameters."""

from pathlib import Path

import numpy as np
import torch

from fitting.report import joint_errors_mm
from fitting.results_file import save_results
from models.body import BodyModel
from models.keyed import walk_and_pick_up

CLIP = "sample00_rep00"


def demo_joints() -> np.ndarray:
    """(120, 22, 3) float32 metres, y up, 20 frames a second: the keyed motion's joints, something to try a fit on."""
    truth = walk_and_pick_up()
    return BodyModel.load().joints(truth.betas, truth.thetas, truth.transl)[:, :22].numpy(force=True)


def write_results(path: Path) -> None:
    """The 22 joints of the keyed motion as a results.npy of one sample."""
    joints = demo_joints()
    save_results(path, joints.transpose(1, 2, 0)[None], [walk_and_pick_up().text], [len(joints)], samples=1)


def errors_against_truth(fitted: Path) -> dict[str, float]:
    """Mean distances in millimetres between the truth and a fit's npz: its joints, and all vertices of its mesh."""
    truth, body = walk_and_pick_up(), BodyModel.load()
    with np.load(fitted) as file:
        fit = [torch.as_tensor(file[name], dtype=torch.float32) for name in ("betas", "poses", "trans")]
    fit[1] = fit[1].unflatten(-1, (24, 3))
    true = [truth.betas.float(), truth.thetas.float(), truth.transl.float()]
    points = {"joints": lambda p: body.joints(*p)[:, :22], "mesh vertices": lambda p: body.vertices(*p)}
    return {what: float(joint_errors_mm(at(fit).numpy(), at(true).numpy()).mean()) for what, at in points.items()}
