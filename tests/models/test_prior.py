"""Pose prior: the shipped mixture is sound, symmetric and tells people from broken dolls; other files are refused."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from models.anatomy import LIMITS, SPREAD, mirrored, sided
from models.body import BodyModel
from models.errors import InputError
from models.keyed import sample
from models.prior import OWN_PRIOR, PosePrior, load_mean_params
from models.safe_pickle import load_pickle
from models.skeleton import SMPL_JOINTS
from models.tools import build_prior
from models.tools.build_prior import build, save
from models.tools.mixture import Mixture, fit_mirrored

UNSEEN_SEED = 5000  # the builder never uses it
KINDS = ("walk", "squat", "pick_up", "dance", "reach", "sit", "box", "crawl", "kneel", "turn")


@pytest.fixture(scope="module")
def prior() -> PosePrior:
    return PosePrior.load(dtype=torch.float64)


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    """Body poses (N, 23, 3) that the mixture has not seen."""
    clips = [sample(kind, UNSEEN_SEED, fps=5).thetas[:, 1:] for kind in KINDS]
    return torch.cat(clips).double()


def index(name: str) -> int:
    return SMPL_JOINTS.index(name) - 1


def test_shipped_mixture_is_sound(prior):
    assert prior.name == "pose_prior" and OWN_PRIOR.stat().st_size < 300_000
    assert prior.means.shape == (8, 69) and prior.covariances.shape == prior.precisions.shape == (8, 69, 69)
    assert prior.log_weights.exp().sum() == pytest.approx(1)
    assert torch.equal(prior.covariances, prior.covariances.mT)
    eigenvalues = torch.linalg.eigvalsh(prior.covariances)
    assert eigenvalues.min() > 0.05**2 and (eigenvalues[:, -1] / eigenvalues[:, 0]).max() < 500
    torch.testing.assert_close(prior.precisions @ prior.covariances, torch.eye(69).double().expand(8, -1, -1))


def test_mixture_and_limits_are_their_own_mirror_image(prior, poses):
    flat = poses.flatten(1)
    other = torch.as_tensor(mirrored(flat.numpy()))
    torch.testing.assert_close(prior.log_prob(flat), prior.log_prob(other))
    torch.testing.assert_close(torch.as_tensor(mirrored(prior.mean_pose.numpy())), prior.mean_pose)
    lowest, highest = (torch.as_tensor(mirrored(prior.limits[..., i].flatten().numpy())) for i in (0, 1))
    torch.testing.assert_close(torch.minimum(lowest, highest), prior.limits[..., 0].flatten())


def test_mean_pose_stands_relaxed_within_the_limits(prior):
    pose = prior.mean_pose.view(23, 3)
    assert ((pose > prior.limits[..., 0]) & (pose < prior.limits[..., 1])).all()
    assert pose[index("left_shoulder"), 2] < -0.7 and pose[index("right_shoulder"), 2] > 0.7, "arms down"
    assert pose[[index("left_hip"), index("left_knee")]].abs().max() < 0.2


def test_log_prob_is_that_of_the_mixture(prior):
    x = prior.mean_pose + 0.1
    parts = [
        torch.distributions.MultivariateNormal(m, covariance_matrix=c).log_prob(x)
        for m, c in zip(prior.means, prior.covariances, strict=True)
    ]
    expected = torch.logsumexp(prior.log_weights + torch.stack(parts), 0)
    torch.testing.assert_close(prior.log_prob(x), expected)


BROKEN = {
    "knees bend forwards": lambda p: p[:, index("left_knee") : index("right_knee") + 1].neg_(),
    "elbows bend backwards": lambda p: p[:, index("left_elbow") : index("right_elbow") + 1, 1].neg_(),
    "head turned round": lambda p: p[:, index("head")].copy_(torch.tensor([0, np.pi, 0])),
    "thigh turned about itself": lambda p: p[:, index("left_hip"), 1].add_(1.6),
    "hand turned round": lambda p: p[:, index("left_wrist"), 0].add_(np.pi),
    "feet turned back": lambda p: p[:, index("left_ankle"), 1].add_(np.pi),
    "joints shuffled": lambda p: p.copy_(p[:, torch.randperm(23, generator=torch.Generator().manual_seed(0))]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_people_are_likelier_than_broken_dolls(how, prior, poses):
    bent = poses[:, [index("left_knee"), index("right_knee")], 0].amin(1) > np.radians(30)
    bent &= poses[:, [index("left_elbow"), index("right_elbow")], 1].abs().amin(1) > np.radians(30)
    whole = poses[bent]
    broken = whole.clone()
    BROKEN[how](broken)
    assert len(whole) > 30
    assert (prior.log_prob(whole.flatten(1)) > prior.log_prob(broken.flatten(1)) + 1).float().mean() > 0.95


def test_hints_at_twist_but_leaves_swing_free(prior):
    """Given all else, turning thigh or upper arm about itself costs more than swinging it by the same angle."""
    conditional = prior.precisions.diagonal(dim1=1, dim2=2).rsqrt().view(-1, 23, 3)  # (K, 23, 3) radians
    assert conditional[:, index("left_hip"), 1].mean() < 0.25
    assert conditional[:, index("left_knee"), 1:].mean() < 0.12
    assert conditional[:, index("left_foot"), 1:].max() < 0.12


def test_reads_the_reference_form(reference: Path):
    given = PosePrior.load(reference / "golden" / "synthetic_gmm_08.pkl", dtype=torch.float64)
    assert given.name == "synthetic_gmm_08" and given.limits is None
    content = load_pickle(reference / "golden" / "synthetic_gmm_08.pkl")
    np.testing.assert_array_equal(given.means, content["means"])
    np.testing.assert_array_equal(given.covariances, content["covars"])
    np.testing.assert_allclose(given.log_weights.exp(), content["weights"] / content["weights"].sum())
    np.testing.assert_allclose(given.mean_pose, content["weights"] @ content["means"] / content["weights"].sum())


def test_precision_and_device_are_chosen_at_loading():
    assert PosePrior.load().means.dtype == torch.float32
    assert PosePrior.load().to(torch.float64).limits.dtype == torch.float64


def broken_file(folder: Path, **changes) -> Path:
    with np.load(OWN_PRIOR, allow_pickle=False) as file:
        content = dict(file) | changes
    path = folder / "prior.npz"
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "no weights"),
        ({"means": np.zeros((8, 63))}, r"\(8, 63\).*\(8,69\)"),
        ({"covars": -np.eye(69) * np.ones((8, 1, 1))}, "positive definite"),
        ({"covars": np.triu(np.ones((8, 69, 69))) + 69 * np.eye(69)}, "symmetric"),
        ({"weights": np.ones((8, 1))}, r"weights \(8, 1\)"),
        ({"means": np.array([["a"] * 69] * 8)}, "something else than numbers"),
        ({"weights": np.zeros(8)}, "must be positive"),
        ({"weights": np.full(8, np.nan)}, "not finite"),
        ({"limits": np.zeros((23, 3))}, r"\(23, 3, 2\)"),
    ],
)
def test_refuses_what_is_no_prior(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        PosePrior.load(broken_file(tmp_path, **changes))


def test_missing_and_foreign_files_say_what_would_work(tmp_path):
    with pytest.raises(InputError, match="no such prior file.*gmm_08.pkl"):
        PosePrior.load(tmp_path / "gmm.pkl")
    text = tmp_path / "prior.npz"
    text.write_text("not a prior")
    with pytest.raises(InputError, match="not a readable prior.*it starts with b'not a prior'.*gmm_08.pkl"):
        PosePrior.load(text)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(InputError, match="means, covars, weights"):
        PosePrior.load(tmp_path / "array.npy")


@pytest.mark.skipif(find_spec("h5py") is not None, reason="h5py is installed")
def test_mean_params_without_h5py_say_what_to_install(tmp_path):
    (tmp_path / "mean.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match="pip install h5py"):
        load_mean_params(tmp_path / "mean.h5")


def test_mean_params_in_a_file_of_another_kind(tmp_path):
    np.savez(tmp_path / "mean.npz", pose=np.zeros(72))
    with pytest.raises(InputError, match="no file of mean parameters.*zip.*pose .72,. and shape"):
        load_mean_params(tmp_path / "mean.npz")


def test_mean_params(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "mean.h5"
    with h5py.File(path, "w") as file:
        file["pose"], file["shape"] = np.arange(72.0), np.arange(10.0)
    pose, shape = load_mean_params(path)
    assert pose.shape == (72,) and pose[71] == 71 and shape.tolist() == list(range(10))
    with h5py.File(path, "w") as file:
        file["pose"], file["shape"] = np.arange(24.0), np.arange(10.0)
    with pytest.raises(InputError, match=r"\(24,\).*\(72,\)"):
        load_mean_params(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="not a readable file of mean parameters"):
        load_mean_params(path)


def swap(x: np.ndarray) -> np.ndarray:
    """A mirror of the plane: exchanges the two coordinates."""
    return x[..., ::-1]


def three_bumps() -> np.ndarray:
    """(3000, 2): one bump on the diagonal, one aside, whose mirror image is not among the data."""
    rng = np.random.default_rng(0)
    middle = rng.normal(size=(1500, 2)) * 0.3
    return np.concatenate([middle, rng.normal(size=(1500, 2)) * (0.5, 0.2) + (4, -1)])


def test_em_finds_the_mixture_that_made_the_data():
    x = three_bumps()
    found = fit_mirrored(x, swap, alone=1, pairs=1, prior=np.eye(2), shrink=0.0, seed=1)
    np.testing.assert_allclose(found.weights, [0.5, 0.25, 0.25], atol=0.01)
    aside = found.means[1:][found.means[1:, 0].argmax()]
    np.testing.assert_allclose(aside, [4, -1], atol=0.05)
    np.testing.assert_allclose(found.means[0], [0, 0], atol=0.05)
    covar = found.covars[1 + found.means[1:, 0].argmax()]
    np.testing.assert_allclose(covar, np.diag([0.25, 0.04]), atol=0.02)


def test_em_result_is_exactly_symmetric_and_shrunk():
    x = three_bumps()
    found = fit_mirrored(x, swap, alone=1, pairs=2, prior=9 * np.eye(2), shrink=0.5)
    np.testing.assert_allclose(found.log_prob(x), found.log_prob(swap(x)), atol=1e-12)
    np.testing.assert_array_equal(found.covars, found.covars.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(found.covars).min() > 4.5 - 1e-9, "at least half of the prior's 9"


def test_em_is_the_same_at_every_call_and_rises():
    x = three_bumps()
    first, again = (fit_mirrored(x, swap, alone=1, pairs=1, prior=np.eye(2), shrink=0.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.means, again.means)
    early = fit_mirrored(x, swap, alone=1, pairs=1, prior=np.eye(2), shrink=0.0, seed=3, steps=1)
    assert first.log_prob(x).mean() >= early.log_prob(x).mean() - 1e-9


def test_saved_mixture_is_read_back(tmp_path):
    covars = np.stack([np.eye(69), 2 * np.eye(69)])
    save(Mixture(np.array([0.25, 0.75]), np.zeros((2, 69)), covars), tmp_path / "mine.npz")
    prior = PosePrior.load(tmp_path / "mine.npz", dtype=torch.float64)
    assert prior.name == "mine" and prior.log_weights.exp().tolist() == pytest.approx([0.25, 0.75])
    np.testing.assert_allclose(prior.limits, sided(LIMITS))


def test_sided_tables_are_mirrored():
    limits, spread = sided(LIMITS), sided(SPREAD)
    assert limits.shape == (23, 3, 2) and spread.shape == (23, 3) and (limits[..., 0] < 0).all()
    left, right = index("left_elbow"), index("right_elbow")
    np.testing.assert_allclose(limits[right, 1], -limits[left, 1, ::-1])
    np.testing.assert_allclose(spread[right], spread[left])


@pytest.mark.parametrize("components", [1, 2, 3, 5])
def test_any_number_of_components_is_its_own_mirror_image(components):
    poses = np.random.default_rng(0).normal(0, 0.2, (200, 69))
    mixture = build(poses, components=components)
    assert mixture.weights.shape == (components,)
    np.testing.assert_allclose(mixture.log_prob(poses), mixture.log_prob(mirrored(poses)))


def test_a_prior_of_ones_own_files(tmp_path, monkeypatch, capsys):
    """Learned from a file's poses alone, it expects those; held-out ones are scored; a fit takes it."""
    clips = [sample("squat", UNSEEN_SEED + i, fps=10) for i in range(2)]
    for i, clip in enumerate(clips):
        arrays = {"poses": clip.thetas.flatten(1), "trans": clip.transl, "betas": clip.betas, "mocap_framerate": 10.0}
        np.savez(tmp_path / f"squat{i}.npz", **arrays)
    out = tmp_path / "own.npz"
    words = ["--motions", str(tmp_path / "squat0.npz"), "--without-keyed", "--components", "2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["build_prior", *words, "--score", str(tmp_path / "squat1.npz")])
    build_prior.main()
    own, shipped = (PosePrior.load(path, dtype=torch.float64) for path in (out, None))
    learned, held = (clip.thetas[:, 1:].flatten(1).double() for clip in clips)
    assert own.log_prob(learned).mean() > shipped.log_prob(learned).mean()
    said = float(capsys.readouterr().out.split()[-1])
    assert said == pytest.approx(float(own.log_prob(held).mean()), abs=0.01)


@pytest.mark.parametrize(
    "words, message",
    [
        ("--out mine", "ends in .npz"),
        ("--out mine.npz --fps 0", "--fps 0: above 0"),
        ("--out mine.npz --joints nothing", "no .npy file there"),
        ("--out mine.npz --joints other", "other.a.npy: holds float64 .3, 5.;"),
        ("--out mine.npz --without-keyed --score none.npz", "none.npz"),
    ],
)
def test_what_no_prior_is_built_of_is_named_and_nothing_is_written(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "a.npy", np.zeros((3, 5)))
    monkeypatch.setattr("sys.argv", ["build_prior", *words.split()])
    with pytest.raises(InputError, match=message):
        build_prior.main()
    assert not list(tmp_path.glob("*.npz"))


def test_the_installed_prior_is_not_written_over_by_default(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build_prior"])
    with pytest.raises(SystemExit):
        build_prior.main()
    assert "--out" in capsys.readouterr().err


def test_poses_of_captured_joints_are_learned_from(tmp_path, monkeypatch):
    """Joints of a squat, fitted with the prior of the same motion's parameters."""
    monkeypatch.chdir(tmp_path)
    clip = sample("squat", UNSEEN_SEED, fps=10)
    arrays = {"poses": clip.thetas.flatten(1), "trans": clip.transl, "betas": clip.betas, "mocap_framerate": 10.0}
    np.savez(tmp_path / "squat.npz", **arrays)
    (tmp_path / "joints").mkdir()
    np.save(tmp_path / "joints" / "squat.npy", BodyModel.load().joints(clip.betas, clip.thetas, clip.transl)[:, :22])
    words = "--motions squat.npz --without-keyed --components 1 --joints joints --fps 10 --out own.npz"
    monkeypatch.setattr("sys.argv", ["build_prior", *words.split()])
    build_prior.main()
    own, shipped = (PosePrior.load(path).log_prob(clip.thetas[:, 1:].flatten(1)).mean() for path in ("own.npz", None))
    assert own > shipped


def test_too_few_poses_for_a_mixture_are_named():
    with pytest.raises(InputError, match="6 poses do not make 8 components"):
        build(np.zeros((6, 69)))


def test_a_saved_prior_is_the_same(prior, tmp_path):
    prior.save(tmp_path / "again.npz")
    again = PosePrior.load(tmp_path / "again.npz", dtype=torch.float64)
    for name in ("means", "covariances", "log_weights", "mean_pose", "limits"):
        torch.testing.assert_close(getattr(again, name), getattr(prior, name))
