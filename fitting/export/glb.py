"""NAME.glb: the body as an animated, skinned glTF 2.0 file, with the fitted betas baked into rest mesh and skeleton."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pygltflib as gltf
import torch
from torch import Tensor

from fitting.export.bones import joint_names
from fitting.export.correctives import correctives
from models.body import BodyModel
from models.rotations import matrix_to_quaternion

if TYPE_CHECKING:
    from fitting.result import FitResult

COMPONENT = {"f": gltf.FLOAT, "B": gltf.UNSIGNED_BYTE, "H": gltf.UNSIGNED_SHORT, "I": gltf.UNSIGNED_INT}  # dtype.char
SKIN_COLOUR = (0.62, 0.71, 0.86, 1.0)  # linear RGBA


def write_glb(result: "FitResult", path: Path, rig: str = "smpl") -> None:
    """Rest mesh, skeleton, weights and one animation; metres, y up, every frame in the world position of the fit.

    Nodes 0..J-1 are the joints in rest pose and node J is the mesh. The animation has a quaternion track for each joint
    and a translation track for the pelvis, with keys at i / fps seconds. Vertices follow four joints at most. Pose
    correctives (posedirs of a licensed body) are morph targets, within 0.1 mm. A fit with one shape a frame gets the
    mean shape. `rig`: whose bone names the nodes have. The scene's extras hold text, body, fps, frames, betas,
    and joint_offsets of an adapted skeleton.
    """
    betas = result.betas.reshape(-1, result.body.num_betas).mean(0)
    rest_joints = _array(result.body.rest_joints(betas))
    file = _File()
    rotations = result.body.full_rotations(result.thetas)
    targets, weights = correctives(result.body, rotations)
    _add_mesh(file, result.body, betas, _array(targets))
    _add_skeleton(file, rest_joints, result.body.parents, joint_names(len(rest_joints), rig))
    _add_animation(file, result, _array(rotations), _array(weights))
    words = {"text": result.motion.text, "body": result.body.name}
    extras = words | {"fps": float(result.fps), "frames": result.length, "betas": betas.tolist()}
    if result.body.joint_offsets is not None:
        extras["joint_offsets"] = result.body.joint_offsets.tolist()
    file.doc.scenes.append(gltf.Scene(name=result.motion.name, nodes=[0, len(rest_joints)], extras=extras))
    file.doc.scene = 0
    file.save(path)


def strongest_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, J) -> each vertex's four strongest joints (V, 4) and their weights (V, 4), sum one; unused places 0, 0."""
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(weights, joints, axis=1).astype(np.float64)
    strongest /= strongest.sum(1, keepdims=True)
    return np.where(strongest > 0, joints, 0), strongest


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each face weighted by its area; straight up where a vertex has no face."""
    a, b, c = (vertices[corner] for corner in faces.T)
    area = np.cross(b - a, c - a).repeat(3, axis=0)
    normals = np.stack([np.bincount(faces.ravel(), axis, len(vertices)) for axis in area.T], axis=1)
    normals[np.linalg.norm(normals, axis=1) < 1e-20] = (0, 1, 0)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """(L, ..., 4), signs flipped so that neighbouring keys lie in one hemisphere: every player turns the short way."""
    flips = (quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True) < 0
    signs = np.cumprod(np.where(flips, -1, 1), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs])


class _File:
    """A glTF document and its binary part in the making."""

    def __init__(self):
        self.doc = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="thetafit"))
        self.blob = bytearray()

    def add(self, values: np.ndarray, kind: str, target: int | None = None, bounds: bool = False) -> int:
        """Append an array, one element a row; returns its accessor. glTF wants bounds for positions and times."""
        doc, component = self.doc, COMPONENT[values.dtype.char]
        view = gltf.BufferView(buffer=0, byteOffset=len(self.blob), byteLength=values.nbytes, target=target)
        accessor = gltf.Accessor(bufferView=len(doc.bufferViews), componentType=component, count=len(values), type=kind)
        if bounds:
            rows = values.reshape(len(values), -1)
            accessor.min, accessor.max = rows.min(0).tolist(), rows.max(0).tolist()
        self.blob += values.tobytes() + bytes(-values.nbytes % 4)
        doc.bufferViews.append(view)
        doc.accessors.append(accessor)
        return len(doc.accessors) - 1

    def save(self, path: Path) -> None:
        self.doc.buffers.append(gltf.Buffer(byteLength=len(self.blob)))
        self.doc.set_binary_blob(bytes(self.blob))
        self.doc.save_binary(str(path))


def _add_mesh(file: _File, body: BodyModel, betas: Tensor, targets: np.ndarray) -> None:
    vertices, faces = _array(body.rest_vertices(betas)), _array(body.faces)
    joints, weights = strongest_weights(_array(body.weights))
    attributes = gltf.Attributes(
        POSITION=file.add(vertices.astype(np.float32), gltf.VEC3, gltf.ARRAY_BUFFER, bounds=True),
        NORMAL=file.add(vertex_normals(vertices, faces).astype(np.float32), gltf.VEC3, gltf.ARRAY_BUFFER),
        JOINTS_0=file.add(joints.astype(np.uint8), gltf.VEC4, gltf.ARRAY_BUFFER),
        WEIGHTS_0=file.add(weights.astype(np.float32), gltf.VEC4, gltf.ARRAY_BUFFER),
    )
    index_type = np.uint16 if len(vertices) < 2**16 else np.uint32
    indices = file.add(faces.ravel().astype(index_type), gltf.SCALAR, gltf.ELEMENT_ARRAY_BUFFER)
    surface = gltf.PbrMetallicRoughness(baseColorFactor=list(SKIN_COLOUR), metallicFactor=0.0, roughnessFactor=0.65)
    file.doc.materials.append(gltf.Material(name="skin", pbrMetallicRoughness=surface))
    primitive = gltf.Primitive(attributes=attributes, indices=indices, material=0)
    mesh = gltf.Mesh(name=body.name, primitives=[primitive])
    if len(targets):  # all weights 0 is the rest pose, which needs no correctives
        moved = [file.add(target.astype(np.float32), gltf.VEC3, gltf.ARRAY_BUFFER, bounds=True) for target in targets]
        primitive.targets = [gltf.Attributes(POSITION=accessor) for accessor in moved]
        mesh.weights = [0.0] * len(targets)
        mesh.extras = {"targetNames": [f"pose_corrective_{i:02d}" for i in range(len(targets))]}
    file.doc.meshes.append(mesh)


def _add_skeleton(file: _File, rest_joints: np.ndarray, parents: tuple[int, ...], names: list[str]) -> None:
    """The joints' nodes, each at its offset from its parent, and then the mesh's node."""
    joints = list(range(len(parents)))
    for joint, name, parent in zip(joints, names, parents, strict=True):
        offset = rest_joints[joint] - (rest_joints[parent] if joint else 0)
        children = [child for child in joints[1:] if parents[child] == joint]
        file.doc.nodes.append(gltf.Node(name=name, translation=offset.tolist(), children=children))
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse_bind[:, 3, :3] = -rest_joints  # glTF stores matrices column by column
    matrices = file.add(inverse_bind, gltf.MAT4)
    file.doc.skins.append(gltf.Skin(name="skeleton", joints=joints, skeleton=0, inverseBindMatrices=matrices))
    file.doc.nodes.append(gltf.Node(name="body", mesh=0, skin=0))


def _add_animation(file: _File, result: "FitResult", rotations: np.ndarray, weights: np.ndarray) -> None:
    """Tracks of every joint's rotation (L, J, 3, 3), the pelvis' place and the morph targets' weights (L, K)."""
    animation = gltf.Animation(name=result.motion.name)
    times = file.add((np.arange(result.length) / result.fps).astype(np.float32), gltf.SCALAR, bounds=True)
    wxyz = matrix_to_quaternion(torch.from_numpy(rotations)).numpy()
    quaternions = continuous(np.roll(wxyz, -1, axis=-1)).astype(np.float32)  # glTF's order is xyzw
    pelvis = _array(result.joints()[:, 0]).astype(np.float32)
    tracks = [(0, "translation", pelvis, gltf.VEC3)]
    tracks += [(joint, "rotation", quaternions[:, joint], gltf.VEC4) for joint in range(quaternions.shape[1])]
    if weights.size:
        tracks.append((quaternions.shape[1], "weights", weights.astype(np.float32).ravel(), gltf.SCALAR))
    for sampler, (node, moved, values, kind) in enumerate(tracks):
        keys = file.add(values, kind)
        target = gltf.AnimationChannelTarget(node=node, path=moved)
        animation.samplers.append(gltf.AnimationSampler(input=times, output=keys, interpolation=gltf.ANIM_LINEAR))
        animation.channels.append(gltf.AnimationChannel(sampler=sampler, target=target))
    file.doc.animations.append(animation)


def _array(values: Tensor) -> np.ndarray:
    """A tensor as numpy, floats in double so that only what is stored gets rounded."""
    return (values.double() if values.is_floating_point() else values).numpy(force=True)
