"""Joints of other skeletons: placed where the body at rest would have them, fitted as well as the 22 are, and read."""

import numpy as np
import pytest
import torch

from fitting.cli import main
from fitting.data import Motion, collate, group, load_motions
from fitting.metrics import joint_errors_mm
from fitting.observed import arrange, as_smpl, place_unseen
from fitting.rig import Rig
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.rotations import axis_angle_to_matrix
from models.skeleton import BODY, SKELETONS
from tests.bodies import smplh_arrays, write_official
from tests.runs import fit, report
from tests.skeletons import joints_of

FRAMES = slice(0, 120, 3)
YAML = """
fps: 60
unit: 0.01
up: z
joints:
  Hips: pelvis
  LeftThigh: left_hip
  LeftShin: left_knee
  LeftFoot: left_ankle
  RightThigh: right_hip
  RightShin: right_knee
  RightFoot: right_ankle
  Cape: null
  LeftArm: left_shoulder
  LeftForeArm: left_elbow
  LeftHand: left_wrist
  RightArm: right_shoulder
  RightForeArm: right_elbow
  RightHand: right_wrist
  Skull: head_top
"""


@pytest.fixture(scope="module")
def walk() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    truth = walk_and_pick_up()
    return truth.betas, truth.thetas[FRAMES], truth.transl[FRAMES]


@pytest.fixture(scope="module")
def joints(walk) -> np.ndarray:
    return BodyModel.load().joints(*walk)[:, :22].numpy()


def fitted_errors(motion: Motion, truth: np.ndarray, body: str | None = None) -> np.ndarray:
    """Distances in mm of the fit's 22 joints from the truth, (frames, 22)."""
    (result,) = SMPLify3D(body).fit(collate([motion]))
    assert result.status == "converged"
    return joint_errors_mm(result.joints(), truth)


# arranging and placing


def test_arrange_puts_joints_in_order_and_marks_the_absent():
    values = torch.arange(21.0)[:, None].expand(2, 3, 21, 3)
    out = arrange(values, SKELETONS["kit"], (*BODY, "mid_hip"), -1.0)
    assert out.shape == (2, 3, 23, 3)
    assert out[1, 2, :, 0].tolist() == [
        -1, 16, 11, 1, 17, 12, -1, 18, 13, 2, 20, 15, 3, -1, -1, 4, 8, 5, 9, 6, 10, 7, 0,
    ]  # fmt: skip
    assert np.isnan(as_smpl(np.ones((4, 17, 3)), SKELETONS["h36m"])[0, :, 0]).sum() == 9


def test_a_body_at_rest_is_completed_exactly():
    """Whatever was never seen of somebody at rest comes back from a trunk that was turned and moved."""
    rig = Rig(BodyModel.load(dtype=torch.float64), tuple(range(22)), points=("mid_hip", "nose"))
    turn = axis_angle_to_matrix(torch.tensor([[0.3, 2.0, -0.4], [1.0, 0.1, 0.2]], dtype=torch.float64))
    truth = (rig.rest_template @ turn.mT + torch.tensor([3.0, 1, 0]))[None]
    for seen_joints in ([1, 2, 16, 17], [1, 16, 17, 4, 20, 22]):
        seen = torch.zeros(1, 2, 24, dtype=torch.bool)
        seen[:, :, seen_joints] = True
        placed, known = place_unseen(torch.where(seen[..., None], truth, torch.nan), seen, rig)
        assert known.all()
        torch.testing.assert_close(placed, truth)


def test_what_is_seen_in_some_frame_is_left_to_the_bridge():
    rig = Rig(BodyModel.load(), tuple(range(22)))
    points = rig.rest_template.expand(1, 3, 22, 3).clone()
    seen = torch.ones(1, 3, 22, dtype=torch.bool)
    seen[0, 1, 5], seen[0, :, 7], seen[0, 2, :17] = False, False, False
    points[~seen] = torch.nan
    placed, known = place_unseen(points, seen, rig)
    assert not known[0, 1, 5] and known[0, :2, 7].all() and not known[0, 2, 7]
    assert place_unseen(rig.rest_template.expand(1, 3, 22, 3), torch.ones_like(seen), rig)[1].all()
    assert placed[seen].isfinite().all()


# fitting


@pytest.mark.parametrize(
    "name, shown_mm, other_mm", [("smpl", 1, 0), ("kit", 1.5, 5), ("body25", 2, 20), ("h36m", 2, 30)]
)
def test_a_known_walk_comes_back_from_other_skeletons(tmp_path, walk, joints, name, shown_mm, other_mm):
    skeleton = SKELETONS[name]
    np.save(tmp_path / "walk.npy", joints_of(BodyModel.load(), skeleton, *walk))
    (motion,), failures = load_motions(tmp_path / "walk.npy", skeleton=name, fps=20 / 3)
    assert not failures and not motion.notes and motion.skeleton == skeleton.fitted()
    error = fitted_errors(motion, joints).mean(0)
    shown = [joint in skeleton.shows for joint in BODY]
    assert error[shown].mean() < shown_mm and (all(shown) or error[~np.array(shown)].mean() < other_mm)


def test_hands_are_turned_as_their_knuckles_show(tmp_path, walk):
    """A body with fingers under SMPL-H's 52 joints: wrists, which 22 joints do not show, follow the knuckles."""
    path = write_official(tmp_path / "smplh.npz", smplh_arrays())
    body = BodyModel.load(path)
    betas, thetas, transl = walk[0], walk[1].clone(), walk[2]
    thetas[:, 20] = torch.tensor([0.5, 0.3, -0.4])
    truth = body.joints(betas, thetas, transl)
    np.save(tmp_path / "walk.npy", truth.numpy())
    (motion,), _ = load_motions(tmp_path / "walk.npy")
    assert motion.skeleton.name == "smplh" and not motion.notes
    (result,) = SMPLify3D(str(path)).fit(collate([motion]))
    knuckles = [22 + 3 * i for i in range(10)]
    assert joint_errors_mm(body.joints(result.betas, result.thetas, result.transl), truth)[:, knuckles].mean() < 4


# files


def test_a_users_own_skeleton(tmp_path, joints):
    """Names, order, centimetres, z up and 60 fps of a YAML file; a joint that shows nothing may hold anything."""
    (tmp_path / "rig.yaml").write_text(YAML)
    order = [0, 1, 4, 7, 2, 5, 8, 0, 16, 18, 20, 17, 19, 21, 15]
    x, y, z = joints[:, order].T
    theirs = 100 * np.stack((x, -z, y)).T
    theirs[:, 7] = 12345
    np.save(tmp_path / "walk.npy", theirs)
    (motion,), failures = load_motions(tmp_path / "walk.npy", skeleton=str(tmp_path / "rig.yaml"))
    assert not failures and motion.fps == 60 and motion.skeleton.joints[-1] == "Skull"
    assert motion.skeleton.name == "rig" and "Cape" not in motion.skeleton.joints
    np.testing.assert_allclose(motion.joints, joints[:, order[:7] + order[8:]], atol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        (("pelvis", "belly"), "belly is none of pelvis, left_hip"),
        (("left_knee", "left_hip"), "left_hip stands there twice"),
        (("right_shoulder", "null"), "no joint shows right_shoulder"),
        (("unit: 0.01", "unit: cm"), "unit should be a number above 0; it is 'cm'"),
        (("up: z", "up: up"), "up 'up' is unknown"),
        (("fps: 60", "rate: 60"), "expected the keys joints, unit, fps, up"),
        (("joints:", "joints: ["), "cannot be read as YAML"),
    ],
)
def test_a_skeleton_file_that_is_none_says_why(tmp_path, change, words):
    (tmp_path / "rig.yaml").write_text(YAML.replace(*change))
    with pytest.raises(InputError, match=words):
        load_motions("walk.npy", skeleton=str(tmp_path / "rig.yaml"))


def test_numbers_of_joints_that_several_conventions_have_ask_for_a_name(tmp_path):
    for count, name in ((25, "body25"), (17, "h36m")):
        np.save(tmp_path / "clip.npy", np.ones((4, count, 3)))
        _, (failure,) = load_motions(tmp_path / "clip.npy")
        assert f"--skeleton {name}" in failure.message and "FILE.yaml" in failure.message


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_kits_people_of_a_metre_and_its_two_names_of_sides(tmp_path, walk, scale):
    """KIT-ML scales people to 1 m; its sides are called one way by MMM and the other by HumanML3D's code."""
    kit = SKELETONS["kit"]
    theirs = joints_of(BodyModel.load(), kit.swapped(), *walk) * np.float32(scale)
    np.save(tmp_path / "walk.npy", theirs)
    (motion,), _ = load_motions(tmp_path / "walk.npy")
    assert motion.fps == 12.5 and motion.skeleton == kit.fitted().swapped()
    assert [note.split()[0] for note in motion.notes] == (["KIT-ML's"] if scale < 1 else []) + ["Joints"]
    enlarged = scale * (0.75 / 480 * 1000 if scale < 1 else 1)
    expected = enlarged * BodyModel.load().joints(*walk)[:, 18].numpy()
    np.testing.assert_allclose(motion.joints[:, motion.skeleton.shows.index("left_elbow")], expected, atol=1e-5)


def test_kits_reference_clip(reference, tmp_path):
    golden = np.load(reference / "golden" / "kit_features.npz")
    np.save(tmp_path / "clip.npy", golden["official_features"])
    (motion,), failures = load_motions(tmp_path / "clip.npy")
    np.testing.assert_allclose(motion.joints, golden["rec_joints"][:, SKELETONS["kit"].used] / 1000, atol=5e-4)
    assert not failures and (motion.fps, motion.skeleton.name) == (12.5, "kit")


def test_skeletons_are_never_mixed_in_a_batch(joints):
    clips = [Motion(f"{i}", joints=joints[:, :22]) for i in range(2)]
    clips[1].skeleton = SKELETONS["body25"].fitted()  # of as many joints
    assert sorted(len(members) for members in group(clips, 1000)) == [1, 1]


def test_a_file_may_name_its_skeleton(tmp_path, walk, joints, capsys):
    """`skeleton` in an npz, and what a fit of it writes: evaluate and a second fit know which joints they were."""
    body25 = SKELETONS["body25"]
    np.savez(tmp_path / "walk.npz", joints=joints_of(BodyModel.load(), body25, *walk), skeleton="body25", fps=20 / 3)
    assert fit(tmp_path / "walk.npz", "--out", tmp_path / "out", "--formats", "npz", "--device", "cpu") == 0
    (again,), failures = load_motions(tmp_path / "out" / "walk.npz")
    assert not failures and (again.skeleton.name, again.skeleton.shows) == ("body25", body25.fitted().shows)
    assert main(["evaluate", str(tmp_path / "out")]) == 0
    (clip,) = report(tmp_path / "out")["clips"]
    assert clip["mpjpe_mm"] < 2 and clip["foot_skate_ratio_in"] is None  # its feet are landmarks, not joints 10 and 11
    assert f"{clip['mpjpe_mm']:.1f}" in capsys.readouterr().out.split("joint error (MPJPE), mm")[1].split("\n")[0]
