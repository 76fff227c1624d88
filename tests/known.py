"""Twenty cuts of 100 frames with known parameters: rotations of dance and motion capture on the embedded body."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from models.body import BodyModel
from models.safe_pickle import load_pickle
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS
from tests.bvh import Bvh, read_bvh

FRAMES, FPS, SEED = 100, 20.0, 20
UNSEEN = (10, 11, 15, 20, 21, 22, 23)  # feet, head, wrists, hands: none of the 22 joints shows their rotation

# File below data/, first second, frames a second. A file shorter than five seconds is sampled a little faster than 20.
CUTS = (
    ("smpl_params/aist_gBR_sBM_cAll_d04_mBR0_ch01.pkl", 0.0, 20),
    ("smpl_params/aist_gBR_sBM_cAll_d04_mBR0_ch01.pkl", 6.0, 20),
    ("generated/omnicontrol_theta/video2.npy", 0.0, 20),
    ("generated/omnicontrol_theta/video2.npy", 4.8, 20),
    ("generated/omnicontrol_theta/video3.npy", 1.0, 20),
    ("generated/omnicontrol_theta/video5.npy", 0.0, 20),
    ("generated/omnicontrol_theta/video5.npy", 4.8, 20),
    ("generated/omnicontrol_theta/video8.npy", 1.5, 20),
    ("mocap_bandai/bvh/dataset-1_bow_sad_001.bvh", 0.0, 20),
    ("mocap_bandai/bvh/dataset-1_kick_normal_001.bvh", 0.0, 20),
    ("mocap_bandai/bvh/dataset-1_kick_normal_001.bvh", 6.0, 20),
    ("mocap_bandai/bvh/dataset-1_dash_happy_001.bvh", 0.0, 26),
    ("mocap_bandai/bvh/dataset-1_walk_angry_001.bvh", 0.0, 21.5),
    ("mocap_bandai/bvh/dataset-2_walk-turn-right_active_001.bvh", 0.0, 23),
    ("mocap_bandai/bvh/dataset-2_wave-left-hand_normal_001.bvh", 0.0, 20),
    ("mocap_100style/bvh/Angry_ID.bvh", 0.0, 20),
    ("mocap_100style/bvh/Angry_ID.bvh", 4.5, 20),
    ("mocap_100style/bvh/Angry_ID.bvh", 16.0, 20),
    ("mocap_100style/bvh/Angry_ID.bvh", 24.0, 20),
    ("mocap_cmu/12_01_walk.bvh", 0.02, 23),
)

# The joint of each BVH family that turns each SMPL joint of the trunk and of the left side; "" follows its parent.
TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
SIDE = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist", "hand")
SOURCES = {
    "mocap_bandai": "Hips Spine Spine Chest Neck Head".split(" ")
    + "UpperLeg_L LowerLeg_L Foot_L Toes_L Shoulder_L UpperArm_L LowerArm_L Hand_L ".split(" "),
    "mocap_100style": "Hips Chest Chest2 Chest4 Neck Head".split(" ")
    + "LeftHip LeftKnee LeftAnkle LeftToe LeftCollar LeftShoulder LeftElbow LeftWrist ".split(" "),
    "mocap_cmu": "Hips LowerBack Spine Spine1 Neck Head".split(" ")
    + "LeftUpLeg LeftLeg LeftFoot LeftToeBase LeftShoulder LeftArm LeftForeArm LeftHand LeftHandIndex1".split(" "),
}
METRES = {"mocap_bandai": 0.01, "mocap_100style": 0.01, "mocap_cmu": 0.056444}


@dataclass
class Known:
    """One cut at 20 fps: thetas (100, 24, 3) axis-angle, betas (B,), transl (100, 3) metres, lowest joint at y = 0."""

    name: str
    thetas: Tensor
    betas: Tensor
    transl: Tensor


def known_cuts(reference: Path, body: BodyModel) -> list[Known]:
    """All cuts; betas from N(0, 0.8), within three deviations. The same numbers at every call."""
    random = np.random.default_rng(SEED)
    cuts = []
    for i, (file, start, fps) in enumerate(CUTS):
        rotations, pelvis = _read(reference / "data" / file, start, fps, random)
        thetas = torch.tensor(rotations.as_rotvec().reshape(FRAMES, 24, 3), dtype=torch.float32)
        betas = torch.tensor(np.clip(random.normal(0, 0.8, body.num_betas), -2.4, 2.4), dtype=torch.float32)
        transl = torch.tensor(pelvis, dtype=torch.float32)
        transl[:, 1] -= body.joints(betas, thetas, transl)[..., 1].min()
        cuts.append(Known(f"{i:02d}_{Path(file).stem}", thetas, betas, transl))
    return cuts


def _read(path: Path, start: float, fps: float, random: np.random.Generator) -> tuple[Rotation, np.ndarray]:
    """Local rotations of 100 frames, (100 * 24) of them, and the path of the pelvis (100, 3) in metres."""
    seconds = start + np.arange(FRAMES) / fps
    if path.suffix == ".bvh":
        family = next(name for name in SOURCES if name in path.parts)
        return retarget(read_bvh(path), family, seconds)
    if path.suffix == ".pkl":  # AIST++, 60 fps, centimetres
        params, frames = load_pickle(path), np.round(seconds * 60).astype(int)
        poses, transl = params["smpl_poses"][frames], params["smpl_trans"][frames] / params["smpl_scaling"]
    else:  # OmniControl, 20 fps: what 22 joints do not show is zero there
        params = np.load(path, allow_pickle=False)[np.round(seconds * FPS).astype(int)]
        poses, transl = params[:, :72], params[:, 72:]
        poses.reshape(FRAMES, 24, 3)[:, UNSEEN] = sway(random)
    return Rotation.from_rotvec(poses.reshape(-1, 3)), transl


def sway(random: np.random.Generator) -> np.ndarray:
    """Random smooth rotation vectors (100, 7, 3) of about 0.3 rad: three slow waves an axis."""
    hertz, cycle = random.uniform(0, 1, (2, len(UNSEEN), 3, 3))
    radians = random.normal(0, 0.15, hertz.shape)
    seconds = np.arange(FRAMES)[:, None, None, None] / FPS
    return (radians * np.sin(2 * np.pi * (hertz * seconds + cycle))).sum(-1)


def retarget(bvh: Bvh, family: str, seconds: np.ndarray) -> tuple[Rotation, np.ndarray]:
    """Turn every SMPL joint as the BVH joint of its name has turned from the T-pose, at the times asked for.

    Returns the local rotations, (len(seconds) * 24) of them, and the path of the pelvis (len(seconds), 3) in metres.
    """
    rest = _t_pose(bvh, family)
    times = np.arange(len(bvh.rotations)) / bvh.fps
    turned: list[np.ndarray] = []  # (frames, 3, 3) in the world, from the T-pose
    for joint, parent in zip(SMPL_JOINTS, SMPL_PARENTS, strict=True):
        name = _bvh_name(family, joint)
        if not name:
            turned.append(turned[parent])
            continue
        rotations = Rotation.from_matrix(bvh.rotations[:, bvh.names.index(name)] @ rest(name).T)
        turned.append(Slerp(times, rotations)(seconds).as_matrix())
    local = [turned[0]] + [turned[p].transpose(0, 2, 1) @ turned[j] for j, p in enumerate(SMPL_PARENTS) if p >= 0]
    pelvis = bvh.positions[:, bvh.names.index(_bvh_name(family, "pelvis"))] * METRES[family]
    path = np.stack([np.interp(seconds, times, axis) for axis in pelvis.T], 1)
    return Rotation.from_matrix(np.stack(local, 1).reshape(-1, 3, 3)), path


def _bvh_name(family: str, joint: str) -> str:
    """The BVH joint for an SMPL joint: "" when there is none."""
    if joint in TRUNK:
        return SOURCES[family][TRUNK.index(joint)]
    side, part = joint.split("_")
    name = SOURCES[family][len(TRUNK) + SIDE.index(part)]
    return name if side == "left" else name.replace("Left", "Right").replace("_L", "_R")


def _t_pose(bvh: Bvh, family: str) -> Callable[[str], np.ndarray]:
    """World rotation (3, 3) of a joint of a person in SMPL's T-pose: facing +z, left arm along +x, palms down."""
    if family == "mocap_100style":  # its zero pose is that pose
        return lambda name: np.eye(3)
    if family == "mocap_cmu":  # its first frame is
        return lambda name: bvh.rotations[0, bvh.names.index(name)]
    return _bandai_t_pose


def _bandai_t_pose(name: str) -> np.ndarray:
    """Bandai's joints have x along the bone, y to bend about: their axes in the T-pose as columns, right side mirrored.

    The feet stand flat when their bones point 50 degrees (toes: 67) forward of down.
    """
    legs = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
    part = name.removesuffix("_R").removesuffix("_L")
    left = {
        "Hips": np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]),
        "UpperLeg": legs,
        "LowerLeg": legs,
        "Foot": Rotation.from_rotvec([-50, 0, 0], degrees=True).as_matrix() @ legs,
        "Toes": Rotation.from_rotvec([-67, 0, 0], degrees=True).as_matrix() @ legs,
    }.get(part)
    if left is None:  # arms: along the world's axes; spine, neck and head: x up, y forward
        left = np.eye(3) if name[-2:] in ("_L", "_R") else np.array([[0, 0, 1], [1, 0, 0], [0, 1.0, 0]])
    return np.diag([1.0, -1, -1]) @ left if name.endswith("_R") else left
