"""Files with holes, from the command line to the files written: what was seen is fitted as before, gaps are named."""

import numpy as np
import pytest

from fitting import fit as fit_array
from fitting.cli import main
from fitting.data import load_motions
from fitting.resample import resample
from models.body import BodyModel
from models.errors import InputError
from tests.known import known_cuts
from tests.runs import fit, keyed_joints, report

LEGS = [1, 2, 4, 5, 7, 8, 10, 11]
CAREFUL = ("--formats", "npz", "--device", "cpu")


def broken(joints: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """30 % missing at random, legs hidden for 1 s, one joint 5 m off in 10 % of frames; and what was left alone."""
    rng = np.random.default_rng(seed)
    frames = len(joints)
    hidden = rng.random(joints.shape[:2]) < 0.3
    start = rng.integers(10, frames - 30)
    hidden[start : start + 20, LEGS] = True
    wild = np.zeros_like(hidden)
    wild[rng.choice(frames, frames // 10, replace=False), rng.integers(0, 22, frames // 10)] = True
    away = rng.normal(size=joints.shape)
    out = joints + np.where(wild[..., None], 5 * away / np.linalg.norm(away, axis=-1, keepdims=True), 0)
    out[hidden] = np.nan
    return out.astype(np.float32), ~hidden & ~wild


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return keyed_joints(80)


@pytest.fixture(scope="module")
def holes(tmp_path_factory, walk):
    """The output folder of a fit of a broken walk, and what of its joints was left alone (80, 22)."""
    folder = tmp_path_factory.mktemp("holes")
    joints, good = broken(walk, 0)
    np.save(folder / "walk.npy", joints)
    assert fit(folder / "walk.npy", "--out", folder / "out", *CAREFUL) == 0
    return folder / "out", good


def test_known_cuts_with_holes_are_fitted_as_well_as_before(reference, tmp_path):
    """The engine's promise, kept through files: what was seen is at most 3 mm farther off than without any hole."""
    body = BodyModel.load()
    cuts = known_cuts(reference, body)[::7]
    good = {}
    for i, cut in enumerate(cuts):
        truth = body.joints(cut.betas, cut.thetas, cut.transl)[:, :22].numpy()
        joints, good[cut.name] = broken(truth, i)
        for kind, values in (("whole", truth), ("broken", joints)):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"{cut.name}.npy", values)
    for kind in ("whole", "broken"):
        assert fit(tmp_path / kind, "--out", tmp_path / f"{kind}_fit", *CAREFUL) == 0
    for name, seen in good.items():
        truth = np.load(tmp_path / "whole" / f"{name}.npy")
        arrays = {kind: np.load(tmp_path / f"{kind}_fit" / f"{name}.npz") for kind in ("whole", "broken")}
        errors = {
            kind: 1000 * np.linalg.norm(npz["joints"] - truth, axis=-1)[seen].mean() for kind, npz in arrays.items()
        }
        assert errors["broken"] < errors["whole"] + 3
        assert all(np.isfinite(arrays["broken"][key]).all() for key in ("poses", "trans", "betas", "joints"))
        np.testing.assert_array_equal(arrays["broken"]["filled"], ~seen)


def test_the_report_names_the_gaps(holes):
    folder, good = holes
    (clip,) = report(folder)["clips"]
    assert clip["status"] == "converged" and clip["unseen_joints"] == (~good).sum()
    assert clip["mpjpe_mm"] < 3 and clip["max_joint_error_mm"] < 100  # of what was seen: the wild joints are 5 m off
    assert len(clip["gaps"]) == 22
    knee = next(line for line in clip["gaps"] if line.startswith("left_knee: "))
    assert knee.startswith(f"left_knee: {(~good[:, 4]).sum()} of 80 frames") and clip["longest_gap_seconds"] >= 1
    longest = max(map(len, "".join("x" if hidden else "." for hidden in ~good[:, 4]).split(".")))
    assert f"the longest gap {longest / 20:.2f} s" in knee
    assert sum("metres off" in line for line in clip["gaps"]) > 3


def test_a_whole_clip_has_no_gaps(tmp_path, walk):
    np.save(tmp_path / "walk.npy", walk[:12])
    fit(tmp_path / "walk.npy", "--out", tmp_path / "out", "--preset", "quick", *CAREFUL)
    (clip,) = report(tmp_path / "out")["clips"]
    assert (clip["unseen_joints"], clip["longest_gap_seconds"], clip["gaps"]) == (0, 0, [])


def test_the_npz_keeps_the_holes_marks_the_filled_and_is_read_again(holes, capsys):
    folder, good = holes
    npz = np.load(folder / "walk.npz")
    np.testing.assert_array_equal(npz["filled"], ~good)
    assert np.isnan(npz["joints_input"]).any() and not np.isnan(npz["joints"]).any()
    (motion,), failures = load_motions(folder / "walk.npz")
    assert not failures and (motion.seen == good).all()
    assert main(["evaluate", str(folder)]) == 0
    (clip,) = report(folder)["clips"]
    assert f"{clip['mpjpe_mm']:.1f}" in capsys.readouterr().out.split("joint error (MPJPE), mm")[1].split("\n")[0]


def test_at_another_rate_what_touches_a_hole_is_filled(walk):
    joints = walk[:21].copy()
    joints[10, 20] = np.nan
    result = resample(fit_array(joints, preset="quick", confidence=np.full((21, 22), 0.5)), 40)
    assert np.flatnonzero(~result.motion.seen[:, 20]).tolist() == [19, 20, 21]
    assert result.motion.confidence.shape == (41, 22) and result.joints().isfinite().all()


# confidence


def test_confidence_zero_is_unseen_in_every_form(tmp_path, walk):
    """A fourth number, a key of an npz or beside MDM's motion; what stands where nothing was seen does not matter."""
    sure = np.random.default_rng(0).choice([0.0, 0.5, 1.0], walk.shape[:2], p=[0.2, 0.3, 0.5])
    joints = np.where(sure[..., None] > 0, walk, 0)
    np.save(tmp_path / "four.npy", np.concatenate((joints, sure[..., None]), -1))
    np.savez(tmp_path / "key.npz", joints=joints, confidence=sure)
    np.save(
        tmp_path / "mdm.npy", {"motion": joints.transpose(1, 2, 0)[None], "confidence": sure[None], "lengths": [70]}
    )
    motions, failures = load_motions([tmp_path / name for name in ("four.npy", "key.npz", "mdm.npy")])
    assert not failures
    for motion in motions:
        np.testing.assert_allclose(motion.confidence, sure[: motion.length])
        np.testing.assert_array_equal(np.isnan(motion.joints).any(-1), sure[: motion.length] == 0)
    assert motions[2].length == 70


def test_quaternions_are_not_taken_for_joints_with_confidence(tmp_path):
    rows = np.random.default_rng(0).normal(size=(9, 22, 4))
    np.save(tmp_path / "turns.npy", rows / np.linalg.norm(rows, axis=-1, keepdims=True))
    _, (failure,) = load_motions(tmp_path / "turns.npy")
    assert "rotations without the root's path" in failure.message


def test_a_joint_of_low_confidence_pulls_less(walk):
    """A wrist held 20 cm off: the less it is trusted, the nearer the fit is to the truth."""
    joints, errors = walk.copy(), []
    joints[:, 20, 1] += 0.2
    for trust in (1.0, 0.3, 0.05):
        sure = np.ones(walk.shape[:2])
        sure[:, 20] = trust
        result = fit_array(joints, confidence=sure)
        errors.append(np.linalg.norm(result.joints().numpy() - walk, axis=-1)[:, [18, 20]].mean())
    assert errors[2] < errors[1] < errors[0]
    with pytest.raises(InputError, match=r"confidence has shape \(80,\)"):
        fit_array(joints, confidence=np.ones(80))


# far away, frame rates


def test_ten_kilometres_from_the_origin_nothing_is_lost(tmp_path, walk):
    place = np.array([10_000.0, 20, -7_000])
    np.save(tmp_path / "far.npy", walk + place)
    np.save(tmp_path / "near.npy", walk)
    (tmp_path / "alone").mkdir()
    np.save(tmp_path / "alone" / "near.npy", walk)
    fit(tmp_path / "far.npy", tmp_path / "near.npy", "--out", tmp_path / "out", *CAREFUL)
    far, near = (np.load(tmp_path / "out" / name / f"{name}.npz") for name in ("far", "near"))
    np.testing.assert_allclose(far["joints"] - place, near["joints"], atol=1e-5)
    np.testing.assert_allclose(far["joints_input"] - place, walk, atol=1e-9)
    assert near["joints"].dtype == np.float32 and far["trans"].dtype == np.float64


@pytest.mark.parametrize("fps", ["0", "-5", "nan", "20000", "fast"])
def test_a_rate_that_is_none_is_refused(tmp_path, walk, fps, capsys):
    np.save(tmp_path / "walk.npy", walk[:5])
    assert fit(tmp_path / "walk.npy", "--out", tmp_path / "out", f"--fps={fps}") == 2
    message = capsys.readouterr().err
    assert fps in message and ("frames a second" in message or "float" in message)
    assert not (tmp_path / "out").exists()


# never seen


@pytest.mark.parametrize(
    "hidden, most_mm",
    [([0, 1, 2], 12), ([4, 5, 7, 8, 10, 11], 400), ([12, 13, 14, 15, 16], 60)],
    ids=["hips", "legs", "left"],
)
def test_joints_that_a_clip_never_shows_are_the_bodys_and_the_priors(walk, hidden, most_mm):
    joints = walk.copy()
    joints[:, hidden] = np.nan
    result = fit_array(joints)
    error = 1000 * np.linalg.norm(result.joints().numpy() - walk, axis=-1)
    shown = [joint for joint in range(22) if joint not in hidden]
    assert result.status == "converged" and error[:, shown].mean() < 2
    assert error[:, hidden].mean() < most_mm and result.report["unseen_joints"] == 80 * len(hidden)


def test_a_clip_may_begin_and_end_unseen(walk):
    joints = walk.copy()
    joints[:20], joints[70:] = np.nan, np.nan
    result = fit_array(joints)
    assert result.thetas.isfinite().all() and result.transl.isfinite().all()
    assert 1000 * np.linalg.norm(result.joints().numpy() - walk, axis=-1)[20:70].mean() < 2
    assert result.report["gaps"][0] == "pelvis: 30 of 80 frames; the longest gap 1.00 s (frames 0-19)"
