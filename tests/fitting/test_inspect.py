"""`thetafit inspect` names every key and axis of every kind of file, what looks wrong, and never runs a file."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fitting.cli import main
from fitting.export import export
from fitting.inspect import NOT_READ, inspect
from fitting.inspect.kinds import FOREIGN
from fitting.inspect.report import Report
from tests.bodies import smpl_arrays, write_official
from tests.fits import smooth_fit
from tests.person import features, person, results, statistics
from tests.runs import fit, report, save_results

CLIPS_OF_JOINTS = "clips, joints, xyz, frames"
POSES = "frames, numbers"
# file in the reference folder -> part of its kind, and the axes of some of its keys; "" stands for a bare array
REFERENCE = {
    "data/generated/mdm_arms_crossed/results.npy": ("results.npy", {"motion": CLIPS_OF_JOINTS, "lengths": "clips"}),
    "data/generated/mdm_norm263/gen263D.npy": ("a motion", {"motion": "channels, 1, frames"}),
    "data/generated/mdm_smpl_fit/motion_input.npz": ("SMPL parameters", {"body_pose": POSES, "transl": "frames, xyz"}),
    "data/generated/omnicontrol_theta/video2.npy": ("array", {"": POSES}),
    "data/generated/omnicontrol_long/000.npy": ("a motion", {"": "frames, joints, xyz"}),
    "data/generated/sato/motion.npy": ("a motion", {"": "clips, frames, joints, xyz"}),
    "data/generated/mdm_toolbox/prova_0.bvh": ("BVH", {"LeftFoot": "Zrotation Yrotation Xrotation"}),
    "data/humanml3d/000021/joints52.npy": ("a motion", {"": "frames, joints, xyz"}),
    "data/humanml3d/012314/new_joint_vecs.npy": ("motion features", {"": "frames, channels"}),
    "data/humanml3d/stats/Mean.npy": ("statistics", {"": "channels"}),
    "data/smpl_joints45/smpl_keypoints.npy": ("a motion", {"": "frames, joints, xyz"}),
    "data/smpl_joints45/left_foot_contact.npy": ("array", {"": "frames"}),
    "data/smpl_params/aist_gBR_sBM_cAll_d04_mBR0_ch01.pkl": ("AIST++", {"smpl_poses": POSES}),
    "body/mh_neutral.npz": ("body", {"shapedirs": "vertices, xyz, betas", "weights": "vertices, joints"}),
    "golden/small_body_SMPL_NEUTRAL.pkl": ("body", {"posedirs": "vertices, xyz, 9 x (joints - 1)"}),
    "golden/synthetic_gmm_08.pkl": ("pose prior", {"covars": "components, numbers, numbers"}),
    "golden/mdm_trans_enc.pt": ("checkpoint of MDM", {}),
    "golden/mdm_trans_enc_ema.pt": ("averaged weights", {}),
    "golden/mdm_action.pt": ("checkpoint of MDM", {}),
    "golden/evaluator_nets.pt": ("evaluator", {}),
}  # fmt: skip


def axes(found: Report) -> dict[str, str]:
    return {"" if row.key == "(the array)" else row.key: row.axes for row in found.rows}


@pytest.mark.parametrize("name", REFERENCE)
def test_every_key_of_the_reference_files_is_named(reference: Path, name: str) -> None:
    found, (kind, expected) = inspect(reference / name), REFERENCE[name]
    assert kind in found.kind
    assert expected.items() <= axes(found).items()
    assert found.rows and all(row.holds and row.meaning not in ("", FOREIGN.others) for row in found.rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    export(smooth_fit(7), folder, ["npz", "smpl_params", "glb", "bvh", "hik", "joints"])
    return folder


def test_what_a_fit_writes_is_known_in_full(written: Path) -> None:
    for path in written.iterdir():
        found = inspect(path)
        assert found.rows and all(row.meaning and row.meaning != FOREIGN.others for row in found.rows), path.name
        if path.suffix != ".json":
            assert found.facts.get("fps", "").startswith("20") and "7" in found.facts.get(
                "frames", found.facts.get("clips")
            )


def test_axes_have_the_lengths_of_the_shape(written: Path) -> None:
    found = {row.key: row for row in inspect(written / "sample00_rep00_smpl_params.npy").rows}
    assert (found["motion"].holds, found["motion"].axes) == ("float32 (25, 6, 7)", "rows, rot6d, frames")
    assert "first two ROWS" in found["thetas"].meaning and "not axis-angle" in found["thetas"].meaning
    assert found["vertices"].axes == "vertices, xyz, frames"


def test_a_shape_for_each_frame_has_an_axis_more(tmp_path: Path) -> None:
    many = smooth_fit(3)
    many.betas = many.betas.expand(3, -1)
    export(many, tmp_path, ["npz"])
    assert axes(inspect(tmp_path / "sample00_rep00.npz"))["betas"] == "frames, shape"


def test_mdms_own_smpl_params_with_a_tensor_inside(tmp_path: Path) -> None:
    content = {
        "motion": np.zeros((25, 6, 4), np.float32), "thetas": np.zeros((24, 6, 4), np.float32), "text": "a",
        "root_translation": np.zeros((3, 4), np.float32), "faces": np.zeros((9, 3), np.uint32),
        "vertices": torch.zeros(5, 3, 4), "length": np.int64(4),
    }  # fmt: skip
    np.save(tmp_path / "a_smpl_params.npy", np.array(content, dtype=object))
    found = inspect(tmp_path / "a_smpl_params.npy")
    assert axes(found)["vertices"] == "vertices, xyz, frames"
    assert any("no betas" in sentence and "1 m too low" in sentence for sentence in found.wrong)


def test_results_with_padding_name_clips_lengths_and_the_next_command(tmp_path: Path) -> None:
    path = save_results(tmp_path / "results.npy", (12, 8))
    found = inspect(path)
    assert found.facts["clips"] == "2: sample00_rep00 12 frames, sample01_rep00 8 frames"
    assert found.facts["fps"] == "20 (not in the file; usual for humanml3d)" and found.facts["units"] == "metres, y up"
    assert any("lengths are 12, 8, the array has 12 frames" in sentence for sentence in found.wrong)
    assert found.next == [f"thetafit fit {path} --out out"]


@pytest.mark.parametrize(
    "array, axes_, what",
    [
        (person(9), "frames, joints, xyz", "humanml3d's 22 joints"),
        (np.stack([person(9)] * 3), "clips, frames, joints, xyz", "humanml3d's 22 joints"),
        (results()["motion"], CLIPS_OF_JOINTS, "humanml3d's 22 joints"),
        (features(9), "frames, channels", "motion features"),
        (np.zeros((2, 25, 6, 9)), "clips, rows, rot6d, frames", "row 24 is the pelvis"),
        (np.zeros((9, 156)), POSES, "SMPL-H"),
        (np.zeros((4, 5, 6, 7)), "", FOREIGN.others),
    ],
)
def test_bare_arrays(tmp_path: Path, array: np.ndarray, axes_: str, what: str) -> None:
    np.save(tmp_path / "a.npy", array)
    [row] = inspect(tmp_path / "a.npy").rows
    assert row.axes == axes_ and what in row.meaning


def test_wrong_axes_units_and_missing_statistics_are_told_with_their_mend(tmp_path: Path) -> None:
    mean, std = statistics()
    z_up = np.stack((person(9)[..., 0], -person(9)[..., 2], person(9)[..., 1]), -1)
    cases = {"normalised": (features(9) - mean) / std, "z_up": z_up, "millimetres": 1000 * person(9)}
    for name, array in cases.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = {name: inspect(tmp_path / f"{name}.npy") for name in cases}
    assert found["normalised"].next == [f"thetafit fit {tmp_path / 'normalised.npy'} --out out --stats DIR"]
    assert found["z_up"].next == [f"thetafit fit {tmp_path / 'z_up.npy'} --out out --up z"]
    assert "millimetres" in found["millimetres"].wrong[0]


def test_amass_and_official_bodies(tmp_path: Path) -> None:
    np.savez(tmp_path / "amass.npz", poses=np.zeros((8, 156)), trans=np.zeros((8, 3)), betas=np.zeros(16),
             gender="male", mocap_framerate=120.0, dmpls=np.zeros((8, 8)))  # fmt: skip
    found = inspect(tmp_path / "amass.npz")
    assert "AMASS" in found.kind and found.facts["fps"] == "120 (from the file)" and "z up" in found.facts["units"]
    assert axes(found) == {"poses": POSES, "trans": "frames, xyz", "betas": "shape", "gender": "",
                           "mocap_framerate": "", "dmpls": "frames, coefficients"}  # fmt: skip
    assert found.next == [f"thetafit prepare {tmp_path / 'amass.npz'} --out dataset --up z"]
    body = inspect(write_official(tmp_path / "SMPL.pkl", smpl_arrays()))
    assert "body" in body.kind and axes(body)["J_regressor"] == "joints, vertices"
    assert body.next == [f"thetafit fit motion.npy --body {tmp_path / 'SMPL.pkl'}"]


def test_a_checkpoint_and_its_args(tmp_path: Path) -> None:
    width, layers = 16, 3
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(width, 2, 32), layers, None, False)
    tensors = {f"seqTransEncoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {
        "input_process.poseEmbedding.weight": torch.zeros(width, 263),
        "embed_text.weight": torch.zeros(width, 768),
    }
    torch.save(tensors, tmp_path / "model000000001.pt")
    options = {"arch": "trans_enc", "latent_dim": width, "diffusion_steps": 50, "dataset": "humanml", "lambda_fc": 0.0}
    (tmp_path / "args.json").write_text(json.dumps(options))
    found = inspect(tmp_path / "model000000001.pt")
    assert found.facts["size"] == "3 layers, width 16" and "DistilBERT" in found.facts["condition"]
    assert "diffusion_steps 50" in found.facts["args.json"] and not found.wrong
    shown = {row.key: row.holds for row in found.rows}
    assert shown["seqTransEncoder.layers.{0..2}.linear1.weight"] == "float32 (32, 16)"
    args = {row.key: row.meaning for row in inspect(tmp_path / "args.json").rows}
    assert args["diffusion_steps"] == "denoising steps" and args["lambda_fc"] == "an option of MDM's training"


class Attack:
    """Makes a file called `ran` when it is unpickled by something that runs code."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ran"

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Attack(tmp_path)))
    np.save(tmp_path / "a.npy", np.array({"motion": Attack(tmp_path)}, dtype=object))
    np.savez(tmp_path / "a.npz", motion=np.array([Attack(tmp_path)], dtype=object))
    torch.save({"model": Attack(tmp_path)}, tmp_path / "a.pt")
    for name in ("a.pkl", "a.npy", "a.pt"):
        found = inspect(tmp_path / name)
        assert found.kind == NOT_READ and "Nothing was executed" in found.wrong[0]
    assert inspect(tmp_path / "a.npz").rows[0].holds == "an object, left unread"
    assert not (tmp_path / "ran").exists()


def test_the_report_of_a_run_and_the_clips_that_failed(tmp_path: Path) -> None:
    source = save_results(tmp_path / "results.npy", (12, 8))
    np.save(tmp_path / "bad.npy", np.zeros((9, 22, 3)))
    assert fit(source, tmp_path / "bad.npy", "--out", tmp_path / "out", "--formats", "npz", "--preset", "quick") == 1
    found = inspect(tmp_path / "out" / "report.json")
    assert [row.key for row in found.rows] == list(report(tmp_path / "out"))
    assert found.facts["clips"] == "3: 2 converged, 1 not read" and found.wrong[0].startswith("bad: not read")


def test_output_is_plain_where_it_is_no_terminal_and_the_same_as_json(written: Path, capsys) -> None:
    path = written / "sample00_rep00.npz"
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= max(120, len(str(path)) + 60)
    assert main(["inspect", "--json", str(path)]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert all(row["key"] in text for row in found["rows"]) and all(command in text for command in found["next"])


def test_exit_codes(written: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "cut.glb").write_bytes((written / "sample00_rep00.glb").read_bytes()[:1000])
    (tmp_path / "cut.bvh").write_text("HIERARCHY\nROOT pelvis\n{")
    (tmp_path / "notes.txt").write_text("hello")
    bad = [str(tmp_path / name) for name in ("cut.glb", "cut.bvh", "notes.txt", "absent.npy")]
    assert main(["inspect", *bad]) == 2
    assert main(["inspect", *bad, str(written / "sample00_rep00.npz")]) == 1
    text = capsys.readouterr().out
    assert "Is it cut?" in text and "begins with 'hello'" in text and "No such file" in text


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert inspect(tmp_path).wrong == [f"it is a folder; name the files in it, such as {tmp_path}/*.npz"]
