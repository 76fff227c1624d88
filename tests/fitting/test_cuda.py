"""Fits on a GPU: the CPU's numbers, and results that are on the CPU. Skipped where no CUDA device is."""

from pathlib import Path

import pytest
import torch

from fitting import fit
from fitting.layer import fit_layer
from models.keyed import walk_joints

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """Joints (2, 40, 22, 3) of keyed motion."""
    joints = torch.from_numpy(walk_joints())
    return torch.stack([joints[start : start + 40] for start in (0, 20)])


@pytest.mark.parametrize("words", [{"preset": "careful"}, {"preset": "quick"}, {"start": "learned"}])
def test_a_gpu_finds_what_the_cpu_finds(words, clips, tmp_path):
    for ours, theirs in zip(fit(clips, device="cuda", **words), fit(clips, **words), strict=True):
        assert (ours.joints() - theirs.joints()).norm(dim=-1).max() < 2e-4  # metres; both float32
        assert ours.vertices().device.type == "cpu"
        assert all(Path(file).is_file() for file in ours.save(tmp_path / "clip"))


def test_the_layer_is_differentiable_on_a_gpu(clips):
    slopes = []
    for device in ("cpu", "cuda"):
        joints = clips.to(device).requires_grad_()
        fit_layer(joints, module="quick")[0].square().sum().backward()
        slopes.append(joints.grad.cpu())
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)
