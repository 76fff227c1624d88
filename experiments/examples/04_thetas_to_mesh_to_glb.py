"""04: from rotations alone: axis-angle to rot6d and back, a mesh by skinning, a GLB. Nothing is fitted.

python experiments/examples/04_thetas_to_mesh_to_glb.py
"""

import torch

from fitting.data import Motion
from fitting.result import FitResult
from models.body import BodyModel
from models.keyed import sample
from models.rotations import axis_angle_to_matrix, axis_angle_to_rot6d, rot6d_to_axis_angle, rot6d_to_matrix

motion = sample("wave", seed=3)  # thetas (frames, 24, 3), betas (10,), transl (frames, 3): yours may come from a file
body = BodyModel.load()  # or BodyModel.load("SMPL_NEUTRAL.pkl")

rot6d = axis_angle_to_rot6d(motion.thetas)  # (frames, 24, 6)
rows = axis_angle_to_matrix(motion.thetas)[..., :2, :].flatten(-2)
print(f"rot6d is the first two rows of each matrix: {torch.equal(rot6d, rows)}")
back = rot6d_to_matrix(rot6d) - axis_angle_to_matrix(rot6d_to_axis_angle(rot6d))
print(f"rot6d to axis-angle and back: off by at most {back.abs().max():.1e}")

vertices = body.vertices(motion.betas, motion.thetas, motion.transl)
pelvis = body.joints(motion.betas, motion.thetas, motion.transl)[:, 0]
rest = body.rest_joints(motion.betas)[0]
print(f"mesh {tuple(vertices.shape)}, lowest vertex {1000 * vertices[..., 1].min():.1f} mm")
print(
    f"pelvis - transl is the rest pelvis: {torch.allclose(pelvis - motion.transl, rest.expand_as(pelvis), atol=1e-5)}"
)

clip = Motion("wave", thetas=motion.thetas.numpy(), root=pelvis.numpy(), fps=motion.fps, text=motion.text)
clip.betas, clip.body = motion.betas.numpy(), body.name
for path in FitResult.from_rotations(clip, body).save("wave", formats=("glb",)):
    print(f"written: {path} ({path.stat().st_size // 1000} kB): File > Import > glTF 2.0 in Blender")
