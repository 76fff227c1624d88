"""`thetafit refine`: a fit moved a little, until its silhouettes are those of given masks."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fitting.convert import read_result
from fitting.export import check_formats, export, targets
from fitting.folder import check_folder
from fitting.masks import NAMING, Masks, read_cameras, read_masks
from fitting.result import FitResult
from fitting.silhouette import soft_silhouette
from fitting.tracks import Bodies
from models.errors import InputError
from models.rotations import axis_angle_to_matrix, matrix_to_axis_angle

TURN, SHIFT = 0.15, 0.05  # radians of a joint, metres of the body: how far off the fit is expected to be
TURN_STEP, SHIFT_STEP = 0.02, 0.01  # how much that changes from one frame to the next
ITERATIONS = 40
PIXELS = 2**19  # of a view in memory at once: 8 frames of 256 x 256


def refine_file(source: str, silhouettes: str, camera: str, out: str, body: str | None, formats: list[str]) -> int:
    """Refine the fit in the NAME.npz `source` and write it into `out` in these formats; returns the exit code.

    silhouettes: folder of masks; camera: cam.json (both fitting.masks); body: file of the body that was fitted.
    Raises InputError for what cannot be read or does not go together.
    """
    check_formats(formats)
    path, folder = Path(source), Path(out)
    result = read_result(path, Bodies(body))
    views = read_masks(Path(silhouettes), read_cameras(Path(camera)), result.length)
    if path.resolve() in {target.resolve() for target in targets(result.motion.name, folder, formats)}:
        raise InputError(f"--out {out}: {path} itself would be overwritten. Choose another folder")
    check_folder(folder)
    before = overlap(result, views)
    refined = refine(result, views)
    moved_mm = 1000 * (refined.vertices() - result.vertices()).norm(dim=-1).mean()
    print(
        f"{result.motion.name}  {result.length} frames  {refined.message}  overlap (IoU) {before:.3f} -> "
        f"{overlap(refined, views):.3f}  vertices moved by {moved_mm:.1f} mm",
        flush=True,
    )
    print(", ".join(map(str, export(refined, folder, formats))))
    return 0


def refine(result: FitResult, views: list[Masks]) -> FitResult:
    """The fit with thetas and transl that L-BFGS finds from it on; the betas stay.

    It lowers the squared differences between silhouettes and masks, summed over pixels, plus `near_energy`.
    """
    step = torch.zeros(result.length, result.thetas.shape[1] + 1, 3, requires_grad=True)
    optimiser = torch.optim.LBFGS([step], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        for energy in (near_energy(step), *mask_energies(result, step, views)):
            energy.backward()
            total += energy.detach()
        return total

    optimiser.step(closure)
    thetas, transl = moved(result, step.detach())
    message = f"refined against {sum(len(masks.frames) for masks in views)} masks of {len(views)} views"
    return FitResult(thetas, result.betas, transl, result.body, result.motion, "converged", message)


def moved(result: FitResult, step: Tensor, frames: slice | Tensor = slice(None)) -> tuple[Tensor, Tensor]:
    """thetas (n, J, 3) and transl (n, 3) of these frames after a step (L, J + 1, 3) whose numbers are about 1.

    The first J rows are turns of the joints, in the axes of each joint's parent; the last one is added to transl.
    """
    turned = axis_angle_to_matrix(TURN * step[frames, :-1]) @ axis_angle_to_matrix(result.thetas[frames])
    return matrix_to_axis_angle(turned), result.transl[frames] + SHIFT * step[frames, -1]


def near_energy(step: Tensor) -> Tensor:
    """What keeps (L, J + 1, 3) near zero and neighbouring frames alike, so that the noise of masks does not shake."""
    scale = torch.tensor([TURN / TURN_STEP] * (step.shape[1] - 1) + [SHIFT / SHIFT_STEP])[:, None]
    return step.square().sum() + (step.diff(dim=0) * scale).square().sum()


def mask_energies(result: FitResult, step: Tensor, views: list[Masks]) -> Iterator[Tensor]:
    """The squared differences of all masks, each part of the frames with a graph of its own."""
    size = max(masks.camera.height * masks.camera.width for masks in views)
    for frames in torch.cat([masks.frames for masks in views]).unique().split(max(1, PIXELS // size)):
        betas = result.betas if result.betas.ndim == 1 else result.betas[frames]
        vertices = result.body.vertices(betas, *moved(result, step, frames))
        yield sum(_difference(vertices, frames, result.body.faces, masks) for masks in views)


def _difference(vertices: Tensor, frames: Tensor, faces: Tensor, masks: Masks) -> Tensor:
    """The squared difference between meshes (n, V, 3) of these frames and a view's masks of them."""
    place, given = (frames[:, None] == masks.frames).nonzero().unbind(1)
    seen = soft_silhouette(vertices[place], faces, masks.camera)
    return (seen - masks.pictures[given].to(seen) / 255).square().sum()


@torch.no_grad()
def overlap(result: FitResult, views: list[Masks]) -> float:
    """Intersection over union of silhouettes and masks, its mean over all masks.

    Raises InputError for a view in which they meet nowhere: nothing would draw the body to its masks.
    """
    shares = [_overlaps(result.vertices(), result.body.faces, masks) for masks in views]
    for share, masks in zip(shares, views, strict=True):
        if not share.any():
            raise InputError(
                f"view {masks.name}: the fit's silhouette meets none of its masks. The camera must be given in the "
                f"world of the fit (metres, y up, as in its npz), x to the right, y downwards, z ahead; {NAMING}"
            )
    return torch.cat(shares).mean().item()


def _overlaps(vertices: Tensor, faces: Tensor, masks: Masks) -> Tensor:
    """(n,) of the masks of a view."""
    shares = []
    for frame, picture in zip(masks.frames, masks.pictures > 127, strict=True):
        seen = soft_silhouette(vertices[frame], faces, masks.camera) > 0.5
        shares.append((seen & picture).sum() / (seen | picture).sum())
    return torch.stack(shares)
