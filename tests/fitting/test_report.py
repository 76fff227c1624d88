"""The entry of a clip in report.json, and the report of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fitting.data import Motion
from fitting.report import METRIC_KEYS, clip_report, failure_report, limit_words, run_report, unfitted_report
from fitting.result import FitResult
from models.body import BodyModel
from models.keyed import walk_and_pick_up

# What a report's readers rely on, by number: the names of the design first, then all metrics.
CLIP = {
    "name", "source", "sample", "repetition", "text", "frames", "fps", "status", "message", "iterations", "energy",
    "mpjpe_mm", "max_joint_error_mm", "bone_length_change_percent", "jerk_in", "jerk_out", "foot_skate_ratio_in",
    "foot_skate_ratio_out", "penetration_mm", "float_mm", "beyond_limits", "betas", "bone_factors", "files",
    "finger_error_mm", "unseen_joints", "longest_gap_seconds", "gaps",
} | set(METRIC_KEYS)  # fmt: skip
RUN = {"clips", "seconds", "frames_per_second", "device", "preset", "body", "version"}
MESH = ("penetration_mm", "float_mm", "slip_mm", "sole_height_mm")


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
    assert all(entry[name] is not None for name in METRIC_KEYS), entry
    assert entry["rotation_jitter_degrees"] > 0 and entry["foot_skate_ratio_in"] == entry["foot_skate_ratio_out"]


def test_joints_beyond_their_limits_are_named_and_those_far_beyond_are_said() -> None:
    """A knee bent the wrong way in 3 of 12 frames, an elbow by a little in all, which is not worth a word."""
    result = fitted()
    assert clip_report(result, [])["beyond_limits"] == [] and limit_words(clip_report(result, [])) is None
    result.thetas[:, 18] = torch.deg2rad(torch.tensor([0, 20.0, 0]))  # the left elbow's y ends at 15
    result.thetas[4:7, 4] = torch.deg2rad(torch.tensor([-50.0, 0, 0]))  # the left knee's x begins at -10
    knee, elbow = clip_report(result, [])["beyond_limits"]
    assert knee == {"joint": "left_knee", "degrees": pytest.approx(40, abs=0.01), "share": 0.25}
    assert elbow == {"joint": "left_elbow", "degrees": pytest.approx(5, abs=0.01), "share": 1.0}
    assert limit_words(clip_report(result, [])) == "left_knee 40 degrees beyond its limits (25% of frames)"
    result.thetas[4:7, 4] = 0
    assert limit_words(clip_report(result, [])) is None
    assert limit_words(failure_report("a.npy", "not a motion")) is None


def test_rotations_have_no_joints_to_compare_with() -> None:
    result = fitted()
    result.motion.joints = None
    entry = clip_report(result, [])
    assert entry["mpjpe_mm"] is None and entry["jerk_in"] is None and entry["bone_length_change_percent"] is None
    assert entry["jerk_out"] > 0 and entry["rotation_jitter_degrees"] > 0
    assert entry["foot_skate_ratio_out"] is None and all(entry[name] is None for name in MESH)


def test_the_report_measures_the_mesh_without_keeping_it() -> None:
    result = fitted()
    floor = np.percentile(result.motion.joints[:, [10, 11], 1], 1)
    under = np.maximum(floor - result.vertices()[..., 1].numpy().min(1), 0)
    again = fitted()
    assert clip_report(again, [])["penetration_mm"] == pytest.approx(1000 * under.mean(), abs=1e-3)
    assert "_vertices" not in vars(again)


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


def test_every_metric_is_defined_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    stems = {name.removesuffix("_in").removesuffix("_out") for name in METRIC_KEYS}
    assert [name for name in stems if f"`{name}" not in text] == []
