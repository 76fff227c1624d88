"""`thetafit convert`: results of fits, and motions as they are, written in other formats without fitting again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fitting.data import Motion, load_motions
from fitting.export import FORMATS, check_formats, export, targets
from fitting.folder import check_folder
from fitting.resample import check_rate, grid, lerp, resample
from fitting.result import FitResult
from fitting.sources import PARAMETERS, find_files
from fitting.tracks import Bodies, is_result, read_track
from models.body import BODY_JOINTS, BodyModel
from models.errors import InputError
from models.skeleton import BODY

WHAT = (
    "A fit is NAME.npz or NAME_smpl_params.npy, or a folder of them; of motion that was never fitted there are only "
    "the formats " + ", ".join(name for name, format in FORMATS.items() if format.of_joints)
)


@dataclass(frozen=True)
class Source:
    """A file to convert and where its clips go below the output folder."""

    path: Path
    folder: Path


@dataclass
class Unfitted:
    """A motion's joints in the place of a fit, for the formats that need no body."""

    motion: Motion

    @property
    def fps(self) -> float:
        return self.motion.fps

    def joints(self) -> Tensor:
        """(L, 22, 3) metres."""
        return torch.as_tensor(self.motion.joints[:, :BODY_JOINTS])

    def resampled(self, fps: float) -> "Unfitted":
        """The same motion at `fps` frames a second, joints interpolated along the line."""
        places = grid(self.motion.length, self.fps, fps)
        joints = lerp(torch.as_tensor(self.motion.joints), *places).numpy()
        return Unfitted(replace(self.motion, joints=joints, fps=float(fps)))


def convert_files(
    sources: list[str], formats: list[str], out: str, body: str | None, out_fps: float | None, stats: str | None
) -> int:
    """Write every clip of the sources in the formats below `out`; returns the exit code: 0, 1 some failed, 2 all did.

    body: file of the body of fits to another than the embedded one; out_fps: frames a second of what is written, by
    default the clip's; stats: folder of Mean.npy and Std.npy for normalised features.
    Raises InputError for arguments with which nothing could be converted.
    """
    check_formats(formats)
    if out_fps is not None:
        check_rate(out_fps)
    bodies, found = Bodies(body), find_sources(sources)
    check_folder(Path(out))
    failures, written = 0, set()
    for source in found:
        try:
            for clip in read_clips(source.path, bodies, formats, stats):
                paths = _write(clip, Path(out) / source.folder, formats, out_fps, {*written, source.path.resolve()})
                written |= {path.resolve() for path in paths}
                print(f"{source.path} -> {', '.join(map(str, paths))}", flush=True)
        except InputError as error:
            failures += 1
            print(f"{source.path}: not converted. {str(error).removeprefix(f'{source.path}: ')}", flush=True)
    return 0 if not failures else 1 if written else 2


def find_sources(sources: list[str]) -> list[Source]:
    """The files that sources stand for; where a folder has a clip both as npz and smpl_params, the npz."""
    found = []
    for source in map(Path, dict.fromkeys(sources)):
        if source.is_dir():
            results = [path for path in sorted(source.rglob("*.npz")) if is_result(path)]
            known = {path.with_suffix("") for path in results}
            params = sorted(source.rglob(f"*{PARAMETERS}"))
            results += [path for path in params if path.with_name(_clip_name(path)) not in known]
            found += [Source(path, path.parent.relative_to(source)) for path in results or _motions(source)]
        elif source.is_file():
            found.append(Source(source, Path()))
        else:
            raise InputError(f"{source}: no such file or folder. {WHAT}")
    return found


def _motions(folder: Path) -> list[Path]:
    """The motion files in a folder without results. Raises InputError where there are none either."""
    files, failures = find_files([folder])
    if failures:
        raise InputError(f"{folder}: no result of a fit is in it, and {failures[0].message}. {WHAT}")
    return [file.path for file in files]


def read_clips(path: Path, bodies: Bodies, formats: list[str], stats: str | None) -> Iterator[FitResult | Unfitted]:
    """What the file holds, one clip after the other.

    Raises InputError, after the clips that are sound, for what is no motion, or needs a fit or a body that is not here.
    """
    if path.suffix.lower() == ".npz" and is_result(path):
        yield read_result(path, bodies)
        return
    motions, failures = load_motions(path, stats=stats)
    for motion in motions:
        yield _from_motion(motion, bodies, formats)
    if failures:
        raise InputError("; ".join(failure.message for failure in failures))


def read_result(path: Path, bodies: Bodies) -> FitResult:
    """The fit in a NAME.npz. Raises InputError when it is broken, or its body is not at hand."""
    bodies.missing.clear()
    track = read_track(path.stem, path, bodies, result=True)
    if track.body is None:
        raise InputError(_no_body(bodies))
    betas, thetas, transl = track.parameters
    given = None if track.given is None else track.given.astype("float32")
    skeleton = {} if track.skeleton is None else {"skeleton": track.skeleton}
    motion = Motion(path.stem, str(path), joints=given, fps=track.fps, text=track.text, **skeleton)
    return FitResult(thetas, betas, transl, track.body, motion)


def _from_motion(motion: Motion, bodies: Bodies, formats: list[str]) -> FitResult | Unfitted:
    motion.name = motion.name.removesuffix(PARAMETERS.removesuffix(".npy"))
    if motion.thetas is not None:
        return FitResult.from_rotations(motion, _body_of(motion, bodies))
    if refused := [name for name in formats if not FORMATS[name.partition(":")[0]].of_joints]:
        raise InputError(
            f"{motion.source}: it holds joints, not a fit, so {', '.join(refused)} cannot be made of it: run "
            f"thetafit fit {motion.source} --formats {','.join(refused)}. {WHAT}"
        )
    if motion.skeleton.shows[:BODY_JOINTS] != BODY:
        name = motion.skeleton.name
        raise InputError(f"its skeleton {name} is not SMPL's, so its joints are fitted first: thetafit fit")
    return Unfitted(motion)


def _body_of(motion: Motion, bodies: Bodies) -> BodyModel:
    """The body whose name the file has; of a file without one (MDM's own) the body given, else the embedded one."""
    if motion.body is None:
        return list(bodies.bodies.values())[-1]
    if motion.body not in bodies.bodies:
        bodies.missing = {motion.body}
        raise InputError(_no_body(bodies))
    return bodies.bodies[motion.body]


def _no_body(bodies: Bodies) -> str:
    names = ", ".join(sorted(bodies.missing))
    if bodies.path is None:
        return f"it was fitted to the body {names}: give that body's file with --body FILE"
    return f"it was fitted to the body {names}, and {bodies.path} does not give the joints that stand in the file"


def _clip_name(path: Path) -> str:
    """`walk` of walk_smpl_params.npy."""
    return path.name.removesuffix(PARAMETERS)


def _write(
    clip: FitResult | Unfitted, folder: Path, formats: list[str], out_fps: float | None, taken: set[Path]
) -> list[Path]:
    """The clip's files, none of which may be one of `taken`."""
    paths = targets(clip.motion.name, folder, formats)
    if both := [str(path) for path in paths if path.resolve() in taken]:
        raise InputError(
            f"{', '.join(both)} would be overwritten, which this run reads or has written for another source. "
            "Choose another folder with --out, or convert sources of the same name one after the other"
        )
    if out_fps is not None:
        clip = clip.resampled(out_fps) if isinstance(clip, Unfitted) else resample(clip, out_fps)
    return export(clip, folder, formats)
