"""`thetafit refine`: a fit moved a little, until its silhouettes are those of given masks."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fitting.convert import read_result
from fitting.export import check_formats, export, targets
from fitting.folder import check_folder
from fitting.result import FitResult
from fitting.silhouette import soft_silhouette
from fitting.tracks import Bodies
from fitting.views import Masks, read_cameras, read_masks
from models.errors import InputError
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

TURN, SHIFT = 0.15, 0.05  # radians of a joint, metres of the body: how far from the fit it is expected to be
TURN_STEP, SHIFT_STEP = 0.02, 0.01  # by how much that changes from one frame to the next
ITERATIONS = 60
PART = 8  # frames whose pictures are in memory at once


def refine_file(
    source: str, silhouettes: str, camera: str, out: str, body: str | None, formats: list[str]
) -> int:
    """Refine the NAME.npz `source` and write it into `out`; returns the exit code.

    silhouettes: folder of masks; camera: cam.json (fitting.views); body: file of the body that the fit belongs to.
    Raises InputError for anything that does not go together.
    """
    check_formats(formats)
    path, folder = Path(source), Path(out)
    result = read_result(path, Bodies(body))
    views = read_masks(Path(silhouettes), read_cameras(Path(camera)), result.length)
    if path.resolve() in [target.resolve() for target in targets(result.motion.name, folder, formats)]:
        raise InputError(f"--out {out}: {path} would be overwritten. Choose another folder")
    check_folder(folder)
    refined = refine(result, views)
    print(_line(result, refined, views), flush=True)
    print(", ".join(map(str, export(refined, folder, formats))))
    return 0


def refine(result: FitResult, views: list[Masks]) -> FitResult:
    """The fit with thetas and transl that lower the `energy`, by L-BFGS; betas stay.

    Raises InputError where the body is behind a camera, or out of its picture.
    """
    for masks in views:
        _check_in_sight(result, masks)
    step = torch.zeros(result.length, 25, 3, requires_grad=True)
    optimiser = torch.optim.LBFGS([step], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        for part in (near_energy(step), *mask_energies(result, step, views)):
            part.backward()
            total += part.detach()
        return total

    optimiser.step(closure)
    thetas, transl = moved(result, step.detach(), slice(None))
    about = f"Refined against {sum(len(masks.frames) for masks in views)} masks of {len(views)} views."
    return FitResult(thetas, result.betas, transl, result.body, result.motion, "converged", about)


def moved(result: FitResult, step: Tensor, frames: slice | Tensor) -> tuple[Tensor, Tensor]:
    """thetas (n, 24, 3) and transl (n, 3) of some frames after a step (L, 25, 3).

    The first 24 rows times TURN turn each joint in its own frame's axes, from the left; the last times SHIFT is added to transl.
    """
    turns = axis_angle_to_matrix(TURN * step[frames, :24]) @ axis_angle_to_matrix(result.thetas[frames])
    return matrix_to_axis_angle(turns), result.transl[frames] + SHIFT * step[frames, 24]


def near_energy(step: Tensor) -> Tensor:
    """|step|^2, and its change from frame to frame: the masks of one frame are not to make the body shake."""
    scale = torch.tensor([TURN / TURN_STEP] * 24 + [SHIFT / SHIFT_STEP])[:, None]
    return step.square().sum() + (step.diff(dim=0) * scale).square().sum()


def mask_energies(result: FitResult, step: Tensor, views: list[Masks]) -> Iterator[Tensor]:
    """The squared differences of silhouettes and masks over all pixels, part by part of the frames."""
    for frames in torch.cat([masks.frames for masks in views]).unique().split(PART):
        vertices = _vertices(result, step, frames)
        yield sum(_difference(vertices, frames, result.body.faces, masks) for masks in views)


def _vertices(result: FitResult, step: Tensor, frames: Tensor) -> Tensor:
    """(n, V, 3) metres."""
    betas = result.betas if result.betas.ndim == 1 else result.betas[frames]
    thetas, transl = moved(result, step, frames)
    return result.body.vertices(betas, thetas, transl)


def _difference(vertices: Tensor, frames: Tensor, faces: Tensor, masks: Masks) -> Tensor:
    place, given = (frames[:, None] == masks.frames).nonzero().unbind(1)
    seen = soft_silhouette(vertices[place], faces, masks.camera)
    return (seen - masks.pictures[given].to(seen) / 255).square().sum()


def _check_in_sight(result: FitResult, masks: Masks) -> None:
    pass


def _line(result: FitResult, refined: FitResult, views: list[Masks]) -> str:
    return ""
