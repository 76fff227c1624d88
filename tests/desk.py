"""A desk for the commands of the docs: under the names that pages use, small files of the right kind.

Nothing licensed is among them: bodies and priors are this project's own in the form of the official files, and motion
is a piece of the keyed walk.
"""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fitting.data import Motion
from fitting.export import export
from fitting.result import FitResult
from fitting.results_file import save_results
from models.body import BodyModel
from models.keyed import sample
from models.prior import OWN_PRIOR
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from models.skeleton import SMPL_JOINTS
from tests.bodies import smpl_arrays, write_official, write_pickle
from tests.pages import blocks
from tests.person import features, statistics
from tests.runs import ROOT, keyed_joints, save_joints

FRAMES = 6
CLIPS = ("sample00_rep00", "sample01_rep00", "walk", "a", "b")  # of an output folder
Z_UP = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # turns y up into z up


def put(folder: Path, text: str) -> None:
    """Make what a command, or a block of Python, reads and the folder lacks."""
    read = re.sub(r"--out(put\.folder)? \S+", "", text)
    words = re.findall(r"[\w./*-]+", read)
    for name, make in MAKERS.items():
        path = folder / name
        if any(word == name or word.startswith(f"{name}/") for word in words) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)


def results(path: Path) -> None:
    """MDM's results.npy: two samples, three repetitions."""
    motion = np.stack([keyed_joints(FRAMES, 10 * i) for i in range(6)]).transpose(0, 2, 3, 1)
    save_results(path, motion, ["a person walks", "a person bends"] * 3, [FRAMES] * 6, samples=2)


def results_beside(film: Path) -> None:
    """MDM's argument is a film; what is read is the results.npy in its folder."""
    results(film.with_name("results.npy"))


def joints(path: Path) -> None:
    save_joints(path, FRAMES)


def long_joints(path: Path) -> None:
    save_joints(path, 64)


def whole_body_mask(path: Path) -> None:
    np.save(path, np.ones((64, 22)))


def joints_folder(path: Path) -> None:
    joints(path / "walk.npy")


def fits(path: Path) -> None:
    """What MDM leaves in a folder, and a fit's files beside it: here the truth itself."""
    results(path / "results.npy")
    for name in CLIPS:
        export(performed("walk", FRAMES, name), path, ("smpl_params", "npz", "glb"))


def demo(path: Path) -> None:
    """As `thetafit demo` leaves it, without the films."""
    results(path / "results.npy")
    export(performed("walk", 32, "sample00_rep00"), path, ("smpl_params", "npz", "glb"))


def truths(path: Path) -> None:
    for name in CLIPS:
        export(performed("walk", FRAMES, name), path, ("npz",))


@cache
def performed(kind: str, frames: int, name: str) -> FitResult:
    """Keyed motion as a fit would give it, its own joints as the input."""
    motion, body = sample(kind, 0), BodyModel.load()
    thetas, transl = motion.thetas[:frames], motion.transl[:frames]
    places = body.joints(motion.betas, thetas, transl)[:, :22].numpy()
    return FitResult(thetas, motion.betas, transl, body, Motion(name, joints=places, text=motion.text))


def takes(path: Path) -> None:
    export(performed("walk", 60, "walk"), path, ("bvh",))


def captions(path: Path) -> None:
    path.write_text("clip,caption\nwalk,a person walks\n")


def z_up_recordings(path: Path) -> None:
    """AMASS' form and axes."""
    take = performed("walk", 60, "a_person_walks")
    poses, rest = take.thetas.clone(), take.body.rest_joints(take.betas)[0]
    poses[:, 0] = matrix_to_axis_angle(Z_UP @ axis_angle_to_matrix(poses[:, 0]))
    trans = (take.transl + rest) @ Z_UP.T - rest
    path.mkdir()
    arrays = {"poses": poses.flatten(1).numpy(), "trans": trans.numpy(), "betas": take.betas.numpy()}
    np.savez(path / "a_person_walks.npz", **arrays, gender="neutral", mocap_framerate=20.0)


def normalised_features(path: Path) -> None:
    mean, std = statistics()
    np.save(path, (features(FRAMES) - mean) / std)


def normalisation(path: Path) -> None:
    path.mkdir()
    for name, values in zip(("Mean", "Std"), statistics(), strict=True):
        np.save(path / f"{name}.npy", values)


def rig(path: Path) -> None:
    """The skeleton that docs/formats.md shows."""
    (block,) = (b for b in blocks((ROOT / "docs" / "formats.md").read_text()) if b.language == "yaml")
    path.write_text(block.text)


def tracker_file(path: Path) -> None:
    """Joints of that skeleton: centimetres, z up, a tail that shows nothing; one joint was lost for a moment."""
    shown = "pelvis left_hip left_knee left_ankle right_hip right_knee right_ankle head left_shoulder left_elbow "
    order = (shown + "left_wrist right_shoulder right_elbow right_wrist head").split()
    tracked = 100 * keyed_joints(FRAMES)[:, [SMPL_JOINTS.index(name) for name in order]] @ Z_UP.numpy().T
    tracked[:, -1] += [0, 0, 12]
    tracked[2, 3] = np.nan
    np.savez(path, joints=tracked)


def licensed_body(path: Path) -> None:
    write_official(path, smpl_arrays())


def licensed_prior(path: Path) -> None:
    with np.load(OWN_PRIOR) as file:
        write_pickle(path, {key: file[key] for key in ("means", "covars", "weights")})


def own_config(path: Path) -> None:
    """For train.py: what differs from the config before it."""
    path.write_text("output: {out_fps: 30}\n")


def own_preset(path: Path) -> None:
    path.write_text((ROOT / "fitting" / "presets" / "quick.yaml").read_text())


def programs(path: Path) -> None:
    """`tracker`, which prints two frames as lines, and `thetafit`, for pipes."""
    path.mkdir()
    lines = "\n".join(" ".join(f"{x:.4f}" for x in frame.ravel()) for frame in keyed_joints(2))
    for name, script in {
        "tracker": f"#!/bin/sh\ncat <<END\n{lines}\nEND\n",
        "thetafit": f'#!/bin/sh\nexec {sys.executable} -m fitting.cli "$@"\n',
    }.items():
        (path / name).write_text(script)
        (path / name).chmod(0o755)


MAKERS: dict[str, Callable[[Path], None]] = {
    "results.npy": results,
    "walk.npy": long_joints,
    "mask.npy": whole_body_mask,
    "mocap.npy": joints,
    "whatever.npy": joints,
    "a.npy": joints,
    "b.npy": joints,
    "clips": joints_folder,
    "more": joints_folder,
    "data": joints_folder,
    "demo": demo,
    "out": fits,
    "out/sample01_rep02.mp4": results_beside,
    "truth": truths,
    "takes": takes,
    "captions.csv": captions,
    "amass_folder": z_up_recordings,
    "gen263D.npy": normalised_features,
    "HumanML3D": normalisation,
    "rig.yaml": rig,
    "tracker.npz": tracker_file,
    "SMPL_NEUTRAL.pkl": licensed_body,
    "gmm_08.pkl": licensed_prior,
    "mine.yaml": own_config,
    "my_preset.yaml": own_preset,
}
