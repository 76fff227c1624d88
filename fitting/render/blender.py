"""Blender as the renderer: figures and cameras of ours, drawn in a process of its own by blender_scene.py.

Clips go through Workbench, whose bodies are laid on our floor; stills and posters through Cycles, whose floor takes the
light of its own scene.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fitting.blender import run_in_blender
from fitting.export.glb import write_glb
from fitting.render.camera import Camera
from fitting.render.figures import Layer, PosedBodies, lit, paler
from fitting.render.film import Film, Shot, ground
from fitting.render.poster import Arrangement
from fitting.render.scene import BACKGROUND, CHEQUER, FADE, FLOOR, TILE, Stage, decode, finish, over

if TYPE_CHECKING:
    from fitting.render.engines import Wanted

SCRIPT = Path(__file__).with_name("blender_scene.py")
STILL, CLIP = "CYCLES", "BLENDER_WORKBENCH"
LOOK = {"background": BACKGROUND, "floor": FLOOR, "chequer": CHEQUER, "tile": TILE, "fade": FADE}


@contextmanager
def blender_films(wanted: "Wanted") -> Iterator[Callable[[Shot], Film]]:
    """The function from a shot to its film; the pictures lie in a temporary folder until the block ends."""
    with TemporaryDirectory(prefix="thetafit-") as place:
        yield partial(_film, wanted=wanted, place=place)


def blender_poster(arrangement: Arrangement, wanted: "Wanted") -> np.ndarray:
    """The poster by Cycles: (height, width, 3) uint8, or 4 where transparent; bodies are pale, not see-through."""
    with TemporaryDirectory(prefix="thetafit-") as place:
        things = [
            _mesh(Path(place) / f"body{k}_{number}.npz", layer, meshes[k : k + 1], paleness)
            for k, paleness in enumerate(arrangement.paleness)
            for number, (layer, meshes) in enumerate(zip(arrangement.figure.layers, arrangement.meshes, strict=True))
        ]
        scene = _scene(arrangement.camera, arrangement.stages[-1], STILL, wanted)
        _run(scene | {"things": things, "fps": arrangement.figure.fps, "frames": [0]}, Path(place))
        return np.asarray(Image.open(_picture(Path(place), 0)))


def _film(shot: Shot, wanted: "Wanted", place: str) -> Film:
    """All frames of a clip are drawn when the first is asked for; of a still only what is asked for."""
    folder, lock = Path(mkdtemp(dir=place)), Lock()
    engine = CLIP if wanted.frame is None else STILL

    def draw(frames: Tensor) -> np.ndarray:
        with lock:
            if not all(_picture(folder, frame).exists() for frame in frames.tolist()):
                _draw(shot, range(len(shot.figure)) if engine == CLIP else frames.tolist(), engine, wanted, folder)
        pictures = np.stack([np.asarray(Image.open(_picture(folder, frame))) for frame in frames.tolist()])
        return _on_our_floor(shot, frames, pictures, wanted.transparent) if engine == CLIP else pictures

    return shot.film(draw)


def _draw(shot: Shot, frames: list[int] | range, engine: str, wanted: "Wanted", folder: Path) -> None:
    """The shot's frames as PNGs in the folder."""
    everything = torch.arange(len(shot.figure))
    things = [_thing(folder / f"layer{k}", layer, everything) for k, layer in enumerate(shot.figure.layers)]
    scene = _scene(shot.camera, shot.stages[-1], engine, wanted)
    _run(scene | {"things": things, "fps": float(shot.figure.fps), "frames": list(frames)}, folder)


def _on_our_floor(shot: Shot, frames: Tensor, pictures: np.ndarray, transparent: bool) -> np.ndarray:
    """Pictures (n, height, width, 4) of bodies alone, as bytes, over our floor and shadow."""
    camera, meshes = shot.camera.at(frames), shot.meshes(frames)
    coverage = torch.from_numpy(pictures[..., 3:]).to(shot.figure.device) / 255
    bodies = decode(torch.from_numpy(pictures[..., :3]).to(shot.figure.device)) * coverage
    below = ground(shot.stages, lit(shot.stages, meshes), camera, transparent)
    return finish(over(torch.cat([bodies, coverage], -1), below)).cpu().numpy()


def _thing(path: Path, layer: Layer, frames: Tensor) -> dict[str, Any]:
    """A layer's file for Blender: a body as GLB, with bones to go on with; the rest as places of vertices."""
    if not isinstance(layer.mesh, PosedBodies):
        return _mesh(path.with_suffix(".npz"), layer, layer.mesh.vertices(frames))
    result = layer.mesh.result
    write_glb(result, path.with_suffix(".glb"))
    moved = {"file": str(path.with_suffix(".glb")), "offset": (-result.transl[0]).tolist()}
    return moved | {"colour": layer.mesh.colour, "opacity": layer.opacity}


def _mesh(path: Path, layer: Layer, vertices: Tensor, paleness: float = 0.0) -> dict[str, Any]:
    """A mesh at vertices (frames, V, 3) for Blender."""
    np.savez(path, vertices=vertices.numpy(force=True), faces=layer.mesh.faces.numpy(force=True))
    return {"file": str(path), "colour": paler(layer.mesh.colour, paleness), "opacity": layer.opacity}


def _scene(camera: Camera, stage: Stage, engine: str, wanted: "Wanted") -> dict[str, Any]:
    """What blender_scene.py needs besides the things themselves; metres, y up."""
    rotation = camera.rotation.expand(len(camera.target), 3, 3)
    return LOOK | {
        "engine": engine,
        "width": camera.width,
        "height": camera.height,
        "focal": camera.focal,
        "distance": camera.distance,
        "eye": camera.eye.tolist(),
        "rotation": rotation.tolist(),
        "target": camera.target.tolist(),
        "ground": stage.ground,
        "lamp": stage.lights.key.tolist(),
        "transparent": wanted.transparent,
        "blend": wanted.blend and str(wanted.blend.absolute()),
    }


def _run(scene: dict[str, Any], folder: Path) -> None:
    """Draw the scene's frames into the folder."""
    path = folder / "scene.json"
    path.write_text(json.dumps(scene | {"folder": str(folder)}), encoding="utf-8")
    run_in_blender(SCRIPT, [str(path)], _picture(folder, scene["frames"][-1]))


def _picture(folder: Path, frame: int) -> Path:
    """The file that blender_scene.py draws a frame into."""
    return folder / f"frame{frame:05d}.png"
