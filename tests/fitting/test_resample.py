"""Another frame rate: constant angular velocity stays constant, what is on the grid stays, nothing turns over."""

import math

import numpy as np
import pytest
import torch

from fitting.data import Motion
from fitting.resample import resample, resampled_length
from fitting.result import FitResult
from models.body import BodyModel
from models.errors import InputError
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from tests.fits import smooth_fit
from tests.runs import FAST, fit, report, save_joints, save_results


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle in radians between rotations (..., 3) axis-angle, in float64."""
    a, b = (axis_angle_to_matrix(thetas.double()) for thetas in (a, b))
    return matrix_to_axis_angle(a.mT @ b).norm(dim=-1)


def turning(frames: int, fps: float, dtype: torch.dtype = torch.float64) -> FitResult:
    """Every joint turns about an axis and at a rate of its own, up to a turn in 0.7 s; the body flies straight."""
    random = torch.Generator().manual_seed(3)
    axes = torch.nn.functional.normalize(torch.randn(24, 3, generator=random, dtype=torch.float64), dim=-1)
    start = axis_angle_to_matrix(torch.randn(24, 3, generator=random, dtype=torch.float64))
    seconds = torch.arange(frames, dtype=torch.float64) / fps
    rates = torch.linspace(0, 2 * math.pi / 0.7, 24, dtype=torch.float64)
    turns = axis_angle_to_matrix(seconds[:, None, None] * (rates[:, None] * axes))
    thetas = matrix_to_axis_angle(turns @ start).to(dtype)
    transl = (seconds[:, None] * torch.tensor([1.0, 0.2, -3.0], dtype=torch.float64)).to(dtype)
    joints = np.repeat(transl.numpy()[:, None], 22, 1).astype(np.float32)
    return FitResult(thetas, torch.zeros(10), transl, BodyModel.load(), Motion("turn", joints=joints, fps=fps))


@pytest.mark.parametrize("fps, out_fps", [(20, 30), (20, 60), (30, 20), (12.5, 30), (120, 25), (20, 23.976)])
def test_constant_angular_velocity_is_reproduced(fps: float, out_fps: float) -> None:
    given = turning(41, fps)
    expected = turning(resampled_length(41, fps, out_fps), out_fps)
    found = resample(given, out_fps)
    assert found.length == expected.length and found.fps == out_fps
    assert angle_between(found.thetas, expected.thetas).max() < 1e-7
    torch.testing.assert_close(found.transl, expected.transl, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.motion.joints, expected.motion.joints, atol=1e-5)


def test_there_and_back_is_the_same() -> None:
    given = smooth_fit(15)
    twice = resample(given, 40)
    assert twice.length == 29
    assert torch.equal(twice.thetas[::2], given.thetas) and torch.equal(twice.transl[::2], given.transl)
    back = resample(twice, 20)
    assert torch.equal(back.thetas, given.thetas) and torch.equal(back.transl, given.transl)
    np.testing.assert_array_equal(back.motion.joints, given.motion.joints)
    assert given.fps == 20 and given.length == len(given.motion.joints) == 15  # the fit itself is left alone


def test_a_turn_through_pi_does_not_flip() -> None:
    """The axis-angle of a full turn jumps from pi to -pi; the steps between new frames must not."""
    given = smooth_fit(20)
    assert (given.thetas[:, 0].norm(dim=-1) > math.pi).any()
    given.thetas = matrix_to_axis_angle(axis_angle_to_matrix(given.thetas))
    found = resample(given, 60)
    steps, before = (angle_between(thetas[:-1], thetas[1:]) for thetas in (found.thetas, given.thetas))
    assert steps.max() < before.max() / 3 + 1e-4
    assert found.thetas.norm(dim=-1).max() <= math.pi + 1e-5


@pytest.mark.parametrize(
    "frames, fps, out_fps", [(196, 20, 30), (25, 12.5, 30), (100, 12.5, 20), (11, 20, 7), (2, 20, 5)]
)
def test_duration_and_ends(frames: int, fps: float, out_fps: float) -> None:
    given = turning(frames, fps)
    found = resample(given, out_fps)
    missing = (frames - 1) / fps - (found.length - 1) / out_fps
    assert -1e-9 <= missing < 1 / out_fps
    assert torch.equal(found.thetas[0], given.thetas[0])
    if abs(missing) < 1e-9:
        assert torch.equal(found.thetas[-1], given.thetas[-1])


def test_one_frame_stays_one_frame() -> None:
    given = turning(1, 20)
    found = resample(given, 240)
    assert found.length == 1 and found.fps == 240 and torch.equal(found.thetas, given.thetas)


def test_same_rate_is_the_same_result() -> None:
    given = turning(5, 12.5)
    assert resample(given, 12.5) is given


def test_a_shape_a_frame_and_unseen_joints() -> None:
    given = smooth_fit(5)
    given.betas = torch.arange(5.0)[:, None].expand(-1, 10)
    given.motion.joints[2, 7] = np.nan
    found = resample(given, 40)
    torch.testing.assert_close(found.betas[:, 0], torch.arange(9) / 2)
    assert np.isnan(found.motion.joints[3:6, 7]).all() and np.isfinite(found.motion.joints[[0, 1, 2, 6, 7, 8]]).all()
    assert found.joints().shape == (9, 22, 3)


def test_rotations_that_were_read_follow() -> None:
    given = turning(9, 20, torch.float32)
    motion = Motion("turn", thetas=given.thetas.numpy(), root=given.transl.numpy(), fps=20.0)
    found = resample(FitResult.from_rotations(motion, given.body), 30)
    assert found.motion.length == found.length == 13
    np.testing.assert_array_equal(found.motion.thetas, found.thetas.numpy())


@pytest.mark.parametrize("fps", [0, -30, math.inf, math.nan])
def test_a_rate_that_is_none(fps: float) -> None:
    with pytest.raises(InputError, match="--out-fps takes frames a second"):
        resample(turning(3, 20), fps)


def test_command_writes_the_new_rate_everywhere(tmp_path) -> None:
    source = save_results(tmp_path / "results.npy", (12, 8))
    assert fit(source, "--out", tmp_path / "given", *FAST) == 0
    assert fit(source, "--out", tmp_path / "out", *FAST, "--out-fps", 30) == 0
    for clip, frames in zip(report(tmp_path / "out")["clips"], (17, 11), strict=True):
        assert clip["fps"] == 30 and clip["frames"] == frames
        with (
            np.load(tmp_path / "out" / clip["files"][0]) as file,
            np.load(tmp_path / "given" / clip["files"][0]) as given,
        ):
            assert float(file["mocap_framerate"]) == 30
            assert {len(file[key]) for key in ("poses", "trans", "joints", "joints_input")} == {frames}
            np.testing.assert_array_equal(file["poses"][::3], given["poses"][::2])
    errors = [[clip["mpjpe_mm"] for clip in report(tmp_path / name)["clips"]] for name in ("given", "out")]
    assert errors[0] == errors[1]


def test_resume_knows_the_rate(tmp_path) -> None:
    source, out = save_joints(tmp_path / "walk.npy"), tmp_path / "out"
    for rate in (30, 30, 60):
        assert fit(source, "--out", out, *FAST, "--resume", "--out-fps", rate) == 0
    with np.load(out / "walk.npz") as file:
        assert float(file["mocap_framerate"]) == 60


def test_command_refuses_a_rate_that_is_none(tmp_path, capsys) -> None:
    assert fit(save_joints(tmp_path / "walk.npy"), "--out", tmp_path / "out", *FAST, "--out-fps", 0) == 2
    assert "--out-fps takes frames a second" in capsys.readouterr().err
