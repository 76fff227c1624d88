"""`thetafit demo`: from a sentence to a moving body, with what comes along."""

from collections.abc import Callable
from pathlib import Path

from fitting.generate import SMALL_MODEL, Request, generate_files

SENTENCE = "the person walked forward and is picking up his toolbox"
CLIP = "sample00_rep00"


def show_demo(folder: Path, fit_file: Callable[[Path, Path], int]) -> int:
    """The sentence as motion by the small model, fitted by fit_file(source, out); returns its exit code."""
    results = generate_files(Request([SENTENCE], str(SMALL_MODEL)), str(folder), "cpu")
    code = fit_file(results, folder)
    if code == 0:
        print(f"the film: {folder / CLIP}_mesh.mp4, the poster: {folder / CLIP}_poster.png, for Blender: {CLIP}.glb")
    return code
