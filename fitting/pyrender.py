"""pyrender, which needs a numpy before 2: the process of its own in which it draws, without a screen."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

from fitting.environments import PYRENDER
from models.errors import InputError

SCRIPT = Path(__file__).parent / "render" / "pyrender_scene.py"


class PyrenderProcess:
    """The process, from the beginning of a `with` block to its end. Threads may ask it; it answers one at a time.

    Raises InputError where there is no environment with pyrender, and where the process ends before it should.
    """

    def __enter__(self) -> "PyrenderProcess":
        program = PYRENDER.find()
        if program is None:
            raise InputError(
                f"--engine pyrender needs pyrender in an environment of its own, and {PYRENDER.python} is not there. "
                f"Run `{PYRENDER.how_to_install}`, or set {PYRENDER.variable} to a Python that has pyrender."
            )
        self.said, self.lock = TemporaryFile(), Lock()
        self.process = subprocess.Popen(
            [program, "-I", str(SCRIPT)],
            env={"PYOPENGL_PLATFORM": "egl"} | os.environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
        )  # fmt: skip
        self._read(1)
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.said.close()

    def ask(self, request: bytes, count: int) -> bytes:
        """The answer to a request, so many bytes; render/pyrender_scene.py says what both hold."""
        with self.lock:
            with suppress(BrokenPipeError):  # the answer that does not come says why
                self.process.stdin.write(request)
                self.process.stdin.flush()
            return self._read(count)

    def _read(self, count: int) -> bytes:
        answer = self.process.stdout.read(count)
        if len(answer) < count:
            self.said.seek(0)
            raise InputError(_failure(self.process.args[0], self.said.read().decode(errors="replace")))
        return answer


def check_pyrender() -> None:
    """Raises InputError where pyrender is not there, or cannot draw."""
    with PyrenderProcess():
        pass


def _failure(program: str, said: str) -> str:
    words = ([line for line in said.splitlines() if line.strip()] or ["nothing"])[-1]
    if "No module named" in words:
        return f"{program} has no pyrender ({words}). Run `{PYRENDER.how_to_install}`, or set {PYRENDER.variable}."
    return (
        f"pyrender ({program}) could not draw. It said: {words}. It draws through EGL, on a machine without a GPU by "
        f"Mesa's software; on Debian: apt-get install {PYRENDER.libraries}."
    )
