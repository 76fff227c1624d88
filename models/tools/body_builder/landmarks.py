"""Vertex order: 21 landmarks get the numbers they have in SMPL, so that programs which pick them by number work."""

import numpy as np

from models.skeleton import SMPL_JOINTS
from models.tools.body_builder.makehuman import MakeHuman
from models.tools.body_builder.rigid import unit

NOSE = 332
# Left and right vertex of each pair; the numbers smplx appends as extra joints.
PAIRS = {
    "eye": (2800, 6260),
    "ear": (583, 4071),
    "thumb": (2746, 6191),
    "index": (2319, 5782),
    "middle": (2445, 5905),
    "ring": (2556, 6016),
    "pinky": (2673, 6133),
    "big toe": (3216, 6617),
    "small toe": (3226, 6624),
    "heel": (3387, 6787),
}
TIPS = {
    "thumb": "finger1-3.L",
    "index": "finger2-3.L",
    "middle": "finger3-3.L",
    "ring": "finger4-3.L",
    "pinky": "finger5-3.L",
    "big toe": "toe1-2.L",
    "small toe": "toe5-3.L",
}


def order(
    source: MakeHuman, a_pose: np.ndarray, skin: np.ndarray, points: np.ndarray, weights: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """(V,) the vertex that takes each number: landmarks change places with whatever stood at their number.

    a_pose: MakeHuman's vertices (19158, 3); skin: the same skin in the T-pose (n, 3); points (V, 3), weights (V, 24),
    mirror (V,): the template. Raises ValueError where two landmarks fall on one vertex.
    """
    left = {name: nearest(points, skin[tip(source, a_pose, bone)]) for name, bone in TIPS.items()}
    nose, left["eye"], left["ear"], left["heel"] = face_and_heel(points, weights, mirror)
    numbers = {nose: NOSE}
    for name, (left_number, right_number) in PAIRS.items():
        numbers |= {left[name]: left_number, int(mirror[left[name]]): right_number}
    if len(numbers) != 1 + 2 * len(PAIRS):
        raise ValueError(f"two landmarks fell on one vertex: {left}, nose {nose}")
    places = np.arange(len(points))
    for vertex, number in numbers.items():
        here = int(np.flatnonzero(places == vertex)[0])
        places[[here, number]] = places[[number, here]]
    return places


def tip(source: MakeHuman, a_pose: np.ndarray, bone: str) -> int:
    """Skin vertex at the end of a finger or toe: the farthest along its last bone, within 2 cm of the bone's tail."""
    i = source.rig.names.index(bone)
    head, tail = a_pose[source.rig.heads[i]].mean(0), a_pose[source.rig.tails[i]].mean(0)
    skin = a_pose[: source.num_skin]
    near = np.flatnonzero(np.linalg.norm(skin - tail, axis=1) < 0.02)
    return int(near[np.argmax((skin[near] - head) @ unit(tail - head))])


def nearest(points: np.ndarray, point: np.ndarray) -> int:
    """Index of the nearest of the points (n, 3)."""
    return int(np.argmin(np.linalg.norm(points - point, axis=1)))


def face_and_heel(points: np.ndarray, weights: np.ndarray, mirror: np.ndarray) -> tuple[int, int, int, int]:
    """Nose, left eye, left ear and left heel: extreme points of the head and of the rear foot."""

    def foremost(mask: np.ndarray, score: np.ndarray) -> int:
        return int(np.argmax(np.where(mask, score, -np.inf)))

    x, y, z = points.T
    head = weights[:, SMPL_JOINTS.index("head")] > 0.9
    nose = foremost(head & (mirror == np.arange(len(points))), z)
    eye = nearest(points, np.array([0.032, y[nose] + 0.045, z[nose] - 0.03]))
    ear = foremost(head, x - 0.3 * np.abs(y - y[nose] - 0.02))
    heel = foremost(weights[:, SMPL_JOINTS.index("left_ankle")] > 0.9, -z - 0.5 * y)
    return nose, eye, ear, heel
