"""From where a clip is looked at: one table of cameras, each a view or several side by side."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fitting.render.camera import SMOOTHING_SECONDS


@dataclass(frozen=True)
class View:
    """A camera of a clip.

    side: degrees from where the person looks on average, counted towards the person's left; turns: how often it goes
    round the person in the clip; smoothing: as in `camera.follow`.
    """

    side: float
    turns: int = 0
    smoothing: tuple[float, ...] = SMOOTHING_SECONDS

    def azimuth(self, facing: float, frames: int) -> Tensor:
        """() or, of a camera that turns, (frames,): radians from +z towards +x."""
        start = torch.tensor(facing + math.radians(self.side))
        if not self.turns:
            return start
        return start + 2 * math.pi * self.turns * torch.arange(frames) / frames


FRONT, SIDE, BACK = View(0), View(-90), View(180)
CAMERAS: dict[str, tuple[View, ...]] = {
    "follow": (View(-40),),
    "fixed": (View(-40, smoothing=(math.inf,)),),
    "orbit": (View(-40, turns=1),),
    "front": (FRONT,),
    "side": (SIDE,),
    "back": (BACK,),
    "grid": (FRONT, SIDE, BACK),
}
