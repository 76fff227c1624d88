"""The GLB read back and skinned from its own nodes, weights, bind matrices and tracks gives the body's vertices."""

from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
import trimesh

from fitting.export import export
from fitting.export.bones import joint_names
from fitting.export.correctives import TOLERANCE, correctives
from fitting.export.glb import continuous, strongest_weights, vertex_normals
from models.body import EMBEDDED, BodyModel
from models.rotations import axis_angle_to_quaternion, quaternion_to_matrix
from models.skeleton import SKELETONS, SMPL_JOINTS
from tests.bodies import smpl_arrays
from tests.fits import smooth_fit

TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def written(fit, folder: Path) -> pygltflib.GLTF2:
    [path] = export(fit, folder, ["glb"])
    return pygltflib.GLTF2().load_binary(str(path))


def read(doc: pygltflib.GLTF2, accessor: int) -> np.ndarray:
    """An accessor's elements as rows."""
    about = doc.accessors[accessor]
    start, width = doc.bufferViews[about.bufferView].byteOffset, WIDTHS[about.type]
    values = np.frombuffer(doc.binary_blob(), TYPES[about.componentType], about.count * width, start)
    return values.reshape(about.count, width)


def attributes(doc: pygltflib.GLTF2) -> dict[str, np.ndarray]:
    names = ("POSITION", "NORMAL", "JOINTS_0", "WEIGHTS_0")
    return {name: read(doc, getattr(doc.meshes[0].primitives[0].attributes, name)) for name in names}


def tracks(doc: pygltflib.GLTF2) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:
    """(node, path) -> times, values."""
    animation = doc.animations[0]
    samplers = [(read(doc, sampler.input)[:, 0], read(doc, sampler.output)) for sampler in animation.samplers]
    return {(channel.target.node, channel.target.path): samplers[channel.sampler] for channel in animation.channels}


def world_matrices(doc: pygltflib.GLTF2, key: int) -> np.ndarray:
    """Every node's matrix (nodes, 4, 4) at one key of the animation, walking down from the scene's roots."""
    animated, world = tracks(doc), {}

    def visit(index: int, parent: np.ndarray) -> None:
        node, local = doc.nodes[index], np.eye(4)
        rotation = animated[index, "rotation"][1][key] if (index, "rotation") in animated else np.array([0, 0, 0, 1.0])
        local[:3, :3] = quaternion_to_matrix(torch.tensor(np.roll(rotation, 1), dtype=torch.float64))
        moved = animated.get((index, "translation"))
        local[:3, 3] = moved[1][key] if moved else (node.translation or 0)
        world[index] = parent @ local
        for child in node.children:
            visit(child, world[index])

    for root in doc.scenes[doc.scene].nodes:
        visit(root, np.eye(4))
    return np.stack([world[i] for i in range(len(doc.nodes))])


def skinned(doc: pygltflib.GLTF2, key: int) -> np.ndarray:
    """Vertices (V, 3) at one key, by glTF's formula: sum of weight x joint matrix x inverse bind matrix."""
    skin, mesh = doc.skins[0], attributes(doc)
    inverse_bind = read(doc, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = world_matrices(doc, key)[skin.joints] @ inverse_bind
    blended = np.einsum("vk,vkab->vab", mesh["WEIGHTS_0"].astype(np.float64), matrices[mesh["JOINTS_0"]])
    homogeneous = np.pad(mesh["POSITION"] + morphed(doc, key), ((0, 0), (0, 1)), constant_values=1)
    return np.einsum("vab,vb->va", blended, homogeneous)[:, :3]


def morphed(doc: pygltflib.GLTF2, key: int) -> np.ndarray:
    """What the morph targets add to the vertices (V, 3) at one key; zero where there are none."""
    targets = [read(doc, target["POSITION"]) for target in doc.meshes[0].primitives[0].targets or ()]
    if not targets:
        return np.zeros(3)
    weights = tracks(doc)[len(doc.skins[0].joints), "weights"][1].reshape(-1, len(targets))
    return np.einsum("k,kvx->vx", weights[key].astype(np.float64), targets)


@pytest.fixture(scope="module")
def fit():
    return smooth_fit(30, text="sie dreht sich – 転回")


@pytest.fixture(scope="module")
def doc(fit, tmp_path_factory) -> pygltflib.GLTF2:
    return written(fit, tmp_path_factory.mktemp("glb"))


def test_skinning_the_file_gives_the_fitted_vertices(doc, fit):
    for key, vertices in enumerate(fit.vertices().numpy()):
        np.testing.assert_allclose(skinned(doc, key), vertices, atol=1e-5)


def test_mesh_is_the_body_in_its_fitted_shape(doc, fit):
    mesh = attributes(doc)
    faces = read(doc, doc.meshes[0].primitives[0].indices).reshape(-1, 3)
    np.testing.assert_array_equal(faces, fit.body.faces)
    np.testing.assert_allclose(mesh["POSITION"], fit.body.rest_vertices(fit.betas), atol=1e-6)
    np.testing.assert_allclose(mesh["WEIGHTS_0"].sum(1), 1, atol=1e-6)
    bounds = doc.accessors[doc.meshes[0].primitives[0].attributes.POSITION]
    np.testing.assert_array_equal(np.float32(bounds.min), mesh["POSITION"].min(0))
    np.testing.assert_array_equal(np.float32(bounds.max), mesh["POSITION"].max(0))


def test_nodes_are_named_and_rest_where_the_shape_has_its_joints(doc, fit):
    assert [node.name for node in doc.nodes] == [*SMPL_JOINTS, "body"]
    names = {child: node.name for node in doc.nodes for child in node.children}
    assert all(names[i] == SMPL_JOINTS[parent] for i, parent in enumerate(fit.body.parents) if i)
    inverse_bind = read(doc, doc.skins[0].inverseBindMatrices).reshape(-1, 4, 4)
    np.testing.assert_allclose(-inverse_bind[:, 3, :3], fit.body.rest_joints(fit.betas), atol=1e-6)


def test_keys_stand_at_the_frame_rate_and_turn_the_short_way(doc, fit):
    animated = tracks(doc)
    assert len(animated) == 25
    for (_, path), (times, values) in animated.items():
        np.testing.assert_allclose(times, np.arange(fit.length) / fit.fps, rtol=1e-6)
        if path == "rotation":
            np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
            assert ((values[1:] * values[:-1]).sum(1) > 0).all()


def test_text_and_parameters_are_in_the_extras(doc, fit):
    extras = doc.scenes[0].extras
    assert extras["text"] == "sie dreht sich – 転回"
    assert (extras["fps"], extras["frames"], extras["body"]) == (20.0, 30, "mh_neutral")
    np.testing.assert_allclose(extras["betas"], fit.betas)


def test_a_clip_of_one_frame(tmp_path):
    fit = smooth_fit(1)
    doc = written(fit, tmp_path)
    times, _ = tracks(doc)[0, "rotation"]
    assert times.tolist() == [0]
    np.testing.assert_allclose(skinned(doc, 0), fit.vertices()[0], atol=1e-5)


def test_a_shape_for_each_frame_becomes_the_mean_shape_at_the_fitted_pelvis(tmp_path):
    fit = smooth_fit(3)
    fit.betas = fit.betas + torch.tensor([[-0.1], [0.0], [0.1]])
    doc = written(fit, tmp_path)
    np.testing.assert_allclose(attributes(doc)["POSITION"], fit.body.rest_vertices(fit.betas[1]), atol=1e-6)
    np.testing.assert_allclose(tracks(doc)[0, "translation"][1], fit.joints()[:, 0], atol=1e-6)


def body_with_fingers(path: Path) -> BodyModel:
    """The embedded body in SMPL-H's form: what followed a hand follows its index finger, which the mean bends."""
    arrays = dict(np.load(EMBEDDED))
    arrays["kintree_table"] = np.array([SKELETONS["smplh"].parents, range(52)])
    arrays["J_regressor"] = arrays["J_regressor"][[*range(22), *[22] * 15, *[23] * 15]]
    following = np.zeros((len(arrays["weights"]), 30))
    following[:, [0, 15]] = arrays["weights"][:, 22:]
    arrays["weights"] = np.concatenate([arrays["weights"][:, :22], following], axis=1)
    arrays["hands_meanl"], arrays["hands_meanr"] = np.random.default_rng(0).normal(0, 0.2, (2, 45))
    np.savez(path, **arrays)
    return BodyModel.load(path)


def test_a_body_with_fingers_keeps_them_at_the_mean_of_the_file(tmp_path):
    fit = smooth_fit(3)
    fit.body = body_with_fingers(tmp_path / "fingers.npz")
    doc = written(fit, tmp_path)
    assert len(doc.skins[0].joints) == 52 and doc.nodes[37].name == "right_index1"
    np.testing.assert_allclose(skinned(doc, 2), fit.vertices()[2], atol=1e-5)


def test_quaternions_become_continuous_without_changing_rotations():
    angles = torch.linspace(0, 6 * torch.pi, 50, dtype=torch.float64)
    turning = axis_angle_to_quaternion(angles[:, None] * torch.tensor([0.6, 0.0, 0.8]))
    smooth = continuous(turning.numpy() * np.random.default_rng(0).choice([-1, 1], (50, 1)))
    assert ((smooth[1:] * smooth[:-1]).sum(-1) > 0).all()
    torch.testing.assert_close(quaternion_to_matrix(torch.tensor(smooth)), quaternion_to_matrix(turning))


def test_more_than_four_weights_keep_the_strongest():
    weights = np.array([[0.05, 0.3, 0.1, 0.0, 0.25, 0.3], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    joints, kept = strongest_weights(weights)
    assert joints.tolist() == [[1, 5, 4, 2], [2, 0, 0, 0]]
    np.testing.assert_allclose(kept, [[0.3 / 0.95, 0.3 / 0.95, 0.25 / 0.95, 0.1 / 0.95], [1, 0, 0, 0]])


def test_normals_of_a_sphere_point_outwards():
    sphere = trimesh.creation.icosphere(3)
    vertices = np.concatenate([sphere.vertices, [[5.0, 5.0, 5.0]]])  # and a vertex without a face
    normals = vertex_normals(vertices, sphere.faces)
    assert (normals[:-1] * sphere.vertices).sum(1).min() > 0.999
    assert normals[-1].tolist() == [0, 1, 0]


def test_joint_names_of_the_family():
    assert joint_names(24)[22:] == ["left_hand", "right_hand"]
    assert joint_names(52)[22] == "left_index1"
    assert joint_names(55)[22:26] == ["jaw", "left_eye", "right_eye", "left_index1"]
    assert all(len(set(joint_names(count))) == count for count in (24, 52, 55))


def bending(path: Path) -> BodyModel:
    """A body with random pose correctives of millimetres to centimetres."""
    np.savez(path, **smpl_arrays(bend=1e-3))
    return BodyModel.load(path)


def test_pose_correctives_are_morph_targets_with_weights_from_0_to_1(tmp_path):
    fit = smooth_fit(24)
    random = torch.Generator().manual_seed(1)
    fit.thetas = fit.thetas + 0.1 * torch.randn(fit.thetas.shape, generator=random)  # motion of a higher rank
    fit.body = bending(tmp_path / "bending.npz")
    straight = BodyModel.load().vertices(fit.betas, fit.thetas, fit.transl)
    assert (fit.vertices() - straight).norm(dim=-1).max() > 0.01
    doc = written(fit, tmp_path)
    for key in (0, 11, 23):
        np.testing.assert_allclose(skinned(doc, key), fit.vertices()[key], atol=2.5e-4)  # 0.1 mm along each axis
    weights = tracks(doc)[24, "weights"][1]
    assert weights.min() == 0 and weights.max() == 1
    names = doc.meshes[0].extras["targetNames"]
    assert len(names) == len(doc.meshes[0].primitives[0].targets) == len(weights) / 24 < 40
    assert doc.meshes[0].weights == [0.0] * len(names)


def test_one_frame_with_correctives(tmp_path):
    fit = smooth_fit(1)
    fit.body = bending(tmp_path / "bending.npz")
    np.testing.assert_allclose(skinned(written(fit, tmp_path), 0), fit.vertices()[0], atol=2.5e-4)


def test_correctives_stay_within_the_tolerance_and_few(tmp_path):
    fit = smooth_fit(40)
    body = bending(tmp_path / "bending.npz")
    rotations = body.full_rotations(fit.thetas)
    targets, weights = correctives(body, rotations)
    exact = (rotations[:, 1:] - torch.eye(3)).flatten(1).double() @ body.posedirs.double()
    assert (weights @ targets.flatten(1) - exact).abs().max() <= TOLERANCE
    assert len(targets) < 20  # of 207: all joints swing at one rate
    assert [len(part) for part in correctives(fit.body, rotations)] == [0, 40]
