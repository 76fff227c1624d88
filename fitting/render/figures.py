"""What a picture shows of a fit: its body, its skeleton, the joints it was fitted to, as layers painted in turn."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fitting.render.camera import Camera
from fitting.render.light import Lit
from fitting.render.scene import BODY, Stage, over
from fitting.render.sticks import StickFigure
from fitting.render.threads import batches, in_threads
from models.errors import InputError
from models.skeleton import SKELETONS

if TYPE_CHECKING:
    from fitting.result import FitResult

BONES = (0.05, 0.065, 0.10)  # the fit's own skeleton
Body = Callable[[Stage, Tensor, Lit, Camera, tuple[float, float, float]], Tensor]  # as Stage.body
SEE_THROUGH = 0.5  # opacity of a body that shows what is inside


class PosedBodies:
    """A result's bodies near the origin, wherever the result stands: float32 has no millimetres left at 100 km.

    They are made a few frames at a time, so that the longest clip needs no more memory than a short one.
    """

    colour = BODY

    def __init__(self, result: "FitResult", device: torch.device | str = "cpu"):
        self.result, self.device = result, torch.device(device)
        self.faces = result.body.faces.to(device)
        self.transl = (result.transl.double() - result.transl[0].double()).to(result.transl.dtype)

    def __len__(self) -> int:
        return len(self.transl)

    def vertices(self, frames: slice | Tensor) -> Tensor:
        """(frames, V, 3) metres."""
        return self._pose(self.result.body.vertices, frames)

    def joints(self) -> Tensor:
        """(L, J, 3) metres."""
        return self._pose(self.result.body.joints, slice(None))

    def input_joints(self) -> Tensor:
        """(L, J, 3) metres, NaN where the input had nothing. Raises InputError where the fit had no joints to go by."""
        motion = self.result.motion
        if motion.joints is None:
            raise InputError(f"{motion.name}: --style ghost shows the joints of the input, and this file has none.")
        seen = np.where(np.asarray(motion.seen)[..., None], motion.joints, np.nan)
        return torch.as_tensor(seen - self.result.transl[0].numpy().astype(np.float64)).float().to(self.device)

    @torch.no_grad()
    def _pose(self, make: Callable[..., Tensor], frames: slice | Tensor) -> Tensor:
        betas = self.result.betas if self.result.betas.ndim == 1 else self.result.betas[frames]
        return make(betas, self.result.thetas[frames], self.transl[frames]).float().to(self.device)


@dataclass(frozen=True)
class Layer:
    """A moving mesh and how much it covers of what was painted before it."""

    mesh: PosedBodies | StickFigure
    opacity: float = 1.0


@dataclass(frozen=True)
class Figure:
    """A clip to draw: layers of the same frames; the person's joints (L, J, 3) in metres, the root first."""

    layers: list[Layer]
    joints: Tensor
    across: Tensor  # (L, 3): from the right hip to the left
    fps: float
    text: str

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def device(self) -> torch.device:
        return self.joints.device

    @property
    def facing(self) -> float:
        """Where the person looks on average, radians from +z towards +x. Forward is across x up."""
        forward = F.normalize(torch.stack([-self.across[:, 2], self.across[:, 0]], 1), dim=1)  # x, z
        mean = forward.mean(0)
        x, z = (mean if mean.norm() > 0.3 else forward[0]).tolist()
        return math.atan2(x, z)


def _own_skeleton(body: PosedBodies) -> Layer:
    return Layer(StickFigure(body.joints()[:, :22], SKELETONS["humanml3d"], colour=BONES))


def _input_skeleton(body: PosedBodies) -> Layer:
    return Layer(StickFigure(body.input_joints(), body.result.motion.skeleton))


STYLES: dict[str, Callable[[PosedBodies], list[Layer]]] = {
    "body": lambda body: [Layer(body)],
    "skeleton": lambda body: [_own_skeleton(body)],
    "both": lambda body: [_own_skeleton(body), Layer(body, SEE_THROUGH)],
    "ghost": lambda body: [_input_skeleton(body), Layer(body, SEE_THROUGH)],
}


def figure(result: "FitResult", style: str = "body", device: torch.device | str = "cpu") -> Figure:
    """A fit in one of STYLES. Raises InputError where the style shows joints of an input that had none."""
    body = PosedBodies(result, device)
    joints = body.joints()
    return Figure(STYLES[style](body), joints, joints[:, 1] - joints[:, 2], result.fps, result.motion.text or "")


def survey(figure: Figure, rotation: Tensor, azimuth: float) -> tuple[Tensor, list[Stage]]:
    """One pass over all vertices: boxes (L, 2, 3) along the camera's axes, and for each layer a stage of its size.

    rotation: (3, 3) or (L, 3, 3); azimuth: of the camera, to which the lamp keeps.
    """

    def measure(frames: Tensor) -> tuple[Tensor, Tensor, list[float]]:
        meshes = [layer.mesh.vertices(frames) for layer in figure.layers]
        box = boxes(torch.cat(meshes, 1), rotation if rotation.ndim == 2 else rotation[frames])
        extents = [float((mesh.amax(1) - mesh.amin(1)).norm(dim=1).amax()) for mesh in meshes]
        return box, meshes[-1][..., 1].amin(1), extents

    device = figure.device
    found, lowest, extents = zip(*in_threads(measure, batches(range(len(figure)), device), device), strict=True)
    ground = float(torch.cat(lowest).quantile(0.01))  # a single frame that sinks does not lower the floor
    meshes, extents = [layer.mesh for layer in figure.layers], map(max, zip(*extents, strict=True))
    return torch.cat(found), [
        Stage(mesh.faces, mesh.vertices(slice(0, 1)).shape[1], azimuth, ground, extent)
        for mesh, extent in zip(meshes, extents, strict=True)
    ]


def boxes(vertices: Tensor, rotation: Tensor) -> Tensor:
    """(n, 2, 3): lowest and highest coordinates of vertices (n, V, 3) along the rows of (3, 3) or (n, 3, 3)."""
    along = vertices @ rotation.mT
    return torch.stack([along.amin(1), along.amax(1)], 1)


def lit(stages: list[Stage], meshes: list[Tensor]) -> list[Lit]:
    """The light on each layer's meshes (n, V, 3)."""
    return [stage.light(mesh) for stage, mesh in zip(stages, meshes, strict=True)]


def floor_light(stages: list[Stage], lights: list[Lit], floor: Tensor) -> Tensor:
    """Share of open light (n, height, width) that the layers leave the floor at x and z (n, height, width, 2)."""
    shares = [stage.lights.at_floor(light, floor) for stage, light in zip(stages, lights, strict=True)]
    return torch.stack(shares).amin(0)


def paint(
    layers: list[Layer],
    stages: list[Stage],
    meshes: list[Tensor],
    lights: list[Lit],
    camera: Camera,
    paleness: float = 0.0,
    body: Body = Stage.body,
) -> Tensor:
    """The layers' meshes (n, V, 3), each over those before it: (n, height, width, 4), linear colours times coverage.

    paleness: from 0 to 1, how far the colours go towards white; body: what draws one mesh.
    """
    tops = [
        layer.opacity * body(stage, mesh, light, camera, paler(layer.mesh.colour, paleness))
        for layer, stage, mesh, light in zip(layers, stages, meshes, lights, strict=True)
    ]
    return reduce(lambda below, top: over(top, below), tops)


def paler(colour: tuple[float, float, float], paleness: float) -> tuple[float, ...]:
    """A linear colour on its way to white."""
    return tuple(part + paleness * (1 - part) for part in colour)
