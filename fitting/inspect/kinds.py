"""The dicts of this world: which keys tell a kind of file, and what each key means."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of dict (npy, npz, pickle or JSON). needs: keys that tell it; keys: key -> (axes, meaning).

    An empty `axes` leaves the axes to fitting.inspect.arrays; next: commands, {file} and {folder} filled in; notes:
    sentences on what is wrong with every file of this kind; facts: what holds for all of them; motion: whether a fit
    takes it; others: the meaning of further keys.
    """

    name: str
    needs: tuple[str, ...]
    keys: dict[str, tuple[str, str]]
    next: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    motion: bool = False
    others: str = "unknown to thetafit"


FPS = {key: ("", "frames a second") for key in ("fps", "mocap_framerate", "mocap_frame_rate")}
WORDS = {
    "text": ("clips", "what the motion shows, in words (the prompt)"),
    "gender": ("", "gender of the body that betas belong to"),
    "body": ("", "name of the body that betas belong to"),
}
BETAS = {
    "betas": ("shape", "shape coefficients, one a principal direction of the body file; 0 is the mean person"),
    "joint_offsets": ("joints, xyz", "of an adapted skeleton: rest joints minus those that betas alone give, metres"),
    "bone_factors": ("bones", "of an adapted skeleton: each bone's length over what betas alone give"),
    "bone_names": ("bones", "the joint that each bone ends in"),
}
SMPL_UNITS = (("units", "metres, axis-angle in radians"),)
Y_UP = (("units", "metres, y up, axis-angle in radians"),)
Z_UP = (("units", "metres, z up, axis-angle in radians"),)
FIT = "thetafit fit {file} --out out"
PREPARE = "thetafit prepare {file} --out dataset"
GENERATED = {
    "motion": ("", ""),
    "num_samples": ("", "prompts S: clip i is sample i % S, repetition i // S"),
    "num_repetitions": ("", "how often each prompt was sampled"),
    "lengths": ("clips", "valid frames of each clip; what follows in motion is padding"),
    "length": ("", "valid frames"),
    "num_samples_in_batch": ("", "clips that were sampled together"),
    "repetition_index": ("", "which repetition of the prompt this is"),
    "sample_index": ("", "which prompt of the run this is"),
    "guidance_param": ("", "classifier-free guidance scale of the sampling"),
    "seed": ("", "seed of the sampling"),
    "model_path": ("", "checkpoint that made it"),
    "dataset": ("", "data set that the model learned from: humanml (263 channels), kit (251)"),
    "max_frames": ("", "longest motion of that data set"),
    **WORDS,
    **FPS,
}
PARAMS = {
    "motion": ("rows, rot6d, frames", "thetas, then row 24: the pelvis x, y, z and three zeros"),
    "thetas": (
        "joints, rot6d, frames",
        "rotation of each joint against its parent, root first: the first two ROWS of its matrix, not axis-angle",
    ),
    "root_translation": ("xyz, frames", "the pelvis in the world, metres; not SMPL's transl"),
    "faces": ("triangles, corners", "indices of vertices, from 0"),
    "vertices": ("vertices, xyz, frames", "the mesh, metres"),
    "length": ("", "valid frames"),
    "transl": ("xyz, frames", "SMPL's transl: pelvis = rest pelvis of betas + transl"),
    **BETAS,
    **WORDS,
    **FPS,
}
FITTED = {
    "poses": ("frames, numbers", "axis-angle of 24 joints x 3 (52 or 55 with fingers), radians, root first"),
    "trans": ("frames, xyz", "SMPL's transl, metres: pelvis = rest pelvis of betas + trans"),
    "joints": ("frames, joints, xyz", "SMPL's first 22 joints of the fit, metres"),
    "joints_input": ("frames, joints, xyz", "what was fitted to, metres"),
    "skeleton": ("", "joint convention of joints_input"),
    "shows": ("joints", "what of the body each joint of joints_input shows"),
    "filled": ("frames, joints", "where the fit did not see a joint of joints_input and filled it in"),
    "confidence": ("frames, joints", "how far each joint is to be trusted, 0 to 1"),
    **BETAS,
    **WORDS,
    **FPS,
}
AMASS = {
    "poses": ("", ""),
    "trans": ("frames, xyz", "SMPL's transl, metres; z up"),
    "dmpls": ("frames, coefficients", "soft-tissue coefficients (DMPL)"),
    "root_orient": ("frames, axis-angle", "global orientation, radians"),
    "pose_body": ("frames, numbers", "21 body joints x 3, axis-angle in radians, without the root"),
    "pose_hand": ("frames, numbers", "30 finger joints x 3, axis-angle in radians"),
    "pose_jaw": ("frames, axis-angle", "jaw, radians"),
    "pose_eye": ("frames, numbers", "two eyes x 3, axis-angle in radians"),
    "marker_data": ("frames, markers, xyz", "captured markers, metres"),
    "marker_labels": ("markers", "their names"),
    "surface_model_type": ("", "body family that poses and betas belong to"),
    "num_betas": ("", "how many betas there are"),
    "mocap_time_length": ("", "seconds"),
    **BETAS,
    **WORDS,
    **FPS,
}
BODY = {
    "v_template": ("vertices, xyz", "the mean person in T pose, metres, y up"),
    "f": ("triangles, corners", "indices of vertices, from 0"),
    "weights": ("vertices, joints", "skinning weights, rows sum to one"),
    "J_regressor": ("joints, vertices", "rest joints = J_regressor x rest vertices"),
    "shapedirs": ("vertices, xyz, betas", "how each beta moves the rest vertices, metres a unit"),
    "posedirs": ("vertices, xyz, 9 x (joints - 1)", "pose correctives: metres for each entry of R - I, root left out"),
    "kintree_table": ("2, joints", "parent of each joint (the root's is -1, or 2^32 - 1) and the joint itself"),
    "J": ("joints, xyz", "rest joints of the mean person, metres"),
    "J_regressor_extra": ("joints, vertices", "regressor of further joints (SPIN's nine)"),
    "bs_style": ("", "lbs: linear blend skinning"),
    "bs_type": ("", "lrotmin: posedirs multiply R - I"),
    "betas_names": ("betas", "what each beta changes"),
    "vert_sym_idxs": ("vertices", "mirror vertex of each vertex"),
    "weights_prior": ("vertices, joints", "what the weights were regularised towards when the body was learned"),
    "license": ("", "licence"),
    "hands_meanl": ("15 joints x 3", "mean pose of the left hand, axis-angle"),
    "hands_meanr": ("15 joints x 3", "mean pose of the right hand, axis-angle"),
    "hands_componentsl": ("components, 15 joints x 3", "principal directions of left hand poses"),
    "hands_componentsr": ("components, 15 joints x 3", "principal directions of right hand poses"),
    "lmk_faces_idx": ("landmarks", "triangle of each face landmark"),
    "lmk_bary_coords": ("landmarks, corners", "place of each face landmark in its triangle"),
}
ONE_BY_ONE = {
    "global_orient": ("frames, axis-angle", "root rotation, radians"),
    "body_pose": ("frames, numbers", "the joints after the root x 3, axis-angle in radians"),
    "transl": ("frames, xyz", "SMPL's transl, metres: pelvis = rest pelvis of betas + transl"),
    "smpl_poses": ("frames, numbers", "24 joints x 3, axis-angle in radians, root first"),
    "smpl_trans": ("frames, xyz", "translation in centimetres; divide by smpl_scaling for metres"),
    "smpl_scaling": ("", "size of the person that smpl_trans is a multiple of"),
    "smpl_loss": ("", "error of the fit that made the file"),
    **BETAS,
    **WORDS,
    **FPS,
}
PRIOR = {
    "means": ("components, numbers", "mean poses: joints 1 to 23 x 3, axis-angle in radians"),
    "covars": ("components, numbers, numbers", "covariance of each component"),
    "weights": ("components", "share of each component, sum one"),
    "limits": ("joints, xyz, low and high", "range of each rotation vector's components, radians"),
    "mean_pose": ("numbers", "mean pose to start from, joints 1 to 23 x 3"),
}
HIK = {
    "joint_map": ("joints", "HumanIK's name of each of SMPL's first 22 joints"),
    "thetas": ("repetitions, frames, joints, xyz", "Euler angles in degrees, R = Rx Ry Rz"),
    "root_translation": ("repetitions, frames, xyz", "the pelvis, metres, y up"),
}
ARGS = {
    "arch": ("", "network: trans_enc, trans_dec or gru"),
    "layers": ("", "transformer layers"),
    "latent_dim": ("", "width of the network"),
    "dataset": ("", "what it learned from: humanml (263 channels), kit (251), humanact12 and uestc (25 x 6)"),
    "diffusion_steps": ("", "denoising steps"),
    "noise_schedule": ("", "how noise grows over the steps"),
    "sigma_small": ("", "the smaller of two fixed variances of a step"),
    "text_encoder_type": ("", "clip (512 numbers a prompt) or bert (768 a token)"),
    "cond_mask_prob": ("", "share of training prompts left out; 0 rules out guidance"),
    "emb_trans_dec": ("", "the time step is a token of its own in trans_dec"),
    "mask_frames": ("", "attention leaves out padding"),
    "use_ema": ("", "averaged weights (model_avg) are to be used"),
    "unconstrained": ("", "a model without text or action"),
    "context_len": ("", "frames of prefix that the model continues (DiP)"),
    "pred_len": ("", "frames that it adds at a time (DiP)"),
    "pos_embed_max_len": ("", "longest sequence"),
    "refine": ("", "width of convolutions over frames behind the layers (thetafit's own); 0: none"),
}
RUN = {
    "clips": ("", "one entry a clip: name, source, status, errors, files (docs/metrics.md)"),
    "seconds": ("", "time spent on fitting and writing"),
    "frames_per_second": ("", "frames fitted and written a second"),
    "device": ("", "where the fit ran"),
    "preset": ("", "terms and weights of the energy"),
    "body": ("", "name of the body that was fitted"),
    "version": ("", "version of thetafit"),
}
FITTED_ALREADY = (
    "SMPL parameters without joints: nothing to fit. models.body.BodyModel.load(FILE).joints(betas, thetas, transl) "
    "poses the body they belong to"
)
# The first whose `needs` are all there.
KINDS = (
    Kind("a fit of thetafit", ("poses", "trans", "betas", "joints", "body"), FITTED, facts=Y_UP,
         next=("thetafit evaluate {file}", "thetafit convert {file} --to glb,bvh --out converted")),
    Kind("fitted SMPL parameters (smpl_params.npy)", ("thetas", "motion", "root_translation"), PARAMS, motion=True,
         next=("thetafit convert {file} --to glb,bvh --out converted",)),
    Kind("sampled motion (MDM's results.npy)", ("motion", "lengths"), GENERATED, (FIT,), motion=True),
    Kind("a motion", ("motion",), GENERATED, (FIT,), motion=True),
    Kind("a body model", ("v_template", "shapedirs"), BODY, ("thetafit fit motion.npy --body {file}",)),
    Kind("SMPL parameters of AIST++", ("smpl_poses",), ONE_BY_ONE, (f"{PREPARE} --fps 60",), (FITTED_ALREADY,)),
    Kind("SMPL parameters", ("body_pose", "global_orient"), ONE_BY_ONE, notes=(FITTED_ALREADY,), facts=SMPL_UNITS),
    Kind("an AMASS recording", ("poses", "trans"), AMASS, (f"{PREPARE} --up z",), (FITTED_ALREADY,), Z_UP),
    Kind("an AMASS recording", ("pose_body", "trans"), AMASS, (f"{PREPARE} --up z",), (FITTED_ALREADY,), Z_UP),
    Kind("a pose prior: a mixture of Gaussians", ("means", "covars"), PRIOR,
         next=("thetafit fit motion.npy --prior {file}",)),
    Kind("HumanIK rotations (motions2hik)", ("joint_map", "thetas"), HIK),
    Kind("training options of MDM (args.json)", ("arch", "latent_dim"), ARGS, others="an option of MDM's training"),
    Kind("the report of a run", ("clips", "version"), RUN, ("thetafit evaluate {folder}",)),
    Kind("joints", ("joints",), FITTED, (FIT,), motion=True),
    Kind("joints", ("joints_input",), FITTED, (FIT,), motion=True),
)  # fmt: skip
FOREIGN = Kind("a dict that thetafit does not know", (), {})


def find_kind(content: Mapping) -> Kind | None:
    """The first of KINDS that these keys tell; None for a dict of another world."""
    return next((kind for kind in KINDS if all(key in content for key in kind.needs)), None)
