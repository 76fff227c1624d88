"""`thetafit prepare`: recordings of any kind become a data set in HumanML3D's layout, which MDM is trained on."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitting.captions import caption, caption_of_name, lines, read_captions, within
from fitting.export.atomic import atomic_path
from fitting.recordings import Reader, Recording, find_recordings
from fitting.resample import grid, lerp
from models.body import BodyModel
from models.errors import InputError
from models.mdm.clips import FPS, LIMITS, Caption
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.normalization import Statistics

WIDTH = 263
SHORTEST, END = LIMITS[WIDTH]
SHARES = {"test": 0.15, "val": 0.05}  # of the recordings, HumanML3D's own


@dataclass
class DataSet:
    """A folder in the making: clip names by the recording that they are pieces of."""

    folder: Path
    captions: dict[str, list[Caption]] | None
    pieces: dict[str, list[str]] = field(default_factory=dict)

    def add(self, recording: Recording) -> None:
        """Write the recording's pieces: features, joints, texts. Raises InputError when it gives none."""
        captions, name = self._captions(recording), self._name(recording.name)
        joints = lerp(recording.joints, *grid(len(recording.joints), recording.fps, FPS))
        if len(joints) <= SHORTEST:
            raise InputError(
                f"too short: {len(joints)} frames at {FPS} a second; training takes {SHORTEST + 1} and more"
            )
        written = [
            self._write(f"{name}_{i:02d}" if first or last < len(joints) else name, joints[first:last], said)
            for i, (first, last) in enumerate(cuts(len(joints)))
            if (said := within(captions, first / FPS, (last - 1) / FPS, SHORTEST / FPS))
        ]
        if not written:
            raise InputError(f"none of its captions describes {SHORTEST / FPS:g} s of it")
        self.pieces[name] = written

    def _captions(self, recording: Recording) -> list[Caption]:
        if self.captions is not None:
            if not self.captions.get(recording.name):
                raise InputError(f"--texts has no caption for {recording.name}")
            return self.captions[recording.name]
        return [caption(recording.text) if recording.text else caption_of_name(recording.name)]

    def _name(self, wanted: str) -> str:
        """The recording's name without blanks, which lists of clips cannot have, and as nobody else is called."""
        wanted = "_".join(wanted.split())
        name, number = wanted, 1
        while name in self.pieces:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def _write(self, name: str, joints: Tensor, captions: list[Caption]) -> str:
        features = joints_to_features(joints).float()
        content = {"new_joint_vecs": features, "new_joints": features_to_joints(features)}
        for place, tensor in content.items():
            (self.folder / place).mkdir(parents=True, exist_ok=True)
            np.save(self.folder / place / f"{name}.npy", tensor.numpy())
        (self.folder / "texts").mkdir(exist_ok=True)
        (self.folder / "texts" / f"{name}.txt").write_text(lines(captions), encoding="utf-8")
        return name

    def finish(self) -> dict[str, list[str]]:
        """Write the lists of the splits, and mean and std of the training clips; returns the lists."""
        splits = split(self.pieces)
        splits |= {
            "train_val": splits["train"] + splits["val"],
            "all": [n for names in self.pieces.values() for n in names],
        }
        for name, clips in splits.items():
            (self.folder / f"{name}.txt").write_text("".join(f"{clip}\n" for clip in clips))
        Statistics.of(self._features(splits["train"])).save(self.folder)
        return splits

    def _features(self, names: list[str]) -> Iterator[Tensor]:
        for name in names:
            yield torch.from_numpy(np.load(self.folder / "new_joint_vecs" / f"{name}.npy", allow_pickle=False))


def cuts(frames: int) -> list[tuple[int, int]]:
    """Stretches (first, last + 1) of nearly equal length that cover the frames, none too long to train on.

    Neighbours share a frame, since features have one frame less than joints.
    """
    parts = -(-(frames - 1) // (END - 1))
    bounds = [round(i * (frames - 1) / parts) for i in range(parts + 1)]
    return [(first, last + 1) for first, last in zip(bounds, bounds[1:], strict=False)]


def split(pieces: dict[str, list[str]]) -> dict[str, list[str]]:
    """train, val and test: clip names, all pieces of a recording in one. The same recordings are split the same way.

    Fewer than three recordings are in all three.
    """
    order = sorted(pieces)
    random.Random(0).shuffle(order)
    splits = {}
    for name, share in SHARES.items():
        count = max(1, round(share * len(pieces)))
        splits[name] = list(order) if len(pieces) < 3 else [order.pop() for _ in range(count)]
    splits["train"] = order
    return {
        name: sorted(clip for recording in splits[name] for clip in pieces[recording])
        for name in ("train", "val", "test")
    }


def prepare_files(sources: list[str], out: str, texts: str | None, body: str | None, reading: dict) -> int:
    """Make the data set `out` of the sources; returns the exit code: 0, or 1 when some files could not be used.

    texts: see read_captions; without it the files' own texts or their names speak. reading: fields of Reader.
    Raises InputError when nothing can be used, or `out` is there and not empty.
    """
    target = Path(out)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(
            f"{out} is there already and not empty; a data set is made in a folder of its own: name another"
        )
    if reading.get("up", "y") not in ("y", "z"):
        raise InputError(f"--up {reading['up']}: expected y or z, the axis that points up")
    captions = None if texts is None else read_captions(texts)
    reader, failures = Reader(BodyModel.load(body), **reading), 0
    with atomic_path(target) as folder:
        data = DataSet(folder, captions)
        for path in find_recordings(sources):
            failures += _add(data, reader, path)
        if not data.pieces:
            raise InputError("no recording could be used, so there is no data set")
        splits = data.finish()
    _report(out, data, splits)
    return 1 if failures else 0


def _add(data: DataSet, reader: Reader, path: Path) -> int:
    """Add a file's recordings; returns how many could not be, each with a line that says why."""
    try:
        recordings, problems = reader.read(path)
    except InputError as error:
        recordings, problems = [], [str(error).removeprefix(f"{path}: ")]
    for recording in recordings:
        try:
            data.add(recording)
        except InputError as error:
            problems.append(f"{recording.name}: {error}")
    for problem in problems:
        print(f"{path}: left out. {problem}", flush=True)
    return len(problems)


def _report(out: str, data: DataSet, splits: dict[str, list[str]]) -> None:
    counts = ", ".join(f"{len(splits[name])} {name}" for name in ("train", "val", "test"))
    print(f"{out}: {len(splits['all'])} clips of {len(data.pieces)} recordings ({counts})")
    if len(data.pieces) < 3:
        print(
            "fewer than three recordings: all splits hold the same clips, so validation says nothing about new motion"
        )
    if data.captions is None:
        first = splits["all"][0]
        said = (Path(out) / "texts" / f"{first}.txt").read_text(encoding="utf-8").partition("#")[0]
        print(f"captions are the files' texts or names, such as {said!r}; --texts gives better ones")
