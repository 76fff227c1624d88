"""The metrics against motions whose numbers are known in closed form, and the entry of a clip in report.json."""

import json

import numpy as np
import pytest
import torch

from fitting.data import Motion
from fitting.report import (
    bone_length_change_percent,
    clip_report,
    failure_report,
    jerk,
    joint_errors_mm,
    run_report,
    unfitted_report,
)
from fitting.result import FitResult
from models.body import BodyModel
from models.keyed import walk_and_pick_up
from models.skeleton import SKELETONS

# design.md: what a report's readers rely on
CLIP = {
    "name", "source", "sample", "repetition", "text", "frames", "fps", "status", "message", "iterations", "energy",
    "mpjpe_mm", "max_joint_error_mm", "bone_length_change_percent", "jerk_in", "jerk_out", "foot_skate_ratio_in",
    "foot_skate_ratio_out", "penetration_mm", "float_mm", "betas", "files",
}  # fmt: skip
RUN = {"clips", "seconds", "frames_per_second", "device", "preset", "body", "version"}
LATER = ("foot_skate_ratio_in", "foot_skate_ratio_out", "penetration_mm", "float_mm")


@pytest.mark.parametrize("fps", [12.5, 20.0, 120.0])
def test_jerk_of_a_cubic_path_is_its_third_derivative(fps: float) -> None:
    seconds = np.arange(30) / fps
    direction = np.array([3.0, 0.0, 4.0])
    joints = (seconds**3)[:, None, None] * direction + seconds[:, None, None] * 2 + np.arange(22)[None, :, None]
    assert jerk(joints, fps) == pytest.approx(6 * 5, rel=1e-5)


def test_jerk_needs_four_frames() -> None:
    assert jerk(np.zeros((3, 22, 3)), 20) is None
    assert jerk(np.zeros((4, 22, 3)), 20) == 0


def test_bone_length_change_names_the_worst_bone() -> None:
    joints = np.zeros((10, 3, 3))
    joints[:, 1, 1] = 0.4  # rigid
    joints[:, 2, 0] = 0.5 + 0.05 * (-1) ** np.arange(10)  # 10 % about its mean
    assert bone_length_change_percent(joints, (-1, 0, 0)) == pytest.approx(10)
    assert bone_length_change_percent(joints[:, :2], (-1, 0)) == pytest.approx(0)


def test_a_rigid_body_changes_no_bone_and_a_bone_without_length_is_none() -> None:
    truth, body = walk_and_pick_up(), BodyModel.load()
    joints = body.joints(truth.betas, truth.thetas, truth.transl)[:, :22].numpy()
    assert bone_length_change_percent(joints, SKELETONS["smplh"].parents) < 0.01
    assert bone_length_change_percent(np.zeros((5, 22, 3)), SKELETONS["humanml3d"].parents) == 0


def fitted(offset_mm: float = 0.0) -> FitResult:
    """The first frames of the keyed walk as a fit, to joints that stand `offset_mm` away along x."""
    truth, body = walk_and_pick_up(), BodyModel.load()
    thetas, betas, transl = (values.float() for values in (truth.thetas[:12], truth.betas, truth.transl[:12]))
    joints = body.joints(betas, thetas, transl)[:, :22].numpy() + np.float32([offset_mm / 1000, 0, 0])
    motion = Motion("walk", "walk.npy", joints=joints, fps=20.0, text="a walk")
    losses = {"pose": {"joints": torch.tensor([2.0, 1.0]), "total": torch.tensor([2.0, 1.0])}}
    return FitResult(thetas, betas, transl, body, motion, "converged", "Done.", 1, 1.0, losses)


def test_entry_of_a_clip_has_the_designs_keys_and_the_known_error() -> None:
    entry = clip_report(fitted(offset_mm=10), ["walk.npz"])
    assert entry.keys() == CLIP
    assert entry["mpjpe_mm"] == pytest.approx(10, rel=1e-3)
    assert entry["max_joint_error_mm"] == pytest.approx(10, rel=1e-3)
    assert entry["jerk_in"] == pytest.approx(entry["jerk_out"], rel=1e-2)
    assert (entry["name"], entry["frames"], entry["fps"], entry["files"]) == ("walk", 12, 20.0, ["walk.npz"])
    assert entry["betas"] == pytest.approx(fitted().betas.tolist())
    assert all(entry[name] is None for name in LATER)


def test_rotations_have_no_joints_to_compare_with() -> None:
    result = fitted()
    result.motion.joints = None
    entry = clip_report(result, [])
    assert entry["mpjpe_mm"] is None and entry["jerk_in"] is None and entry["bone_length_change_percent"] is None
    assert entry["jerk_out"] > 0


def test_energy_that_is_no_number_is_null() -> None:
    result = fitted()
    result.energy = float("nan")
    assert clip_report(result, [])["energy"] is None


def test_every_entry_has_the_same_keys_and_the_report_is_plain_json() -> None:
    motion = fitted().motion
    clips = [
        clip_report(fitted(), ["walk.npz"]),
        failure_report("a/b.npy", "not a motion"),
        unfitted_report(motion, "failed", "no"),
    ]
    report = run_report(clips, 2.0, "cpu", "careful", "mh_neutral")
    assert report.keys() == RUN
    assert all(clip.keys() == CLIP for clip in report["clips"])
    assert report["frames_per_second"] == 6.0  # only what was written counts
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_joint_errors_are_millimetres() -> None:
    assert joint_errors_mm(np.zeros((2, 3)), np.array([[0.003, 0.004, 0], [0, 0, 1.0]])) == pytest.approx([5, 1000])
