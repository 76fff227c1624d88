"""Real generated and captured clips: joint error, shape and jerk of the default preset stay within bounds."""

import numpy as np
import pytest

from fitting.data import collate, load_motions
from fitting.report import clip_report
from fitting.smplify3d import SMPLify3D

LIMITS_MM = {
    "generated/mdm_toolbox/results.npy": 13.5,
    "generated/mdm_arms_crossed/results.npy": 13.5,
    "generated/joints2smpl_demo/test_motion.npy": 7.5,
    "humanml3d/012314/new_joints.npy": 3.0,
    "humanml3d/012314/new_joint_vecs.npy": 3.0,
    "humanml3d/000612/new_joint_vecs.npy": 3.0,
    "humanml3d/unnamed_88/new_joint_vec.npy": 3.0,
    "generated/sato/attn_good.npy": 5.0,
    "generated/sato/motion.npy": 5.0,
    "generated/omnicontrol_long/000.npy": 7.0,
}


@pytest.mark.parametrize("file", LIMITS_MM)
def test_joint_error_shape_and_jerk(reference, file):
    motions, failures = load_motions([str(reference / "data" / file)])
    assert motions and not failures
    for result in SMPLify3D().predict_step(collate(motions)):
        report = clip_report(result, [])
        assert report["status"] == "converged"
        assert report["mpjpe_mm"] <= LIMITS_MM[file]
        assert np.abs(report["betas"]).max() <= 5
        assert report["jerk_out"] <= 1.1 * report["jerk_in"]
        floor = np.percentile(result.motion.joints[..., 1].min(1), 1)
        assert result.vertices()[..., 1].min() > floor - 0.25  # the mesh stands where the joints stand
