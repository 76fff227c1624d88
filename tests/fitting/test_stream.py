"""The live fit: as good as the offline one, whole through bad frames, over real pipes and a real socket."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fitting import Stream, fit
from fitting.data import Motion, collate, load_motions
from fitting.energy import Energy
from fitting.smplify3d import SMPLify3D
from fitting.solver.arrow import solve_step
from fitting.start import aligned_start, mean_start
from fitting.stream import Pose, arrow_step
from fitting.streaming import parse_frame
from fitting.terms import Normal
from models.body import BodyModel
from models.errors import InputError
from tests.runs import ROOT, command, heed_interrupts, keyed_joints

SECOND = 20  # frames
REAL = ("humanml3d/012314/new_joints.npy", "generated/sato/motion.npy", "generated/mdm_toolbox/results.npy")


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream()


@pytest.fixture(scope="module")
def keyed() -> np.ndarray:
    """(120, 22, 3) the keyed walk."""
    return keyed_joints(120)


def run(stream: Stream, frames: np.ndarray) -> list[Pose]:
    """The poses of a new person's frames."""
    stream.reset()
    return [stream(frame) for frame in frames]


def joints_of(poses: list[Pose]) -> np.ndarray:
    return torch.stack([pose.joints for pose in poses]).numpy()


def error_mm(fitted: np.ndarray, joints: np.ndarray) -> float:
    """Mean joint error after the first second."""
    return 1000 * np.linalg.norm(fitted - joints, axis=-1)[SECOND:].mean()


def largest_step(joints: np.ndarray) -> float:
    """Metres that any joint moves between two frames at most."""
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1).max()


def assert_as_good_as_offline(stream: Stream, joints: np.ndarray) -> None:
    """Mean joint error of all frames after the first second: at most 5 %, or 0.05 mm, above that of `quick`."""
    fitted, offline = joints_of(run(stream, joints)), fit(joints, preset="quick").joints().numpy()
    assert error_mm(fitted, joints) <= max(1.05 * error_mm(offline, joints), error_mm(offline, joints) + 0.05)
    assert largest_step(fitted) <= 1.05 * largest_step(joints) + 0.005


def test_keyed_walk_is_as_good_as_offline(stream: Stream, keyed: np.ndarray) -> None:
    assert_as_good_as_offline(stream, keyed)


@pytest.mark.parametrize("file", REAL)
def test_real_clips_are_as_good_as_offline(reference: Path, stream: Stream, file: str) -> None:
    motions, _ = load_motions([str(reference / "data" / file)])
    for motion in motions:
        assert_as_good_as_offline(stream, motion.joints)


def test_parameters_make_the_joints(stream: Stream, keyed: np.ndarray) -> None:
    for pose in run(stream, keyed[:5]):
        assert pose.thetas.shape == (24, 3) and pose.thetas.dtype == torch.float32
        posed = stream.body.joints(pose.betas, pose.thetas, pose.transl)[:22]
        assert torch.allclose(posed, pose.joints, atol=1e-5)


def test_error_is_the_distance_from_the_input(stream: Stream, keyed: np.ndarray) -> None:
    pose = run(stream, keyed[:3])[-1]
    assert pose.error == pytest.approx(np.linalg.norm(pose.joints.numpy() - keyed[2], axis=-1).mean(), abs=1e-6)


def test_shape_settles_where_the_offline_fit_finds_it(stream: Stream, keyed: np.ndarray) -> None:
    noisy = keyed + np.random.default_rng(0).normal(0, 0.01, keyed.shape)
    betas = torch.stack([pose.betas for pose in run(stream, noisy)])
    changes = (betas[1:] - betas[:-1]).abs().amax(1)
    assert changes[-SECOND:].mean() < 0.2 * changes[:SECOND].mean()
    betas = run(stream, keyed)[-1].betas
    assert (betas - fit(keyed, preset="quick").betas).abs().max() < 0.1


def test_noise_is_smoothed(stream: Stream, keyed: np.ndarray) -> None:
    noisy = keyed + np.random.default_rng(0).normal(0, 0.02, keyed.shape)
    fitted, offline = joints_of(run(stream, noisy)), fit(noisy, preset="quick").joints().numpy()
    shake = [np.linalg.norm(np.diff(x - keyed, n=2, axis=0), axis=-1).mean() for x in (fitted, offline)]
    assert error_mm(fitted, keyed) < 0.9 * error_mm(offline, keyed)
    assert shake[0] < 0.75 * shake[1]


def broken(joints: np.ndarray, frame: int, kind: str) -> np.ndarray:
    """The motion with one bad frame."""
    out = joints.copy()
    out[frame] = {"nan": np.nan, "zeros": 0.0, "jump": out[frame] + 5, "scattered": out[frame] * 40, "huge": 1e30}[kind]
    return out


@pytest.mark.parametrize("kind", ["nan", "zeros", "jump", "scattered", "huge"])
def test_a_bad_frame_is_bridged_and_the_next_is_as_without_it(stream: Stream, keyed: np.ndarray, kind: str) -> None:
    good, poses = run(stream, keyed[:60]), run(stream, broken(keyed[:60], 30, kind))
    assert not poses[30].seen.any() and np.isnan(poses[30].error)
    assert np.linalg.norm(poses[30].joints.numpy() - keyed[30], axis=-1).max() < 0.1
    assert all(pose.seen.all() for pose in poses[31:])
    assert np.abs(joints_of(poses)[31:] - joints_of(good)[31:]).max() < 0.005


def test_a_gap_of_a_second_is_bridged_at_rest(stream: Stream, keyed: np.ndarray) -> None:
    gap = keyed.copy()
    gap[20:40] = np.nan
    poses = run(stream, gap)
    fitted = joints_of(poses)
    assert np.isfinite(fitted).all()
    assert largest_step(fitted[20:40]) <= largest_step(keyed) and largest_step(fitted[37:40]) < 0.002
    assert poses[40].seen.all() and poses[40].error < 0.005


def test_one_joint_far_off_or_unseen_leaves_the_others_alone(stream: Stream, keyed: np.ndarray) -> None:
    bad = keyed.copy()
    bad[25:35, 20] += 5
    bad[40:50, 7] = np.nan
    poses = run(stream, bad)
    assert not any(pose.seen[20] for pose in poses[25:35]) and not any(pose.seen[7] for pose in poses[40:50])
    error = np.linalg.norm(joints_of(poses) - keyed, axis=-1)
    others = np.delete(error, (7, 20), axis=1)
    assert others.max() < 0.02 and error.max() < 0.3
    assert error[51:].max() < 0.01


def test_a_body_that_jumps_for_good_is_followed_from_the_second_frame_on(stream: Stream, keyed: np.ndarray) -> None:
    moved = keyed[:40].copy()
    moved[20:] = moved[20:] @ np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]) + np.array([7.0, 0, -3])
    poses = run(stream, moved)
    assert [bool(pose.seen.any()) for pose in poses[19:23]] == [True, False, True, True]
    assert max(pose.error for pose in poses[21:]) < 0.005


def test_far_from_the_origin_it_is_the_same(stream: Stream, keyed: np.ndarray) -> None:
    near = joints_of(run(stream, keyed[:10]))
    far = joints_of(run(stream, keyed[:10].astype(np.float64) + 1024))
    assert np.abs(far - 1024 - near).max() < 2e-4  # float32 holds 1 km to 0.06 mm


def test_reset_forgets_and_two_streams_share_nothing(stream: Stream, keyed: np.ndarray) -> None:
    alone, other = joints_of(run(stream, keyed[:15])), Stream()
    stream.reset()
    fitted = []
    for frame, another in zip(keyed[:15], keyed[60:75], strict=True):
        fitted.append(stream(frame))
        other(another)
    assert np.array_equal(joints_of(fitted), alone)


def test_answers_are_not_changed_by_later_frames(stream: Stream, keyed: np.ndarray) -> None:
    stream.reset()
    first = stream(keyed[0])
    kept = first.thetas.clone()
    for frame in keyed[1:5]:
        stream(frame)
    assert torch.equal(first.thetas, kept)
    assert (first.thetas.requires_grad_() ** 2).sum().requires_grad  # ordinary tensors, not inference tensors


@pytest.mark.parametrize("frame", [np.zeros((21, 3)), np.full((22, 3), np.nan), np.zeros((22, 3)), "centimetres"])
def test_a_first_frame_that_is_no_person_is_refused_and_the_stream_goes_on(
    stream: Stream, keyed: np.ndarray, frame: np.ndarray | str
) -> None:
    stream.reset()
    with pytest.raises(InputError):
        stream(100 * keyed[0] if isinstance(frame, str) else frame)
    assert stream(keyed[0]).seen.all()


def test_a_frame_after_a_frame_is_the_clip_of_both(keyed: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are linearised at the same place, the first one's lesson and the second make the clip's own step."""
    monkeypatch.setattr("fitting.stream.DAMPING", 0.0)
    module = SMPLify3D(preset="quick").to(torch.float64)
    _, problem = module.problem(collate([Motion("clip", joints=keyed[[30, 60]])]))
    state = mean_start(problem, module.mean_pose[:3].double(), module.mean_betas.double())
    state = aligned_start(problem, state)
    normal = Energy(module.preset.stages["pose"].terms, problem).normal(problem.rig.posed(state))
    betas, size = state.betas.shape[1], normal.matrix.shape[-1] - state.betas.shape[1]
    clip_step, clip_betas = solve_step(normal, 1, betas, torch.zeros(1, 2, dtype=torch.float64))
    one, two = (Normal(normal.matrix[i : i + 1], normal.gradient[i : i + 1]) for i in (0, 1))
    nothing = [torch.zeros(shape, dtype=torch.float64) for shape in ((betas, betas), (betas,), (), (size,))]
    *_, information, evidence = arrow_step(one, state.betas[0], *nothing)
    step, betas_step, *_ = arrow_step(two, state.betas[0], information, evidence, *nothing[2:])
    assert torch.allclose(betas_step, clip_betas[0], rtol=1e-6)
    assert torch.allclose(step, clip_step[0, 1], rtol=1e-6, atol=1e-9)


# --- lines


def as_line(frame: np.ndarray, kind: str = "json") -> str:
    return json.dumps(frame.tolist()) if kind == "json" else " ".join(map(str, frame.flatten()))


def test_both_forms_of_a_line_are_the_same_frame(keyed: np.ndarray) -> None:
    for kind in ("json", "text"):
        assert np.allclose(parse_frame(as_line(keyed[0], kind).encode()), keyed[0])
    assert np.isnan(parse_frame(json.dumps([[None, None, None]] * 22).encode())).all()


@pytest.mark.parametrize("line", [b"hello", b"[[1, 2]]", b"1 2 3", b"[[", b'["a"]', b"\xff\xfe", b"[" * 9000, b"{}"])
def test_lines_that_are_no_frame_are_refused(line: bytes) -> None:
    with pytest.raises(InputError, match="22 x 3 numbers"):
        parse_frame(line)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_lines_through_real_pipes(stream: Stream, keyed: np.ndarray) -> None:
    lines = [as_line(frame, kind) for frame, kind in zip(keyed[:6], ["json", "text"] * 3, strict=True)]
    lines[3:3] = ["no frame", "", "7 " * 70_000, " ".join(["nan"] * 66)]
    done = subprocess.run(
        command("stream"), input="\n".join(lines) + "\n", env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(a) == ["error"] for a in answers] == [False, False, False, True, True, False, False, False, False]
    assert answers[5]["error_mm"] is None and not any(answers[5]["seen"])
    assert "7 frames, 1 bridged, 2 bad lines; latency" in done.stderr and "99th percentile" in done.stderr
    gap = np.full_like(keyed[:1], np.nan)
    expected = run(stream, np.concatenate((keyed[:3], gap, keyed[3:6])))
    good = [answer for answer in answers if "error" not in answer]
    for pose, answer in zip(expected, good, strict=True):
        for name in ("thetas", "betas", "transl", "joints"):
            assert np.abs(np.array(answer[name]) - getattr(pose, name).numpy()).max() < 1e-3
        assert answer["latency_ms"] > 0


def test_an_answer_comes_before_the_next_line_is_sent_over_a_real_socket(keyed: np.ndarray) -> None:
    words, options = command("stream", "--port", "0"), {"stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen(words, env=environment(), preexec_fn=heed_interrupts, **options)
    try:
        address, port = server.stderr.readline().split()[-1].split(":")
        assert address == "127.0.0.1"
        for _ in range(2):  # a client that comes after another is a new person
            with socket.create_connection((address, int(port)), timeout=60) as client, client.makefile("rw") as lines:
                answers = []
                for line in (*map(as_line, keyed[:3]), "nonsense", as_line(keyed[3])):
                    print(line, file=lines, flush=True)
                    answers.append(json.loads(lines.readline()))
            assert "error" in answers[3] and all("error" not in answers[i] for i in (0, 1, 2, 4))
            assert np.abs(np.array(answers[4]["joints"]) - keyed[3]).max() < 0.02
            assert server.stderr.readline().startswith("4 frames, 0 bridged, 1 bad lines; latency")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0


def test_wrong_arguments_say_what_would_work() -> None:
    for options, word in ((("--port", "70000"), "65535"), (("--fps", "0"), "1000"), (("--body", "no.npz"), "no.npz")):
        done = subprocess.run(command("stream", *options), input="", env=environment(), capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture) -> None:
    page = (ROOT / "docs" / "stream.md").read_text()
    exec(page.split("```python\n")[1].split("```")[0], {})
    assert "torch.Size([24, 3])" in capsys.readouterr().out


def test_body_by_model(keyed: np.ndarray) -> None:
    body = BodyModel.load()
    assert Stream(body=body).body is body
