"""The docs do what they say: their commands run, their options, links and pictures exist, their Python holds.

tests/pages.py has the rule of which commands are run, tests/desk.py the files that they find.
"""

import os
import re
import shlex
import subprocess
from argparse import ArgumentParser, _SubParsersAction
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from fitting import cli, fit
from fitting.preset import load_preset
from fitting.result import FitResult
from fitting.terms import TERMS
from models.keyed import walk_joints
from tests.desk import programs, put
from tests.pages import Command, blocks, commands, links, prose, relative, resolve
from tests.runs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments" / "README.md"]
ENGLISH = [page for page in PAGES if ".zh-CN" not in page.name]
NO_FILM = ("--formats", "npz,glb,smpl_params")  # where a command names none: films cost more than all else here
BRIEF = ("--output.formats", "[npz]")
LARGEST_PICTURE = 200_000  # bytes


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def parsers() -> dict[str, ArgumentParser]:
    """The parser of each command: what `thetafit COMMAND --help` says."""
    return next(a for a in cli.build_parser()._actions if isinstance(a, _SubParsersAction)).choices


@cache
def options(command: str) -> frozenset[str]:
    """The options of `thetafit COMMAND`."""
    assert command in parsers(), f"there is no `thetafit {command}`; there are {', '.join(parsers())}"
    return frozenset(option for action in parsers()[command]._actions for option in action.option_strings)


@cache
def every_option() -> frozenset[str]:
    """The options of all commands together."""
    return frozenset().union(*map(options, parsers()), {"--version"})


def used(words: list[str]) -> list[str]:
    """The options among the words of a command."""
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh machine's folder: the repository's experiments, the two programs on the path, and nothing else."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: Command, folder: Path) -> str | None:
    """Run a command in the folder; what went wrong, or None."""
    put(folder, command.text)
    if re.search(r"[|<>]|wandb", command.text):  # W&B reads its surroundings once a process
        words = ["bash", "-o", "pipefail", "-c", without_film(command.text)]
        done = subprocess.run(words, capture_output=True, text=True)
        return done.stderr if done.returncode else None
    codes = [run_here(shlex.split(part)) for part in command.text.split("&&")]
    return f"exit codes {codes}" if any(codes) else None


def without_film(text: str) -> str:
    """A fit's command line with formats, where it names none."""
    return f"{text} {' '.join(NO_FILM)}" if text.startswith("thetafit fit") and "--formats" not in text else text


@cache
def doctor() -> int:
    """The exit code of `thetafit doctor`, which says the same on every page."""
    return cli.main(["doctor"])


def run_here(words: list[str]) -> int:
    """The exit code of one command of ours in this process; 0 for programs of others, which are not run."""
    try:
        match words:
            case ["thetafit", "fit", *rest] if "--formats" not in rest:
                return cli.main(["fit", *rest, *NO_FILM])
            case ["thetafit", "generate" | "edit", *rest] if "--fit" in rest:
                out = rest[rest.index("--out") + 1]
                made = cli.main([words[1], *(word for word in rest if word != "--fit")])
                return made or cli.main(["fit", f"{out}/results.npy", "--out", out, *NO_FILM])
            case ["thetafit", "demo"]:  # tests/fitting/test_cli.py runs it; what it leaves is on the desk
                put(Path(), "demo")
            case ["thetafit", "doctor"]:
                return doctor()
            case ["thetafit", *rest]:
                return cli.main(rest)
            case ["python", "train.py", *rest]:
                from train import main

                return main([*rest, *(() if "--print_config" in rest else BRIEF)])
            case ["python", "-m", module, *_]:
                return int(find_spec(module) is None)
            case ["python", script, *_]:  # examples and benchmarks: tests/test_examples.py, tests/test_benchmarks.py
                return int(not (ROOT / script).is_file())
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("page", ENGLISH, ids=name_of)
def test_the_commands_run(page: Path, folder: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in commands(text):
        if not (command.needs or command.form):
            wrong = run(command, folder)
            assert wrong is None, (
                f"{name_of(page)}:{command.line}: `{command.text}` does not run on a fresh machine ({wrong}). If it "
                "needs something, say so: `# needs ...` behind it or `Needs ...` in the line above the block."
            )


def test_most_commands_run_on_a_fresh_machine() -> None:
    """What needs something stays the exception."""
    all_of_them = [command for page in ENGLISH for command in commands(page.read_text(encoding="utf-8"))]
    ours = [command for command in all_of_them if command.text.startswith("thetafit") and not command.form]
    assert len(ours) > 40 and sum(command.needs for command in ours) < len(ours) / 4


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_exist(page: Path) -> None:
    """Those of commands for their command, those in running text for some command of thetafit or another program."""
    text = page.read_text(encoding="utf-8")
    for command in commands(text):
        for part in re.split(r"&&|\|", command.text):
            words = shlex.split(part)
            if words[:1] == ["thetafit"] and len(words) > 1:
                unknown = set(used(words[2:])) - options(words[1]) if words[1] != "--help" else set()
                assert not unknown, f"{name_of(page)}:{command.line}: thetafit {words[1]} has no {unknown}"
    for span in re.findall(r"`([^`\n]+)`", prose(text)):
        words = span.split()
        if words[0].startswith("--") and "." not in words[0]:
            unknown = set(used(words)) - every_option()
            assert not unknown, f"{name_of(page)}: no command of thetafit has {unknown}"
        if words[0] == "thetafit" and len(words) > 1 and words[1].islower():
            unknown = set(used(words[2:])) - options(words[1])
            assert not unknown, f"{name_of(page)}: thetafit {words[1]} has no {unknown}"


def test_make_has_the_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for command in commands(page.read_text(encoding="utf-8")):
            if command.text.startswith("make "):
                assert command.text.split()[1] in targets, command.text


EVERYWHERE = [*PAGES, *ROOT.glob("*.zh-CN.md"), ROOT / "experiments" / "benchmarks" / "README.md"]


@pytest.mark.parametrize("page", EVERYWHERE, ids=name_of)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    wrong = [problem for link in relative(page.read_text(encoding="utf-8")) if (problem := resolve(page, link))]
    assert not wrong, "\n".join(wrong)


def test_every_picture_is_shown_and_small() -> None:
    shown = {Path(link).name for page in EVERYWHERE for link in links(page.read_text(encoding="utf-8"))}
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.name in shown, f"{picture.name} is on no page"
        assert picture.stat().st_size <= LARGEST_PICTURE, f"{picture.name} is too large"
        Image.open(picture).verify()


def test_the_index_names_every_page() -> None:
    listed = set(links((ROOT / "docs" / "README.md").read_text()))
    missing = {page.name for page in (ROOT / "docs").glob("*.md") if ".zh-CN" not in page.name} - listed - {"README.md"}
    assert not missing


@cache
def a_result() -> FitResult:
    return fit(walk_joints()[:32], preset="quick")


@pytest.mark.parametrize("page", ENGLISH, ids=name_of)
def test_the_python_holds(page: Path, folder: Path) -> None:
    """A page's Python blocks one after the other in one namespace, from a folder with the files that they read.

    The reader's own `joints` and `other_joints`, (frames, 22, 3), are there, and the `result` of a fit.
    """
    names = {"joints": walk_joints()[:20], "other_joints": walk_joints()[40:60], "result": a_result()}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "python" and not block.needs:
            put(folder, block.text)
            exec(compile("\n" * (block.line - 1) + block.text, name_of(page), "exec"), names)


def test_the_method_has_every_term() -> None:
    """Each term of a preset stands in docs/method.md beside its class, and the class in the file that is linked."""
    rows = re.findall(
        r"^\| `(\w+)` \|.*\[`(\w+)`\]\(\.\./(fitting/terms/\w+\.py)\) \|$", (ROOT / "docs/method.md").read_text(), re.M
    )
    described = {term: (kind, file) for term, kind, file in rows}
    for preset in ("careful", "quick", "reference"):
        for stage in load_preset(preset).stages.values():
            assert set(stage.terms) <= set(described), f"docs/method.md lacks terms of {preset}"
    assert set(described) == set(TERMS)
    for term, (kind, file) in described.items():
        assert TERMS[term].__name__ == kind and f"class {kind}(Term)" in (ROOT / file).read_text()
