"""`thetafit doctor`: what is installed and fits together, what does not, and the line that mends it.

Facts are gathered once (`look`), judged by small pure functions, and printed. Nothing here imports Lightning, and torch
is tried in a process of its own: where even `thetafit` does not start, `python -m fitting.doctor` still does.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from fitting.blender import find_blender
from fitting.environments import BPY, ENVIRONMENTS, PYRENDER
from fitting.pyrender import check_pyrender
from fitting.version import __version__
from models.errors import InputError

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # what only OpenAI's clip ships
MARKS = {"fine": "ok", "absent": "--", "broken": "!!"}
OPTIONAL = {  # module: what it is for, and what installs it
    "smplx": ("SMPL-H and SMPL-X model files (non-commercial licence)", "pip install 'thetafit[smplx]'"),
    "h5py": ("neutral_smpl_mean_params.h5", "pip install 'thetafit[h5]'"),
    "wandb": ("--logger wandb", "pip install wandb"),
    "pytorch3d": ("its own renderer, never required", "pip install 'thetafit[pytorch3d]' (half an hour of compiling)"),
    "transformers": ("MDM checkpoints with a DistilBERT text encoder", "pip install transformers"),
}
TORCH = """
import json, torch
cuda = torch.version.cuda
gpus = [(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "cuda": cuda, "archs": torch.cuda.get_arch_list(), "gpus": gpus}))
"""


@dataclass(frozen=True)
class Finding:
    """part: what was looked at; state: "fine", "absent" (and not needed) or "broken"; mend: the line that helps."""

    part: str
    state: str
    found: str
    mend: str = ""


@dataclass
class Facts:
    """What a machine has.

    torch: {"version", "cuda", "archs", "gpus"} as torch says, or {"error": its last line}; gpus: of the driver, (name,
    (major, minor)); packages: version and requirements by name; openai_vocabulary: the packages that hold OpenAI's
    vocabulary; tried: what importing each optional module gave, a version or "error: ..."; blender, pyrender: the
    program; pyrender_error: why it does not draw.
    """

    torch: dict[str, Any]
    gpus: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    packages: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    openai_vocabulary: list[str] = field(default_factory=list)
    pkg_resources: bool = True
    tried: dict[str, str] = field(default_factory=dict)
    blender: str | None = None
    pyrender: str | None = None
    pyrender_error: str = ""


def doctor(device: str = "auto", body: str | None = None, install: str | None = None) -> int:
    """Print every finding; 1 where something is broken, else 0. device, body: as `thetafit fit` will be given them.

    install: one of ENVIRONMENTS, which is made first; 2 where that cannot be.
    """
    if install:
        try:
            ENVIRONMENTS[install].install()
        except InputError as error:
            print(error)
            return 2
    findings = diagnose(look(), device, body)
    for finding in findings:
        print(f"{MARKS[finding.state]:>2}  {finding.part}: {finding.found}")
        if finding.mend:
            print(f"    {finding.mend}")
    broken = sum(finding.state == "broken" for finding in findings)
    print(f"{broken} of {len(findings)} parts need mending." if broken else "Nothing needs mending.")
    return int(broken > 0)


def diagnose(facts: Facts, device: str = "auto", body: str | None = None) -> list[Finding]:
    """Every part judged, in the order in which one would mend them."""
    findings = [
        Finding("thetafit", "fine", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        judge_torch(facts.torch),
        judge_device(facts, device),
        *judge_torchvision(facts.packages),
        *judge_clip(facts.packages, facts.openai_vocabulary),
        *judge_pkg_resources(facts.pkg_resources, facts.openai_vocabulary),
        judge_body(body),
    ]
    findings += [judge_optional(module, result) for module, result in facts.tried.items()]
    return [*findings, judge_blender(facts.blender), judge_pyrender(facts.pyrender, facts.pyrender_error)]


def judge_blender(program: str | None) -> Finding:
    """Whether FBX, USD and Alembic can be written."""
    if program:
        return Finding("Blender", "fine", program)
    return Finding("Blender", "absent", "not found, so no fbx, usd, abc and --engine blender", BPY.how_to_install)


def judge_pyrender(program: str | None, error: str) -> Finding:
    """Whether pyrender draws."""
    if not program:
        return Finding("pyrender", "absent", "not found, so no --engine pyrender", PYRENDER.how_to_install)
    if error:
        return Finding("pyrender", "broken", error, f"apt-get install {PYRENDER.libraries}")
    return Finding("pyrender", "fine", program)


def judge_torch(torch: dict[str, Any]) -> Finding:
    """Whether torch imports."""
    if "error" in torch:
        return Finding("torch", "broken", torch["error"], "pip install --force-reinstall torch==2.13.0")
    return Finding("torch", "fine", f"{torch['version']}, {'CUDA ' + torch['cuda'] if torch['cuda'] else 'CPU only'}")


def judge_device(facts: Facts, device: str) -> Finding:
    """Whether the GPU that is there, or asked for, can be used by the torch that is there."""
    torch, part = facts.torch, f"device {device}"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        return Finding(part, "broken", "there is none of that name", "name auto, cpu, cuda or cuda:N")
    if "error" in torch or device == "cpu":
        return Finding(part, "fine", "cpu")
    if not facts.gpus and not torch["gpus"]:
        if device.startswith("cuda"):
            return Finding(
                part, "broken", "no NVIDIA GPU or driver answers here", "leave out --device, or --device cpu"
            )
        return Finding(part, "fine", "cpu; no NVIDIA GPU or driver answers here")
    if not torch["cuda"]:
        found = f"{facts.gpus[0][0]} is there, but torch {torch['version']} was built for the CPU only"
        mend = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        return Finding(part, "broken" if device.startswith("cuda") else "absent", found, mend)
    for name, capability in torch["gpus"] or facts.gpus:
        if not runs_on(tuple(capability), torch["archs"]):
            compute = ".".join(map(str, capability))
            found = f"{name} has compute capability {compute}; this torch was built for {' '.join(torch['archs'])}"
            return Finding(
                part, "broken", f"{found}: it would end with 'no kernel image is available'", newer(capability)
            )
    if not torch["gpus"]:
        found = (
            f"{facts.gpus[0][0]} is there, but torch cannot reach it: the driver is too old for CUDA {torch['cuda']}"
        )
        return Finding(part, "broken", found, "update the NVIDIA driver, or install a torch for an older CUDA")
    return Finding(part, "fine", ", ".join(name for name, _ in torch["gpus"]))


def runs_on(capability: tuple[int, int], archs: list[str]) -> bool:
    """Whether kernels built for archs (sm_90, sm_90a, compute_120, ...) run on a GPU of that compute capability.

    Binary code runs on the same major version from its minor version on, compute_XY is compiled for any later GPU, and
    a trailing letter ties code to that very GPU (CUDA C++ Programming Guide, compute capability and compatibility).
    """
    for arch in archs:
        kind, _, number = arch.partition("_")
        digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
        built = int(digits[:-1]), int(digits[-1])
        if kind == "sm" and built[0] == capability[0] and built[1] <= capability[1]:
            if digits == number or built == capability:
                return True
        if kind == "compute" and built <= capability and digits == number:
            return True
    return False


def newer(capability: tuple[int, int]) -> str:
    """The line that gives a torch for a GPU that the present one was not built for."""
    index = "cu128" if tuple(capability) >= (7, 5) else "cu126"
    return f"pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{index}"


def judge_torchvision(packages: dict[str, tuple[str, list[str]]]) -> list[Finding]:
    """A torchvision made for another torch breaks `import lightning`; without any, nothing is amiss."""
    if "torchvision" not in packages or "torch" not in packages:
        return []
    version, requirements = packages["torchvision"]
    needed = [need for need in map(Requirement, requirements) if need.name == "torch"]
    torch = Version(packages["torch"][0])
    if any(torch.public not in need.specifier and str(torch) not in need.specifier for need in needed):
        found = f"{version} wants {needed[0]}, but torch {torch} is installed: `import lightning` fails"
        return [Finding("torchvision", "broken", found, "pip uninstall torchvision (thetafit does not use it)")]
    return [Finding("torchvision", "fine", f"{version}; thetafit does not use it")]


def judge_clip(packages: dict[str, tuple[str, list[str]]], openai: list[str]) -> list[Finding]:
    """Which of the packages called clip is there: thetafit reads OpenAI's vocabulary from one of them."""
    findings, mend = [], "pip install --no-deps openai-clip==1.0.1"
    if "clip" in packages and "clip" not in openai:
        found = f"{packages['clip'][0]} is another project that took the name: it has no clip.load"
        findings.append(Finding("clip", "broken", found, f"pip uninstall clip; {mend}"))
    for name in openai:
        version, requirements = packages[name]
        old = [need for need in map(Requirement, requirements) if need.name == "torch" and need.specifier]
        if any(packages.get("torch", ("0",))[0].partition("+")[0] not in need.specifier for need in old):
            found = f"{version} wants {old[0]} and would replace the torch that is here"
            findings.append(Finding(name, "broken", found, f"pip uninstall {name}; {mend}"))
        else:
            findings.append(Finding(name, "fine", f"{version}, with OpenAI's vocabulary"))
    if not openai and not findings:
        findings.append(Finding("clip", "absent", "no package with OpenAI's vocabulary, which CLIP's text needs", mend))
    return findings


def judge_pkg_resources(there: bool, openai: list[str]) -> list[Finding]:
    """OpenAI's package imports pkg_resources, which setuptools no longer has; thetafit reads it without importing."""
    if there or not openai:
        return []
    found = "this setuptools has no pkg_resources, so `import clip` fails; thetafit does not import it"
    return [Finding("setuptools", "absent", found, "only to import clip yourself: pip install 'setuptools<81'")]


def judge_body(path: str | None) -> Finding:
    """Whether the body file that will be given can be read."""
    if path is None:
        found = "the embedded one (mh_neutral); a licensed file is used only where --body FILE names it"
        return Finding("body", "fine", found)
    from models.body import BodyModel

    try:
        body = BodyModel.load(path)
    except InputError as error:
        mend = "SMPL's model files come from https://smpl.is.tue.mpg.de after registering; then --body FILE"
        return Finding("body", "broken", str(error), mend)
    return Finding("body", "fine", f"{path}: {len(body.v_template)} vertices, {body.num_betas} betas")


def judge_optional(module: str, result: str) -> Finding:
    """An optional part, as its import went."""
    purpose, mend = OPTIONAL[module]
    if result.startswith("error: No module named"):
        return Finding(module, "absent", f"not installed; for {purpose}", mend)
    if result.startswith("error: "):
        return Finding(module, "broken", f"{result.removeprefix('error: ')}; for {purpose}", f"reinstall: {mend}")
    return Finding(module, "fine", result)


def look() -> Facts:
    """The facts of this machine; every import is tried in a process of its own."""
    packages, openai = {}, []
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if not name or name in packages:
            continue  # of two on the path Python takes the first
        packages[name] = distribution.version, distribution.requires or []
        if any(file.name == VOCABULARY and file.parts[0] == "clip" for file in distribution.files or []):
            openai.append(name)
    return Facts(
        torch=_told_by_torch(),
        gpus=_told_by_driver(),
        packages=packages,
        openai_vocabulary=openai,
        pkg_resources=not _python("import pkg_resources").startswith("error"),
        tried={
            module: _python(f"import {module} as m; print(getattr(m, '__version__', 'imports'))") for module in OPTIONAL
        },
        blender=find_blender(),
        pyrender=PYRENDER.find(),
        pyrender_error=_why_not(check_pyrender) if PYRENDER.find() else "",
    )


def _why_not(check: Callable[[], None]) -> str:
    """What the check complains of, or nothing."""
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def _told_by_torch() -> dict[str, Any]:
    told = _python(TORCH)
    return {"error": told.removeprefix("error: ")} if told.startswith("error: ") else json.loads(told)


def _told_by_driver() -> list[tuple[str, tuple[int, int]]]:
    """Name and compute capability of each NVIDIA GPU, from nvidia-smi, which comes with the driver."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    query = [program, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    lines = [line.rsplit(", ", 1) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return [(name, tuple(map(int, number.split(".")))) for name, number in lines]


def _python(code: str) -> str:
    """The last line that a fresh interpreter prints for the code, or "error: " and the last line of why not."""
    options = {"capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], **options)
    if done.returncode == 0:
        return (done.stdout.strip().splitlines() or [""])[-1]
    reason = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    return "error: " + reason.removeprefix("ModuleNotFoundError: ").removeprefix("ImportError: ")


if __name__ == "__main__":
    sys.exit(doctor())
