"""02: a folder of motion files, clips of different length, solved side by side in one batch.

python experiments/examples/02_a_folder_in_one_batch.py
"""

from pathlib import Path

import numpy as np

from fitting.data import collate, load_motions
from fitting.results_file import save_results
from fitting.smplify3d import SMPLify3D
from models.keyed import walk_joints

folder = Path("clips")
joints = walk_joints()
save_results(
    folder / "results.npy", joints.transpose(1, 2, 0)[None].repeat(2, 0), ["walk", "half a walk"], [120, 60], 2
)
np.save(folder / "bend.npy", joints[60:])

motions, failures = load_motions(folder)  # what cannot be read comes back with the reason; nothing stops the rest
for failure in failures:
    print(f"left out: {failure.source}: {failure.message}")

module = SMPLify3D(preset="quick")  # a LightningModule: Trainer.predict(module, MotionData(...)) does the same at scale
for result in module.predict_step(collate(motions)):
    numbers = result.report
    print(f"{result.motion.name:15} {result.length:4} frames  {numbers['mpjpe_mm']:.2f} mm  {result.status}")
    result.save(folder / "fits" / result.motion.name, formats=("npz",))
