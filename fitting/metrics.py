"""The metrics of a motion as pure functions on arrays: errors, smoothness, feet on the floor, limits.

Joints are (L, J, 3) and vertices (L, V, 3) in metres, y up, over L frames; where joints 10 and 11 (the feet) are
meant, J >= 22 in SMPL's order. NaN is a joint that was not seen: it takes part in no mean and is never in contact.
Tensors serve as well as arrays; all work is in float64. A mean over nothing is None. docs/metrics.md has the
definitions in words.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.body import BODY_JOINTS, BodyModel
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

Array = np.ndarray | Tensor

FEET = (10, 11)  # left and right foot: the ball of the foot, where the toes begin
CARRIERS = ((7, 10), (8, 11))  # the joints that carry a foot's skin: ankle and foot
GATE = 0.05  # metres over the floor below which a foot is near it
LOW_GATE = 0.025  # the same, where a toe that swings low should not count
STILL = 0.5  # m/s; a foot that is slower stands, one that is faster slides
SOLE = 0.015  # metres over the foot's lowest vertex, in the rest pose, up to which its skin is sole
SUPPORT = 0.01  # metres over the sole's lowest vertex up to which the sole bears in that frame
SHORTEST_BONE = 1e-4  # metres; what is shorter is two joints on one spot, no bone


def mean(values: Array) -> float | None:
    """Mean of the values that are not NaN; None when there are none."""
    values = _float64(values)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else None


# Errors against a target --------------------------------------------------------------------------------------------


def joint_errors_mm(joints: Array, target: Array) -> np.ndarray:
    """Distance in millimetres of joints or vertices (..., J, 3) from target (..., J, 3), both in metres: (..., J)."""
    return 1000 * np.linalg.norm(_float64(joints) - _float64(target), axis=-1)


def aligned(points: Array, target: Array) -> np.ndarray:
    """Each frame of points (L, P, 3), moved, turned and scaled onto target (L, P, 3) with the least squared distance.

    The similarity of Umeyama (PAMI 1991), reflections excluded. Points that are NaN in either have no say.
    """
    points, target = _float64(points), _float64(target)
    seen = ~np.isnan(points + target).any(-1, keepdims=True)
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    means = [np.where(seen, cloud, 0).sum(1, keepdims=True) / count for cloud in (points, target)]
    source, goal = (np.where(seen, cloud - mean, 0) for cloud, mean in zip((points, target), means, strict=True))
    u, singular, vt = np.linalg.svd(np.swapaxes(goal, 1, 2) @ source)
    singular[:, 2] *= np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    scale = singular.sum(-1) / np.maximum((source**2).sum((1, 2)), 1e-12)
    return scale[:, None, None] * (points - means[0]) @ np.swapaxes(u @ vt, 1, 2) + means[1]


def pa_errors_mm(joints: Array, target: Array) -> np.ndarray:
    """joint_errors_mm after `aligned`, frame by frame: (L, J). Its mean is the PA-MPJPE."""
    return joint_errors_mm(aligned(joints, target), target)


def rotation_errors_degrees(thetas: Array, target: Array) -> np.ndarray:
    """Angle in degrees between local rotations thetas and target (..., 3), axis-angle in radians: (...)."""
    ours, true = (axis_angle_to_matrix(torch.as_tensor(_float64(values))) for values in (thetas, target))
    return np.degrees(matrix_to_axis_angle(ours.mT @ true).norm(dim=-1).numpy())


def acceleration_error(joints: Array, target: Array, fps: float) -> float | None:
    """Mean norm of the difference of the second differences of joints and target (L, J, 3), times fps^2: m/s^2."""
    return acceleration(_float64(joints) - _float64(target), fps)


# Smoothness ---------------------------------------------------------------------------------------------------------


def acceleration(joints: Array, fps: float) -> float | None:
    """Mean norm of the second difference of joints (L, J, 3) metres, times fps^2: m/s^2. None below three frames."""
    return _mean_difference(joints, fps, 2)


def jerk(joints: Array, fps: float) -> float | None:
    """Mean norm of the third difference of joints (L, J, 3) metres, times fps^3: m/s^3. None below four frames."""
    return _mean_difference(joints, fps, 3)


def rotation_jitter_degrees(thetas: Array) -> float | None:
    """Mean over frames and joints of the change of the turn from one frame to the next, in degrees a frame a frame.

    thetas (L, J, 3) axis-angle in radians. With w_t = log(R_t^T R_t+1), the mean of |w_t+1 - w_t|: zero for a rotation
    at constant speed, blind to the 2 pi by which a rotation vector may be wound. None below three frames.
    """
    if len(thetas) < 3:
        return None
    rotations = axis_angle_to_matrix(torch.as_tensor(_float64(thetas)))
    turns = matrix_to_axis_angle(rotations[:-1].mT @ rotations[1:])
    return float(np.degrees((turns[1:] - turns[:-1]).norm(dim=-1).mean().item()))


def bone_length_change_percent(joints: Array, parents: tuple[int, ...]) -> float:
    """By how much the length of the worst bone changes over joints (L, J, 3): 100 x standard deviation / mean."""
    joints = _float64(joints)
    children = [joint for joint, parent in enumerate(parents[: joints.shape[1]]) if parent >= 0]
    lengths = np.linalg.norm(joints[:, children] - joints[:, [parents[child] for child in children]], axis=-1)
    lengths = lengths[:, (~np.isnan(lengths)).any(0)]
    mean = np.nanmean(lengths, 0) if lengths.size else np.zeros(0)
    bones = mean > SHORTEST_BONE
    return float(100 * (np.nanstd(lengths[:, bones], 0) / mean[bones]).max(initial=0.0))


# Feet: contact always comes from the input --------------------------------------------------------------------------


def floor_height(joints_input: Array) -> float | None:
    """Height in metres of the floor: the 1st percentile of the heights of the input's feet over all frames."""
    heights = _float64(joints_input)[:, FEET, 1]
    return float(np.nanpercentile(heights, 1)) if not np.isnan(heights).all() else None


def speeds(points: Array, fps: float, horizontal: bool = False) -> np.ndarray:
    """Speed in m/s of points (L, P, 3) from each frame to the next: (L - 1, P). Row t is |p_t+1 - p_t| fps."""
    axes = [0, 2] if horizontal else [0, 1, 2]
    return fps * np.linalg.norm(np.diff(_float64(points)[..., axes], axis=0), axis=-1)


def foot_skate_ratio(joints: Array, fps: float, floor: float, gate: float = GATE) -> float | None:
    """Share of the L - 1 steps from a frame to the next in which some foot slides.

    It slides if it is less than `gate` metres over the floor in both frames and faster than STILL over level ground.
    None for a single frame.
    """
    feet = _float64(joints)[:, FEET]
    near = feet[..., 1] - floor < gate
    slides = near[:-1] & near[1:] & (speeds(feet, fps, horizontal=True) > STILL)
    return float(slides.any(1).mean()) if len(slides) else None


def planted(joints_input: Array, fps: float, floor: float) -> np.ndarray:
    """(L - 1, 2) bool, left and right: in frame t the input's foot is under GATE and leaves it slower than STILL (3-D).

    The last frame has no next one and counts as neither.
    """
    feet = _float64(joints_input)[:, FEET]
    return (feet[:-1, :, 1] - floor < GATE) & (speeds(feet, fps) < STILL)


def planted_speed(joints: Array, fps: float, contact: np.ndarray, horizontal: bool = False) -> float | None:
    """Mean speed in m/s of the feet of joints (L, J, 3) where contact, as `planted` gives it from the input."""
    return mean(speeds(_float64(joints)[:, FEET], fps, horizontal)[contact])


def lifted_share(joints: Array, joints_input: Array, floor: float) -> float | None:
    """Of the feet and frames in which the input's foot is under GATE, the share in which the fit's is not."""
    ours, given = (_float64(values)[:, FEET, 1] - floor for values in (joints, joints_input))
    return mean((ours >= GATE)[given < GATE])


# The mesh over the floor --------------------------------------------------------------------------------------------


def sole_vertices(weights: Array, rest: Array) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the left and of the right sole of any body of the SMPL family.

    weights (V, J) of the skin, rest (V, 3) metres, y up: a foot is what its two CARRIERS carry by more than half, its
    sole what lies up to SOLE above the foot's lowest vertex.
    """
    weights, heights = _float64(weights), _float64(rest)[:, 1]
    feet = [np.flatnonzero(weights[:, carriers].sum(1) > 0.5) for carriers in CARRIERS]
    left, right = (foot[heights[foot] <= heights[foot].min() + SOLE] for foot in feet)
    return left, right


@dataclass(frozen=True)
class Underside:
    """What of a mesh meets the floor: height (L,) of its lowest vertex; soles, left and right, (L, S, 3); metres."""

    lowest: np.ndarray
    soles: tuple[np.ndarray, np.ndarray]


def underside(body: BodyModel, betas: Tensor, thetas: Tensor, transl: Tensor, frames_at_once: int = 64) -> Underside:
    """The Underside of a body posed as for BodyModel.vertices, by pieces, so that no long mesh is ever held."""
    left, right = sole_vertices(body.weights, body.v_template)
    pieces = []
    for start in range(0, len(thetas), frames_at_once):
        part = slice(start, start + frames_at_once)
        vertices = body.vertices(betas if betas.ndim == 1 else betas[part], thetas[part], transl[part])
        pieces.append([_float64(p) for p in (vertices[..., 1].amin(1), vertices[:, left], vertices[:, right])])
    lowest, *soles = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Underside(lowest, tuple(soles))


def penetration_mm(mesh: Underside, floor: float) -> float:
    """How deep the lowest vertex is under the floor, 0 where it is not; mean over all frames, millimetres."""
    return float(1000 * np.maximum(floor - mesh.lowest, 0).mean())


def float_mm(mesh: Underside, floor: float, contact: np.ndarray) -> float | None:
    """How high the lowest vertex is over the floor, 0 where it is not; mean over frames with a foot planted, mm."""
    return mean(1000 * np.maximum(mesh.lowest - floor, 0)[:-1][contact.any(1)])


def sole_height_mm(mesh: Underside, floor: float, contact: np.ndarray) -> float | None:
    """Distance from the floor, up or down, of the lowest vertex of a planted foot's sole; mean, millimetres."""
    lowest = np.stack([sole[..., 1].min(1) for sole in mesh.soles], 1)
    return mean(1000 * np.abs(lowest - floor)[:-1][contact])


def slip_mm(mesh: Underside, contact: np.ndarray) -> float | None:
    """Way over level ground that the bearing part of a planted foot's sole makes in a frame; mean, millimetres.

    Bearing are the sole's vertices up to SUPPORT above its lowest in that frame: a foot that rolls does not slip.
    """
    return mean(np.concatenate([_way_mm(sole)[foot] for sole, foot in zip(mesh.soles, contact.T, strict=True)]))


def _way_mm(sole: np.ndarray) -> np.ndarray:
    """(L, S, 3) metres -> (L - 1,) millimetres."""
    bearing = sole[:-1, :, 1] <= sole[:-1, :, 1].min(1, keepdims=True) + SUPPORT
    ways = np.linalg.norm(np.diff(sole[..., [0, 2]], axis=0), axis=-1)
    return 1000 * (ways * bearing).sum(1) / bearing.sum(1)


# Limits -------------------------------------------------------------------------------------------------------------


def limit_excess_degrees(thetas: Array, limits: Array) -> np.ndarray:
    """(L, 23) degrees by which the worst component of a joint's rotation vector passes the joint's limits, 0 for none.

    thetas (L, 24, 3) axis-angle in radians, root first; limits (23, 3, 2), lowest and highest, as PosePrior.limits.
    Rotation vectors are first unwound to at most pi. Of a pose with fingers only the body's joints count, (L, 21).
    """
    joints = None if thetas.shape[1] <= 1 + len(limits) else BODY_JOINTS
    pose = matrix_to_axis_angle(axis_angle_to_matrix(torch.as_tensor(_float64(thetas)[:, 1:joints]))).numpy()
    low, high = np.moveaxis(_float64(limits)[: pose.shape[1]], -1, 0)
    return np.degrees(np.maximum(np.maximum(pose - high, low - pose), 0).max(2))


def _float64(values: Array) -> np.ndarray:
    return np.asarray(values.numpy(force=True) if isinstance(values, Tensor) else values, np.float64)


def _mean_difference(joints: Array, fps: float, order: int) -> float | None:
    """Mean norm of the `order`th difference of joints (L, J, 3) in time, times fps^order."""
    if len(joints) <= order:
        return None
    return mean(np.linalg.norm(np.diff(_float64(joints), n=order, axis=0), axis=-1) * fps**order)
