"""BodyModel: any body of the SMPL family (SMPL, SMPL-H, SMPL-X, or the embedded licence-free one) posed and skinned.

Linear blend skinning as in SMPL (Loper et al., SIGGRAPH Asia 2015): v = template + shapedirs.betas, J = regressor.v,
v += posedirs.(R_1.. - I), then each vertex follows a weighted mean of its joints' rigid motions, and transl is added
last. So the pelvis stands at rest pelvis(betas) + transl. Metres, y up, radians, matrices on column vectors.
"""

import copy
import io
from collections.abc import Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import pad

from models.errors import InputError
from models.rotations import axis_angle_to_matrix
from models.safe_pickle import UnsafePickle, load_pickle, read_bytes
from models.skeleton import SMPL_PARENTS

EMBEDDED = Path(__file__).parent / "assets" / "mh_neutral.npz"
MAX_BETAS = 10
BODY_JOINTS = 22  # what SMPL, SMPL-H and SMPL-X share, in this order
REQUIRED = ("v_template", "f", "weights", "J_regressor", "shapedirs", "kintree_table")
HANDS = ("hands_meanl", "hands_meanr")
WHERE_FROM = (
    "A body file is SMPL's .pkl or .npz (https://smpl.is.tue.mpg.de, after registering), or one of SMPL-H "
    "(https://mano.is.tue.mpg.de) or SMPL-X (https://smpl-x.is.tue.mpg.de). Without --body the embedded body is used."
)


class BodyModel(nn.Module):
    """A body that betas shape and thetas move. Make one with `BodyModel.load`.

    name: the file's stem; parents: parent of each joint, -1 for the root; faces (F, 3) int64.
    v_template (V, 3), shapedirs (V, 3, B), posedirs (9 (J - 1), V * 3) or None, weights (V, J) as in the file, B <= 10;
    rest_template (J, 3), rest_dirs (J, 3, B): joints of the rest pose are rest_template + rest_dirs.betas.
    joint_offsets (22, 3): how bones differ from the file's, None as loaded (models.proportions.adapted).
    """

    def __init__(self, name: str, arrays: Mapping[str, np.ndarray], dtype: torch.dtype):
        """`arrays` are the checked arrays of a body file, by the file's own keys, as `read_body` returns them."""
        super().__init__()
        self.name = name
        self.parents = tuple(arrays["parents"].tolist())
        regressor, template, dirs = arrays["J_regressor"], arrays["v_template"], arrays["shapedirs"]
        posedirs = arrays.get("posedirs")
        buffers = {
            "v_template": template,
            "shapedirs": dirs,
            "posedirs": None if posedirs is None else posedirs.reshape(template.size, -1).T,
            "weights": arrays["weights"],
            "rest_template": regressor @ template,
            "rest_dirs": np.einsum("jv,vcb->jcb", regressor, dirs, optimize=True),
            "fixed_thetas": arrays["fixed_thetas"],
        }
        for key, value in buffers.items():  # not persistent: a checkpoint must not carry a licensed body
            tensor = None if value is None else torch.tensor(np.ascontiguousarray(value), dtype=dtype)
            self.register_buffer(key, tensor, persistent=False)
        self.register_buffer("faces", torch.tensor(arrays["f"]), persistent=False)
        self.register_buffer("joint_offsets", None, persistent=False)

    @classmethod
    def load(cls, path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> "BodyModel":
        """The body in the file at `path` (.npz or .pkl in SMPL's format), or the embedded one.

        Raises InputError for a file that is missing, broken or no body; no code in a file is ever run.
        """
        path = EMBEDDED if path is None else Path(path)
        return cls(path.stem, read_body(path), dtype)

    @property
    def num_betas(self) -> int:
        return self.shapedirs.shape[-1]

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    def replaced(self, **buffers: Tensor) -> "BodyModel":
        """A body with these buffers, which shares the others with this one."""
        body = copy.copy(self)
        body._buffers = self._buffers | buffers
        return body

    def on_cpu(self) -> "BodyModel":
        """This body with its tensors on the CPU, where results are; itself where they are there."""
        if self.v_template.device.type == "cpu":
            return self
        return self.replaced(**{name: tensor.cpu() for name, tensor in self._buffers.items() if tensor is not None})

    def rest_joints(self, betas: Tensor) -> Tensor:
        """betas (..., B) -> joints (..., J, 3) of the rest pose."""
        return self.rest_template + self._blend(self.rest_dirs, betas)

    def rest_vertices(self, betas: Tensor) -> Tensor:
        """betas (..., B) -> vertices (..., V, 3) of the rest pose."""
        return self.v_template + self._blend(self.shapedirs, betas)

    @property
    def has_fingers(self) -> bool:
        """Whether it is an SMPL-H or SMPL-X body, whose last 30 joints are fingers."""
        return self.num_joints > len(SMPL_PARENTS)

    def full_rotations(self, thetas: Tensor) -> Tensor:
        """thetas (..., 24, 3), or (..., J, 3) of every joint of the file -> all its local rotations (..., J, 3, 3).

        Of SMPL's 24, SMPL-H and SMPL-X take the 22 body joints; their fingers are at the file's mean, jaw and eyes at
        rest. Raises InputError for another number of joints.
        """
        if thetas.shape[-2] == self.num_joints:
            return axis_angle_to_matrix(thetas)
        if thetas.shape[-2] != len(SMPL_PARENTS):
            raise InputError(f"thetas of {thetas.shape[-2]} joints: the body {self.name} has {self.num_joints}.")
        fixed = self.fixed_thetas.expand(*thetas.shape[:-2], -1, 3)
        return axis_angle_to_matrix(torch.cat((thetas[..., :BODY_JOINTS, :], fixed), -2))

    def joints(self, betas: Tensor, thetas: Tensor, transl: Tensor) -> Tensor:
        """betas (..., B), thetas (..., 24 or J, 3), transl (..., 3) -> joints (..., J, 3), from the skeleton alone.

        betas may lack the frame axis: (B,) with thetas (L, 24, 3), or (clips, B) with (clips, L, 24, 3).
        """
        rest = self.rest_joints(_with_frame_axis(betas, thetas))
        _, positions = forward_kinematics(self.full_rotations(thetas), rest, self.parents)
        return positions + transl[..., None, :]

    def vertices(self, betas: Tensor, thetas: Tensor, transl: Tensor) -> Tensor:
        """As `joints`, by linear blend skinning: vertices (..., V, 3)."""
        betas = _with_frame_axis(betas, thetas)
        lead = torch.broadcast_shapes(betas.shape[:-1], thetas.shape[:-2], transl.shape[:-1])
        parts = (
            betas.expand(*lead, -1).reshape(-1, betas.shape[-1]),
            thetas.expand(*lead, -1, -1).reshape(-1, *thetas.shape[-2:]),
            transl.expand(*lead, -1).reshape(-1, 3),
        )
        size = self._frames_at_once()
        chunks = [self._skin(*chunk) for chunk in zip(*(part.split(size) for part in parts), strict=True)]
        return torch.cat(chunks).reshape(*lead, *self.v_template.shape)

    def _frames_at_once(self) -> int:
        """So many that the blended motions, 12 numbers a vertex, fit the cache of a CPU, or 256 MB of a GPU."""
        numbers = 2**20 if self.v_template.device.type == "cpu" else 2**26
        return max(1, numbers // (12 * len(self.v_template)))

    def _skin(self, betas: Tensor, thetas: Tensor, transl: Tensor) -> Tensor:
        """betas (N, B), thetas (N, 24, 3), transl (N, 3) -> (N, V, 3)."""
        local = self.full_rotations(thetas)
        rest = self.rest_joints(betas)
        rotations, positions = forward_kinematics(local, rest, self.parents)
        shifts = positions - (rotations @ rest[..., None]).squeeze(-1)
        vertices = self.rest_vertices(betas)
        if self.posedirs is not None:
            bend = local[:, 1:] - torch.eye(3, dtype=local.dtype, device=local.device)
            vertices = vertices + (bend.flatten(1) @ self.posedirs).unflatten(-1, (-1, 3))
        # Coordinates before vertices: one large product and long contiguous rows, 2.5 times faster than (N, V, 12).
        motions = torch.cat((rotations, shifts[..., None]), -1).flatten(-2).mT  # (N, 12, J)
        blended = (motions @ self.weights.mT).unflatten(-2, (3, 4))  # (N, 3, 4, V)
        turned = (blended[:, :, :3] * vertices.mT[:, None].contiguous()).sum(2)
        return (turned + blended[:, :, 3] + transl[..., None]).mT

    def _blend(self, dirs: Tensor, betas: Tensor) -> Tensor:
        if betas.shape[-1] != self.num_betas:
            raise InputError(
                f"betas of shape {tuple(betas.shape)}: the body {self.name} takes (..., {self.num_betas})."
            )
        return (betas @ dirs.flatten(0, 1).mT).unflatten(-1, (-1, 3))


def forward_kinematics(rotations: Tensor, rest_joints: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Local rotations (..., J, 3, 3) and rest joints (..., J, 3) -> global rotations and positions, of the same shapes.

    R_j = R_parent R_local, p_j = p_parent + R_parent (rest_j - rest_parent); the root stays at its rest place.
    All joints of one depth of the tree go at once.
    """
    levels, order = _levels(parents, rotations.device)
    lead = torch.broadcast_shapes(rotations.shape[:-3], rest_joints.shape[:-2])
    turned = [rotations[..., :1, :, :].expand(*lead, 1, 3, 3)]
    placed = [rest_joints[..., :1, :].expand(*lead, 1, 3)]
    for joints, above, places in levels:
        parent = turned[-1].index_select(-3, places)
        bones = rest_joints.index_select(-2, joints) - rest_joints.index_select(-2, above)
        turned.append(parent @ rotations.index_select(-3, joints))
        placed.append(placed[-1].index_select(-2, places) + (parent @ bones[..., None]).squeeze(-1))
    return torch.cat(turned, -3).index_select(-3, order), torch.cat(placed, -2).index_select(-2, order)


@cache
def _levels(parents: tuple[int, ...], device: torch.device) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """For each depth below the root: joints, their parents, and the parents' places in the depth above.

    Second: for each joint, its place when all depths are written one after the other. Cached as index tensors, so that
    nothing is copied to the device at every call.
    """
    depths = [[0]]
    while below := [j for j, parent in enumerate(parents) if parent in depths[-1]]:
        depths.append(below)
    written = sum(depths, [])
    levels = [
        (joints, [parents[j] for j in joints], [above.index(parents[j]) for j in joints])
        for above, joints in pairwise(depths)
    ]
    index = partial(torch.tensor, device=device)
    with torch.inference_mode(False):  # made inside inference mode, they could not serve a later gradient
        return [tuple(map(index, level)) for level in levels], index([written.index(j) for j in range(len(parents))])


def smpl_thetas(thetas: Tensor) -> Tensor:
    """thetas (..., J, 3) of SMPL, SMPL-H or SMPL-X -> SMPL's (..., 24, 3), hands at rest where fingers were posed."""
    if thetas.shape[-2] == len(SMPL_PARENTS):
        return thetas
    return pad(thetas[..., :BODY_JOINTS, :], (0, 0, 0, len(SMPL_PARENTS) - BODY_JOINTS))


def _with_frame_axis(betas: Tensor, thetas: Tensor) -> Tensor:
    """betas (..., B) with as many leading axes as thetas (..., 24, 3), the missing ones inserted last."""
    missing = thetas.ndim - 1 - betas.ndim
    return betas.reshape(*betas.shape[:-1], *(1,) * missing, betas.shape[-1])


def read_body(path: Path) -> dict[str, np.ndarray]:
    """The checked arrays of a body file, by the file's keys, in float64, and `parents` (J,).

    shapedirs are cut to 10; posedirs are absent where the file has none or only zeros; `fixed_thetas` are those of the
    joints beyond the body's 22 in SMPL-H and SMPL-X, whose last 30 joints are the hands, left then right; else (0, 3).
    """
    content = _read_container(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: no body: it holds a {type(content).__name__}, not a dict of arrays. {WHERE_FROM}")
    _require(path, content, REQUIRED)
    try:
        parents = np.concatenate(([-1], _dense(content["kintree_table"])[0, 1:].astype(np.int64)))
        arrays = {key: _dense(content[key]).astype(np.float64) for key in ("v_template", "weights", "J_regressor")}
        arrays |= {"parents": parents, "f": _dense(content["f"]).astype(np.int64), "fixed_thetas": np.zeros((0, 3))}
        arrays["shapedirs"] = _dense(content["shapedirs"])[..., :MAX_BETAS].astype(np.float64)
        if "posedirs" in content and np.any(posedirs := _dense(content["posedirs"])):
            arrays["posedirs"] = posedirs.astype(np.float64)
        if len(parents) > len(SMPL_PARENTS):
            _require(path, content, HANDS)
            hands = [_dense(content[key]).reshape(15, 3) for key in HANDS]
            arrays["fixed_thetas"] = np.concatenate((np.zeros((len(parents) - BODY_JOINTS - 30, 3)), *hands))
        _check(path, arrays)
    except InputError:
        raise
    except (ValueError, TypeError, IndexError, MemoryError) as error:
        raise InputError(f"{path}: no body: its arrays are not those of SMPL ({error}). {WHERE_FROM}") from None
    return arrays


def _read_container(path: Path) -> Any:
    """A dict of what the .npz (unused arrays as None) or the pickle holds."""
    try:
        data = read_bytes(path)
        if not data.startswith(b"PK"):
            return load_pickle(path)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            used = {*REQUIRED, *HANDS, "posedirs"}
            return {key: file[key] if key in used else None for key in file.files}
    except UnsafePickle:
        raise
    except InputError as error:
        raise InputError(f"{error} {WHERE_FROM}") from None
    except Exception as error:  # a broken zip archive fails in many ways
        raise InputError(f"{path}: no body: the .npz cannot be read ({error}). Is it cut? {WHERE_FROM}") from None


def _require(path: Path, content: Mapping, keys: tuple[str, ...]) -> None:
    if missing := [key for key in keys if key not in content]:
        raise InputError(f"{path}: no body: it lacks {missing}; it has {sorted(map(str, content))}. {WHERE_FROM}")


def _dense(value: Any) -> np.ndarray:
    return value.toarray() if sparse.issparse(value) else np.asarray(value)


def _check(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """InputError when the skeleton is not that of SMPL, SMPL-H or SMPL-X, or shapes do not belong together."""
    parents, joints, vertices = arrays["parents"], len(arrays["parents"]), len(arrays["v_template"])
    if joints not in (24, 52, 55) or tuple(parents[:BODY_JOINTS]) != SMPL_PARENTS[:BODY_JOINTS]:
        expected = "24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) joints that start with SMPL's 22 body joints"
        raise InputError(f"{path}: no body: a skeleton of {joints} joints, expected {expected}. {WHERE_FROM}")
    betas = arrays["shapedirs"].shape[-1]
    expected = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, betas),
        "weights": (vertices, joints),
        "J_regressor": (joints, vertices),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "f": (len(arrays["f"]), 3),
    }
    for key in expected.keys() & arrays.keys():
        found, shape = arrays[key], expected[key]
        if found.shape != shape or not np.isfinite(found).all():
            what = f"{key} is {found.shape}, expected {shape}" if found.shape != shape else f"{key} holds NaN or Inf"
            raise InputError(f"{path}: no body: {what}. {WHERE_FROM}")
    inside = (arrays["f"] >= 0) & (arrays["f"] < vertices)
    if not inside.size or not inside.all() or (parents[1:] < 0).any() or (parents[1:] >= range(1, joints)).any():
        what = f"faces must point at its {vertices} vertices, the parent of a joint at an earlier joint"
        raise InputError(f"{path}: no body: {what}. {WHERE_FROM}")
