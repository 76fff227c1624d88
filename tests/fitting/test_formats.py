"""Each further format, read back by other means than ours, gives the fit's joints or vertices; docs name them all."""

import json
import re
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from fitting.blender import blender_command
from fitting.environments import BPY
from fitting.export import FORMATS, check_formats, export, find_format, per_clip, targets
from fitting.export.bones import HUMANIK, RIGS, depth_first, joint_names
from fitting.resample import resample
from fitting.result import FitResult
from models.body import BodyModel
from models.errors import InputError
from models.skeleton import SMPL_JOINTS, SMPL_PARENTS
from tests.bodies import smpl_arrays
from tests.bvh import read_bvh
from tests.fits import smooth_fit
from tests.runs import ROOT

FRAMES = 12


@pytest.fixture(scope="module")
def fit():
    return smooth_fit(FRAMES)


@pytest.fixture(scope="module")
def folder(fit, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    export(fit, folder, ["bvh", "bvh:mixamo", "bvh:unreal", "glb:unreal", "ply", "pc2", "mdd", "hik", "qpos"])
    return folder


@pytest.mark.parametrize("fps", [20, 30])
def test_bvh_gives_the_joints_in_another_reader(fit, tmp_path, fps):
    fit = resample(fit, fps)
    [path] = export(fit, tmp_path, ["bvh"])
    bvh = read_bvh(path)
    places = [bvh.names.index(name) for name in SMPL_JOINTS[:22]]
    np.testing.assert_allclose(bvh.positions[:, places], fit.joints(), atol=1e-5)
    assert round(bvh.fps, 3) == fps and len(bvh.positions) == fit.length


def test_bvh_rests_in_the_fitted_shapes_t_pose(fit, folder):
    offsets = {}
    for name, *offset in re.findall(r"(?:ROOT|JOINT) (\w+)\s*{\s*OFFSET (\S+) (\S+) (\S+)", _text(folder, ".bvh")):
        offsets[name] = np.array(offset, float)
    rest = fit.body.rest_joints(fit.betas).numpy()
    for joint, (name, parent) in enumerate(zip(SMPL_JOINTS, SMPL_PARENTS, strict=True)):
        np.testing.assert_allclose(offsets[name], rest[joint] - rest[parent] if joint else np.zeros(3), atol=1e-6)


def test_bvh_angles_do_not_jump_by_a_turn(folder):
    """smooth_fit turns once about y: the root's angle passes the border of -180 and 180 degrees."""
    rows = _text(folder, ".bvh").split("Frame Time:")[1].splitlines()[1:]
    angles = np.array([row.split() for row in rows if row], float)[:, 3:]
    assert np.abs(np.diff(angles, axis=0)).max() < 180


def _text(folder: Path, ending: str) -> str:
    return (folder / f"sample00_rep00{ending}").read_text()


def test_bones_of_other_rigs(fit, folder):
    for rig in ("mixamo", "unreal"):
        bvh = read_bvh(folder / f"sample00_rep00_{rig}.bvh")
        places = [bvh.names.index(name) for name in joint_names(24, rig)[:22]]
        np.testing.assert_allclose(bvh.positions[:, places], fit.joints(), atol=1e-5)
    nodes = pygltflib.GLTF2().load_binary(str(folder / "sample00_rep00_unreal.glb")).nodes
    assert [node.name for node in nodes][:5] == ["pelvis", "thigh_l", "thigh_r", "spine_01", "calf_l"]


def test_rigs_name_every_joint_once_and_keep_sides():
    for rig in RIGS:
        for count in (24, 52, 55):
            names = joint_names(count, rig)
            assert len(set(names)) == len(names) == count
            left = [name for name in names if re.search("left|Left|_l$", name)]
            right = [name for name in names if re.search("right|Right|_r$", name)]
            mirrored = [re.sub("_l$", "_r", name.replace("left", "right").replace("Left", "Right")) for name in left]
            assert sorted(mirrored) == sorted(right) and len(left) == (count - 6 - (count == 55)) // 2
    assert joint_names(24, "mixamo")[22] == "mixamorig:LeftHandMiddle1"
    assert joint_names(52, "unreal")[22:24] == ["index_01_l", "index_02_l"]


def test_an_unknown_rig_and_a_format_without_bones_are_refused():
    with pytest.raises(InputError, match="'bvh:maya'.*glb, bvh, fbx, usd.*smpl, mixamo, unreal"):
        find_format("bvh:maya")
    with pytest.raises(InputError, match="'npz:unreal'"):
        find_format("npz:unreal")


def test_depth_first_goes_down_before_it_goes_on():
    order = depth_first(SMPL_PARENTS)
    assert order[:6] == [0, 1, 4, 7, 10, 2] and sorted(order) == list(range(24))


def test_ply_keeps_vertices_faces_and_their_order(fit, folder):
    frames = sorted((folder / "sample00_rep00_ply").iterdir())
    assert [frame.name for frame in frames] == [f"frame{i:03d}.ply" for i in range(FRAMES)]
    for i in (0, FRAMES - 1):
        mesh = trimesh.load(frames[i], process=False)
        np.testing.assert_array_equal(mesh.vertices, fit.vertices()[i])
        np.testing.assert_array_equal(mesh.faces, fit.body.faces)


def test_point_caches_by_their_published_layouts(fit, folder):
    vertices = fit.vertices().numpy()
    data = (folder / "sample00_rep00.pc2").read_bytes()
    assert struct.unpack("<12siiffi", data[:32]) == (b"POINTCACHE2\0", 1, 6890, 0.0, 1.0, FRAMES)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4", offset=32).reshape(vertices.shape), vertices)
    data = (folder / "sample00_rep00.mdd").read_bytes()
    assert struct.unpack(">ii", data[:8]) == (FRAMES, 6890)
    np.testing.assert_allclose(np.frombuffer(data, ">f4", FRAMES, 8), np.arange(FRAMES) / 20)
    np.testing.assert_array_equal(np.frombuffer(data, ">f4", offset=8 + 4 * FRAMES).reshape(vertices.shape), vertices)
    rest = trimesh.load(folder / "sample00_rep00_rest.obj", process=False, maintain_order=True)
    np.testing.assert_allclose(rest.vertices, fit.body.rest_vertices(fit.betas), atol=1e-6)


def forward(root: np.ndarray, rotations: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Joints (24, 3) of one frame by walking the tree, from local rotations (24, 3, 3) and the root's place."""
    world, places = [rotations[0]], [root]
    for joint, parent in list(enumerate(SMPL_PARENTS))[1:]:
        places.append(places[parent] + world[parent] @ (rest[joint] - rest[parent]))
        world.append(world[parent] @ rotations[joint])
    return np.stack(places)


def test_hik_has_the_reference_shape_and_gives_the_joints(fit, folder):
    content = json.loads(_text(folder, "_hik.json"))
    assert list(content) == ["joint_map", "thetas", "root_translation"] and content["joint_map"] == list(HUMANIK)
    assert len(HUMANIK) == len(set(HUMANIK)) == 22
    thetas, root = np.array(content["thetas"]), np.array(content["root_translation"])
    assert thetas.shape == (1, FRAMES, 24, 3) and root.shape == (1, FRAMES, 3)
    rest = fit.body.rest_joints(fit.betas).numpy()
    for i in (0, FRAMES - 1):
        rotations = Rotation.from_euler("XYZ", thetas[0, i], degrees=True).as_matrix()
        np.testing.assert_allclose(forward(root[0, i], rotations, rest)[:22], fit.joints()[i], atol=1e-5)


def _qpos(folder: Path) -> tuple[list[str], np.ndarray]:
    lines = _text(folder, "_qpos.csv").splitlines()
    return lines[0].split(","), np.array([line.split(",") for line in lines[1:]], float)


def test_qpos_moves_the_model_that_lies_beside_it(fit, folder):
    """By MuJoCo's rules: bodies in file order, the hinges of one body turn one inside the other, z is up."""
    names, values = _qpos(folder)
    model = ElementTree.parse(folder / "sample00_rep00_mjcf.xml").getroot()
    assert [joint.get("name") for joint in model.iter("joint")] == names[7:] and values.shape == (FRAMES, 76)
    assert model.find("custom/numeric").get("data") == "20"
    row = values[-1]
    found = {}

    def visit(body: ElementTree.Element, place: np.ndarray, turn: np.ndarray) -> None:
        place = place + turn @ np.array(body.get("pos").split(), float)
        for joint in body.findall("joint"):
            axis = np.array(joint.get("axis").split(), float)
            turn = turn @ Rotation.from_rotvec(axis * row[names.index(joint.get("name"))]).as_matrix()
        found[body.get("name")] = place
        for child in body.findall("body"):
            visit(child, place, turn)

    root = model.find("worldbody/body")
    root.set("pos", " ".join(map(str, Rotation.from_quat(row[3:7], scalar_first=True).inv().apply(row[:3]))))
    visit(root, np.zeros(3), Rotation.from_quat(row[3:7], scalar_first=True).as_matrix())
    expected = fit.joints()[-1].numpy()[:, [0, 2, 1]] * [1, -1, 1]
    for name, joint in (("Pelvis", 0), ("L_Toe", 10), ("R_Wrist", 21), ("Head", 15)):
        np.testing.assert_allclose(found[name], expected[joint], atol=1e-5)


def test_qpos_in_mujoco_itself(fit, folder):
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(folder / "sample00_rep00_mjcf.xml"))
    data = mujoco.MjData(model)
    names, values = _qpos(folder)
    assert model.nq == len(names)
    for i in (0, FRAMES - 1):
        data.qpos[:] = values[i]
        mujoco.mj_kinematics(model, data)
        places = data.xpos[1:]  # the world comes first
        order = [joint for joint in depth_first(SMPL_PARENTS) if joint < 22]
        kept = [place for place, joint in zip(places, depth_first(SMPL_PARENTS), strict=True) if joint < 22]
        expected = fit.joints()[i].numpy()[order][:, [0, 2, 1]] * [1, -1, 1]
        np.testing.assert_allclose(kept, expected, atol=1e-5)


def test_a_body_with_fingers_has_its_hands_where_they_begin(tmp_path):
    from tests.fitting.test_glb import body_with_fingers

    fit = smooth_fit(2)
    fit.body = body_with_fingers(tmp_path / "fingers.npz")
    export(fit, tmp_path, ["qpos", "hik", "bvh"])
    model = ElementTree.parse(tmp_path / "sample00_rep00_mjcf.xml").getroot()
    hand = next(body for body in model.iter("body") if body.get("name") == "R_Hand")
    rest = fit.body.rest_joints(fit.betas)
    assert torch.allclose(torch.tensor([float(x) for x in hand.get("pos").split()]), rest[37] - rest[21], atol=1e-5)
    assert len(read_bvh(tmp_path / "sample00_rep00.bvh").names) == 52


def test_features_are_at_20_fps_and_go_back_to_joints(fit, tmp_path):
    from models.mdm.features import features_to_joints

    written = {}
    for fps in (20, 40):  # every second frame at 40 is one at 20
        export(resample(fit, fps), tmp_path / str(fps), ["joints", "features"])
        written[fps] = np.load(tmp_path / str(fps) / "sample00_rep00_features.npy")
    assert written[20].shape == (FRAMES - 1, 263)
    np.testing.assert_allclose(written[40], written[20], atol=2e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "20" / "sample00_rep00_joints.npy"), fit.joints())
    again = features_to_joints(torch.from_numpy(written[20])).numpy()
    bones = [
        np.linalg.norm(joints[:, 1:] - joints[:, list(SMPL_PARENTS[1:22])], axis=-1) for joints in (again, fit.joints())
    ]
    assert np.ptp(bones[0], axis=0).max() < 1e-5 and np.abs(bones[0] / bones[1].mean(0) - 1).max() < 0.3


def test_one_frame_has_no_features(tmp_path):
    with pytest.raises(InputError, match="two frames"):
        export(smooth_fit(1), tmp_path, ["features"])


@pytest.fixture
def no_blender(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(BPY.variable, raising=False)


def test_without_blender_the_mend_is_said_before_anything_runs(no_blender, monkeypatch, tmp_path):
    for name in ("fbx", "usd", "abc", "fbx:unreal"):
        with pytest.raises(InputError, match=f"there is none: {BPY.variable} is not set.*doctor --install blender"):
            check_formats(["npz", name])
    monkeypatch.setenv(BPY.variable, str(tmp_path / "absent"))
    with pytest.raises(InputError, match="which is no program"):
        check_formats(["fbx"])


@pytest.mark.parametrize(
    "said, mend",
    [
        ("ImportError: libX11.so.6: cannot open shared object file", "apt-get install .*libx11-6"),
        ("ModuleNotFoundError: No module named 'bpy'", "-m pip install bpy==5.0.1"),
        ("ModuleNotFoundError: No module named 'numpy'", "apt-get install python3-numpy"),
        ("KeyError: 'get_rna_type() not found'", "was built without the exporter"),
        ("Segmentation fault", "could not write the file. It said: Segmentation fault"),
    ],
)
def test_a_blender_that_fails_is_quoted_with_a_mend(fit, monkeypatch, tmp_path, said, mend):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "{said}"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv(BPY.variable, str(program))
    with pytest.raises(InputError, match=mend):
        export(fit, tmp_path, ["fbx"])
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_the_known_place_comes_before_the_path(no_blender, tmp_path):
    venv = tmp_path / "thetafit" / "blender" / "bin" / "python"
    for program in (tmp_path / "blender", venv):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert blender_command(Path())[0] == str(program)


@pytest.fixture(scope="module")
def blender() -> list[str]:
    """The command that runs tests/blender_reader.py in Blender."""
    try:
        return blender_command(ROOT / "tests" / "blender_reader.py")
    except InputError:
        pytest.skip(f"no Blender: set {BPY.variable} to a Python with bpy 5.0.1, or install one")


def in_blender(blender: list[str], path: Path, fps: float, frames: range) -> dict[str, np.ndarray]:
    out = path.with_name(f"{path.name}.npz")
    words = [*blender, str(path), str(out), f"{fps:g}", *map(str, frames)]
    run = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if "invalid mode: 'rU'" in run.stderr:
        pytest.skip("the BVH importer of Blender before 3.5 does not run in Python 3.11")
    assert run.returncode == 0 and out.exists(), run.stdout + run.stderr
    return dict(np.load(out))


def exported(fit: FitResult, folder: Path, name: str) -> Path:
    """The file in a format that this Blender may have been built without."""
    try:
        return export(fit, folder, [name])[0]
    except InputError as error:
        if "was built without" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["glb", "fbx", "usd", "abc", "bvh"])
def test_blender_shows_our_vertices_and_joints(blender, tmp_path, name):
    """A body with pose correctives, at every tenth frame."""
    fit, frames = smooth_fit(31), range(0, 31, 10)
    np.savez(tmp_path / "bending.npz", **smpl_arrays(bend=1e-3))
    fit.body = BodyModel.load(tmp_path / "bending.npz")
    found = in_blender(blender, exported(fit, tmp_path, name), 20, frames)
    if name != "bvh":
        np.testing.assert_allclose(found["vertices"], fit.vertices()[::10].numpy(), atol=3e-4)
    if name != "abc":
        places = [found["names"].tolist().index(joint) for joint in SMPL_JOINTS[:22]]
        np.testing.assert_allclose(found["heads"][:, places], fit.joints()[::10].numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "rig"), [("bvh", "mixamo"), ("fbx", "unreal")])
def test_other_rigs_and_another_rate_in_blender(blender, tmp_path, name, rig):
    fit = resample(smooth_fit(11), 30)
    found = in_blender(blender, exported(fit, tmp_path, f"{name}:{rig}"), 30, range(0, fit.length, 5))
    places = [found["names"].tolist().index(joint) for joint in joint_names(24, rig)[:22]]
    np.testing.assert_allclose(found["heads"][:, places], fit.joints()[::5], atol=1e-5)


def test_the_page_has_a_line_for_every_format_and_for_no_other():
    page = (ROOT / "docs" / "formats.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.split("## All formats")[1].split("\n## ")[0], re.M))
    assert list(rows) == list(FORMATS)
    for name, row in rows.items():
        files, *facts = (cell.strip() for cell in row.split(" | "))  # axes and units, rest pose, rate, what is lost
        assert all(f"`{path.name}" in files for path in targets("NAME", "", per_clip([name]))) or name == "html", name
        assert len(facts) == 4 and all(facts), name
