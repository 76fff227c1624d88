"""Rotations: golden values, round trips, invariants, and finite, right gradients at zero and at pi."""

import math

import numpy as np
import pytest
import torch

from models import rotations as rot

DTYPES = [torch.float32, torch.float64]
SUFFIX = {torch.float32: "", torch.float64: "_f64"}  # of the golden twins
EXACT = {torch.float32: 1e-6, torch.float64: 1e-12}  # how well mathematics holds


@pytest.fixture(scope="module")
def golden(reference) -> dict[str, torch.Tensor]:
    with np.load(reference / "golden" / "rotations.npz") as file:
        return {key: torch.tensor(file[key]) for key in file.files}


def some_axis_angles(dtype: torch.dtype) -> torch.Tensor:
    """(66, 3): eleven angles from 0 to pi about the axes, their opposites and slanted directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.cat((torch.eye(3), -torch.eye(3)[:1], torch.randn(2, 3, generator=generator))).to(dtype)
    angles = torch.tensor([0, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 1, 2, 3, math.pi - 1e-3, math.pi - 1e-5], dtype=dtype)
    return (angles[:, None, None] * torch.nn.functional.normalize(directions, dim=-1)).flatten(0, 1)


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle (...) between two rotations in radians, accurate when small: |Ra - Rb| = sqrt(8) sin(angle / 2)."""
    return 2 * torch.asin(((a - b).flatten(-2).norm(dim=-1) / math.sqrt(8)).clamp(max=1))


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected.to(found), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_from_axis_angle(golden, dtype):
    given, suffix = golden["axis_angle"].to(dtype), SUFFIX[dtype]
    close(rot.axis_angle_to_matrix(given), golden["matrix_from_aa" + suffix])
    close(rot.axis_angle_to_matrix(given), golden["smplx_rodrigues" + suffix])
    close(rot.axis_angle_to_quaternion(given), golden["quat_from_aa" + suffix])
    close(rot.axis_angle_to_rot6d(given), golden["rot6d_rows_from_matrix" + suffix])


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_from_matrix_as_rotations(golden, dtype):
    matrix, true = golden["matrix_from_aa" + SUFFIX[dtype]], golden["matrix_from_aa_f64"]
    found = rot.axis_angle_to_matrix(rot.matrix_to_axis_angle(matrix).double())
    assert angle_between(found, true).max() < 1e-6  # demanded are 1e-5; the reference's own is off by up to 3e-4
    assert angle_between(found, rot.axis_angle_to_matrix(golden["aa_from_matrix_f64"])).max() < 1e-5
    assert angle_between(rot.quaternion_to_matrix(rot.matrix_to_quaternion(matrix).double()), true).max() < 1e-6
    found = rot.axis_angle_to_matrix(rot.quaternion_to_axis_angle(golden["quat_from_aa"].to(dtype)).double())
    assert angle_between(found, rot.axis_angle_to_matrix(golden["aa_from_quat_f64"])).max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_six_numbers_by_rows_and_by_columns(golden, dtype):
    raw = golden["raw6d"].to(dtype)
    close(rot.rot6d_to_matrix(raw), golden["matrix_from_raw6d_rows" + SUFFIX[dtype]])
    close(rot.cont6d_to_matrix(raw), golden["matrix_from_raw6d_cols" + SUFFIX[dtype]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_golden_euler(golden, dtype):
    expected = golden["euler_XYZ_from_matrix" + SUFFIX[dtype]]
    unique = (expected[:, 1].abs() - math.pi / 2).abs() > 1e-3
    assert unique.sum() > 60
    close(rot.matrix_to_euler(golden["matrix_from_aa" + SUFFIX[dtype]])[unique], expected[unique])
    close(rot.euler_to_matrix(golden["euler_in"]), golden["matrix_from_euler_XYZ"])


def test_golden_quaternions(golden):
    a, b, vector = golden["qa"], golden["qb"], golden["vec"]
    close(rot.quaternion_multiply(a, b), golden["qmul"])
    close(rot.quaternion_standardize(rot.quaternion_multiply(a, b)), golden["quat_mul_std"])
    close(rot.quaternion_standardize(a), golden["quat_std"])
    close(rot.quaternion_apply(a, vector), golden["qrot"])
    close(rot.quaternion_apply(a, vector), golden["quat_apply"])
    close(rot.quaternion_conjugate(a), golden["qinv"])
    close(rot.quaternion_to_matrix(a), golden["matrix_from_quat"])
    close(rot.matrix_to_cont6d(rot.quaternion_to_matrix(a)), golden["cont6d_cols_from_quat"])
    close(rot.quaternion_between(vector, golden["vec2"]), golden["qbetween_dataset"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trips_from_zero_to_pi(dtype):
    given, atol = some_axis_angles(dtype), EXACT[dtype]
    matrix = rot.axis_angle_to_matrix(given)
    close(rot.matrix_to_axis_angle(matrix), given, 3 * atol)
    close(rot.rot6d_to_axis_angle(rot.axis_angle_to_rot6d(given)), given, 3 * atol)
    close(rot.quaternion_to_axis_angle(rot.axis_angle_to_quaternion(given)), given, 3 * atol)
    close(rot.quaternion_to_axis_angle(-3 * rot.axis_angle_to_quaternion(given)), given, 3 * atol)
    close(rot.quaternion_to_matrix(rot.matrix_to_quaternion(matrix)), matrix, atol)
    close(rot.rot6d_to_matrix(rot.matrix_to_rot6d(matrix)), matrix, atol)
    close(rot.cont6d_to_matrix(rot.matrix_to_cont6d(matrix)), matrix, atol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_are_rotations_with_the_given_axis(dtype):
    given = some_axis_angles(dtype) * 2.5  # beyond pi too
    matrix = rot.axis_angle_to_matrix(given)
    close(matrix @ matrix.mT, torch.eye(3).expand_as(matrix), EXACT[dtype])
    close(torch.linalg.det(matrix), torch.ones(len(matrix)), EXACT[dtype])
    close((matrix @ given[..., None]).squeeze(-1), given, 8 * EXACT[dtype])


def test_matrix_is_the_exponential_of_skew():
    given = some_axis_angles(torch.float64)
    close(rot.axis_angle_to_matrix(given), torch.linalg.matrix_exp(rot.skew(given)), 1e-13)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, -1, 0], [0, 0, 1], [0.6, 0, -0.8], [-0.48, 0.6, 0.64]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_turns_come_back_up_to_sign(axis, dtype):
    axis = torch.tensor(axis, dtype=dtype)
    found = rot.matrix_to_axis_angle(2 * axis[:, None] * axis - torch.eye(3, dtype=dtype))
    close(found * (found @ axis).sign(), math.pi * axis, 4 * EXACT[dtype])


@pytest.mark.parametrize("order", ["XYZ", "ZXY", "YZX", "XZY", "ZYX", "YXZ"])
def test_euler_round_trips_in_every_order(order):
    generator = torch.Generator().manual_seed(1)
    angles = (torch.rand(50, 3, generator=generator, dtype=torch.float64) - 0.5) * torch.tensor([6.0, 3.0, 6.0])
    matrix = rot.euler_to_matrix(angles, order)
    close(rot.matrix_to_euler(matrix, order), angles, 1e-12)
    first = {"X": [1.0, 0, 0], "Y": [0, 1.0, 0], "Z": [0, 0, 1.0]}[order[0]]
    only_first = rot.axis_angle_to_matrix(angles[:, :1] * torch.tensor(first).double())
    close(only_first.mT @ matrix, rot.euler_to_matrix(angles * torch.tensor([0.0, 1, 1]), order), 1e-12)


def test_quaternion_between_takes_a_to_b_even_when_opposite():
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    b = torch.cat((torch.randn(20, 3, generator=generator).double(), -2 * a[20:30], 3 * a[30:]))
    turned = rot.quaternion_apply(rot.quaternion_between(a, b), a)
    close(torch.nn.functional.normalize(turned, dim=-1), torch.nn.functional.normalize(b, dim=-1), 1e-7)


def test_quaternion_product_and_application_agree_with_matrices():
    a, b = (rot.axis_angle_to_quaternion(some_axis_angles(torch.float64)[s]) for s in (slice(0, 40), slice(20, 60)))
    vector = torch.tensor([0.3, -1.2, 0.5]).double()
    close(
        rot.quaternion_to_matrix(rot.quaternion_multiply(a, b)),
        rot.quaternion_to_matrix(a) @ rot.quaternion_to_matrix(b),
    )
    close(rot.quaternion_apply(a, vector.expand(40, 3)), rot.quaternion_to_matrix(a) @ vector, 1e-12)


def test_leading_dimensions_are_free():
    given = some_axis_angles(torch.float32)[:24].reshape(2, 1, 3, 4, 3)
    for function in (
        rot.axis_angle_to_matrix,
        rot.axis_angle_to_rot6d,
        rot.axis_angle_to_quaternion,
        rot.euler_to_matrix,
    ):
        one_by_one = torch.stack([function(vector) for vector in given.reshape(-1, 3)])
        close(function(given).reshape(one_by_one.shape), one_by_one, 1e-7)
    matrix = rot.axis_angle_to_matrix(given)
    for function in (rot.matrix_to_axis_angle, rot.matrix_to_quaternion, rot.matrix_to_rot6d, rot.matrix_to_euler):
        one_by_one = torch.stack([function(single) for single in matrix.reshape(-1, 3, 3)])
        close(function(matrix).reshape(one_by_one.shape), one_by_one, 1e-7)
    assert rot.matrix_to_axis_angle(matrix[:0]).shape == (0, 1, 3, 4, 3)


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-6, 1e-2, 0.0199, 0.0201, 1.0, 3.0, math.pi, 4.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_rodrigues_is_its_difference_quotient(angle, dtype):
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    found = torch.autograd.functional.jacobian(rot.axis_angle_to_matrix, (angle * axis).to(dtype))
    steps = 1e-5 * torch.eye(3, dtype=torch.float64)
    ahead, behind = (rot.axis_angle_to_matrix(angle * axis + sign * steps) for sign in (1, -1))
    close(found.movedim(-1, 0).double(), (ahead - behind) / 2e-5, 5e-6 if dtype is torch.float32 else 1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-5, 1e-2, 0.0199, 0.0201, 1.0, 3.0, math.pi - 1e-4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_the_way_there_and_back_is_the_identity(angle, dtype):
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=dtype)
    for there, back in (
        (rot.axis_angle_to_matrix, rot.matrix_to_axis_angle),
        (rot.axis_angle_to_quaternion, rot.quaternion_to_axis_angle),
        (rot.axis_angle_to_rot6d, rot.rot6d_to_axis_angle),
    ):
        jacobian = torch.autograd.functional.jacobian(lambda v, f=there, g=back: g(f(v)), angle * axis)
        close(jacobian, torch.eye(3), 1e-4 if dtype is torch.float32 else 1e-9)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, -1, 0], [0, 0, 1], [-0.48, 0.6, 0.64]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_at_exact_identity_and_half_turn(axis, dtype):
    axis = torch.tensor(axis, dtype=dtype)
    half_turn = 2 * axis[:, None] * axis - torch.eye(3, dtype=dtype)
    for matrix in (torch.eye(3, dtype=dtype), half_turn):
        for function in (rot.matrix_to_axis_angle, rot.matrix_to_quaternion, rot.matrix_to_euler):
            assert torch.autograd.functional.jacobian(function, matrix).isfinite().all()
        jacobian = torch.autograd.functional.jacobian(rot.rot6d_to_axis_angle, rot.matrix_to_rot6d(matrix))
        assert jacobian.isfinite().all()


def test_pytorch3d_turns_the_same_way():
    theirs = pytest.importorskip("pytorch3d.transforms", reason="pytorch3d is not installed here")
    given = some_axis_angles(torch.float64)
    matrix = rot.axis_angle_to_matrix(given)
    close(matrix, theirs.axis_angle_to_matrix(given), atol=1e-6)
    close(rot.axis_angle_to_quaternion(given), theirs.axis_angle_to_quaternion(given), atol=1e-6)
    close(rot.matrix_to_rot6d(matrix), theirs.matrix_to_rotation_6d(matrix))
    slanted = rot.matrix_to_rot6d(matrix) + 0.1
    close(rot.rot6d_to_matrix(slanted), theirs.rotation_6d_to_matrix(slanted))
    close(rot.euler_to_matrix(given, "YXZ"), theirs.euler_angles_to_matrix(given, "YXZ"))
    found, expected = (pick(matrix).double() for pick in (rot.matrix_to_axis_angle, theirs.matrix_to_axis_angle))
    assert angle_between(rot.axis_angle_to_matrix(found), rot.axis_angle_to_matrix(expected)).max() < 1e-4
