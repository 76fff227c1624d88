"""Environments of their own for packages that cannot live beside numpy 2: where they are, and how they are made."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError


@dataclass(frozen=True)
class Environment:
    """packages: what pip puts in; pythons: the versions they exist for, the best first; libraries: what they load, by
    Debian's names; variable: the environment variable that names another program to take."""

    name: str
    variable: str
    packages: tuple[str, ...]
    pythons: tuple[str, ...]
    libraries: str

    @property
    def python(self) -> Path:
        """Its Python, whether it is there or not."""
        home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return Path(home) / "thetafit" / self.name / "bin" / "python"

    @property
    def how_to_install(self) -> str:
        """The line that makes it."""
        return f"thetafit doctor --install {self.name}"

    def find(self) -> str | None:
        """The program that `variable` names, else its Python, else None."""
        if asked := os.environ.get(self.variable):
            return shutil.which(asked)
        return str(self.python) if self.python.exists() else None

    def install(self) -> None:
        """Make it. Raises InputError where no Python of those versions is there, and where pip fails."""
        venv = self.python.parent.parent
        for command in ([self._base(), "-m", "venv", str(venv)], [self.python, "-m", "pip", "install", *self.packages]):
            words = list(map(str, command))
            print(" ".join(words), flush=True)
            if subprocess.run(words).returncode != 0:
                raise InputError(f"this did not work: {' '.join(words)}")
        print(f"{self.packages[0]} is in {venv}. It loads libraries too; on Debian: apt-get install {self.libraries}")

    def _base(self) -> str:
        """A Python to make it with."""
        if ".".join(map(str, sys.version_info[:2])) in self.pythons:
            return sys.executable
        found = [python for version in self.pythons if (python := shutil.which(f"python{version}"))]
        if not found:
            raise InputError(
                f"{self.packages[0]} needs Python {' or '.join(self.pythons)}, and there is no python{self.pythons[0]} "
                f"on the PATH. Install one, or set {self.variable} to a program that has it."
            )
        return found[0]


BPY = Environment(
    name="blender",
    variable="THETAFIT_BLENDER",
    packages=("bpy==5.0.1", "numpy<2"),
    pythons=("3.11",),  # what bpy 5.0 is built for
    libraries="libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1 libegl1 libgl1-mesa-dri",
)
PYRENDER = Environment(
    name="pyrender",
    variable="THETAFIT_PYRENDER",
    packages=("pyrender==0.1.45", "numpy<2"),
    pythons=("3.11", "3.12", "3.10"),  # what the last numpy before 2 is built for
    libraries="libegl1 libgl1 libgl1-mesa-dri",
)
ENVIRONMENTS = {each.name: each for each in (BPY, PYRENDER)}
