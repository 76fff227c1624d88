"""What a backward pass through the fit as a layer costs, in solver iterations: the table of docs/layer.md.

python experiments/benchmarks/layer.py
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from fitting.data import Batch  # noqa: E402
from fitting.energy import Energy  # noqa: E402
from fitting.layer import fit_layer  # noqa: E402
from fitting.smplify3d import SMPLify3D  # noqa: E402
from fitting.solver import solve  # noqa: E402
from models.body import BodyModel  # noqa: E402
from models.keyed import walk_and_pick_up  # noqa: E402


def walk(frames: int, noise: float = 0.0) -> Tensor:
    """Joints (1, frames, 22, 3) of the keyed walk, there and back, metres, with noise of this deviation."""
    motion = walk_and_pick_up()
    body = BodyModel.load()
    there = torch.arange(len(motion.thetas))
    index = torch.cat((there, there.flip(0)))[torch.arange(frames) % (2 * len(there))]
    thetas, transl = (torch.as_tensor(x).float()[index] for x in (motion.thetas, motion.transl))
    joints = body.joints(torch.zeros(body.num_betas), thetas, transl)[None, :, :22]
    return joints + noise * torch.randn(joints.shape, generator=torch.Generator().manual_seed(0))


def cost(frames: int = 196) -> None:
    """CPU time of a backward pass against an iteration of the solver, one clip with 10 mm of noise."""
    joints = walk(frames, noise=0.01)
    for preset in ("quick", "careful"):
        for dtype in (torch.float32, torch.float64):
            module = SMPLify3D(preset=preset).to(dtype)
            forward, backward = layer_seconds(joints.to(dtype), module)
            iteration = iteration_seconds(joints.to(dtype), module)
            figures = f"forward {1000 * forward:6.0f} ms, backward {1000 * backward:5.1f} ms"
            ratio = f"solver iteration {1000 * iteration:5.1f} ms: backward costs {backward / iteration:.2f} iterations"
            print(f"{preset:8} {str(dtype)[6:]}: {figures}, {ratio}")


def layer_seconds(joints: Tensor, module: SMPLify3D) -> tuple[float, float]:
    joints = joints.clone().requires_grad_()
    forward = seconds(lambda: fit_layer(joints, module=module), 1)
    loss = sum(output.square().sum() for output in fit_layer(joints, module=module))
    return forward, seconds(lambda: torch.autograd.grad(loss, joints, retain_graph=True))


@torch.no_grad()
def iteration_seconds(joints: Tensor, module: SMPLify3D, iterations: int = 4) -> float:
    """An iteration of the last stage, from a tenth of a radian beside where the usual fit ends."""
    mask = torch.ones(joints.shape[:2], dtype=torch.bool)
    _, problem = module.problem(Batch(joints, mask, [], joints.new_full((1,), 20.0)))
    name, stage = list(module.preset.stages.items())[-1]
    end = module.run_stages(problem)[name].state
    step = 0.1 * torch.randn(*joints.shape[:2], 6 + 3 * len(problem.rig.fitted), dtype=joints.dtype)
    energy = Energy(stage.terms, problem)
    return seconds(lambda: solve(energy, end.moved(step, 0), iterations, 0)) / iterations


def seconds(call: Callable, repeats: int = 5) -> float:
    """Median CPU seconds of a call."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cost()
