"""Another person's bones: joints stand where they are put, and the skin goes with them without a step."""

import numpy as np
import pytest
import torch

from models.body import BodyModel
from models.errors import InputError
from models.proportions import LIMBS, TRUNK, adapted, bone_factors, bone_offsets, carried, displaced
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS
from tests.bodies import smplh_arrays
from tests.fits import smooth_fit


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def betas() -> torch.Tensor:
    return smooth_fit().betas


def longer(body: BodyModel, joint: int, factor: float) -> torch.Tensor:
    """Offsets (22, 3) that make the bone which ends in a joint longer by a factor."""
    offsets = torch.zeros(22, 3)
    offsets[joint] = (factor - 1) * bone_offsets(body, torch.zeros(body.num_betas))[joint]
    return offsets


def skin_of(body: BodyModel, *joints: int) -> torch.Tensor:
    """Vertices that these joints alone carry (V,)."""
    return body.weights[:, list(joints)].sum(1) > 0.9999


def test_joints_move_by_the_offsets_on_their_chain_whatever_the_shape(body, betas):
    offsets = 0.03 * torch.randn(22, 3, generator=torch.Generator().manual_seed(0))
    offsets[0] = 0
    person = adapted(body, offsets)
    torch.testing.assert_close(bone_offsets(person, betas) - bone_offsets(body, betas), offsets, atol=1e-6, rtol=0)
    torch.testing.assert_close(person.rest_joints(betas)[0], body.rest_joints(betas)[0])
    assert body.joint_offsets is None and body.v_template.data_ptr() != person.v_template.data_ptr()
    assert body.weights.data_ptr() == person.weights.data_ptr()


def test_bones_keep_their_new_lengths_in_every_pose(body):
    motion = smooth_fit(6)
    person = adapted(body, longer(body, 4, 1.3) + longer(body, 13, 0.7))
    joints, parents = person.joints(motion.betas, motion.thetas, motion.transl)[:, :22], list(SMPL_PARENTS[1:22])
    lengths = (joints[:, 1:] - joints[:, parents]).norm(dim=-1)
    expected = bone_offsets(person, motion.betas)[1:].norm(dim=-1)
    torch.testing.assert_close(lengths, expected.expand_as(lengths), atol=1e-5, rtol=0)


def test_all_skin_goes_where_all_joints_go(body):
    """Rows sum to one, and joints far from a vertex take no part in it."""
    carry = carried(body)
    torch.testing.assert_close(carry.sum(1), torch.ones(len(carry)))
    legs = skin_of(body, 1, 2, 4, 5, 7, 8, 10, 11)
    assert carry[legs][:, 18:].abs().max() < 1e-6


def test_a_longer_forearm_takes_the_hand_along_and_stretches_evenly(body):
    elbow, wrist, hand = 18, 20, 22
    offsets = longer(body, wrist, 1.25)
    moved = adapted(body, offsets).v_template - body.v_template
    hands = skin_of(body, wrist, hand)
    assert hands.sum() > 50
    torch.testing.assert_close(moved[hands], offsets[wrist].expand(int(hands.sum()), 3), atol=1e-6, rtol=0)
    others = body.weights[:, [elbow, wrist, hand]].sum(1) == 0
    assert moved[others].abs().max() < 1e-6
    own = skin_of(body, elbow)
    start, end = body.rest_template[[elbow, wrist]]
    along = ((body.v_template[own] - start) @ (end - start) / (end - start).square().sum()).clamp(0, 1)
    torch.testing.assert_close(moved[own], along[:, None] * offsets[wrist], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in SMPL_JOINTS[1:22] if not name.startswith("right")])
def test_no_edge_of_the_mesh_jumps_when_a_bone_grows(body, name):
    """By 20 %, on both sides: edges change by a third, by half where the neck's joint goes 4 cm over a neck of 9 cm."""
    joints = {SMPL_JOINTS.index(name), SMPL_JOINTS.index(name.replace("left", "right"))}
    moved = adapted(body, sum(longer(body, joint, 1.2) for joint in joints)).v_template - body.v_template
    edges = torch.cat([body.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    change, length = ((x[edges[:, 0]] - x[edges[:, 1]]).norm(dim=1) for x in (moved, body.v_template))
    assert (change / length).max() < (0.55 if name == "neck" else 0.36)


@pytest.mark.parametrize("axis, least", [(0, 0.35), (1, 0.75)])
def test_a_wider_or_taller_frame_takes_the_trunk_along(body, axis, least):
    """Its skin is stretched as its joints are, less what the ridge keeps back: width more than height."""
    moved = torch.zeros_like(body.rest_template)
    moved[list(TRUNK), axis] = 0.1 * body.rest_template[list(TRUNK), axis]
    trunk = skin_of(body, 0, 3, 6, 9)
    found, wanted = (carried(body) @ moved)[trunk, axis], 0.1 * body.v_template[trunk, axis]
    found, wanted = found - found.mean(), wanted - wanted.mean()
    assert least < float(found @ wanted / wanted.square().sum()) < 1
    assert (found - found @ wanted / wanted.square().sum() * wanted).abs().max() < 0.003  # no bumps


def test_fingers_go_with_their_wrist(tmp_path):
    np.savez(tmp_path / "hands.npz", **smplh_arrays())
    hands = BodyModel.load(tmp_path / "hands.npz")
    offsets = longer(hands, 21, 1.4)
    person = adapted(hands, offsets)
    moved = person.rest_template - hands.rest_template
    torch.testing.assert_close(moved[37:], offsets[21].expand(15, 3), atol=1e-6, rtol=0)
    assert moved[22:37].abs().max() < 1e-6
    fingers = skin_of(hands, *range(37, 52))
    skin = (person.v_template - hands.v_template)[fingers]
    assert len(skin) and (skin - offsets[21]).abs().max() < 1e-6


def test_factors_name_each_bone_by_its_end(body, betas):
    assert bone_factors(body, betas) is None
    factors = bone_factors(adapted(body, longer(body, 7, 1.5)), torch.zeros_like(betas))
    assert list(factors) == list(SMPL_JOINTS[1:22])
    assert factors.pop("left_ankle") == pytest.approx(1.5, rel=1e-5)
    assert list(factors.values()) == pytest.approx([1.0] * 20, rel=1e-5)


def test_offsets_of_another_shape_and_of_an_adapted_body_are_refused(body):
    with pytest.raises(InputError, match=r"\(24, 3\); expected \(22, 3\)"):
        adapted(body, torch.zeros(24, 3))
    with pytest.raises(InputError, match="adapted bones already"):
        adapted(adapted(body, torch.zeros(22, 3)), torch.zeros(22, 3))


def test_every_joint_of_the_body_has_skin_that_follows_it(body):
    """Of the limbs and ends; displacements are sums along the chain."""
    assert {*TRUNK, *LIMBS, *LIMBS.values()} == set(range(22))
    offsets = torch.eye(22)
    assert (displaced(body, offsets)[22, [0, 3, 6, 9, 13, 16, 18, 20]] == 1).all()
    assert displaced(body, offsets)[22].sum() == 8
