"""BVH files: the hierarchy and motion they hold, read and written.

A joint's rotation is the product of its rotation channels in the order they are listed, column-vector matrices, angles
in degrees; its position channels, where it has any, stand in place of its OFFSET. Lengths stay in the file's own units.
End sites are kept as joints without channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from models.errors import InputError
from models.rotations import axis_angle_to_matrix, matrix_to_euler

POSITIONS = ("Xposition", "Yposition", "Zposition")
CHANNELS = {name.lower(): name for name in (*POSITIONS, "Xrotation", "Yrotation", "Zrotation")}


@dataclass(frozen=True)
class Bvh:
    """One BVH file. J joints with their end sites, L frames; joint 0 is the root and parents come before children.

    names (J), an end site's is its parent's + "_end"; parents (J), -1 for the root; offsets (J, 3) in file units;
    channels: of each joint the channel names in file order, () for an end site; rotations (L, J, 3, 3) local;
    translation (L, 3) of the root; fps; moved: (L, 3) in the parent's frame for other joints with position channels.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    channels: tuple[tuple[str, ...], ...]
    rotations: np.ndarray
    translation: np.ndarray
    fps: float
    moved: dict[int, np.ndarray] = field(default_factory=dict)

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations (L, J, 3, 3) and positions (L, J, 3), in file units, of every joint in the world."""
        rotations = self.rotations.copy()
        positions = np.empty(rotations.shape[:-1])
        positions[:, 0] = self.translation
        for j, parent in enumerate(self.parents[1:], 1):
            step = self.moved.get(j, self.offsets[j])
            positions[:, j] = positions[:, parent] + (rotations[:, parent] @ step[..., None])[..., 0]
            rotations[:, j] = rotations[:, parent] @ self.rotations[:, j]
        return rotations, positions

    def joints(self) -> np.ndarray:
        """Positions (L, J, 3) in the world, in file units, end sites among them."""
        return self.world()[1]


def read_bvh(path: str | Path) -> Bvh:
    """The BVH file at `path`, in float64.

    Raises InputError, with the line, for a file that is missing, cut or malformed.
    """
    words = _Words(path)
    joints = _hierarchy(words)
    names, parents, offsets, channels = zip(*joints, strict=True)
    values, fps = _motion(words, sum(map(len, channels)))
    columns = np.split(values, np.cumsum([len(joint) for joint in channels])[:-1], axis=1)
    rotations = np.stack([_rotation(*joint) for joint in zip(columns, channels, strict=True)], 1)
    moved = {
        j: columns[j][:, [channels[j].index(name) for name in POSITIONS]]
        for j in range(len(names))
        if set(POSITIONS) <= set(channels[j])
    }
    offsets = np.array(offsets)
    translation = moved.pop(0, np.broadcast_to(offsets[0], (len(values), 3)))
    return Bvh(names, parents, offsets, channels, rotations, translation, fps, moved)


def write_bvh(path: str | Path, bvh: Bvh) -> None:
    """Write `bvh` with six decimals. Rotations become Euler angles in the order of each joint's channels.

    Joints come in the file's own order, each with all below it, whatever their order in `bvh`.
    """
    columns = [column for j in _down(bvh, 0) for column in _columns(bvh, j)]
    motion = [" ".join(f"{number:.6f}" for number in row) for row in zip(*columns, strict=True)]
    head = [f"Frames: {len(bvh.rotations)}", f"Frame Time: {1 / bvh.fps:.7f}"]
    Path(path).write_text("\n".join(["HIERARCHY", *_joint_lines(bvh, 0, ""), "MOTION", *head, *motion, ""]))


class _Words:
    """The words of a file one after the other, each with its line for error messages."""

    def __init__(self, path: str | Path):
        self.path = path
        try:
            self.lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
        starts = [i for i, line in enumerate(self.lines) if line.strip() == "MOTION"]
        if not starts:
            raise InputError(f"{path}: no line MOTION: this is no BVH file, or it is cut before its frames begin.")
        self.motion = starts[0]
        head = enumerate(self.lines[: self.motion + 1], 1)
        self.words = [(word, number) for number, line in head for word in line.split()]
        self.at = 0

    def fail(self, expected: str, line: int | None = None) -> NoReturn:
        """An error at the word read last, or at another line."""
        line = line or self.words[self.at - 1][1]
        text = self.lines[line - 1].strip() if line <= len(self.lines) else ""
        raise InputError(f"{self.path}, line {line}: expected {expected}; found {text[:60]!r}.")

    def next(self) -> str:
        """The next word; MOTION stays the next one for ever."""
        self.at = min(self.at + 1, len(self.words))
        return self.words[self.at - 1][0]

    def expect(self, word: str) -> None:
        """Pass over one word that must come next, in capitals or not."""
        if self.next().upper() != word:
            self.fail(word)

    def until_brace(self) -> str:
        """The words before the next {, which is passed over: a name, with its blanks."""
        words = []
        while (word := self.next()) != "{":
            if word in ("}", "MOTION", "OFFSET"):
                self.fail("{ after the joint's name")
            words.append(word)
        return " ".join(words)

    def number(self, what: str) -> float:
        """The next word as a finite number; `what` names it in the error."""
        try:
            value = float(self.next())
        except ValueError:
            self.fail(what)
        return value if np.isfinite(value) else self.fail(what)


def _hierarchy(words: _Words) -> list[tuple[str, int, list[float], tuple[str, ...]]]:
    """(name, parent, offset, channels) of every joint and end site, in file order."""
    words.expect("HIERARCHY")
    joints, inside = [], []
    while (word := words.next()) != "MOTION":
        kind = word.upper()
        if kind == "}" and inside:
            inside.pop()
        elif kind == "ROOT" and not joints or kind in ("JOINT", "END") and inside:
            parent = inside[-1] if inside else -1
            inside.append(len(joints))
            joints.append(_joint(words, kind, parent, joints))
        else:
            words.fail("JOINT, End Site or } inside of one ROOT")
    if inside:
        words.fail(f"}} to close joint {joints[inside[-1]][0]} before MOTION")
    return joints or words.fail("ROOT and its joints before MOTION")


def _joint(words: _Words, kind: str, parent: int, joints: list) -> tuple[str, int, list[float], tuple[str, ...]]:
    """A joint's or end site's name, {, OFFSET and CHANNELS; `kind` has been read."""
    name = words.until_brace()
    words.expect("OFFSET")
    offset = [words.number("three numbers after OFFSET") for _ in range(3)]
    if kind == "END":
        return f"{joints[parent][0]}_end", parent, offset, ()
    words.expect("CHANNELS")
    count = words.number("the number of channels after CHANNELS")
    if count not in range(1, 7):
        words.fail("1 to 6 channels")
    known = tuple(CHANNELS.get(words.next().lower(), "") for _ in range(int(count)))
    if "" in known or len(set(known) & set(POSITIONS)) not in (0, 3):
        words.fail(f"channels out of {', '.join(CHANNELS.values())}, of the positions all three or none")
    return name, parent, offset, known


def _motion(words: _Words, width: int) -> tuple[np.ndarray, float]:
    """The frames' numbers (L, width) and frames a second."""
    rows = [(i, line) for i, line in enumerate(words.lines[words.motion + 1 :], words.motion + 2) if line.strip()]
    frames = _header(words, rows, 0, "Frames:")
    seconds = _header(words, rows, 1, "Frame Time:")
    rows = rows[2:]
    if frames != len(rows):
        raise InputError(
            f"{words.path}: line {words.motion + 2} promises {frames:g} frames, {len(rows)} lines of numbers follow. "
            f"Is the file cut? Each frame is one line."
        )
    if not rows or seconds <= 0:
        words.fail("at least one frame and a Frame Time above zero", words.motion + 2)
    values = np.stack([_row(words, number, line, width) for number, line in rows])
    return values, round(1 / seconds, 2)  # files print 0.0333333 for 1/30


def _header(words: _Words, rows: Sequence[tuple[int, str]], i: int, label: str) -> float:
    """The number after `label` in the i-th line below MOTION."""
    number, line = rows[i] if i < len(rows) else (words.motion + 1, "")
    start, _, value = line.partition(":")
    try:
        if start.split() == label[:-1].split():
            return float(value)
    except ValueError:
        pass
    words.fail(f"`{label} NUMBER` below MOTION", number)


def _row(words: _Words, number: int, line: str, width: int) -> np.ndarray:
    """One frame's numbers (width,)."""
    try:
        row = np.array(line.split(), np.float64)
    except ValueError:
        words.fail(f"{width} numbers, one for every channel", number)
    if len(row) != width or not np.isfinite(row).all():
        words.fail(f"{width} finite numbers, one for every channel ({len(row)} are there)", number)
    return row


def _rotation(values: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """(L, channels) degrees and lengths -> (L, 3, 3): the rotation channels' turns, the first one outermost."""
    product = torch.eye(3, dtype=torch.float64).expand(len(values), 3, 3)
    for column, channel in zip(np.radians(values).T, channels, strict=True):
        if channel not in POSITIONS:
            axis = torch.eye(3, dtype=torch.float64)["XYZ".index(channel[0])]
            product = product @ axis_angle_to_matrix(torch.from_numpy(column.copy())[:, None] * axis)
    return product.numpy()


def _columns(bvh: Bvh, j: int) -> list[np.ndarray]:
    """The numbers of one joint's channels, (L,) each: lengths and degrees."""
    channels = bvh.channels[j]
    turns = [channel[0] for channel in channels if channel not in POSITIONS]
    order = turns + [letter for letter in "XYZ" if letter not in turns]  # a hinge turns about its first letters only
    angles = matrix_to_euler(torch.from_numpy(bvh.rotations[:, j]), "".join(order)).numpy()
    degrees = np.degrees(np.unwrap(angles, axis=0))  # no jump of a whole turn, which players would spin through
    places = np.broadcast_to(bvh.translation if j == 0 else bvh.moved.get(j, bvh.offsets[j]), (len(degrees), 3))
    return [
        places[:, POSITIONS.index(channel)] if channel in POSITIONS else degrees[:, order.index(channel[0])]
        for channel in channels
    ]


def _down(bvh: Bvh, j: int) -> list[int]:
    """Joint j and all below it, as the hierarchy lists them."""
    return [j, *(below for child in _children(bvh, j) for below in _down(bvh, child))]


def _children(bvh: Bvh, j: int) -> list[int]:
    return [child for child, parent in enumerate(bvh.parents) if parent == j]


def _joint_lines(bvh: Bvh, j: int, indent: str) -> list[str]:
    """The hierarchy from joint j downwards."""
    channels = bvh.channels[j]
    kind = f"{'ROOT' if j == 0 else 'JOINT'} {bvh.names[j]}" if channels else "End Site"
    inner = [f"OFFSET {' '.join(f'{number:.6f}' for number in bvh.offsets[j])}"]
    inner += [f"CHANNELS {len(channels)} {' '.join(channels)}"] if channels else []
    inner = [f"{indent}  {line}" for line in inner]
    below = [line for child in _children(bvh, j) for line in _joint_lines(bvh, child, indent + "  ")]
    return [f"{indent}{kind}", f"{indent}{{", *inner, *below, f"{indent}}}"]
