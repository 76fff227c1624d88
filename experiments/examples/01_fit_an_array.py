"""01: motion joints in an array become SMPL parameters, a mesh, and a file that opens in Blender.

python experiments/examples/01_fit_an_array.py
"""

import numpy as np

from fitting import fit
from models.keyed import walk_joints

joints = walk_joints()  # (120, 22, 3) metres, y up, in SMPL's order; any array of that kind does
result = fit(joints, fps=20)

print(f"{result.status} after {result.iterations} iterations: {result.message}")
print("thetas  ", tuple(result.thetas.shape), "axis-angle in radians, the root first")
print("betas   ", tuple(result.betas.shape), "one shape for the whole clip")
print("transl  ", tuple(result.transl.shape), "metres; the pelvis stands at rest pelvis(betas) + transl")
print("rot6d   ", tuple(result.rot6d.shape), "first two rows of each rotation matrix")
print("vertices", tuple(result.vertices().shape), "metres")

error_mm = 1000 * np.linalg.norm(result.joints().numpy() - joints, axis=-1)
print(
    f"joints of the body against joints of the input: {error_mm.mean():.2f} mm on average, {error_mm.max():.1f} at most"
)
for path in result.save("walk"):
    print(f"written: {path}")
