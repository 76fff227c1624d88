"""Rotations: axis-angle, matrix, unit quaternion, rot6d, Euler angles and the way between them.

Conventions: matrices act on column vectors; axis-angle is axis x angle in radians; quaternions are (w, x, y, z);
rot6d is the first two ROWS of the matrix one after the other (SMPL thetas, MDM's 25x6 form); cont6d is the first two
COLUMNS (HumanML3D's features). Any leading dimensions, float32 or float64. Values and gradients are finite and accurate
at angle zero (series in the squared angle) and at pi (the best conditioned component of the quaternion leads).
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def skew(vector: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3) matrix K with K u = vector x u."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def _half_angle_terms(axis_angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(squared half angle h^2, sin(h) / h, cos(h)), each (..., 1); smooth in the vector, so differentiable at zero."""
    h2 = axis_angle.square().sum(-1, keepdim=True) / 4
    small = h2 < 1e-4
    h = torch.where(small, 1, h2).sqrt()
    sinc = torch.where(small, 1 - h2 / 6 * (1 - h2 / 20), h.sin() / h)
    cos = torch.where(small, 1 - h2 / 2 * (1 - h2 / 12 * (1 - h2 / 30)), h.cos())
    return h2, sinc, cos


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """(..., 3) radians -> (..., 3, 3): Rodrigues, R = cos(a) I + sin(a)/a K + (1 - cos(a))/a^2 v v^T."""
    h2, sinc, cos = (term.squeeze(-1) for term in _half_angle_terms(axis_angle))
    diagonal = 1 - 2 * h2 * sinc.square()
    x, y, z = axis_angle.unbind(-1)
    sine = sinc * cos
    sx, sy, sz = sine * x, sine * y, sine * z
    versine = sinc.square() / 2
    vx, vy, vz = versine * x, versine * y, versine * z
    xy, xz, yz = vx * y, vx * z, vy * z
    entries = (
        diagonal + vx * x, xy - sz, xz + sy,
        xy + sz, diagonal + vy * y, yz - sx,
        xz - sy, yz + sx, diagonal + vz * z,
    )  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """(..., 3) radians -> (..., 4) unit quaternion (w, x, y, z) = (cos(a/2), v sin(a/2)/a)."""
    _, sinc, cos = _half_angle_terms(axis_angle)
    return torch.cat((cos, axis_angle * sinc / 2), -1)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """(..., 4) quaternion of any length and sign -> (..., 3) radians, angle within [0, pi]."""
    quaternion = quaternion_standardize(quaternion)
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    n2 = xyz.square().sum(-1, keepdim=True)
    small = n2 < 1e-4 * w.square()
    n = torch.where(small, 1, n2).sqrt()
    near = torch.where(small, w, 1)
    u2 = n2 / near.square()
    half_angle_over_n = torch.where(small, (1 - u2 * (1 / 3 - u2 * (1 / 5 - u2 / 7))) / near, torch.atan2(n, w) / n)
    return 2 * xyz * half_angle_over_n


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """(..., 4) quaternion (w, x, y, z), not necessarily of unit length -> (..., 3, 3)."""
    w, x, y, z = normalize(quaternion, dim=-1).unbind(-1)
    entries = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """(..., 3, 3) rotation -> (..., 4) unit quaternion (w, x, y, z) with w >= 0.

    The entries of R give the matrix 4 q q^T; its row with the largest diagonal entry, normalised, is q, and its length
    is at least 2, so nothing small is divided by or square-rooted (Shepperd's choice of branch).
    """
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = matrix.flatten(-2).unbind(-1)
    rows = (
        1 + r00 + r11 + r22, r21 - r12, r02 - r20, r10 - r01,
        r21 - r12, 1 + r00 - r11 - r22, r10 + r01, r02 + r20,
        r02 - r20, r10 + r01, 1 - r00 + r11 - r22, r21 + r12,
        r10 - r01, r02 + r20, r21 + r12, 1 - r00 - r11 + r22,
    )  # fmt: skip
    outer = torch.stack(rows, -1).unflatten(-1, (4, 4))
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = torch.take_along_dim(outer, best, -2).squeeze(-2)
    return quaternion_standardize(normalize(row, dim=-1))


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """(..., 3, 3) rotation -> (..., 3) radians, angle within [0, pi]; at exactly pi the axis' sign is free."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rot6d(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 6): first row, then second row."""
    return matrix[..., :2, :].flatten(-2)


def rot6d_to_matrix(rot6d: Tensor) -> Tensor:
    """(..., 6) rows, not necessarily orthonormal -> (..., 3, 3) by Gram-Schmidt (Zhou et al., CVPR 2019)."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    b1 = normalize(first, dim=-1)
    b2 = normalize(second - (b1 * second).sum(-1, keepdim=True) * b1, dim=-1)
    return torch.stack((b1, b2, torch.linalg.cross(b1, b2)), -2)


def matrix_to_cont6d(matrix: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 6): first column, then second column (the 6D form inside HumanML3D's features)."""
    return matrix_to_rot6d(matrix.mT)


def cont6d_to_matrix(cont6d: Tensor) -> Tensor:
    """(..., 6) columns, not necessarily orthonormal -> (..., 3, 3): x = a1, z = x x a2, y = z x x, each normalised.

    The same frame as Gram-Schmidt's, so it is the transpose of what `rot6d_to_matrix` makes of the same six numbers.
    """
    return rot6d_to_matrix(cont6d).mT


def axis_angle_to_rot6d(axis_angle: Tensor) -> Tensor:
    """(..., 3) radians -> (..., 6) rows."""
    return matrix_to_rot6d(axis_angle_to_matrix(axis_angle))


def rot6d_to_axis_angle(rot6d: Tensor) -> Tensor:
    """(..., 6) rows -> (..., 3) radians, angle within [0, pi]."""
    return matrix_to_axis_angle(rot6d_to_matrix(rot6d))


def quaternion_standardize(quaternion: Tensor) -> Tensor:
    """(..., 4) -> the same rotation with w >= 0."""
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of (..., 4) and (..., 4): first turn by b, then by a."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    w = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat((w, aw * bv + bw * av + torch.linalg.cross(av, bv)), -1)


def quaternion_conjugate(quaternion: Tensor) -> Tensor:
    """(..., 4) -> the inverse of a unit quaternion."""
    return torch.cat((quaternion[..., :1], -quaternion[..., 1:]), -1)


def quaternion_apply(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Rotate (..., 3) vectors by (..., 4) unit quaternions."""
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    across = torch.linalg.cross(xyz, vector)
    return vector + 2 * (w * across + torch.linalg.cross(xyz, across))


def quaternion_between(a: Tensor, b: Tensor) -> Tensor:
    """Shortest rotation taking direction a (..., 3) to direction b (..., 3), as (..., 4).

    normalise(|a||b| + a.b, a x b); for opposite directions, where that is zero, half a turn about an axis normal to a.
    """
    a, b = torch.broadcast_tensors(normalize(a, dim=-1), normalize(b, dim=-1))
    quaternion = torch.cat((1 + (a * b).sum(-1, keepdim=True), torch.linalg.cross(a, b)), -1)
    smallest = torch.nn.functional.one_hot(a.abs().argmin(-1), 3).to(a)
    half_turn = torch.cat((torch.zeros_like(a[..., :1]), torch.linalg.cross(a, smallest)), -1)
    opposite = quaternion.square().sum(-1, keepdim=True) < 1e-12
    return normalize(torch.where(opposite, half_turn, quaternion), dim=-1)


def euler_to_matrix(angles: Tensor, order: str = "XYZ") -> Tensor:
    """(..., 3) radians -> (..., 3, 3) = R1 R2 R3, each about the axis that its letter in `order` names."""
    axes = torch.eye(3, dtype=angles.dtype, device=angles.device)[["XYZ".index(letter) for letter in order]]
    r1, r2, r3 = axis_angle_to_matrix(angles[..., None] * axes).unbind(-3)
    return r1 @ r2 @ r3


def matrix_to_euler(matrix: Tensor, order: str = "XYZ") -> Tensor:
    """(..., 3, 3) -> (..., 3) radians with R = R1 R2 R3 for an order of three different letters.

    The middle angle lies within [-pi/2, pi/2]; at its ends the first and last angle are not unique (gimbal lock).
    """
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = 1 if (j - i) % 3 == 1 else -1
    first = torch.atan2(-sign * matrix[..., j, k], matrix[..., k, k])
    middle = torch.atan2(sign * matrix[..., i, k], torch.hypot(matrix[..., i, i], matrix[..., i, j]))
    last = torch.atan2(-sign * matrix[..., i, j], matrix[..., i, i])
    return torch.stack((first, middle, last), -1)
