"""07: joints to HumanML3D's 263 features and back, and how MDM's network is sampled, here with random weights.

python experiments/examples/07_features_and_a_diffusion_model.py
"""

import torch

from models.keyed import walk_joints
from models.mdm.denoiser import Condition, Denoiser, DenoiserConfig
from models.mdm.diffusion import noise_schedule, spaced_in_lambda
from models.mdm.features import features_to_joints, joints_to_features
from models.mdm.normalization import Statistics
from models.mdm.sampling import dpm_solver, guided, seeded_noise

joints = torch.from_numpy(walk_joints()).double()
features = joints_to_features(joints)  # (119, 263): the last frame has no velocity and drops out
back = features_to_joints(features)  # on HumanML3D's skeleton, at x = z = 0, facing +z
again = features_to_joints(joints_to_features(back))
print(f"joints {tuple(joints.shape)} -> features {tuple(features.shape)} -> joints {tuple(back.shape)}")
print(f"the same way once more: off by at most {1000 * (again - back[:-1]).abs().max():.1e} mm")

torch.manual_seed(0)
denoiser = Denoiser(DenoiserConfig(latent_dim=64, ff_size=128, layers=2)).eval()  # load_checkpoint(path) for real ones
schedule = noise_schedule("cosine", 1000)
few = schedule.keep(spaced_in_lambda(schedule, 10))  # 10 of the 1000 noise levels
denoise = guided(denoiser, Condition(text=torch.randn(2, 512)), scale=2.5)  # two sentences, as CLIP would give them
noise = seeded_noise([0, 1])  # a seed a sample: the same in any batch
normalised = dpm_solver(denoise, noise(torch.empty(2, 60, 263)), few)
motion = features_to_joints(Statistics.of([features]).denormalize(normalised))
print(f"sampled: features {tuple(normalised.shape)}, joints {tuple(motion.shape)}")
print("random weights make no person: the head of the first is at", *(f"{x:.2f}" for x in motion[0, 0, 15]), "m")
