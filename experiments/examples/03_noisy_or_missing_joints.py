"""03: joints that are noisy, hidden, or of doubtful worth. NaN is a joint that was not seen.

python experiments/examples/03_noisy_or_missing_joints.py
"""

import numpy as np

from fitting import fit
from fitting.metrics import joint_errors_mm
from models.keyed import walk_joints

truth = walk_joints()
rng = np.random.default_rng(0)
LEFT_ANKLE, LEFT_FOOT, RIGHT_WRIST = 7, 10, 21


def report(what: str, given: np.ndarray, confidence: np.ndarray | None = None) -> None:
    """Fit, and print the distance from the true joints of what was given and of what came out."""
    result = fit(given, confidence=confidence)
    before, after = joint_errors_mm(given, truth), joint_errors_mm(result.joints().numpy(), truth)
    print(f"{what:42} given {np.nanmean(before):5.1f} mm from the truth, fitted {after.mean():5.1f} mm")


report("as it is", truth)

noisy = truth + rng.normal(0, 0.02, truth.shape).astype(np.float32)
report("2 cm of noise on every coordinate", noisy)

holes = noisy.copy()
holes[rng.random(holes.shape[:2]) < 0.3] = np.nan
holes[40:60, [LEFT_ANKLE, LEFT_FOOT]] = np.nan
report("and 30 % of joints and a foot unseen", holes)

wrist = truth.copy()
wrist[:, RIGHT_WRIST] += rng.normal(0, 0.2, wrist[:, RIGHT_WRIST].shape).astype(np.float32)
report("a wrist 20 cm off", wrist)
confidence = np.ones(wrist.shape[:2], np.float32)
confidence[:, RIGHT_WRIST] = 0.05
report("the same wrist, given a confidence of 0.05", wrist, confidence)
