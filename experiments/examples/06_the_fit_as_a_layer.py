"""06: the fit as a layer. Joints move until the lowest vertex of the fitted mesh touches the floor.

python experiments/examples/06_the_fit_as_a_layer.py
"""

import torch
from torch import Tensor

from fitting.layer import fit_layer
from fitting.smplify3d import SMPLify3D
from models.keyed import walk_and_pick_up

module = SMPLify3D(preset="quick")  # make it once, outside the loop
walk = walk_and_pick_up()
joints = module.body.joints(torch.zeros(10), walk.thetas[:4], walk.transl[:4])[None, :, :22]
joints = joints + torch.tensor([0, 0.05, 0])  # four frames, 5 cm higher than they were
way = torch.zeros_like(joints, requires_grad=True)
optimiser = torch.optim.LBFGS([way], max_iter=8, line_search_fn="strong_wolfe")


def closure() -> Tensor:
    """The loss is on the mesh; its gradient goes back through the fit to the joints."""
    optimiser.zero_grad()
    thetas, betas, transl = fit_layer(joints + way, module=module)
    lowest = module.body.vertices(betas, thetas, transl)[..., 1].amin(-1)[0]
    print("lowest vertex of each frame, mm:", " ".join(f"{1000 * height:8.3f}" for height in lowest.tolist()))
    loss = 100 * lowest.square().sum()
    loss.backward()
    return loss


optimiser.step(closure)
moved = 1000 * way.detach().norm(dim=-1)
print(f"joints moved by {moved.mean():.1f} mm on average, the foot joints by {moved[..., [10, 11]].mean():.1f} mm")
