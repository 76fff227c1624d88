"""NAME_qpos.csv and NAME_mjcf.xml: MuJoCo's generalised positions of every frame, and the skeleton that they move.

The layout is that of the SMPL humanoids used for retargeting and physics (PHC, SMPLSim): a free joint at the pelvis,
then three hinges x, y, z for each of 23 bodies, depth first. The world is z up; bodies rest in SMPL's own axes, so the
root's quaternion of an upright person holds the quarter turn.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import torch

from fitting.export.bones import depth_first
from models.rotations import axis_angle_to_matrix, matrix_to_euler, matrix_to_quaternion
from models.skeleton import SMPL_PARENTS

if TYPE_CHECKING:
    from fitting.result import FitResult

# fmt: off
BODIES = (  # SMPL's joints in the humanoids' words
    "Pelvis", "L_Hip", "R_Hip", "Torso", "L_Knee", "R_Knee", "Spine", "L_Ankle", "R_Ankle", "Chest", "L_Toe", "R_Toe",
    "Neck", "L_Thorax", "R_Thorax", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist",
    "L_Hand", "R_Hand",
)
# fmt: on
ROOT = ("root_x", "root_y", "root_z", "root_qw", "root_qx", "root_qy", "root_qz")
Z_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # (x, y, z) of y up -> (x, -z, y) of z up
RADIUS = 0.04  # of the spheres that give bodies a mass, metres


def qpos(result: "FitResult") -> np.ndarray:
    """(L, 76): pelvis in metres, z up; its quaternion wxyz; radians of R = Rx Ry Rz for the bodies of `columns`."""
    rotations = axis_angle_to_matrix(result.smpl_thetas)
    pelvis = result.joints()[:, 0] @ Z_UP.mT
    hinges = matrix_to_euler(rotations)[:, depth_first(SMPL_PARENTS)[1:]].flatten(1)
    return torch.cat((pelvis, matrix_to_quaternion(Z_UP @ rotations[:, 0]), hinges), 1).numpy(force=True)


def columns() -> list[str]:
    """The names of qpos: the free joint's seven numbers, then L_Hip_x, L_Hip_y, ..."""
    return [*ROOT, *(f"{BODIES[joint]}_{axis}" for joint in depth_first(SMPL_PARENTS)[1:] for axis in "xyz")]


def write_qpos(result: "FitResult", path: Path) -> None:
    """A line of names, then a line a frame, comma separated; frame i stands at i / fps seconds."""
    np.savetxt(path, qpos(result), fmt="%.7g", delimiter=",", header=",".join(columns()), comments="")


def write_mjcf(result: "FitResult", path: Path) -> None:
    """A model whose qpos the CSV holds: the rest skeleton of the fitted (mean) shape, spheres at the joints, no motors.

    Its custom numeric `fps` is the frame rate of the CSV.
    """
    model = ElementTree.Element("mujoco", model=result.body.name)
    ElementTree.SubElement(model, "compiler", angle="radian")
    custom = ElementTree.SubElement(model, "custom")
    ElementTree.SubElement(custom, "numeric", name="fps", data=f"{result.fps:.9g}")
    _add_body(ElementTree.SubElement(model, "worldbody"), 0, _rest_joints(result))
    ElementTree.indent(model)
    ElementTree.ElementTree(model).write(path, encoding="utf-8", xml_declaration=True)


def _rest_joints(result: "FitResult") -> np.ndarray:
    """(24, 3) metres; of a body with fingers, the first joint of each index finger stands for the hand."""
    betas = result.betas.reshape(-1, result.body.num_betas).mean(0)
    count = result.body.num_joints
    hands = (22, 23) if count == len(BODIES) else (count - 30, count - 15)
    return result.body.rest_joints(betas)[[*range(22), *hands]].double().numpy(force=True)


def _add_body(parent: ElementTree.Element, joint: int, rest: np.ndarray) -> None:
    above = SMPL_PARENTS[joint]
    place = " ".join(f"{x:.6f}" for x in rest[joint] - rest[above] * (above >= 0))
    body = ElementTree.SubElement(parent, "body", name=BODIES[joint], pos=place)
    if above < 0:
        ElementTree.SubElement(body, "freejoint", name="root")
    else:
        for axis, vector in zip("xyz", ("1 0 0", "0 1 0", "0 0 1"), strict=True):
            ElementTree.SubElement(body, "joint", name=f"{BODIES[joint]}_{axis}", axis=vector)
    ElementTree.SubElement(body, "geom", type="sphere", size=f"{RADIUS}", contype="0", conaffinity="0")
    for child, its_parent in enumerate(SMPL_PARENTS):
        if its_parent == joint:
            _add_body(body, child, rest)
