"""MDM's results.npy, written; fitting/formats.py reads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fitting.export.atomic import atomic_path


def save_results(path: Path, motion: np.ndarray, texts: Sequence[str], lengths: Sequence[int], samples: int) -> None:
    """Motion (clips, J, 3, frames), a text and a length a clip; all `samples` of repetition 0 come first.

    A 0-d object array that holds a dict, as the reference's sample/generate.py writes it.
    """
    content = {
        "motion": motion.astype(np.float32),
        "text": list(texts),
        "lengths": np.array(lengths, dtype=np.int64),
        "num_samples": samples,
        "num_repetitions": len(motion) // samples,
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.array(content, dtype=object))
