"""`thetafit refine`: cameras by hand, a body brought back to its masks, the command, and what it says of bad input."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from fitting.cli import main
from fitting.convert import read_result
from fitting.data import Motion
from fitting.masks import FixedCamera, Masks, read_cameras, read_masks
from fitting.refine import overlap, refine
from fitting.render.raster import rasterise
from fitting.result import FitResult
from fitting.tracks import Bodies
from models.body import BodyModel
from models.errors import InputError
from models.keyed import walk_and_pick_up
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

BENT = [1, 4, 12, 16, 17, 18]  # hip, knee, neck, shoulders, elbow
DISTANCE, PITCH = 3.5, 0.15


def truth(frame: int, frames: int = 1) -> FitResult:
    """A piece of the keyed walk, the body's middle over the origin in its first frame."""
    body, take, cut = BodyModel.load(), walk_and_pick_up(), slice(frame, frame + frames)
    betas, thetas, transl = (x.float() for x in (take.betas, take.thetas[cut], take.transl[cut]))
    transl = transl - transl[0] * torch.tensor([1.0, 0, 1])
    joints = body.joints(betas, thetas, transl)[:, :22].numpy()
    return FitResult(thetas, betas, transl, body, Motion("walk", "walk.npy", joints=joints, text="a person walks"))


def bent(result: FitResult, degrees: float = 5.0, seed: int = 0) -> FitResult:
    """Six joints turned by so much about random axes."""
    turns = torch.zeros(24, 3)
    axes = torch.randn(len(BENT), 3, generator=torch.Generator().manual_seed(seed))
    turns[BENT] = math.radians(degrees) * normalize(axes, dim=1)
    turned = axis_angle_to_matrix(turns) @ axis_angle_to_matrix(result.thetas)
    return replace(result, thetas=matrix_to_axis_angle(turned))


def camera(degrees: float, size: int) -> dict:
    """An entry of cam.json: looks at the body from `degrees` around it, a little from above."""
    across, along = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    ahead = torch.tensor([-across * math.cos(PITCH), -math.sin(PITCH), -along * math.cos(PITCH)])
    right = torch.tensor([along, 0, -across])
    rotation = torch.stack((right, torch.linalg.cross(ahead, right), ahead))
    translation = -rotation @ (torch.tensor([0, 0.9, 0]) - DISTANCE * ahead)
    entry = {"width": size, "height": size, "focal": 1.5 * size}
    return entry | {"rotation": rotation.tolist(), "translation": translation.tolist()}


def masks_of(result: FitResult, view: FixedCamera) -> Tensor:
    """(L, height, width) uint8, by the rasteriser and not by what is tested."""
    points = view.project(result.vertices())
    pixels = torch.zeros(len(points) * view.height * view.width, dtype=torch.uint8)
    pixels[rasterise(points, result.body.faces, view.height, view.width).pixel] = 255
    return pixels.view(len(points), view.height, view.width)


def write_scene(folder: Path, result: FitResult, angles: dict[str, float], size: int) -> dict[str, FixedCamera]:
    """cam.json and masks/VIEW_FRAME.png."""
    (folder / "masks").mkdir()
    (folder / "cam.json").write_text(json.dumps({name: camera(angle, size) for name, angle in angles.items()}))
    cameras = read_cameras(folder / "cam.json")
    for name, view in cameras.items():
        for frame, mask in enumerate(masks_of(result, view)):
            Image.fromarray(mask.numpy()).save(folder / "masks" / f"{name}_{frame:03}.png")
    return cameras


def command(folder: Path, *more: str) -> list[str]:
    words = ["refine", str(folder / "walk.npz"), "--silhouettes", str(folder / "masks")]
    return [*words, "--camera", str(folder / "cam.json"), "--out", str(folder / "out"), "--formats", "npz", *more]


def errors_mm(result: FitResult, true: FitResult) -> Tensor:
    return 1000 * (result.vertices() - true.vertices()).norm(dim=-1)


def test_cameras_project_as_documented(tmp_path: Path) -> None:
    entry = {"width": 200, "height": 100, "focal": [50, 60], "centre": [90, 45], "translation": [0, 0, 2]}
    entry["rotation"] = [[0, 0, 1], [0, -1, 0], [1, 0, 0]]  # looks along the world's x, its z to the right
    (tmp_path / "cam.json").write_text(json.dumps({"a": entry, "b": entry | {"model": "orthographic"}}))
    cameras = read_cameras(tmp_path / "cam.json")
    point = torch.tensor([[2.0, 1.0, 3.0]])  # 4 m ahead, 3 m to the right, 1 m above
    torch.testing.assert_close(cameras["a"].project(point), torch.tensor([[90 + 50 * 3 / 4, 45 - 60 / 4, 4.0]]))
    torch.testing.assert_close(cameras["b"].project(point), torch.tensor([[90 + 50 * 3.0, 45 - 60.0, 4.0]]))


def test_a_bent_body_is_brought_back() -> None:
    """Six joints 5 degrees off, four masks of 256 x 256: the vertex error is to be halved; it falls to a sixth."""
    true = truth(40)
    start, views = bent(true), []
    for angle in (0, 90, 180, 270):
        entry = camera(angle, 256)
        numbers = (torch.tensor(entry[key]) for key in ("rotation", "translation"))
        view = FixedCamera(256, 256, torch.full((2,), entry["focal"]), torch.full((2,), 128.0), *numbers)
        views.append(Masks(str(angle), view, torch.arange(1), masks_of(true, view)))
    refined = refine(start, views)
    before, after = errors_mm(start, true), errors_mm(refined, true)
    print(f"vertices {before.mean():.2f} -> {after.mean():.2f} mm, worst {before.max():.1f} -> {after.max():.1f} mm")
    assert before.mean() > 10 and after.mean() < before.mean() / 4 and after.max() < before.max() / 4
    assert overlap(refined, views) > 0.97 > overlap(start, views)


def test_the_command_refines_a_clip(tmp_path: Path) -> None:
    """Four frames at 96 x 96, one without masks: it goes along with its neighbours."""
    true = truth(20, frames=4)
    start = bent(true)
    write_scene(tmp_path, true, {"front": 0, "left": 90, "high_back": 200}, size=96)
    for mask in (tmp_path / "masks").glob("*_002.png"):
        mask.unlink()
    start.save(tmp_path / "walk", ("npz",))
    assert main(command(tmp_path)) == 0
    refined = read_result(tmp_path / "out" / "walk.npz", Bodies(None))
    before, after = (errors_mm(result, true).mean(1) for result in (start, refined))
    assert (after < before / 2).all()
    assert refined.motion.text == "a person walks" and torch.equal(refined.betas, true.betas)
    np.testing.assert_allclose(refined.motion.joints, start.motion.joints)


def test_a_fit_that_is_right_stays(tmp_path: Path) -> None:
    true = truth(0)
    views = [
        Masks(name, view, torch.arange(1), masks_of(true, view))
        for name, view in write_scene(tmp_path, true, {"front": 10, "left": 100}, size=96).items()
    ]
    assert errors_mm(refine(true, views), true).mean() < 4


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder in which the command would work."""
    write_scene(tmp_path, truth(0), {"front": 0, "left": 90}, size=48)
    truth(0).save(tmp_path / "walk", ("npz",))
    return tmp_path


def paint(folder: Path, name: str, value: int, size: tuple[int, int] = (48, 48)) -> None:
    Image.new("L", size, value).save(folder / "masks" / name)


def change(folder: Path, **entries: object) -> None:
    """Other values in the camera `left`."""
    content = json.loads((folder / "cam.json").read_text())
    content["left"] |= entries
    (folder / "cam.json").write_text(json.dumps(content))


BAD = {
    "size": (lambda folder: paint(folder, "left_000.png", 255, (64, 48)), "64 x 48 pixels, but its camera has 48 x 48"),
    "empty": (lambda folder: paint(folder, "left_000.png", 0), "the mask is empty"),
    "full": (lambda folder: paint(folder, "left_000.png", 255), "the mask is full"),
    "frame": (lambda folder: paint(folder, "left_7.png", 9), "there is no frame 7, the clip's 1 frames count from 0"),
    "twice": (lambda folder: paint(folder, "left_0.png", 9), "both of frame 0"),
    "stranger": (lambda folder: paint(folder, "right_000.png", 9), "cam.json has front, left"),
    "missing": (lambda folder: (folder / "masks" / "left_000.png").unlink(), "no mask of left"),
    "no png": (lambda folder: (folder / "masks" / "left_000.png").write_bytes(b"GIF"), "cannot be read as a PNG"),
    "elsewhere": (lambda folder: change(folder, translation=[9, 0, 9]), "view left: the fit's silhouette meets none"),
    "behind": (lambda folder: change(folder, translation=[0, 0, -9]), "view left: the fit's silhouette meets none"),
    "rotation": (lambda folder: change(folder, rotation=[[1, 0, 0]] * 3), "left: rotation is no rotation"),
    "focal": (lambda folder: change(folder, focal=-1), "left: focal must be above 0"),
    "width": (lambda folder: change(folder, width=48.5), "left: width should be a whole number"),
    "translation": (lambda folder: change(folder, translation=[0, 1]), "left: translation should be 3 finite numbers"),
    "model": (lambda folder: change(folder, model="fisheye"), "known are pinhole and orthographic"),
    "key": (lambda folder: change(folder, center=[1, 2]), "unknown: center"),
    "json": (lambda folder: (folder / "cam.json").write_text("{"), "cannot be read as JSON"),
    "list": (lambda folder: (folder / "cam.json").write_text("[]"), "expected an object with an object for every view"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_teaches(scene: Path, case: str, capsys: pytest.CaptureFixture) -> None:
    spoil, message = BAD[case]
    spoil(scene)
    assert main(command(scene)) == 2
    assert message in capsys.readouterr().err
    assert not list(scene.glob("out/*"))


def test_a_result_is_not_overwritten(scene: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*command(scene), "--out", str(scene)]) == 2
    assert "itself would be overwritten" in capsys.readouterr().err


def test_no_folder_of_masks(scene: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_masks(scene / "mask", read_cameras(scene / "cam.json"), 1)
