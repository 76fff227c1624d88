"""What is shown on W&B of a fit, of generated motion, of an evaluation and of a training, and their artifacts."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitting.joint_errors import EDGES, Counts
from fitting.metrics import mean
from fitting.report import METRIC_KEYS
from fitting.tracking import artifacts

if TYPE_CHECKING:
    from wandb import Run

SHOWN = 16  # clips whose film and body are shown, the worst of a fit first
CLIP_COLUMNS = ("name", "text", "status", "frames", *METRIC_KEYS)


def log_fit(
    run: "Run", folder: Path, clips: list[dict], errors: Counts, sources: Iterable[str], settings: dict[str, Any]
) -> None:
    """A fit's folder: films, bodies, joint errors, a table of the clips, its artifacts and what they were made from.

    clips: those of folder/report.json; settings: the module's, of which every file counts as an input.
    """
    made_from = [*artifacts.motions(sorted({Path(source) for source in sources})), *files_among(settings)]
    used = artifacts.use(run, made_from)
    run.log(histograms(errors) | shown(folder, clips))
    log_numbers(run, clips)
    logs = folder / "logs"
    paths = [folder / "report.json", logs / "losses.csv", logs / "joint_errors.csv"]
    about = {"inputs": used, **means(clips)}
    if any(clip["files"] for clip in clips):
        artifacts.log(run, artifacts.fit(folder), about)
    artifacts.log(run, artifacts.metrics(paths), about, copied=True)


def log_generation(run: "Run", folder: Path, settings: dict[str, Any]) -> None:
    """Generated motion: results.npy, made from every file among the settings; films."""
    import wandb

    used = artifacts.use(run, files_among(settings))
    films = sorted(folder.glob("sample*_rep*.mp4"))[:SHOWN]
    run.log({"films": [wandb.Video(str(film), caption=film.stem, format="mp4") for film in films]})
    artifacts.log(run, artifacts.motions([folder / "results.npy"])[0], {"inputs": used}, copied=True)


def log_evaluation(run: "Run", sources: Sequence[Path], entries: list[dict], written: Path) -> None:
    """Numbers of fits: a table, their means, and the file that they were written to, made from the fits."""
    used = artifacts.use(run, fits_of(sources))
    log_numbers(run, entries)
    artifacts.log(run, artifacts.metrics([written]), {"inputs": used, **means(entries)}, copied=True)


def log_weights(run: "Run", products: dict[Path, list[str]], settings: dict[str, Any], data: Sequence[Path]) -> None:
    """A training's weights, path -> aliases; what it started from, every file among the module's settings; its data."""
    used = artifacts.use(run, [*files_among(settings), *artifacts.motions(data)])
    for path, aliases in products.items():
        artifacts.log(run, artifacts.weights(path), {"inputs": used}, aliases, copied=True)


def log_numbers(run: "Run", clips: list[dict]) -> None:
    """A table with a row a clip, and the means over clips in the run's summary."""
    import wandb

    columns = [name for name in CLIP_COLUMNS if any(name in clip for clip in clips)]
    with artifacts.staged_in(run):
        run.log({"clips": wandb.Table(columns=columns, data=[[clip.get(name) for name in columns] for clip in clips])})
    run.summary.update(means(clips))


def means(clips: list[dict]) -> dict[str, float]:
    """Mean of every number over the clips that have it, as `mean/NAME`."""
    found = {key: mean([clip[key] for clip in clips if clip.get(key) is not None]) for key in METRIC_KEYS}
    return {f"mean/{key}": value for key, value in found.items() if value is not None and math.isfinite(value)}


def histograms(errors: Counts) -> dict[str, Any]:
    """Of each joint's distance from the input, millimetres."""
    import wandb

    return {
        f"joint_error_mm/{name}": wandb.Histogram(np_histogram=(counts, list(EDGES))) for name, counts in errors.items()
    }


def shown(folder: Path, clips: list[dict]) -> dict[str, list]:
    """Films and bodies of the clips with the largest joint errors."""
    import wandb

    order = sorted(clips, key=lambda clip: -(clip["mpjpe_mm"] or 0))[:SHOWN]
    files = [(f"{clip['name']} {clip['text'] or ''}", name) for clip in order for name in clip["files"]]
    films = [wandb.Video(str(folder / n), caption=said, format="mp4") for said, n in files if n.endswith(".mp4")]
    bodies = [wandb.Object3D(folder / n, caption=said) for said, n in files if n.endswith(".glb")]
    return {key: found for key, found in (("films", films), ("bodies", bodies)) if found}


def files_among(settings: dict[str, Any]) -> list[artifacts.Content]:
    """Every file that a setting names."""
    named = [Path(value) for value in settings.values() if isinstance(value, str | Path) and value]
    files = [path for path in named if path.is_file()]
    return [artifacts.motions([path])[0] if path.suffix == ".npy" else artifacts.weights(path) for path in files]


def fits_of(sources: Sequence[Path]) -> list[artifacts.Content]:
    """The artifact of every folder of fits; files that lie in none as one of their own."""
    homes = [source for source in sources if (source / "report.json").is_file()]
    loose = {source.name: source for source in sources if source.is_file()}
    alone = [artifacts.Content("fit", "fit", loose)] if loose else []
    return [*map(artifacts.fit, homes), *alone]
