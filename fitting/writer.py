"""The callback that takes fitted clips from Trainer.predict to disk: files, journal, a line a clip, report, curves."""

import json
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from fitting.curves import curve_rows, log_curves, write_csv
from fitting.export import DEFAULT_FORMATS, check_formats, export, per_clip
from fitting.export.atomic import atomic_path
from fitting.fingers import lacks_fingers, left_out
from fitting.folder import check_folder, check_space
from fitting.joint_errors import added, error_counts, write_counts
from fitting.journal import Entry, Journal, by_content, clip_name, fingerprint
from fitting.page import write_page
from fitting.page.listing import write_listing
from fitting.report import clip_report, failure_report, limit_words, run_report, unfitted_report
from fitting.resample import check_rate, resample, resampled_length
from fitting.tracking.runs import wandb_runs
from fitting.tracking.shown import log_fit
from fitting.version import __version__
from models.errors import InputError

if TYPE_CHECKING:
    from fitting.data import Batch, Motion
    from fitting.result import FitResult

LONGEST_WAIT = timedelta(days=30)  # of the process that is done first, for the last
LEFT = "The run ended before this clip; --resume fits it."
FAILED = "failed"  # the status of a FitResult without parameters worth writing
# Measured on one server core, seconds a frame: what a fit costs by preset, and what writing costs by format.
FIT_SECONDS = {"careful": 0.003, "quick": 0.0006, "reference": 0.002}
WRITE_SECONDS = {"smpl_params": 0.0006, "npz": 0.0001, "glb": 0.0002, "mp4": 0.08, "obj": 0.003, "ply": 0.0005}
WRITE_SECONDS |= dict.fromkeys(("fbx", "usd", "abc"), 0.006)  # mostly Blender's start


class FitWriter(Callback):
    """Writes what a module's predict_step returns: a list of FitResult a batch.

    folder: where everything goes, in a subfolder a source when there are several; formats: names in
    fitting.export.FORMATS; resume: leave out clips that an earlier, perhaps killed, run finished in this folder from
    the same input and settings; out_fps: the files' frames a second, by default the input's. The report then counts the
    files' frames; its errors and jerk are those of the fit, on the frames of the input.

    With several processes each writes its own clips; rank 0 decides at the start what there is to do, and writes the
    report from what all have sent it at the end.
    """

    def __init__(
        self,
        folder: str = "outputs",
        formats: Sequence[str] = DEFAULT_FORMATS,
        resume: bool = False,
        out_fps: float | None = None,
    ) -> None:
        check_formats(formats)
        if out_fps is not None:
            check_rate(out_fps)
        self.folder = Path(folder)
        self.formats = list(formats)
        self.resume = resume
        self.out_fps = out_fps
        self.logs = self.folder / "logs"
        self.journal = Journal(self.logs / "clips")
        self.settings: dict[str, Any] = {}
        self.motions: list[Motion] = []
        self.not_read: list[dict] = []
        self.own: dict[str, Entry] = {}  # what this process has written
        self.processes: dist.ProcessGroup | None = None
        self.terminated = False
        self.exit_code = 0  # after the run: 1 when some clips failed and others were written, 2 when none was written

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the input and the folder, leave out what is done, say how long it will take."""
        if stage != "predict":
            return
        data = trainer.datamodule
        # what begins with _ is LightningCLI's
        model = {name: value for name, value in pl_module.hparams.items() if not name.startswith("_")}
        self.settings = {"version": __version__, "formats": self.formats, "out_fps": self.out_fps, **by_content(model)}
        self.motions = list(data.motions)
        self.not_read = [failure_report(failure.source, failure.message) for failure in data.failures]
        if dist.is_initialized():
            self.processes = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        todo = self._agreed(trainer, pl_module.hparams.get("preset"))
        data.motions = [motion for motion in self.motions if clip_name(motion) in todo]
        if trainer.is_global_zero and lacks_fingers(pl_module.body, data.motions):
            say(left_out(pl_module.body))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """SIGTERM ends the run after the clip at hand. Lightning's handler goes on, and waits for all processes."""

        def terminate(*_: Any) -> None:
            self.terminated = True
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)

        on_sigterm(terminate)

    def on_predict_batch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: list["FitResult"], batch: "Batch", *_: Any
    ) -> None:
        """Write a batch's clips. The time of its fit is shared among them by frames."""
        a_frame = (time.perf_counter() - self.started) / max(sum(result.length for result in outputs), 1)
        for result in outputs:
            self._write(result, a_frame * result.length)
            if self.terminated:
                say(f"Terminated; what is finished stays, and --resume goes on in {self.folder}")
                sys.exit(128 + signal.SIGTERM)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What ends this process ends those that it started; after SIGTERM they end by themselves."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            say(f"Stopped by Ctrl-C; what is finished stays, and --resume goes on in {self.folder}")
        if trainer.strategy.launcher is not None and not self.terminated:
            trainer.strategy.launcher.kill(signal.SIGKILL)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write report.json, curves and joint errors, once every process has written its clips."""
        if stage != "predict":
            return
        written = self._gather(trainer)
        if trainer.is_global_zero:
            self._report(trainer, pl_module, written)

    def _gather(self, trainer: Trainer) -> dict[str, Entry]:
        """On rank 0 what all processes have written, by message: a network folder may show new files late."""
        if not self.processes:
            return self.own
        on_sigterm(signal.SIG_DFL)  # everything is written; no handler runs while gloo waits
        everybody = [{}] * trainer.world_size if trainer.is_global_zero else None
        try:
            dist.gather_object(self.own, everybody, group=self.processes)
        except RuntimeError:  # gloo notices at once when a process is gone
            sys.exit(f"thetafit: another process of this run ended early; --resume does the rest in {self.folder}")
        return {clip: entry for own in everybody or [] for clip, entry in own.items()}

    def _agreed(self, trainer: Trainer, preset: str | None) -> set[str]:
        """The clips to fit, as rank 0 sees it: a network folder may look older from elsewhere."""
        clips = [(clip_name(motion), motion.length) for motion in self.motions]
        decision = (clips, *self._decide(preset)) if trainer.is_global_zero else None
        expected, todo, problem = trainer.strategy.broadcast(decision)
        if problem and trainer.is_global_zero:
            raise InputError(problem)
        if problem:
            sys.exit(2)  # rank 0 says why
        if clips != expected:
            raise InputError(
                f"process {trainer.global_rank} on {platform.node()} reads {len(clips)} clips, other than the "
                f"{len(expected)} of process 0. All machines need the same motion files under the same paths."
            )
        return todo

    def _decide(self, preset: str | None) -> tuple[set[str], str | None]:
        """The clips to fit, announced; or why the run cannot start."""
        try:
            if not self.motions:
                raise InputError("\n".join(f"{report['source']}: {report['message']}" for report in self.not_read))
            check_folder(self.folder)
            self._refuse_others()
            todo = [motion for motion in self.motions if not (self.resume and self._done(motion))]
            self._announce(todo, preset)
        except InputError as error:
            return set(), str(error)
        return {clip_name(motion) for motion in todo}, None

    def _write(self, result: "FitResult", fit_seconds: float) -> None:
        started, clip, losses, errors = time.perf_counter(), clip_name(result.motion), {}, {}
        self.journal.forget(clip)
        if result.status != FAILED:
            out = result if self.out_fps is None else resample(result, self.out_fps)
            paths = export(out, self.folder / result.motion.folder, per_clip(self.formats))
            report = clip_report(result, [path.relative_to(self.folder).as_posix() for path in paths])
            report |= {"frames": out.length, "fps": float(out.fps)}
            losses = {stage: {k: v.tolist() for k, v in terms.items()} for stage, terms in result.losses.items()}
            errors = error_counts(result)
        else:
            report = unfitted_report(result.motion, result.status, result.message)
        seconds = fit_seconds + time.perf_counter() - started
        source = str(Path(result.motion.source).absolute())
        entry = Entry(source, fingerprint(result.motion, self.settings), report, losses, seconds, errors)
        self.journal.write(clip, entry)
        self.own[clip] = entry
        say(line(clip, report, seconds))

    def _done(self, motion: "Motion") -> bool:
        entry = self.journal.read(clip_name(motion))
        if entry is None or entry.fingerprint != fingerprint(motion, self.settings):
            return False
        files = entry.report["files"]
        return bool(files) and all((self.folder / file).exists() for file in files)

    def _refuse_others(self) -> None:
        """No clip overwrites another's files: the same source may be fitted again into its folder, another may not."""
        for motion in self.motions:
            entry = self.journal.read(clip_name(motion))
            if entry is None or entry.source == str(Path(motion.source).absolute()):
                continue
            if entry.fingerprint != fingerprint(motion, self.settings):
                raise InputError(
                    f"{self.folder} already holds {clip_name(motion)} of {entry.source}; {motion.source} "
                    "would overwrite it. Choose another folder with --out, or give both sources in one run: each "
                    "then gets its own subfolder."
                )

    def _announce(self, motions: list["Motion"], preset: str | None) -> None:
        """Say what was refused, what is left out, how long the rest takes; refuse what the disk has no room for."""
        for report in self.not_read:
            print(f"{report['source']}: not read. {report['message']}", flush=True)
        if len(motions) < len(self.motions):
            print(f"{len(self.motions) - len(motions)} of {len(self.motions)} clips are done already", flush=True)
        frames = sum(resampled_length(motion.length, motion.fps, self.out_fps or motion.fps) for motion in motions)
        check_space(self.folder, frames, per_clip(self.formats))
        said = expectation(len(motions), frames, preset, self.formats)
        if said:
            print(said, flush=True)

    def _report(self, trainer: Trainer, pl_module: LightningModule, written: dict[str, Entry]) -> None:
        """Every clip in the order of the input: written by this run, or by the one that it resumes."""
        left = {clip_name(motion) for motion in trainer.datamodule.motions} - written.keys()
        names = [clip_name(motion) for motion in self.motions]
        entries = {clip: written.get(clip) or self.journal.read(clip) for clip in names if clip not in left}
        clips = [
            entries[clip].report if clip in entries else unfitted_report(motion, "not reached", LEFT)
            for clip, motion in zip(names, self.motions, strict=True)
        ]
        clips += self.not_read
        seconds = sum(entry.seconds for entry in entries.values())
        preset, device = pl_module.hparams.get("preset"), device_name(pl_module.device)
        report = run_report(clips, seconds, device, preset, pl_module.body.name)
        with atomic_path(self.folder / "report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False))
        rows = [row for clip, entry in entries.items() for row in curve_rows(clip, entry.losses)]
        write_csv(self.logs / "losses.csv", rows)
        errors = added(entry.joint_errors for entry in entries.values())
        write_counts(self.logs / "joint_errors.csv", errors)
        pages = [write_listing(self.folder), *([write_page(self.folder)] if "html" in self.formats else [])]
        log_curves(trainer.loggers, rows)
        for run in wandb_runs(trainer.loggers):
            log_fit(run, self.folder, clips, errors, [entry.source for entry in entries.values()], pl_module.hparams)
        written = [clip for clip in clips if clip["files"]]
        self.exit_code = 0 if len(written) == len(clips) else 1 if written else 2
        frames = sum(clip["frames"] for clip in written)
        done = f"{len(written)} of {len(clips)} clips, {frames} frames, {seconds:.1f} s"
        print(f"{done}: see {' and '.join(map(str, pages))}", flush=True)


def on_sigterm(handler: Callable | signal.Handlers) -> None:
    """What SIGTERM does until Lightning restores it; nothing new in a thread, where Python takes no handlers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def expectation(clips: int, frames: int, preset: str | None, formats: list[str]) -> str | None:
    """What to expect of a run of over a minute; None of a shorter one."""
    seconds = frames * (FIT_SECONDS.get(preset, 0) + sum(WRITE_SECONDS.get(name, 0) for name in formats))
    return f"{clips} clips, {frames} frames: about {seconds / 60:.0f} min on one core" if seconds > 60 else None


def say(text: str) -> None:
    """A line to standard output in one piece, whatever other processes write there."""
    print(f"{text}\n", end="", flush=True)


def line(clip: str, report: dict, seconds: float) -> str:
    """A clip's line on the terminal."""
    words = [clip, counted(report["frames"], "frame")]
    if report["mpjpe_mm"] is not None:
        words.append(f"{report['mpjpe_mm']:.1f} mm (worst {report['max_joint_error_mm']:.0f})")
    if report["bone_factors"]:
        factors = report["bone_factors"].values()
        words.append(f"bones x{min(factors):.2f} to x{max(factors):.2f}")
    words.append(report["status"] if report["status"] == "converged" else f"{report['status']}: {report['message']}")
    if beyond := limit_words(report):
        words.append(beyond)
    if report["unseen_joints"]:
        words.append(f"{report['unseen_joints']} joints unseen (up to {report['longest_gap_seconds']:.1f} s)")
    if report["iterations"]:
        words.append(counted(report["iterations"], "iteration"))
    words.append(f"{seconds:.1f} s")
    if report["text"]:
        words.append(f'"{report["text"]}"')
    return "  ".join(words)


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
