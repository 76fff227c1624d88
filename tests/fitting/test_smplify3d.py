"""The method: known poses come back, a batch equals one by one, place does not matter, both precisions agree."""

import numpy as np
import pytest
import torch

from fitting import fit
from fitting.data import Motion, collate
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.errors import InputError

PRESETS = ["quick", "careful", "reference"]


def moving_body(frames: int = 24, seed: int = 0) -> tuple[BodyModel, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A body with a smooth random motion about a relaxed pose: body, thetas, betas, transl."""
    generator = torch.Generator().manual_seed(seed)
    body = BodyModel.load()
    time = torch.linspace(0, 2 * torch.pi, frames)[:, None, None]
    phase, size = (torch.rand(24, 3, generator=generator) for _ in range(2))
    thetas = 0.25 * size * torch.sin(time + 6 * phase)
    thetas[:, [4, 5], 0] += 0.5
    thetas[:, 16, 2] -= 1.0
    thetas[:, 17, 2] += 1.0
    thetas[:, 0, 1] = torch.linspace(0, 2, frames)
    betas = torch.randn(body.num_betas, generator=generator).clamp(-1.5, 1.5)
    transl = torch.stack((torch.linspace(0, 1, frames), torch.full((frames,), 1.1), torch.zeros(frames)), -1)
    return body, thetas, betas, transl


def known(frames: int = 24, seed: int = 0) -> torch.Tensor:
    body, thetas, betas, transl = moving_body(frames, seed)
    return body.joints(betas, thetas, transl)[:, :22]


def error_mm(result, joints) -> float:
    return float((result.joints() - torch.as_tensor(joints)).norm(dim=-1).mean() * 1000)


@pytest.mark.parametrize("preset, limit", [("quick", 3), ("careful", 3), ("reference", 12)])
def test_known_poses_come_back(preset, limit):
    joints = known()
    result = fit(joints, preset=preset)
    assert result.status == "converged"
    assert error_mm(result, joints) < limit
    assert result.thetas.norm(dim=-1).max() <= torch.pi + 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_terms_sum_to_the_energy_that_falls(preset):
    result = fit(known(8), preset=preset)
    for stage in result.losses.values():
        total = stage["total"]
        torch.testing.assert_close(sum(v for k, v in stage.items() if k != "total"), total)
        assert (total.diff() <= 1e-4 * total[:-1].abs()).all()
    assert result.energy == pytest.approx(float(total[-1]))


@pytest.mark.parametrize("preset", PRESETS)
def test_batch_equals_one_by_one(preset):
    """Clips of different length in one padded batch give what each gives alone."""
    clips = [known(frames, seed) for seed, frames in enumerate((9, 14, 1, 2))]
    motions = [Motion(f"clip{i}", "test", joints=clip.numpy(), fps=20.0) for i, clip in enumerate(clips)]
    module = SMPLify3D(preset=preset).double()
    together = module.fit(collate(motions))
    for motion, batched in zip(motions, together, strict=True):
        alone = module.fit(collate([motion]))[0]
        assert alone.thetas.shape == batched.thetas.shape == (len(motion.joints), 24, 3)
        assert alone.iterations == batched.iterations
        torch.testing.assert_close(batched.joints(), alone.joints(), rtol=0, atol=1e-6)
        torch.testing.assert_close(batched.betas, alone.betas, rtol=0, atol=1e-5)
        assert batched.energy == pytest.approx(alone.energy, rel=1e-6)


def test_far_from_the_origin():
    """A clip a kilometre away is fitted as well as at home, and stands where its joints stand."""
    joints = known(10)
    away = torch.tensor([1000.0, 3.0, -500.0])
    home, far = fit(joints), fit(joints + away)
    assert error_mm(far, joints + away) == pytest.approx(error_mm(home, joints), abs=0.1)


def test_single_and_double_precision_agree():
    joints = known(10)
    single, double = fit(joints), fit(joints, dtype=torch.float64)
    assert double.thetas.dtype == torch.float64
    assert single.energy == pytest.approx(double.energy, rel=1e-3)
    assert (single.joints() - double.joints()).abs().max() < 1e-3


@pytest.mark.parametrize("heading", range(0, 360, 15))
def test_every_heading(heading):
    """Twenty-four headings: none stays turned."""
    angle = torch.tensor(np.radians(heading), dtype=torch.float32)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    joints = known(6) @ turn.T
    assert error_mm(fit(joints, preset="quick"), joints) < 4


def test_solvers_agree_on_the_minimum():
    """L-BFGS on the same terms ends where Levenberg-Marquardt ends, or above."""
    joints = known(2)
    ours = fit(joints, preset="reference")
    peer = fit(joints, preset="reference", solver="lbfgs")
    assert ours.energy <= peer.energy * 1.001
    assert peer.energy <= ours.energy * 1.3
    adam = fit(joints, preset="reference", solver="adam").losses["pose"]["total"]
    assert ours.energy < float(adam[-1]) < float(adam[0]) / 10


def test_one_frame():
    joints = known(1)
    assert error_mm(fit(joints), joints) < 5


def test_rotations_need_no_fit():
    """A batch of clips that hold rotations goes through untouched, with the pelvis where the file says."""
    body, thetas, _, transl = moving_body(5)
    motion = Motion("clip", "test", thetas=thetas.numpy(), root=transl.numpy(), fps=20.0)
    result = SMPLify3D().predict_step(collate([motion]))[0]
    assert result.status == "not fitted"
    torch.testing.assert_close(result.joints()[:, 0], transl)
    torch.testing.assert_close(result.thetas, thetas)


def test_wrong_input_teaches():
    with pytest.raises(InputError, match=r"\(5, 17, 3\).*\(frames, 22, 3\)"):
        fit(np.zeros((5, 17, 3)))
    with pytest.raises(InputError, match="NaN"):
        fit(np.full((5, 22, 3), np.nan))
    with pytest.raises(InputError, match="carefull.*careful, quick, reference"):
        fit(known(2), preset="carefull")


def reference_run(reference, solver: str):
    """The golden run on the small body: fitted by us from the same start with the same mixture, and the reference's."""
    golden = dict(np.load(reference / "golden" / "smplify_run.npz"))
    files = {"body": "small_body_SMPL_NEUTRAL.pkl", "prior": "synthetic_gmm_08.pkl"}
    module = SMPLify3D(
        preset="reference", solver=solver, **{k: str(reference / "golden" / v) for k, v in files.items()}
    )
    module.mean_pose, module.mean_betas = torch.tensor(golden["mean_pose"]), torch.tensor(golden["mean_shape"])
    index = int(golden["abs_idx"])
    motion = Motion("sample01_rep00", "golden", joints=golden["motion"][index].transpose(2, 0, 1), fps=20.0)
    return golden, module, module.fit(collate([motion]))[0]


def test_reference_preset_reaches_the_golden_energy(reference):
    """Fitted as the reference fits: final energy not above its own, joints where it puts them."""
    golden, _, result = reference_run(reference, "lm")
    assert result.energy <= float(golden["stage2_last"]) * 1.0001
    joints = golden["fit_joints24"][:, :22] + golden["fit_cam_t"][:, None]
    assert error_mm(result, joints) < 1.0


def test_reference_schedule_starts_where_the_reference_does(reference):
    """First loss of the camera stage, and the two stages' descent by the same optimiser."""
    golden, _, result = reference_run(reference, "lbfgs")
    camera, pose = result.losses["camera"]["total"], result.losses["pose"]["total"]
    assert float(camera[0]) == pytest.approx(float(golden["stage1_first"]), rel=1e-3)
    assert float(camera[-1]) == pytest.approx(float(golden["stage1_last"]), rel=2e-2)
    assert float(pose[0]) == pytest.approx(float(golden["stage2_first"]), rel=5e-3)
    assert float(pose[-1]) == pytest.approx(float(golden["stage2_last"]), rel=2e-2)


class OutOfRoom(SMPLify3D):
    """A fit on a device whose memory holds two clips."""

    def fit(self, batch):
        if len(batch.motions) > 2:
            raise torch.OutOfMemoryError("no room for more than two clips")
        return super().fit(batch)


def test_out_of_memory_means_smaller_batches():
    """Halves are tried until they fit; every clip comes back once, in order, with the numbers of the whole batch."""
    motions = [Motion(f"clip{i}", "test", joints=known(4, i).numpy(), fps=20.0) for i in range(5)]
    whole = SMPLify3D(preset="quick").predict_step(collate(motions))
    halves = OutOfRoom(preset="quick").predict_step(collate(motions))
    assert [result.motion.name for result in halves] == [motion.name for motion in motions]
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(one.joints(), other.joints(), rtol=0, atol=1e-5)
