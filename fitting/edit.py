"""`thetafit edit`: parts of a motion are made anew from a sentence, the rest stays: frames, joints, or any mask."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitting.data import Motion, load_motions
from fitting.generate import Model, Request, check_numbers, claim, open_model, sampled, write_results
from models.errors import InputError
from models.mdm.edit_masks import LOWER_BODY, channels, frames_between
from models.mdm.features import joints_to_features
from models.mdm.generate import FPS, LONGEST, Kept
from models.safe_pickle import load_npy
from models.skeleton import SKELETONS

JOINTS = SKELETONS["humanml3d"].joints
UPPER_BODY = "upper_body"


@dataclass(frozen=True)
class Change:
    """What is made anew. frames: "20-60", the frames from 20 to 59; joints: names or UPPER_BODY; mask: a .npy file.

    Both frames and joints: those joints in those frames. Neither: the middle half, all joints (in-between).
    mask: (frames, 22) of 0 and 1, 1 = anew, instead of the two.
    """

    frames: str | None = None
    joints: tuple[str, ...] = ()
    mask: str | None = None

    def free(self, length: int) -> Tensor:
        """Mask (length, 22), True = made anew. Raises InputError for what is not there or leaves nothing to do."""
        if self.mask is not None:
            if self.frames or self.joints:
                raise InputError("--mask says all of what is made anew; leave out --frames and --joints")
            free = _read_mask(self.mask, length)
        else:
            free = self._frames(length) & self._joints()
        if not free.any():
            raise InputError("nothing is to be made anew: frames and joints, or the mask, leave out everything")
        return free

    def _frames(self, length: int) -> Tensor:
        if self.frames is None:
            first, last = (0, length) if self.joints else (length // 4, 3 * length // 4)
            return frames_between(first, last, length)
        first, dash, last = self.frames.partition("-")
        if not (dash and first.strip().isdigit() and last.strip().isdigit() and int(first) < int(last)):
            raise InputError(f"--frames {self.frames}: expected first-last, such as 5-20 for fifteen frames")
        if int(last) > length + 1:  # features are one frame fewer than the joints that they were made of
            raise InputError(f"--frames {self.frames}: this motion's are 0-{length}")
        return frames_between(int(first), int(last), length)

    def _joints(self) -> Tensor:
        names = {name for name in JOINTS if name not in LOWER_BODY} if UPPER_BODY in self.joints else set()
        names |= set(self.joints) - {UPPER_BODY}
        if unknown := sorted(names - set(JOINTS)):
            raise InputError(f"--joints: no joint {', '.join(unknown)}; there are {UPPER_BODY}, {', '.join(JOINTS)}")
        return torch.tensor([not names or name in names for name in JOINTS])


def edit_files(source: str, change: Change, request: Request, out: str, device: str) -> Path:
    """Make parts of the motion in `source` anew in the folder `out`, as generate_files does; returns the results.npy.

    Of a file with several clips the first is edited. Raises InputError before anything is sampled where something
    cannot be used.
    """
    folder = Path(out)
    check_numbers(request)
    model = open_model(request, device)
    motion = _read(source, model)
    joints = torch.from_numpy(motion.joints).double()
    features = model.statistics.normalize(joints_to_features(joints).float())
    kept = Kept(features, ~channels(change.free(len(features))))
    texts = (request.prompts or [motion.text]) * (request.num_samples * request.num_repetitions)
    text = None if model.encoder is None else model.encoder.encode(_spoken(texts))
    claim(folder, request)
    motions = sampled(model, [len(features)] * len(texts), request, text, kept=kept)
    write_results(folder, motions, texts, request, model.dataset)
    return folder / "results.npy"


def _spoken(texts: list[str]) -> list[str]:
    if not texts[0].strip():
        raise InputError("the motion's file has no text: say what the person shall do, such as 'a person waves'")
    return texts


def _read(source: str, model: Model) -> Motion:
    """The first clip of a file. Raises InputError where the model cannot edit it."""
    if model.dataset != "humanml":
        raise InputError(f"{model.file}: edits take 22 joints, which this model of {model.dataset} does not make")
    motions, failures = load_motions(source)
    if not motions:
        raise InputError(f"{source}: {failures[0].message}")
    motion = motions[0]
    if motion.joints is None or motion.joints.shape[1] != len(JOINTS) or not np.isfinite(motion.joints).all():
        raise InputError(f"{source}: expected are 22 joints in every frame, as `thetafit convert --to joints` writes")
    if abs(motion.fps - FPS["humanml"]) > 0.01 or not 2 <= len(motion.joints) <= LONGEST + 1:
        raise InputError(
            f"{source}: {len(motion.joints)} frames at {motion.fps:g} a second; edits take 2 to {LONGEST + 1} at 20: "
            "`thetafit fit --out-fps 20`, then `thetafit convert --to joints`"
        )
    return motion


def _read_mask(file: str, length: int) -> Tensor:
    mask = load_npy(Path(file))
    shape = getattr(mask, "shape", None)
    if shape not in {(length, len(JOINTS)), (length + 1, len(JOINTS))} or not np.isin(mask, (0, 1)).all():
        raise InputError(f"--mask {file}: expected ({length}, {len(JOINTS)}) of 0 and 1, 1 = made anew; found {shape}")
    return torch.from_numpy(mask[:length].astype(bool))
