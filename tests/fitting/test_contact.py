"""Contacts: found where a foot is low and slow, held still and on the floor, and nowhere else."""

import numpy as np
import pytest
import torch

from fitting import fit
from fitting.contact import find_contacts
from fitting.data import Motion, collate
from fitting.metrics import sole_vertices
from fitting.preset import load_preset
from fitting.smplify3d import SMPLify3D
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.rotations import axis_angle_to_matrix
from tests.runs import keyed_joints

FPS = torch.tensor([20.0])
FEET = [10, 11]


def contacts(joints: np.ndarray):
    joints = torch.tensor(joints)[None]
    return find_contacts(joints, torch.ones(joints.shape[:3], dtype=torch.bool), FPS, BodyModel.load())


UPPER = [3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]


def generated(frames: int) -> np.ndarray:
    """The keyed walk above whose hips bones slowly change length by a tenth, as a generator's do."""
    joints = keyed_joints(frames)
    swell = 1 + 0.1 * np.sin(np.linspace(0, 9, frames, dtype=np.float32))[:, None, None]
    joints[:, UPPER] = joints[:, :1] + swell * (joints[:, UPPER] - joints[:, :1])
    return joints


def skating(frames: int = 60, speed: float = 0.15) -> np.ndarray:
    """Generated, with a slow drift of the whole person over ground: planted feet slide."""
    joints = generated(frames)
    joints[..., 0] += speed / 20 * np.arange(frames, dtype=np.float32)[:, None]
    return joints


def planted_speed(joints: np.ndarray, planted: np.ndarray) -> float:
    """Mean speed over ground in m/s of the foot joints in planted frames (frames - 1, 2)."""
    speed = np.linalg.norm(np.diff(joints[:, FEET][..., [0, 2]], axis=0), axis=-1) * 20
    return float(speed[planted].mean())


def without_contact() -> SMPLify3D:
    module = SMPLify3D()
    for name in ("contact", "near", "floor"):
        del module.preset.stages["pose"].terms[name]
    return module


def test_contacts_are_where_the_keyed_feet_are_planted():
    truth = walk_and_pick_up()
    weight = contacts(generated(len(truth.thetas))).weight.numpy()
    planted = np.asarray(truth.planted)
    assert weight[planted].mean() > 0.8
    assert weight[~planted].mean() < 0.5


def test_captured_motion_is_left_alone():
    """Bones of constant length: what slides in the input slid, so nothing is held."""
    assert float(contacts(keyed_joints(60)).weight.max()) < 0.01


def test_feet_in_the_air_are_left_alone():
    """A jump, and a body that turns feet up: no contact above the floor's band or in fast motion."""
    joints = generated(30)
    jump = joints + np.array([0, 1, 0], dtype=np.float32) * np.sin(np.linspace(0, np.pi, 30))[:, None, None] ** 2
    weight = contacts(jump.astype(np.float32)).weight.numpy()
    high = jump[:, FEET, 1] > jump[:, FEET, 1].min() + 0.07
    assert high.any() and weight[high].max() == 0


def test_planted_feet_are_held():
    """The speed of planted feet falls to less than 0.75 of the input's, for little joint error."""
    joints = skating()
    planted = contacts(joints).weight.numpy()[:-1] > 0.5
    batch = collate([Motion("clip", "test", joints=joints)])
    held, free = SMPLify3D().fit(batch)[0], without_contact().fit(batch)[0]
    assert planted_speed(free.joints().numpy(), planted) > 0.9 * planted_speed(joints, planted)
    assert planted_speed(held.joints().numpy(), planted) < 0.75 * planted_speed(joints, planted)
    error = np.linalg.norm(held.joints().numpy() - joints, axis=-1).mean() * 1000
    assert error < 20


def test_the_sole_comes_to_the_floor():
    """Feet of an input whose joints stand 3 cm too low for the body are lifted towards the floor."""
    joints = generated(40)
    batch = collate([Motion("clip", "test", joints=joints)])
    depth = {}
    for name, module in (("held", SMPLify3D()), ("free", without_contact())):
        floor = np.percentile(joints[:, FEET, 1], 1)
        depth[name] = float((floor - module.fit(batch)[0].vertices()[..., 1].amin(1)).mean())
    assert depth["held"] < 0.8 * depth["free"]


def test_a_floor_that_is_given_is_stood_on():
    """Feet are lifted towards a floor 2 cm over their joints' lowest, wherever the clip is."""
    joints = generated(40)
    floor = float(np.percentile(joints[:, FEET, 1], 1)) + 0.02
    missed = {}
    for given in (None, floor):
        lowest = fit(joints, floor=given).vertices()[..., 1].amin(1)
        missed[given] = float((lowest - floor).abs().mean())
    assert missed[floor] < missed[None] - 0.01
    up = fit(joints[:8] + np.array([0, 3000.0, 0]), floor=floor + 3000).transl[:, 1] - 3000
    torch.testing.assert_close(up, fit(joints[:8], floor=floor).transl[:, 1].to(up), rtol=0, atol=1e-3)


def test_a_floor_needs_terms_that_know_it():
    for words, floor in (("no terms on feet.*careful", 0.0), ("height in metres.*nan", float("nan"))):
        with pytest.raises(InputError, match=words):
            SMPLify3D(preset="quick", floor=floor)


def test_no_foot_is_lifted_off_the_floor():
    """A foot that the input drags under 5 cm stays there, though its leg is too short in the input's bones."""
    joints = generated(40)
    joints[:, [5, 8, 11], 1] += np.clip(0.045 - joints[:, 11:, 1][:, :1], 0, None)
    low = joints[:, FEET, 1] - np.percentile(joints[:, FEET, 1], 1) < 0.05
    batch = collate([Motion("clip", "test", joints=joints)])
    ours = SMPLify3D().fit(batch)[0].joints().numpy()[:, FEET, 1] - np.percentile(joints[:, FEET, 1], 1)
    assert low.mean() > 0.3 and (ours[low] > 0.05).mean() < 0.03


def test_the_sole_is_the_mesh_s():
    """The lowest of the points of a tilted foot is the foot's lowest vertex, within 4 mm."""
    body = BodyModel.load()
    found = contacts(generated(4))
    thetas = torch.zeros(24, 3)
    for tilt in torch.tensor([[0.2, 0, 0], [-0.3, 0, 0], [0, 0, 0.2], [0.2, 0, -0.2], [0, 0.5, 0]]):
        thetas[0] = tilt
        vertices = body.vertices(torch.zeros(10), thetas, torch.zeros(3))
        ankles = body.joints(torch.zeros(10), thetas, torch.zeros(3))[[7, 8]]
        points = ankles[:, None] + found.sole @ axis_angle_to_matrix(tilt).mT
        for side, sole in enumerate(sole_vertices(body.weights, body.v_template)):
            assert -1e-6 < float(points[side, :, 1].min() - vertices[sole, 1].min()) < 0.004


def test_off_switch():
    assert all(load_preset("careful").has(name) for name in ("contact", "near", "floor"))
    assert not load_preset("quick").has("contact", "near", "floor")


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips(frames):
    result = contacts(keyed_joints(frames))
    assert result.weight.shape == (frames, 2) and result.anchors.isfinite().all()
