"""How long does it take to make a finished fit visible? GLB, film, page and OBJ files of one clip, in one run.

    python experiments/benchmarks/pictures.py                     # 196 frames, film of 512 x 512 pixels, two threads
    python experiments/benchmarks/pictures.py --json pictures.json

The fit itself is outside the clock. `OBJ by trimesh` is the reference's way: for every frame a trimesh.Trimesh with its
usual processing, exported to a file of its own. Wall seconds are what one waits, CPU seconds what stays when other
programs use the machine. The first pictures of a process also load libraries; that is inside the clock.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks.solver import machine, made_clips  # noqa: E402
from fitting import FitResult, fit  # noqa: E402
from fitting.export import export  # noqa: E402
from fitting.page import write_page  # noqa: E402
from fitting.report import clip_report  # noqa: E402

THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--frames", type=int, default=196, metavar="N", help="length of the clip (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    result = fit(made_clips(1, args.frames)[0], preset="quick")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, make, result, Path(folder)) for name, make in WAYS.items()]
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "frames": args.frames, "rows": rows}, indent=1) + "\n")


def measure(name: str, make: Callable[[FitResult, Path], None], result: FitResult, folder: Path) -> dict[str, Any]:
    """Wall and CPU seconds of one way, printed."""
    wall, cpu = time.perf_counter(), time.process_time()
    make(result, folder)
    row = {"what": name, "wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    print(f"{name:16} {row['wall_seconds']:8.2f} s wall {row['cpu_seconds']:8.2f} s CPU", flush=True)
    return row


def page(result: FitResult, folder: Path) -> None:
    """page.html of a folder with the clip's GLB, npz and report, as a run leaves them."""
    files = [path.name for path in export(result, folder, ["npz", "glb"])]
    (folder / "report.json").write_text(json.dumps({"clips": [clip_report(result, files)]}))
    write_page(folder)


def trimesh_objs(result: FitResult, folder: Path) -> None:
    """One OBJ file a frame through trimesh."""
    import trimesh

    faces = result.body.faces.numpy()
    for number, vertices in enumerate(result.vertices().numpy()):
        trimesh.Trimesh(vertices=vertices.tolist(), faces=faces).export(folder / f"trimesh{number:03d}.obj")


def film(result: FitResult, folder: Path) -> None:
    """512 x 512 pixels, h264."""
    from fitting.render.film import write_film

    write_film(result, folder / "film.mp4")


WAYS: dict[str, Callable[[FitResult, Path], None]] = {
    "GLB": lambda result, folder: export(result, folder, ["glb"]),
    "page": page,
    "poster": lambda result, folder: export(result, folder, ["png"]),
    "OBJ": lambda result, folder: export(result, folder, ["obj"]),
    "OBJ by trimesh": trimesh_objs,
    "film": film,
}


if __name__ == "__main__":
    main()
