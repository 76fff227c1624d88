"""Somebody for the tests of input: joints, HumanML3D features and the statistics to normalise them, all made here."""

from pathlib import Path

import numpy as np

import models

REST = np.load(Path(models.__file__).parent / "assets" / "mh_neutral.npz")["J"]  # (24, 3) metres, y up


def person(frames: int = 12, joints: int = 22) -> np.ndarray:
    """Joints (frames, joints, 3) float32 of somebody who glides forward, feet on the floor, and sways a little."""
    body = REST - [0, REST[:, 1].min(), 0]
    if joints == 52:
        fingers = np.repeat(body[[20, 21]], 15, 0) + 0.01 * np.arange(30)[:, None] / 30
        body = np.concatenate((body[:22], fingers))
    time = np.arange(frames)[:, None] / 20
    path = np.concatenate((0.1 * np.sin(time), 0 * time, time), 1)
    return (body[:joints] + path[:, None]).astype(np.float32)


def features(frames: int = 12) -> np.ndarray:
    """HumanML3D features (frames, 263) of the person, walking a slow curve; local rotations at the identity."""
    rows = np.zeros((frames, 263), np.float32)
    standing = person(1)[0]
    rows[:, 0], rows[:, 2], rows[:, 3] = 0.01, 0.04, standing[0, 1]
    rows[:, 4:67] = (standing[1:] - standing[0] * [1, 0, 1]).ravel()
    rows[:, 67:193] = np.tile([1, 0, 0, 0, 1, 0], 21)
    rows[:, 259:] = 1
    return rows


def statistics() -> tuple[np.ndarray, np.ndarray]:
    """Mean and Std (263,) of the size that HumanML3D's have (constant std inside each group of channels)."""
    groups = {1: 0.0128, 3: 0.0169, 4: 0.1538, 67: 0.1222, 193: 0.2997, 259: 0.0195, 263: 0.3559}
    std, start = np.zeros(263, np.float32), 0
    for stop, value in groups.items():
        std[start:stop], start = value, stop
    mean = features(1)[0] + 0.3 * std * np.sin(np.arange(263))
    return mean.astype(np.float32), std


def results(repetitions: int = 2, samples: int = 3, frames: int = 12) -> dict:
    """MDM's results.npy: clip i stands i metres to the right, its text says which it is."""
    count = repetitions * samples
    motion = np.stack([person(frames) + np.float32([i, 0, 0]) for i in range(count)])
    return {
        "motion": motion.transpose(0, 2, 3, 1),
        "text": [f"clip {i}" for i in range(count)],
        "lengths": np.array([frames - i for i in range(count)]),
        "num_samples": samples,
        "num_repetitions": repetitions,
    }
