"""BodyModel: against golden LBS, smplx on the same files and the formulas one by one; official files, broken files."""

import io
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from models.body import EMBEDDED, BodyModel, forward_kinematics
from models.errors import InputError
from models.rotations import axis_angle_to_matrix
from models.safe_pickle import UnsafePickle
from tests.bodies import smpl_arrays, smplh_arrays, smplx_arrays, write_official, write_pickle

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(dtype=torch.float64)


def some_motion(*lead: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """betas (*lead, 10), thetas (*lead, 24, 3), transl (*lead, 3)."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((*lead, 10), (*lead, 24, 3), (*lead, 3))
    betas, thetas, transl = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return betas, thetas / 2, transl


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected.to(found), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["small_body.npz", "small_body_SMPL_NEUTRAL.pkl"])
def test_golden_lbs(reference, name, dtype):
    body = BodyModel.load(reference / "golden" / name, dtype)
    with np.load(reference / "golden" / "lbs.npz") as file:
        golden = {key: torch.tensor(file[key], dtype=dtype) for key in file.files}
    thetas = torch.cat((golden["global_orient"], golden["body_pose"]), -1).unflatten(-1, (24, 3))
    for transl, suffix in ((golden["transl"], "_with_transl"), (torch.zeros(7, 3, dtype=dtype), "")):
        close(body.joints(golden["betas"], thetas, transl), golden["joints24" + suffix])
        close(body.vertices(golden["betas"], thetas, transl), golden["vertices" + suffix])


@pytest.mark.parametrize("bend", [0.0, 1e-3])
def test_smplx_on_the_same_file(tmp_path, bend):
    """bend 0: posedirs of zeros, as the embedded body is written for other programs."""
    smplx = pytest.importorskip("smplx")
    path = write_pickle(tmp_path / "SMPL_NEUTRAL.pkl", smpl_arrays(bend))
    betas, thetas, transl = some_motion(5, dtype=torch.float32)
    with torch.no_grad():
        expected = smplx.SMPL(str(path), batch_size=5)(
            betas=betas, global_orient=thetas[:, 0], body_pose=thetas[:, 1:].flatten(1), transl=transl
        )
    body = BodyModel.load(path)
    assert (body.posedirs is None) == (bend == 0)
    close(body.joints(betas, thetas, transl), expected.joints[:, :24])
    close(body.vertices(betas, thetas, transl), expected.vertices)


@pytest.mark.parametrize("kind", ["SMPLH", "SMPLX"])
def test_smplh_and_smplx_hold_their_hands_at_the_mean(tmp_path, kind):
    smplx = pytest.importorskip("smplx")
    betas, thetas, transl = some_motion(2, dtype=torch.float32)
    pose = {"betas": betas, "global_orient": thetas[:, 0], "body_pose": thetas[:, 1:22].flatten(1), "transl": transl}
    if kind == "SMPLH":
        path = write_pickle(tmp_path / "SMPLH_MALE.pkl", smplh_arrays())
        made, joints = smplx.SMPLH(str(path), batch_size=2, use_pca=False, flat_hand_mean=False), 52
    else:
        path = tmp_path / "SMPLX_NEUTRAL.npz"
        np.savez(path, **smplx_arrays())
        made, joints = smplx.SMPLX(str(path), batch_size=2, use_pca=False, flat_hand_mean=False), 55
    with torch.no_grad():
        expected = made(**pose)
    body = BodyModel.load(path)
    assert (body.num_joints, body.num_betas) == (joints, 10)
    close(body.joints(betas, thetas, transl), expected.joints[:, :joints])
    close(body.vertices(betas, thetas, transl), expected.vertices)


def test_official_pickle_is_read_without_chumpy(tmp_path, body):
    arrays = smpl_arrays(bend=1e-3)
    path = write_official(tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", arrays)
    content = path.read_bytes()
    for name in (
        b"cchumpy.ch\nCh",
        b"cchumpy.reordering\nSelect",
        b"cscipy.sparse.csc\ncsc_matrix",
        b"c__builtin__\nset",
    ):
        assert name in content
    assert "chumpy" not in sys.modules
    found = BodyModel.load(path, torch.float64)
    assert (found.name, found.parents) == (path.stem, body.parents)
    for key in ("v_template", "shapedirs", "weights", "rest_template", "rest_dirs", "faces"):
        close(getattr(found, key), getattr(body, key), 1e-12)
    close(found.posedirs, torch.tensor(arrays["posedirs"]).flatten(0, 1).T, 0)


def test_sizes_come_from_the_file(tmp_path):
    """A file of 1500 vertices and 300 shape directions: the fit uses ten of them."""
    arrays = smpl_arrays()
    keep = np.sort(np.random.default_rng(0).choice(6890, 1500, replace=False))
    regressor = arrays["J_regressor"][:, keep]
    arrays |= {key: arrays[key][keep] for key in ("v_template", "weights", "posedirs")}
    arrays |= {"J_regressor": regressor / regressor.sum(1, keepdims=True), "f": np.array([[0, 1, 2], [2, 1, 1499]])}
    arrays["shapedirs"] = np.random.default_rng(1).standard_normal((1500, 3, 300))
    np.savez(tmp_path / "few.npz", **arrays)
    body = BodyModel.load(str(tmp_path / "few.npz"))
    assert (body.num_betas, body.num_joints, len(body.v_template), len(body.faces)) == (10, 24, 1500, 2)
    close(body.shapedirs, torch.tensor(arrays["shapedirs"][..., :10]))
    assert body.vertices(*some_motion(3, dtype=torch.float32)).shape == (3, 1500, 3)


def test_embedded_body_is_the_default(body):
    assert (body.name, body.num_betas, body.num_joints) == ("mh_neutral", 10, 24)
    assert (body.v_template.shape, body.faces.shape, body.faces.dtype) == ((6890, 3), (13776, 3), torch.int64)
    assert body.parents[:4] == (-1, 0, 0, 0)
    assert not body.state_dict(), "a checkpoint must not carry a licensed body"


def test_forward_kinematics_is_the_chain_joint_by_joint(body):
    betas, thetas, _ = some_motion(4)
    local, rest = axis_angle_to_matrix(thetas), body.rest_joints(betas)
    rotations, positions = forward_kinematics(local, rest, body.parents)
    for joint, parent in enumerate(body.parents[1:], 1):
        close(rotations[:, joint], rotations[:, parent] @ local[:, joint], 1e-12)
        bone = (rest[:, joint] - rest[:, parent])[..., None]
        close(positions[:, joint], positions[:, parent] + (rotations[:, parent] @ bone)[..., 0], 1e-12)
    close(rotations[:, 0], local[:, 0], 0)
    close(positions[:, 0], rest[:, 0], 0)


def test_vertices_are_the_weighted_mean_of_rigid_motions(body):
    """One vertex after the other, as the formula is written."""
    betas, thetas, transl = some_motion()
    rest, vertices = body.rest_joints(betas), body.rest_vertices(betas)
    rotations, positions = forward_kinematics(body.full_rotations(thetas), rest, body.parents)
    found = body.vertices(betas, thetas, transl)
    for vertex in range(0, 6890, 500):
        moved = (rotations @ (vertices[vertex] - rest)[..., None])[..., 0] + positions
        close(found[vertex], body.weights[vertex] @ moved + transl, 1e-12)


def test_rest_pose_stands_at_rest_pelvis_plus_transl(body):
    betas, thetas, transl = some_motion(3)
    still = torch.zeros_like(thetas)
    close(body.joints(betas, still, transl), body.rest_joints(betas) + transl[:, None], 1e-12)
    # the file's weights sum to 1 in single precision
    close(body.vertices(betas, still, transl), body.rest_vertices(betas) + transl[:, None], 1e-6)
    close(body.joints(betas, thetas, transl)[:, 0], body.rest_joints(betas)[:, 0] + transl, 1e-12)
    close(body.rest_joints(torch.zeros(10).double()), body.rest_template, 0)


@pytest.mark.parametrize("method", ["joints", "vertices"])
def test_batch_equals_one_by_one(body, method):
    """More frames than go at once, two leading axes, and betas without the frame axis, which are those of a clip."""
    betas, thetas, transl = some_motion(2, 13)
    pose = getattr(body, method)
    one_by_one = [[pose(betas[c, f], thetas[c, f], transl[c, f]) for f in range(13)] for c in range(2)]
    close(pose(betas, thetas, transl), torch.stack([torch.stack(clip) for clip in one_by_one]), 1e-12)
    repeated = betas[:, :1].expand(-1, 13, -1)
    close(pose(betas[:, 0], thetas, transl), pose(repeated, thetas, transl), 1e-12)
    close(pose(betas[0, 0], thetas[0], transl[0]), pose(repeated[0], thetas[0], transl[0]), 1e-12)
    close(pose(betas[0, 0], thetas[0], transl[0, 0]), pose(repeated[0], thetas[0], transl[0, :1].expand(13, 3)), 1e-12)
    assert pose(betas[:, :0], thetas[:, :0], transl[:, :0]).shape[:2] == (2, 0)


def test_single_precision_is_within_a_hundredth_of_a_millimetre(body):
    betas, thetas, transl = some_motion(20)
    single = BodyModel.load()
    for method in ("joints", "vertices"):
        found = getattr(single, method)(betas.float(), thetas.float(), transl.float())
        assert found.dtype == torch.float32
        close(found.double(), getattr(body, method)(betas, thetas, transl))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["joints", "vertices"])
def test_gradients_are_difference_quotients_also_at_rest(body, method, dtype):
    betas, thetas, transl = some_motion(2)
    thetas[1] = 0
    given = (betas, thetas, transl)
    pick = torch.randn(1, generator=torch.Generator().manual_seed(4)).double()

    def value(model: BodyModel, *state: torch.Tensor) -> torch.Tensor:
        points = getattr(model, method)(*state)
        return (points * torch.arange(points.numel()).reshape(points.shape).to(points).sin() * pick.to(points)).sum()

    leaves = [part.to(dtype).requires_grad_() for part in given]
    value(BodyModel.load(dtype=dtype), *leaves).backward()
    for i, leaf in enumerate(leaves):
        step = 1e-6 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(i)).double()
        ahead, behind = ([*given[:i], given[i] + sign * step, *given[i + 1 :]] for sign in (1, -1))
        expected = (value(body, *ahead) - value(body, *behind)) / 2
        torch.testing.assert_close((leaf.grad.double() * step).sum(), expected, rtol=1e-3, atol=1e-9)


def test_gradients_after_a_first_call_in_inference_mode():
    """As Trainer.predict does it: nothing that is cached there may refuse a later backward pass."""
    parents = (-1, 0, 1, 1)
    with torch.inference_mode():
        forward_kinematics(torch.eye(3).expand(4, 3, 3), torch.ones(4, 3), parents)
    rotations = torch.eye(3).expand(4, 3, 3).clone().requires_grad_()
    forward_kinematics(rotations, torch.arange(12.0).reshape(4, 3), parents)[1].sum().backward()
    assert rotations.grad.isfinite().all()


def test_wrong_number_of_betas_is_named(body):
    _, thetas, transl = some_motion(2)
    with pytest.raises(InputError, match=r"betas of shape \(1, 16\): the body mh_neutral takes \(\.\.\., 10\)"):
        body.joints(torch.zeros(16).double(), thetas, transl)


def broken_bodies() -> dict[str, tuple[dict, str]]:
    """What is wrong -> arrays changed (None: left out), and what the message says of it."""
    arrays = smpl_arrays()
    stranger = np.array([[-1, *range(14)], range(15)])
    return {
        "no weights": (
            {"weights": None, "J_regressor": None},
            r"lacks \['weights', 'J_regressor'\]; it has \['f', 'kintree",
        ),
        "another animal": ({"kintree_table": stranger}, "a skeleton of 15 joints, expected 24"),
        "another topology": ({"weights": arrays["weights"][:100]}, r"weights is \(100, 24\), expected \(6890, 24\)"),
        "STAR": ({"posedirs": np.ones((6890, 3, 93))}, r"posedirs is \(6890, 3, 93\), expected \(6890, 3, 207\)"),
        "NaN": ({"shapedirs": arrays["shapedirs"] * np.nan}, "shapedirs holds NaN"),
        "a number": ({"v_template": np.array(1.0)}, "its arrays are not those of SMPL"),
        "text": ({"v_template": np.array(["a", "b"])}, "its arrays are not those of SMPL"),
        "faces": ({"f": arrays["f"] + 1}, "faces must point at its 6890 vertices"),
        "no faces": ({"f": np.zeros((0, 3))}, "faces must point at its 6890 vertices"),
    }


@pytest.mark.parametrize("what", broken_bodies())
def test_a_file_that_is_no_body_says_what_it_is(tmp_path, what):
    changes, message = broken_bodies()[what]
    arrays = {key: value for key, value in (smpl_arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(InputError, match=message) as error:
        BodyModel.load(tmp_path / "body.npz")
    assert str(error.value).startswith(str(tmp_path / "body.npz"))
    assert "https://smpl.is.tue.mpg.de" in str(error.value)
    assert "Without --body the embedded body is used" in str(error.value)


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


BROKEN_FILES = {
    "missing": (None, "no such file"),
    "empty": (b"", "the file is empty"),
    "cut npz": (EMBEDDED.read_bytes()[:300_000], "the .npz cannot be read"),
    "web page": (b"<!DOCTYPE html><html>please log in", "a web page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "npy": (b"\x93NUMPY\x01\x00", "a .npy file"),
    "torch file": (zipped("archive/data.pkl", b"\x80\x02}."), r"it has \['archive/data.pkl'\]"),
    "list": (b"\x80\x02]q\x00.", "it holds a list"),
}


@pytest.mark.parametrize("what", BROKEN_FILES)
def test_broken_files(tmp_path, what):
    content, message = BROKEN_FILES[what]
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error, warnings.catch_warnings():
        warnings.simplefilter("error")
        BodyModel.load(path)
    assert str(path) in str(error.value) and "https://smpl.is.tue.mpg.de" in str(error.value)


def test_a_folder_is_no_body(tmp_path):
    with pytest.raises(InputError, match="directory"):
        BodyModel.load(tmp_path)


def test_a_body_that_runs_code_is_refused(tmp_path):
    victim = tmp_path / "victim"

    class Touch:
        def __reduce__(self):
            return Path.touch, (victim,)

    with pytest.raises(UnsafePickle, match="Nothing was executed"):
        BodyModel.load(write_pickle(tmp_path / "SMPL.pkl", smpl_arrays() | {"v_template": Touch()}))
    np.savez(tmp_path / "body.npz", **(smpl_arrays() | {"v_template": np.array([Touch()])}))
    with pytest.raises(InputError, match="cannot be read"):
        BodyModel.load(tmp_path / "body.npz")
    assert not victim.exists()
