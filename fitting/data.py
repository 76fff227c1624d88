"""Motion files in, batches out: Motion, load_motions, and the LightningDataModule of a fit."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from fitting.axes import UP, check_up, turned
from fitting.checks import check_finite, check_fps, check_joints, known_skeleton
from fitting.formats import Clip, read_clips
from fitting.gaps import seen_joints
from fitting.sources import Failure, MotionFile, find_files
from models.errors import InputError
from models.mdm.features import features_to_joints
from models.mdm.normalization import Statistics, looks_normalized
from models.rotations import matrix_to_axis_angle, rot6d_to_matrix
from models.skeleton import PHALANGES, SKELETONS, Skeleton

log = logging.getLogger("thetafit")

LONGEST_MDM = 196  # frames that MDM makes at most; its `lengths` may name as many, whatever the array holds
FPS = 20.0  # of HumanML3D, and so of MDM
CPU_FRAMES, GPU_FRAMES = 1024, 32768  # frames at once: Python between operations costs little; halved if a GPU is full


@dataclass(eq=False)
class Motion:
    """One clip of L valid frames.

    name: of its output files; source: the file, as the user gave it; folder: output subfolder, "" for none;
    joints: float32 (L, J, 3) metres, y up, NaN = unseen, in the order of skeleton, only those that the fit uses
    (float64 far from the origin); confidence: float32 (L, J) from 0 to 1, if the file gives it; or, where the file
    holds rotations and nothing is to be fitted, thetas: float32 (L, 24, 3) axis-angle in radians, root first, and root:
    float32 (L, 3), the pelvis in the world; betas (B,) or (L, B), the name of their body if known, and joint_offsets
    (22, 3), metres, if its skeleton was adapted. notes: sentences on what was found in the file.
    """

    name: str
    source: str = ""
    folder: str = ""
    joints: np.ndarray | None = None
    confidence: np.ndarray | None = None
    thetas: np.ndarray | None = None
    root: np.ndarray | None = None
    fps: float = FPS
    text: str = ""
    skeleton: Skeleton = SKELETONS["humanml3d"]
    sample: int | None = None
    repetition: int | None = None
    betas: np.ndarray | None = None
    body: str | None = None
    joint_offsets: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        return len(self.thetas if self.joints is None else self.joints)

    @property
    def seen(self) -> np.ndarray:
        """Which of the joints (L, J) the fit believes: not those that are NaN, of confidence 0, or metres off."""
        joints = torch.as_tensor(self.joints)[None]
        body = [index for index, point in enumerate(self.skeleton.shows) if point not in PHALANGES]
        seen = seen_joints(joints, torch.ones(joints.shape[:2], dtype=torch.bool), body)[0].numpy()
        return seen if self.confidence is None else seen & (self.confidence > 0)


def load_motions(
    sources: str | Path | Iterable[str | Path],
    *,
    skeleton: str | None = None,
    fps: float | None = None,
    up: str | None = None,
    samples: Sequence[int] | None = None,
    stats: str | Path | None = None,
) -> tuple[list[Motion], list[Failure]]:
    """Every clip of the sources that can be used, and a Failure for each file or clip that cannot.

    sources: files, folders and globs, or `.../sample01_rep02.mp4` for that clip of the results.npy beside it;
    skeleton: name in SKELETONS or a YAML file, by default told from the number of joints; fps: overrides what the file
    or the skeleton says; up: the axis of the files' joints that points up, by default the skeleton's, y; samples: of
    files with several clips only these sample numbers, with all their repetitions; stats: folder with Mean.npy and
    Std.npy, for normalised features.
    Raises InputError only for arguments that no file could satisfy.
    """
    if up is not None:
        check_up(up)
    if skeleton is not None:
        known_skeleton(skeleton)
    if fps is not None:
        check_fps(fps)
    reader = _Reader(skeleton, fps, up, samples, None if stats is None else Statistics.load(stats))
    files, failures = find_files([sources] if isinstance(sources, str | Path) else sources)
    if not files and not failures:
        raise InputError("no source was given: name motion files, folders or globs")
    motions: dict[tuple[str, str], Motion] = {}
    for file in files:
        found, problems = reader.read(file)
        failures += problems
        _add(motions, found, file)
    return list(motions.values()), failures


def _add(motions: dict[tuple[str, str], Motion], found: list[Motion], file: MotionFile) -> None:
    """Add a file's clips; where another file has given one of their names to that folder, in a folder of their own."""

    def key(motion: Motion) -> tuple[str, str]:
        return motion.folder.casefold(), motion.name.casefold()

    folder, number = Path(file.folder) / file.path.stem, 1
    while any(key(motion) in motions and motions[key(motion)].source != motion.source for motion in found):
        name = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        found = [replace(motion, folder=name.as_posix()) for motion in found]
        number += 1
    for motion in found:
        motions.setdefault(key(motion), motion)


@dataclass
class _Reader:
    """What holds for all files of a run."""

    skeleton: str | None
    fps: float | None
    up: str | None
    samples: Sequence[int] | None
    statistics: Statistics | None

    def read(self, file: MotionFile) -> tuple[list[Motion], list[Failure]]:
        """The clips of a file that can be used, and why the others cannot."""
        motions, problems, source = [], {}, str(file.path)
        try:
            clips = self.choose(read_clips(file.path), file.pick)
        except InputError as error:
            return [], [Failure(source, str(error).removeprefix(f"{source}: "))]
        for clip in clips:
            try:
                motions.append(self.motion(clip, file))
            except InputError as error:
                problems[clip.name] = f"{error}. Found: {clip.received}"
        if not motions and len(set(problems.values())) == 1:  # what is wrong with every clip is said once
            problems = {"": next(iter(problems.values()))}
        return motions, [Failure(source, f"{clip}: {why}" if clip else why) for clip, why in problems.items()]

    def choose(self, clips: list[Clip], pick: tuple[int, int] | None) -> list[Clip]:
        """The one clip that a film's name stands for, or those of the samples asked for."""
        if pick:
            chosen = [clip for clip in clips if (clip.sample, clip.repetition) == pick]
            wanted = f"sample {pick[0]}, repetition {pick[1]}"
        elif self.samples is None or all(clip.sample is None for clip in clips):
            return clips
        else:
            missing = sorted(set(self.samples) - {clip.sample for clip in clips})
            chosen = [] if missing else [clip for clip in clips if clip.sample in self.samples]
            wanted = f"sample {', '.join(map(str, missing))}"
        if not chosen:
            there = ", ".join(clip.name for clip in clips[:12] if clip.name) or "one clip without a number"
            raise InputError(f"{wanted} is not in it; {clips[0].received} holds {there}{' ...' * (len(clips) > 12)}")
        return chosen

    def motion(self, clip: Clip, file: MotionFile) -> Motion:
        """A checked clip in metres, y up."""
        named = clip.name if clip.repetition is not None else "_".join(filter(None, (file.path.stem, clip.name)))
        motion = Motion(named, str(file.path), file.folder, text=clip.text)
        motion.sample, motion.repetition = clip.sample, clip.repetition
        array = cut(clip, motion.source)
        if clip.kind == "rotations":
            motion.thetas, motion.root = self.rotations(array)
            motion.skeleton, motion.betas, motion.body = SKELETONS["smpl"], clip.betas, clip.body
            motion.joint_offsets = clip.joint_offsets
        else:
            joints = self.joints(array, motion.source) if clip.kind == "features" else array
            confidence = None if clip.confidence is None else clip.confidence[: len(array)]
            found = check_joints(joints, self.skeleton or clip.skeleton, self.up, confidence)
            motion.joints, motion.confidence = found.joints, found.confidence
            motion.skeleton, motion.notes = found.skeleton, found.notes
            for note in motion.notes:
                log.warning("%s: %s", f"{motion.source} {clip.name}".strip(), note)
        motion.fps = check_fps(self.fps or clip.fps or motion.skeleton.fps)
        return motion

    def joints(self, features: np.ndarray, source: str) -> np.ndarray:
        """(L, 263) features, normalised or not, -> (L, 22, 3)."""
        if self.up not in (None, "y"):
            raise InputError("HumanML3D features are y up by definition: leave out --up")
        check_finite(features, "features")
        features = torch.from_numpy(features.astype(np.float32))
        if looks_normalized(features):
            if self.statistics is None:
                raise InputError(
                    "these features are normalised, (x - Mean) / Std: give --stats DIR, the folder with the training "
                    "set's Mean.npy and Std.npy (dataset/HumanML3D in MDM's repository)"
                )
            features = self.statistics.denormalize(features)
        elif self.statistics is not None:
            log.warning("%s: its features are not normalised, so --stats is not applied to them", source)
        return features_to_joints(features).numpy()

    def rotations(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(L, 25, 6), 24 joints in rot6d and the pelvis' place, -> thetas (L, 24, 3) and root (L, 3), y up."""
        check_finite(array, "rotations")
        rot6d, root = torch.from_numpy(array[:, :24].astype(np.float64)), array[:, 24, :3].astype(np.float32)
        flat = torch.linalg.cross(rot6d[..., :3], rot6d[..., 3:]).norm(dim=-1) < 1e-6
        if flat.any():
            frame, joint = flat.nonzero()[0].tolist()
            raise InputError(f"joint {joint} has no rotation in frame {frame}: its six numbers span no plane")
        matrices = rot6d_to_matrix(rot6d)
        if self.up is not None:
            matrices[:, 0] = torch.from_numpy(UP[self.up]) @ matrices[:, 0]
            root = turned(root, self.up).astype(np.float32)
        return matrix_to_axis_angle(matrices).float().numpy(), root


def cut(clip: Clip, source: str) -> np.ndarray:
    """The valid frames of a clip. Raises InputError when its length cannot be meant for this array."""
    frames, length = len(clip.array), clip.length
    if length is None or length == frames:
        return clip.array
    if length < 1:
        raise InputError(f"its length is {length}; a clip has at least one frame")
    if length > frames and length > LONGEST_MDM:
        raise InputError(
            f"its length is {length}, but the array has {frames} frames: they do not belong together. MDM's clips have "
            f"{LONGEST_MDM} at most, and a length up to that is cut to the frames that are there"
        )
    if length > frames:
        log.warning("%s %s: its length is %d, but the array has %d frames: cut", source, clip.name, length, frames)
    return clip.array[:length]


@dataclass(eq=False)
class Batch:
    """C clips, T frames for the longest, all of one skeleton.

    joints (C, T, J, 3) metres, y up, NaN = unseen, zero where there is no frame; mask (C, T), True on valid frames;
    fps (C,); confidence (C, T, J) or None = 1; origin (C, 3) float64: what was taken from the joints of clips far
    away, zero for others; None = zero. Clips that hold rotations already come in batches of their own, with J = 0.
    """

    joints: Tensor
    mask: Tensor
    motions: list[Motion]
    fps: Tensor
    confidence: Tensor | None = None
    origin: Tensor | None = None
    skeleton: Skeleton = SKELETONS["humanml3d"]

    def to(self, *args, **kwargs) -> "Batch":
        """The batch with its tensors on another device; arguments as for Tensor.to. The origin stays on the CPU."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def clips(self, which: slice) -> "Batch":
        """The batch of some of the clips."""
        origin = None if self.origin is None else self.origin[which]
        return replace(self._map(lambda tensor: tensor[which]), motions=self.motions[which], origin=origin)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        confidence = None if self.confidence is None else function(self.confidence)
        joints, mask, fps = map(function, (self.joints, self.mask, self.fps))
        return replace(self, joints=joints, mask=mask, fps=fps, confidence=confidence)


def collate(motions: list[Motion]) -> Batch:
    """Motions of one skeleton as one batch, padded with zeros."""
    arrays = [
        np.zeros((motion.length, 0, 3), np.float32) if motion.joints is None else motion.joints for motion in motions
    ]
    far = [array.dtype == np.float64 for array in arrays]  # float32 would round there
    origin = np.stack(
        [np.floor(np.nanmedian(a, (0, 1))) if away else np.zeros(3) for a, away in zip(arrays, far, strict=True)]
    )
    joints = _padded([(array - start).astype(np.float32) for array, start in zip(arrays, origin, strict=True)])
    confidence = None
    if any(motion.confidence is not None for motion in motions):
        ones = [np.ones(array.shape[:2], np.float32) for array in arrays]
        given = [motion.confidence for motion in motions]
        confidence = _padded([one if own is None else own for one, own in zip(ones, given, strict=True)])
    lengths = torch.tensor([motion.length for motion in motions])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    fps = torch.tensor([motion.fps for motion in motions], dtype=joints.dtype)
    return Batch(joints, mask, motions, fps, confidence, torch.from_numpy(origin), motions[0].skeleton)


def _padded(arrays: list[np.ndarray]) -> Tensor:
    """Arrays (L, ...) as one tensor (C, T, ...), zeros behind the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(array) for array in arrays], batch_first=True)


def group(motions: Sequence[Motion], frames_per_batch: int) -> list[list[Motion]]:
    """Motions that fit side by side: of one skeleton, similar length, C x T <= frames_per_batch.

    Longest first. A clip longer than the bound is alone; none is padded to more than twice its length.
    """

    def kind(motion: Motion) -> tuple[int, str, tuple]:
        joints = 0 if motion.joints is None else motion.joints.shape[1]
        return joints, motion.skeleton.name, tuple(map(str, motion.skeleton.shows))

    groups: list[list[Motion]] = []
    for motion in sorted(motions, key=lambda motion: (kind(motion), motion.length), reverse=True):
        longest = groups[-1][0] if groups else None
        fits = longest is not None and kind(longest) == kind(motion) and longest.length <= 2 * motion.length
        if fits and (len(groups[-1]) + 1) * longest.length <= frames_per_batch:
            groups[-1].append(motion)
        else:
            groups.append([motion])
    return groups


class Share(DistributedSampler):
    """The groups that one of several processes fits: each once, dealt so that all have about as many frames.

    Lightning leaves a DistributedSampler as it is. Its own would insist on a group for every process.
    """

    def __init__(self, groups: Sequence[Sequence[Motion]], processes: int, rank: int) -> None:
        super().__init__(groups, processes, rank, shuffle=False)
        frames = [0] * processes
        self.own: list[int] = []
        for index, motions in enumerate(groups):  # longest first, each to the process with the least so far
            least = frames.index(min(frames))
            frames[least] += sum(motion.length for motion in motions)
            if least == rank:
                self.own.append(index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)


class MotionData(LightningDataModule):
    """Batches of everything that motion files hold, for Trainer.predict.

    sources, skeleton, fps, up, samples, stats: as in load_motions; frames_per_batch: bound on clips x frames at once,
    by default what suits the device. After setup, motions holds the clips (take some out to leave them alone) and
    failures what could not be read. Each of several processes gets the batches of its Share.
    """

    def __init__(
        self,
        sources: list[str],
        skeleton: str | None = None,
        fps: float | None = None,
        up: str | None = None,
        samples: list[int] | None = None,
        stats: str | None = None,
        frames_per_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.sources = sources
        self.reading = {"skeleton": skeleton, "fps": fps, "up": up, "samples": samples, "stats": stats}
        self.frames_per_batch = frames_per_batch
        self.motions: list[Motion] = []
        self.failures: list[Failure] = []
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer batches than processes

    def setup(self, stage: str) -> None:
        self.motions, self.failures = load_motions(self.sources, **self.reading)

    def predict_dataloader(self) -> DataLoader:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        processes, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        bound = GPU_FRAMES if on_gpu else CPU_FRAMES
        if processes > 1:  # smaller batches where there is not a full one for each
            bound = min(bound, max(sum(motion.length for motion in self.motions) // processes, 1))
        groups = group(self.motions, self.frames_per_batch or bound)
        return DataLoader(groups, batch_size=None, sampler=Share(groups, processes, rank), collate_fn=collate)
