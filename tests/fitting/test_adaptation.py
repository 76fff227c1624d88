"""Bones fitted with the pose: people outside the shape space come back, people inside it stay, and files carry them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fitting import Stream, fit
from fitting.adaptation import DEVIATION, FAR, adaptable, directions
from fitting.data import Motion, load_motions
from fitting.evaluate import evaluate
from fitting.layer import fit_layer
from fitting.result import FitResult
from fitting.smplify3d import SMPLify3D
from fitting.tracks import Bodies, read_track
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.proportions import adapted, bone_factors, bone_offsets
from models.safe_pickle import load_npy
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS
from tests.fits import smooth_fit
from tests.fitting.test_glb import skinned, written
from tests.runs import FAST, report
from tests.runs import fit as run

CUT = slice(40, 80)  # of the keyed walk


def stranger(seed: int = 0) -> BodyModel:
    """The embedded body with bones that no betas give, some 25 % longer or shorter."""
    body = BodyModel.load()
    ways = directions(body)
    changes = 1.2 * torch.randn(ways.shape[-1], generator=torch.Generator().manual_seed(seed)).clamp(-1.5, 1.5)
    return adapted(body, ways @ changes)


def walk(body: BodyModel) -> FitResult:
    """Frames of the keyed walk on a body, as the truth of a fit."""
    truth = walk_and_pick_up()
    thetas, transl = truth.thetas[CUT].float(), truth.transl[CUT].float()
    joints = body.joints(truth.betas.float(), thetas, transl)[:, :22].numpy()
    return FitResult(thetas, truth.betas.float(), transl, body, Motion("walk", "walk.npy", joints=joints))


def distance_mm(one: torch.Tensor, other: torch.Tensor) -> float:
    return 1000 * float((one - other).detach().norm(dim=-1).mean())


@pytest.fixture(scope="module")
def truth() -> FitResult:
    return walk(stranger())


@pytest.fixture(scope="module")
def result(truth) -> FitResult:
    return fit(truth.motion.joints, adapt_skeleton=True)


def test_directions_are_lengths_and_free_only_where_no_pose_reaches():
    body = BodyModel.load()
    ways, bones = directions(body), bone_offsets(body, torch.zeros(body.num_betas))
    assert ways.shape == (22, 3, 19)
    moved = ways.norm(dim=1) > 0  # (22, 19)
    assert (moved.sum(1)[[1, 2, 3, 12, 13, 14]] == torch.tensor([3, 3, 2, 2, 3, 3])).all()
    siblings = [SMPL_PARENTS[:22].count(parent) for parent in SMPL_PARENTS[:22]]
    for joint in [j for j in range(1, 22) if siblings[j] == 1]:
        [way] = ways[joint, :, moved[joint]].T
        torch.testing.assert_close(way, DEVIATION * bones[joint])
    for left in (j for j, name in enumerate(SMPL_JOINTS[:22]) if name.startswith("left")):
        right = SMPL_JOINTS.index(SMPL_JOINTS[left].replace("left", "right"))
        mirrored = ways[left] * torch.tensor([[-1.0], [1.0], [1.0]])
        torch.testing.assert_close(ways[right], mirrored, atol=2e-3, rtol=0)  # as far as the body is symmetric


def test_coefficients_move_skeleton_and_mesh_as_the_bones_they_stand_for():
    body, motion = BodyModel.load(), smooth_fit(3)
    changes = torch.randn(19, generator=torch.Generator().manual_seed(1))
    linear, person = adaptable(body), adapted(body, directions(body) @ changes)
    both = torch.cat((motion.betas, changes))
    for of in ("joints", "vertices"):
        found = getattr(linear, of)(both, motion.thetas, motion.transl)
        torch.testing.assert_close(found, getattr(person, of)(motion.betas, motion.thetas, motion.transl))


def test_a_stranger_comes_back(truth, result):
    plain = distance_mm(fit(truth.motion.joints).joints(), truth.joints())
    assert plain > 8
    assert distance_mm(result.joints(), truth.joints()) < 2.5
    assert distance_mm(result.vertices(), truth.vertices()) < 30
    lengths = [bone_offsets(r.body, r.betas).norm(dim=1)[1:] for r in (result, truth)]
    assert (lengths[0] - lengths[1]).abs().max() < 0.02
    assert result.body.name == "mh_neutral" and result.betas.shape == (10,)


@pytest.mark.parametrize("noise, more_mm", [(0.0, 0.3), (0.04, 1.0)])
def test_somebody_of_the_shape_space_keeps_the_bones_and_the_skin(noise, more_mm):
    true = walk(BodyModel.load())
    joints = true.motion.joints + noise * np.random.default_rng(0).standard_normal(true.motion.joints.shape)
    plain, free = (fit(joints, adapt_skeleton=adapt) for adapt in (False, True))
    vertices, more = (distance_mm(r.vertices(), true.vertices()) for r in (plain, free))
    assert more < vertices + more_mm
    assert distance_mm(free.joints(), true.joints()) < distance_mm(plain.joints(), true.joints()) + more_mm
    assert max(abs(factor - 1) for factor in free.bone_factors.values()) < FAR
    assert plain.bone_factors is None and plain.body.joint_offsets is None


def test_clips_of_a_batch_have_their_own_bones():
    joints = np.stack([walk(stranger(seed)).motion.joints for seed in (1, 2)])
    together = fit(joints, preset="quick", adapt_skeleton=True)
    for one, clip in zip(together, joints, strict=True):
        alone = fit(clip, preset="quick", adapt_skeleton=True)
        torch.testing.assert_close(one.body.joint_offsets, alone.body.joint_offsets, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.joints(), alone.joints(), atol=1e-4, rtol=0)


def test_far_bones_are_listed_and_named(result):
    entry = result.report
    assert entry["bone_factors"] == bone_factors(result.body, result.betas)
    far = {name for name, factor in entry["bone_factors"].items() if abs(factor - 1) > FAR}
    assert far and all(f"{name} x{entry['bone_factors'][name]:.2f}" in entry["message"] for name in far)
    near = set(SMPL_JOINTS[1:22]) - far
    assert not any(f"{name} x" in entry["message"] for name in near)
    assert len(entry["betas"]) == 10


def test_the_npz_gives_the_joints_and_the_mesh_again(truth, result, tmp_path):
    [path] = result.save(tmp_path / "walk", ("npz",))
    with np.load(path) as file:
        data = dict(file)
    assert data["bone_names"].tolist() == list(result.bone_factors) and data["betas"].shape == (10,)
    np.testing.assert_allclose(data["bone_factors"], list(result.bone_factors.values()), rtol=1e-6)
    betas, thetas, transl, offsets = (torch.tensor(data[key]) for key in ("betas", "poses", "trans", "joint_offsets"))
    body = adapted(BodyModel.load(), offsets)
    thetas = thetas.unflatten(1, (24, 3))
    assert np.abs(body.joints(betas, thetas, transl)[:, :22].numpy() - data["joints"]).max() < 1e-5
    torch.testing.assert_close(body.vertices(betas, thetas, transl), result.vertices(), atol=1e-5, rtol=0)
    blind = BodyModel.load().joints(betas, thetas, transl)[:, :22]
    assert distance_mm(blind, truth.joints()) > 20  # what a reader gets who leaves the bones out


def test_evaluate_measures_the_adapted_mesh(truth, result, tmp_path):
    [fitted], [true] = result.save(tmp_path / "fit", ("npz",)), truth.save(tmp_path / "truth", ("npz",))
    bodies = Bodies(None)
    entry = evaluate(*(read_track(path.stem, path, bodies, True) for path in (fitted, true)))
    assert not bodies.missing and entry["sole_height_mm"] is not None
    expected = distance_mm(result.vertices(), truth.vertices())
    assert entry["truth"]["vertex_error_mm"] == pytest.approx(expected, rel=1e-3)


def test_smpl_params_are_read_back_with_their_bones(result, tmp_path):
    [path] = result.save(tmp_path / "walk", ("smpl_params",))
    np.testing.assert_allclose(load_npy(path)["joint_offsets"], result.body.joint_offsets)
    [motion], failures = load_motions(path)
    again = FitResult.from_rotations(motion, BodyModel.load())
    assert not failures
    torch.testing.assert_close(again.vertices(), result.vertices(), atol=1e-4, rtol=0)


def test_the_glb_has_skeleton_and_skin_built_in(result, tmp_path):
    doc = written(result, tmp_path)
    offsets = np.array([node.translation for node in doc.nodes[1:22]])
    np.testing.assert_allclose(offsets, bone_offsets(result.body, result.betas)[1:], atol=1e-6)
    np.testing.assert_allclose(doc.scenes[0].extras["joint_offsets"], result.body.joint_offsets, atol=1e-7)
    for key in (0, result.length - 1):
        np.testing.assert_allclose(skinned(doc, key), result.vertices()[key], atol=1e-5)


def test_broken_bones_in_a_file_are_refused(result, tmp_path):
    [path] = result.save(tmp_path / "walk", ("smpl_params",))
    content = load_npy(path) | {"joint_offsets": np.full((22, 3), np.nan)}
    np.save(path, np.array(content, dtype=object))
    motions, [failure] = load_motions(path)
    assert not motions and "`joint_offsets` should be numbers (22, 3)" in failure.message


def test_another_clip_of_the_same_person_keeps_the_bones(truth, result):
    """The adapted body serves as any other: for a fit, for a stream; adapted once more it is not."""
    again = fit(truth.motion.joints[20:], body=result.body)
    assert again.body is result.body and distance_mm(again.joints(), truth.joints()[20:]) < 3
    stream = Stream(body=result.body)
    errors = [stream(frame).error for frame in truth.motion.joints]
    assert 1000 * np.mean(errors[10:]) < 4
    with pytest.raises(InputError, match="adapted bones already"):
        fit(truth.motion.joints, body=result.body, adapt_skeleton=True)


def test_one_shape_a_frame_is_refused():
    with pytest.raises(InputError, match="preset 'reference' has one a frame; try careful"):
        SMPLify3D(preset="reference", adapt_skeleton=True)


def test_the_layer_differentiates_the_bones_too(truth):
    """Its betas are then those of the adaptable body."""
    fitter = SMPLify3D(preset="quick", adapt_skeleton=True).double()
    joints = torch.from_numpy(truth.motion.joints[:3]).double()[None].requires_grad_()
    thetas, betas, transl = fit_layer(joints, module=fitter)
    assert betas.shape == (1, 29)
    assert distance_mm(adaptable(fitter.body).joints(betas, thetas, transl)[..., :22, :], joints) < 3
    torch.autograd.gradcheck(lambda x: fit_layer(x, module=fitter), joints, eps=1e-5, atol=1e-4, fast_mode=True)


def test_the_command_adapts_and_resumes(truth, tmp_path, capsys):
    source, out = tmp_path / "walk.npy", tmp_path / "out"
    np.save(source, truth.motion.joints)
    assert run(source, "--out", out, *FAST, "--adapt-skeleton") == 0
    [clip] = report(out)["clips"]
    assert clip["mpjpe_mm"] < 3 and len(clip["bone_factors"]) == 21
    low, high = min(clip["bone_factors"].values()), max(clip["bone_factors"].values())
    assert f"bones x{low:.2f} to x{high:.2f}" in capsys.readouterr().out
    assert run(source, "--out", out, *FAST, "--adapt-skeleton", "--resume") == 0
    assert "1 of 1 clips are done already" in capsys.readouterr().out
    assert run(source, "--out", out, *FAST, "--resume") == 0
    assert report(out)["clips"][0]["bone_factors"] is None


@pytest.mark.parametrize(
    "clip",
    [
        "mocap_bandai/joints/dataset-1_bow_sad_001",
        "mocap_bandai/joints/dataset-2_wave-left-hand_normal_001",
        "mocap_100style/joints/Angry_ID",
        "mocap_100style/joints/Chicken_FR",
    ],
)
def test_motion_capture_comes_within_5_mm(reference: Path, clip):
    joints = np.load(reference / "data" / f"{clip}.npy")[100:180:2]
    found = fit(joints, fps=10, adapt_skeleton=True)
    assert distance_mm(found.joints(), torch.tensor(joints)) < 5
    assert distance_mm(fit(joints, fps=10).joints(), torch.tensor(joints)) > 12
