"""Fingers: known ones come back, none bends backwards, unseen ones are the mean hand's; the files that hold them."""

from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fitting import fit
from fitting.data import Motion, collate
from fitting.export import export
from fitting.fingers import Chains, lacks_fingers
from fitting.metrics import joint_errors_mm, rotation_errors_degrees
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.keyed import walk_and_pick_up
from models.rot2xyz import rot2xyz
from models.skeleton import FINGERS, SKELETONS, SMPL_PARENTS
from tests.bodies import handed_arrays, smplx_arrays
from tests.fitting.test_glb import skinned, world_matrices
from tests.runs import FAST, main, report
from tests.runs import fit as command

FRAMES = 60
LEFT, RIGHT = slice(22, 37), slice(37, 52)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("body") / "handed.npz"
    np.savez(path, **handed_arrays())
    return path


@pytest.fixture(scope="module")
def body(path: Path) -> BodyModel:
    return BodyModel.load(path)


def moving(chains: Chains, reach: float = 0.8) -> Tensor:
    """(FRAMES, 52, 3): a keyed walk, its fingers swinging smoothly through `reach` of their limits, without twist."""
    seed, time = torch.Generator().manual_seed(0), torch.arange(FRAMES)[:, None, None, None] / 20
    pace, phase = torch.rand(2, 10, 2, 3, generator=seed)
    share = 0.5 + 0.5 * torch.sin(2 * torch.pi * ((0.1 + 0.7 * pace) * time + phase))
    low, high = (reach * chains.limits * torch.tensor([0, 1, 1])[:, None]).unbind(-1)
    bends = low + share * (high - low)
    last = chains.mean[:, 2] + chains.follow * (bends[:, :, 1] - chains.mean[:, 1])
    fingers = torch.cat((bends, last[:, :, None]), 2) @ chains.axes.mT
    thetas = torch.cat((walk_and_pick_up().thetas[:FRAMES, :22], fingers.flatten(1, 2)), 1)
    thetas[:, 20:22] = torch.sin(time[:, 0]) * torch.tensor([[0.3, 0.2, 0.3], [-0.3, -0.2, -0.3]])
    return thetas


@pytest.fixture(scope="module")
def truth(body: BodyModel) -> tuple[Tensor, Tensor, Tensor]:
    """betas, thetas and transl."""
    walk = walk_and_pick_up()
    return walk.betas, moving(Chains.of(body, walk.betas)), walk.transl[:FRAMES]


@pytest.fixture(scope="module")
def joints(body: BodyModel, truth: tuple[Tensor, Tensor, Tensor]) -> np.ndarray:
    return body.joints(*truth).numpy()


@pytest.fixture(scope="module")
def result(body: BodyModel, joints: np.ndarray) -> FitResult:
    return fit(joints, body=body)


def fitted_joints(result: FitResult) -> Tensor:
    return result.body.joints(result.betas, result.thetas, result.transl)


def bends(result: FitResult) -> Tensor:
    """(L, 10, 2, 3): twist, spread and bend of fingers' first two joints, radians."""
    chains = Chains.of(result.body, result.betas)
    return (result.thetas[:, -30:].unflatten(1, (10, 3)) @ chains.axes)[:, :, :2]


def excess_degrees(result: FitResult) -> Tensor:
    low, high = Chains.of(result.body, result.betas).limits.unbind(-1)
    return torch.maximum(low - bends(result), bends(result) - high).clamp_min(0).rad2deg()


# poses


def test_the_axes_of_a_finger_follow_its_hand(body):
    """At rest x runs along the first bone of both hands, and a turn about z brings the tip down, to the palm."""
    chains = Chains.of(body, torch.zeros(body.num_betas))
    identity = torch.eye(3).expand(10, 3, 3)
    torch.testing.assert_close(chains.axes.mT @ chains.axes, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(chains.axes), torch.ones(10))
    assert (chains.bones[:, 0, 0] > 0.03).all() and chains.bones[:, 0, 1:].abs().max() < 1e-6
    assert (torch.linalg.cross(chains.axes[..., 2], chains.axes[..., 0])[:, 1] < -0.8).all()
    assert (chains.axes[:5, 0, 0] > 0.7).all() and (chains.axes[5:, 0, 0] < -0.7).all()


@pytest.mark.parametrize("preset", ["careful", "quick"])
def test_known_fingers_come_back(body, truth, joints, result, preset):
    """52 joints to a millimetre; rotations of the joints whose bones are seen to a few degrees, the last joint too."""
    found = result if preset == "careful" else fit(joints, body=body, preset=preset)
    assert found.status == "converged" and found.thetas.shape == (FRAMES, 52, 3)
    error = joint_errors_mm(fitted_joints(found), joints)
    assert error.mean() < 1 and error[:, 22:].mean() < 1 and error.max() < 8
    angles = rotation_errors_degrees(found.thetas[:, 22:], truth[1][:, 22:])
    assert angles.mean() < 4 and np.percentile(angles, 99) < 12
    assert found.report["finger_error_mm"] == pytest.approx(error[:, 22:].mean(), rel=1e-3)
    assert {"joints", "limits", "mean_hand"} <= found.losses["fingers"].keys()


def test_no_finger_bends_backwards(body, truth):
    """Joints whose fingers bend back by 60 degrees: the fit gives way by a few degrees, and the body not at all."""
    thetas = truth[1].clone()
    axes = Chains.of(body, truth[0]).axes
    back = torch.tensor([0, 0, -1.05]).expand(10, 3, 3) @ axes.mT
    thetas[:, 22:] = back.flatten(0, 1)
    found = fit(body.joints(truth[0], thetas, truth[2]), body=body, preset="quick")
    fingers = [finger for finger in range(10) if finger not in (4, 9)]
    assert 1 < excess_degrees(found)[:, fingers].max() < 6
    assert bends(found)[:, fingers, 1, 2].min().rad2deg() > -14
    assert joint_errors_mm(found.joints(), body.joints(truth[0], thetas, truth[2])[:, :22]).mean() < 1


def test_noisy_fingers_stay_within_their_limits(body, joints):
    noise = np.random.default_rng(0).normal(0, 0.004, joints.shape).astype(np.float32)
    found = fit(joints + noise, body=body)
    assert excess_degrees(found).amax((1, 2, 3)).mean() < 3
    assert joint_errors_mm(fitted_joints(found), joints)[:, 22:].mean() < 12


# what is not seen


def test_hands_that_are_never_seen_are_the_mean_hands_and_hurt_nothing(body, joints, result):
    hidden = joints.copy()
    hidden[:, LEFT] = np.nan
    found = fit(hidden, body=body)
    torch.testing.assert_close(found.thetas[:, LEFT], body.fixed_thetas[:15].expand(FRAMES, -1, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.thetas[:, RIGHT], result.thetas[:, RIGHT], atol=0.1, rtol=0)
    others = [*range(20), 21]
    assert joint_errors_mm(fitted_joints(found)[:, others], joints[:, others]).mean() < 0.7
    assert found.report["finger_error_mm"] < 1 and found.report["unseen_joints"] == 15 * FRAMES


def test_a_gap_in_a_finger_is_crossed_smoothly(body, truth, joints):
    """Half a second without the right hand's fingers: no jump, and nearer to the truth than the mean hand is."""
    hidden = joints.copy()
    hidden[25:35, RIGHT] = np.nan
    found = fit(hidden, body=body)
    gap, true = found.thetas[25:35, RIGHT], truth[1][25:35, RIGHT]
    mean = body.fixed_thetas[15:].expand_as(true)
    assert rotation_errors_degrees(gap, true).mean() < 0.7 * rotation_errors_degrees(mean, true).mean()
    steps = rotation_errors_degrees(found.thetas[1:, RIGHT], found.thetas[:-1, RIGHT])
    assert steps[24:35].max() < 1.5 * rotation_errors_degrees(truth[1][1:, RIGHT], truth[1][:-1, RIGHT]).max()


def test_a_joint_hidden_in_the_middle_of_a_finger_hides_its_two_bones(body, joints):
    hidden = joints.copy()
    hidden[:, 23] = np.nan
    found = fit(hidden, body=body, preset="quick")
    torch.testing.assert_close(found.thetas[:, 22:25], body.fixed_thetas[:3].expand(FRAMES, -1, -1), atol=1e-4, rtol=0)
    assert joint_errors_mm(fitted_joints(found)[:, 25:], joints[:, 25:]).mean() < 1


# bodies and batches


def test_a_body_without_fingers_says_so_and_fits_the_first_22_as_ever(joints):
    found, plain = fit(joints, preset="quick"), fit(joints[:, :22], preset="quick")
    assert torch.equal(found.thetas, plain.thetas) and torch.equal(found.betas, plain.betas)
    assert "the body mh_neutral has none" in found.message and "--body" in found.message
    assert found.report["finger_error_mm"] is None and "left out" not in plain.message


def test_knuckles_alone_bend_no_finger(body, joints):
    """As before there were fingers: the 24 joints of SMPL, hands turned by what knuckles there are."""
    hidden = joints.copy()
    hidden[:, [i for i in range(22, 52) if (i - 22) % 3]] = np.nan
    found = fit(hidden, body=body, preset="quick")
    mean = body.fixed_thetas.expand(FRAMES, -1, -1)
    torch.testing.assert_close(found.thetas[:, 22:], mean, atol=1e-4, rtol=0)
    assert fit(joints[:, :22], body=body, preset="quick").thetas.shape == (FRAMES, 24, 3)
    assert not lacks_fingers(body, [Motion("a", joints=joints, skeleton=SKELETONS["smplh"])])


def test_smplx_has_the_same_fingers_behind_jaw_and_eyes(tmp_path, joints):
    """Fingers of another body, in another place of its file: bones point as they do in the input."""
    np.savez(tmp_path / "smplx.npz", **smplx_arrays())
    found = fit(joints[:8], body=str(tmp_path / "smplx.npz"), preset="quick")
    assert found.thetas.shape == (8, 55, 3) and not found.thetas[:, 22:25].any()
    assert not torch.allclose(found.thetas[:, 25:], found.body.fixed_thetas[3:].expand(8, -1, -1), atol=0.1)


def test_a_batch_gives_what_each_clip_gives_alone(path, joints):
    motions = [Motion(f"{n}", joints=joints[:n], skeleton=SKELETONS["smplh"]) for n in (20, 13)]
    module = SMPLify3D(str(path), "quick")
    for together, motion in zip(module.fit(collate(motions)), motions, strict=True):
        (alone,) = module.fit(collate([motion]))
        torch.testing.assert_close(together.thetas, alone.thetas, atol=2e-3, rtol=0)


def test_adapted_bones_and_shapes_by_frame_keep_their_fingers(body, joints):
    for options in ({"adapt_skeleton": True}, {"preset": "reference"}):
        found = fit(joints[:12], body=body, **options)
        assert joint_errors_mm(fitted_joints(found), joints[:12])[:, 22:].mean() < 4


# files


def test_the_files_of_a_fit_with_fingers(tmp_path, body, result):
    """AMASS's 156 numbers split as smplx takes them; a GLB of 52 moving joints; MDM's 24 rows, fingers in the mesh."""
    export(result, tmp_path, ["npz", "glb", "smpl_params", "bvh", "hik", "qpos"])
    name, expected = result.motion.name, fitted_joints(result)
    with np.load(tmp_path / f"{name}.npz") as file:
        poses, betas, transl = (torch.from_numpy(file[key]) for key in ("poses", "betas", "trans"))
        assert file["joints"].shape == (FRAMES, 22, 3) and file["joints_input"].shape == (FRAMES, 52, 3)
    split = dict(zip(("global_orient", "body_pose", "left", "right"), poses.split((3, 63, 45, 45), 1), strict=True))
    thetas = torch.cat([part.unflatten(1, (-1, 3)) for part in split.values()], 1)
    torch.testing.assert_close(body.joints(betas, thetas, transl), expected, atol=1e-6, rtol=0)
    doc = pygltflib.GLTF2().load_binary(str(tmp_path / f"{name}.glb"))
    np.testing.assert_allclose(world_matrices(doc, 30)[:52, :3, 3], expected[30], atol=1e-5)
    assert np.abs(skinned(doc, 30) - result.vertices()[30].numpy()).max() < 1e-3
    params = np.load(tmp_path / f"{name}_smpl_params.npy", allow_pickle=True).item()
    assert params["thetas"].shape == (24, 6, FRAMES) and params["motion"].shape == (25, 6, FRAMES)
    np.testing.assert_allclose(params["vertices"][..., 30], result.vertices()[30].numpy(), atol=1e-6)


def test_rot2xyz_takes_all_joints_of_a_body(body, result):
    found = rot2xyz(result.rot6d, result.betas, result.transl, body)
    torch.testing.assert_close(found, fitted_joints(result), atol=1e-5, rtol=0)


def test_the_command_resumes_evaluates_and_converts(tmp_path, path, joints, capsys):
    np.save(tmp_path / "wave.npy", joints[:10])
    options = (tmp_path / "wave.npy", "--out", tmp_path / "out", "--body", path, *FAST)
    assert command(*options) == 0
    assert "Fingers were left out" not in capsys.readouterr().out
    assert report(tmp_path / "out")["clips"][0]["finger_error_mm"] < 1
    assert command(*options, "--resume") == 0 and "1 of 1 clips are done already" in capsys.readouterr().out
    written, moved = str(tmp_path / "out" / "wave.npz"), str(tmp_path / "moved")
    assert main(["evaluate", written, "--body", str(path), "--json", str(tmp_path / "e.json")]) == 0
    assert '"finger_error_mm": 0.' in (tmp_path / "e.json").read_text()
    assert main(["convert", written, "--to", "npz,bvh", "--out", moved, "--body", str(path)]) == 0
    with np.load(written) as file, np.load(tmp_path / "moved" / "wave.npz") as again:
        np.testing.assert_allclose(again["poses"], file["poses"], atol=1e-6)
    assert "left_thumb3" in (tmp_path / "moved" / "wave.bvh").read_text()


def test_the_command_says_once_that_fingers_were_left_out(tmp_path, joints, capsys):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", joints[:10])
    assert command(tmp_path / "a.npy", tmp_path / "b.npy", "--out", tmp_path / "out", *FAST) == 0
    assert capsys.readouterr().out.count("Fingers were left out") == 1
    assert all("Fingers were left out" in clip["message"] for clip in report(tmp_path / "out")["clips"])


# a recording


def test_the_fingers_of_a_recording_point_as_its_joints_do(reference, body):
    """AMASS's hands on another body: bones of other lengths, which point the same way within a degree."""
    given = np.load(reference / "data" / "humanml3d" / "000021" / "joints52.npy")[:40].astype(np.float32)
    found = fit(given, body=body)
    parents = [SKELETONS["smplh"].parents[22 + i] for i in range(30) if i % 3]
    children = [22 + i for i in range(30) if i % 3]
    ours, theirs = fitted_joints(found), torch.from_numpy(given)
    ways = [normalize(joints[:, children] - joints[:, parents], dim=-1) for joints in (ours, theirs)]
    assert torch.rad2deg((ways[0] * ways[1]).sum(-1).clamp(-1, 1).acos()).max() < 1
    assert excess_degrees(found).max() < 0.1 and len(SMPL_PARENTS) < found.thetas.shape[1] == 22 + len(FINGERS)
