"""Body files for tests, made from the embedded body: SMPL, SMPL-H and SMPL-X, plain or in the official form."""

import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy import sparse

from models.body import EMBEDDED
from models.skeleton import SKELETONS, SMPL_PARENTS

Arrays = dict[str, np.ndarray]


def smpl_arrays(bend: float = 0.0) -> Arrays:
    """The embedded body with all keys of SMPL; posedirs random of standard deviation `bend` metres."""
    with np.load(EMBEDDED) as file:
        arrays = {key: file[key] for key in ("v_template", "f", "weights", "J_regressor", "shapedirs", "kintree_table")}
    noise = np.random.default_rng(0).standard_normal((*arrays["v_template"].shape, 207), np.float32)
    return arrays | {"posedirs": bend * noise}


def smplh_arrays() -> Arrays:
    """52 joints: the hands' weights shared with fingers that are regressed from vertices of the hands."""
    return _with_fingers(smpl_arrays(), SKELETONS["smplh"].parents)


# Knuckle and tip of the embedded body's left fingers at rest, in metres, in the order of SMPL-H's fingers
LEFT_FINGERS = np.array(
    [
        [[0.830, 0.219, -0.035], [0.912, 0.197, -0.030]],
        [[0.833, 0.219, -0.060], [0.920, 0.203, -0.070]],
        [[0.820, 0.216, -0.097], [0.902, 0.200, -0.112]],
        [[0.828, 0.219, -0.080], [0.916, 0.205, -0.090]],
        [[0.760, 0.212, -0.022], [0.836, 0.168, 0.018]],
    ]
)
ALONG = np.array([0, 0.4, 0.7])[:, None]  # where a finger's three joints lie between knuckle and tip
MEAN_BEND = np.radians([20, 30, 20])


def handed_arrays() -> Arrays:
    """52 joints with the fingers where the embedded body's mesh has them; the mean hand bends them a little."""
    arrays = smplh_arrays() | {"posedirs": np.zeros((6890, 3, 9 * 51), np.float32)}
    vertices, weights, regressor = arrays["v_template"], arrays["weights"], arrays["J_regressor"]
    left = LEFT_FINGERS[:, :1] + ALONG * (LEFT_FINGERS[:, 1:] - LEFT_FINGERS[:, :1])
    ends = np.concatenate((left[:, 1:], LEFT_FINGERS[:, 1:]), 1)
    for first, wrist, sign in ((22, 20, 1), (37, 21, -1)):
        joints, middles = (x.reshape(15, 3) * [sign, 1, 1] for x in (left, (left + ends) / 2))
        skin = np.flatnonzero(weights[:, first : first + 15].sum(1) > 0.5)
        known = np.concatenate((vertices[skin].T, np.ones((1, len(skin)))))  # affine: the joints go with the skin
        regressor[first : first + 15] = 0
        regressor[first : first + 15, skin] = (np.linalg.pinv(known) @ np.concatenate((joints.T, np.ones((1, 15))))).T
        palm = (regressor[wrist] @ vertices + joints[3]) / 2
        nearest = np.linalg.norm(vertices[:, None] - np.vstack((middles, palm)), axis=-1).argmin(1)
        whole = weights[:, first : first + 15].sum(1)
        weights[:, first : first + 15] = 0
        weights[range(len(vertices)), np.array([*range(first, first + 15), wrist])[nearest]] += whole
        mean = np.zeros((5, 3, 3))
        mean[:4, :, 2] = -sign * MEAN_BEND
        arrays[f"hands_mean{'l' if sign > 0 else 'r'}"] = mean.flatten()
    return arrays


def smplx_arrays() -> Arrays:
    """55 joints and, as smplx insists, SMPL-X's count of vertices (some of ours twice), 10 expressions after betas."""
    face = (15, 15, 15)
    fingers = tuple(parent if parent < 22 else parent + 3 for parent in SKELETONS["smplh"].parents[22:])
    arrays = _with_fingers(smpl_arrays(), SMPL_PARENTS[:22] + face + fingers)
    more = 10475 - len(arrays["v_template"])
    for key in ("v_template", "weights", "shapedirs", "posedirs"):
        arrays[key] = np.concatenate((arrays[key], arrays[key][:more]))
    arrays["J_regressor"] = np.pad(arrays["J_regressor"], ((0, 0), (0, more)))
    arrays["shapedirs"] = np.concatenate((arrays["shapedirs"], arrays["shapedirs"] + 0.01), -1)
    return arrays | {"lmk_faces_idx": np.arange(51), "lmk_bary_coords": np.full((51, 3), 1 / 3)}


def _with_fingers(arrays: Arrays, parents: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(1)
    joints, others = len(parents), len(parents) - 22
    weights, regressor = arrays["weights"], arrays["J_regressor"]
    finger_weights, finger_regressor = np.zeros((len(weights), others)), np.zeros((others, len(weights)))
    for hand, first in ((22, others - 30), (23, others - 15)):
        finger_weights[:, first : first + 15] = weights[:, [hand]] * rng.dirichlet(np.ones(15), len(weights))
        for finger in range(first, first + 15):
            finger_regressor[finger, rng.choice(np.flatnonzero(weights[:, hand] > 0.5), 8)] = 1 / 8
    finger_regressor[: others - 30] = regressor[15]
    return arrays | {
        "weights": np.concatenate((weights[:, :22], finger_weights), 1),
        "J_regressor": np.concatenate((regressor[:22], finger_regressor)),
        "kintree_table": np.array([parents, range(joints)]),
        "posedirs": rng.standard_normal((len(weights), 3, 9 * (joints - 1)), np.float32) * 1e-4,
        "hands_meanl": rng.normal(0, 0.4, 45),
        "hands_meanr": rng.normal(0, 0.4, 45),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
    }


def write_pickle(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def write_official(path: Path, arrays: Arrays) -> Path:
    """As SMPL is handed out: pickled by Python 2, with chumpy objects, a sparse regressor, an unsigned -1 as root."""
    kintree = arrays["kintree_table"].astype(np.uint32)
    kintree[0, 0] = 2**32 - 1
    with _chumpy() as (ch, select):
        backwards = ch(arrays["v_template"][::-1])
        content = arrays | {
            "shapedirs": ch(arrays["shapedirs"]),
            "posedirs": ch(arrays["posedirs"]),
            "v_template": select(backwards, np.arange(backwards.x.size).reshape(-1, 3)[::-1].ravel(), (-1, 3)),
            "J_regressor": sparse.csc_matrix(arrays["J_regressor"]),
            "kintree_table": kintree,
            "bs_style": "lbs",
        }
        with path.open("wb") as file:
            _Python2Pickler(file, protocol=2).dump(content)
    # the names that Python 2's versions of these packages wrote
    path.write_bytes(
        path.read_bytes().replace(b"scipy.sparse._csc\n", b"scipy.sparse.csc\n").replace(b"numpy._core", b"numpy.core")
    )
    return path


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2's str."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str2(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_str2


@contextmanager
def _chumpy() -> Iterator[tuple[type, type]]:
    """Stand-ins for two classes of chumpy under its module names, importable only while the pickle is written."""

    class Ch:
        def __init__(self, x: np.ndarray):
            self.x, self._dirty_vars, self._itr = x, {"x"}, None

    class Select:
        def __init__(self, a: Ch, idxs: np.ndarray, preferred_shape: tuple[int, ...]):
            self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape

    modules = {name: ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    for kind, module in ((Ch, "chumpy.ch"), (Select, "chumpy.reordering")):
        kind.__module__, kind.__qualname__ = module, kind.__name__
        setattr(modules[module], kind.__name__, kind)
    sys.modules.update(modules)
    try:
        yield Ch, Select
    finally:
        for name in modules:
            del sys.modules[name]
