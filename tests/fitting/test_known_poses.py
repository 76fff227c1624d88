"""Known poses without noise: what preset careful recovers of twenty cuts with known parameters (tests/known.py)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fitting import FitResult, fit
from models.body import BodyModel
from models.keyed import walk_and_pick_up
from tests.bvh import read_bvh
from tests.known import CUTS, FPS, FRAMES, Known, known_cuts

HIDDEN = (12, 15, 20, 21, 22, 23)  # neck, head, wrists, hands: what they carry turns in ways that 22 joints cannot tell


@dataclass
class Recovered:
    """One cut and its fit; mean errors over the frames in millimetres."""

    known: Known
    result: FitResult
    joints_mm: float
    core_mm: float
    all_mm: float


def millimetres(ours: Tensor, true: Tensor) -> float:
    return 1000 * (ours - true).norm(dim=-1).mean().item()


def core_vertices(body: BodyModel) -> Tensor:
    """Mask (V,) of the vertices that no hidden joint carries more than any other joint does."""
    return ~torch.isin(body.weights.argmax(1), torch.tensor(HIDDEN))


def recover(cuts: list[Known], body: BodyModel, preset: str) -> list[Recovered]:
    """Fit the 22 joints of every cut and measure joints and vertices against the truth."""
    joints = [body.joints(cut.betas, cut.thetas, cut.transl)[:, :22] for cut in cuts]
    core, recovered = core_vertices(body), []
    for cut, target, result in zip(cuts, joints, fit(torch.stack(joints), fps=FPS, preset=preset), strict=True):
        ours, true = result.vertices(), body.vertices(cut.betas, cut.thetas, cut.transl)
        core_mm = millimetres(ours[:, core], true[:, core])
        recovered.append(Recovered(cut, result, millimetres(result.joints(), target), core_mm, millimetres(ours, true)))
    return recovered


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load()


@pytest.fixture(scope="module")
def cuts(reference: Path, body: BodyModel) -> list[Known]:
    return known_cuts(reference, body)


@pytest.fixture(scope="module")
def careful(cuts: list[Known], body: BodyModel) -> list[Recovered]:
    return recover(cuts, body, "careful")


def test_joints(careful):
    errors = {r.known.name: round(r.joints_mm, 2) for r in careful}
    assert np.mean(list(errors.values())) < 1.8, errors
    assert max(errors.values()) < 2.3, errors


def test_core_vertices(careful):
    errors = {r.known.name: round(r.core_mm, 1) for r in careful}
    assert np.mean(list(errors.values())) < 12, errors


def test_every_fit_converges(careful):
    assert {r.known.name: r.result.status for r in careful} == {r.known.name: "converged" for r in careful}


def test_keyed_motion(body):
    """The same on motion of the project's own: bending and reaching, every parameter known."""
    motion = walk_and_pick_up(fps=FPS)
    known = Known("keyed", motion.thetas, motion.betas, motion.transl)
    (fitted,) = recover([known], body, "careful")
    assert fitted.joints_mm < 2.3 and fitted.core_mm < 12, fitted


def test_core_leaves_out_head_and_hands(body):
    core = core_vertices(body)
    top, left_hand = body.v_template[:, 1].argmax(), body.v_template[:, 0].argmax()
    belly = (body.v_template - body.rest_template[0]).norm(dim=1).argmin()
    assert not core[top] and not core[left_hand] and core[belly]
    assert 0.3 < core.float().mean() < 0.8


def test_cuts_are_people_in_motion(cuts, body):
    """Knees bend back and elbows forward, left is left, no frame jumps: what a wrong joint map or axis would break."""
    assert len(cuts) == len(CUTS) == 20
    for cut in cuts:
        joints = body.joints(cut.betas, cut.thetas, cut.transl)
        assert cut.thetas.shape == (FRAMES, 24, 3) and cut.betas.abs().max() <= 2.4
        assert joints[..., 1].min().abs() < 1e-5  # the lowest joint touches the floor
        assert cut.thetas[:, [4, 5], 0].median() > 0  # radians about x: knees
        assert cut.thetas[:, 18, 1].median() < 0.1 and cut.thetas[:, 19, 1].median() > -0.1  # about y: elbows
        assert cut.thetas[:, 1:].norm(dim=-1).max() < 2.7  # nobody's joint turns by 155 degrees
        assert (joints[1:] - joints[:-1]).norm(dim=-1).max() < 0.8  # metres a frame: 16 m/s, a fast kick
        assert (joints[:, 15, 1] > joints[:, 0, 1]).float().mean() > 0.8  # the head is above the pelvis


def test_cuts_are_the_same_at_every_call(cuts, reference, body):
    again = known_cuts(reference, body)
    for first, second in zip(cuts, again, strict=True):
        assert torch.equal(first.thetas, second.thetas) and torch.equal(first.betas, second.betas)


def test_bvh_reader_agrees_with_the_converted_joints(reference):
    """30 to 20 fps: every second converted frame is every third of the file."""
    bvh = read_bvh(reference / "data/mocap_bandai/bvh/dataset-1_kick_normal_001.bvh")
    joints = np.load(reference / "data/mocap_bandai/joints/dataset-1_kick_normal_001.npy", allow_pickle=False)[::2]
    names = {0: "Hips", 5: "LowerLeg_R", 10: "Toes_L", 15: "Head", 20: "Hand_L"}
    read = bvh.positions[::3, [bvh.names.index(name) for name in names.values()]] / 100
    np.testing.assert_allclose(read[: len(joints)], joints[:, list(names)], atol=1e-5)
