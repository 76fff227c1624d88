"""A user's own skeleton in YAML: the joints of the file in their order, and what each shows of the body."""

from functools import cache
from pathlib import Path

import yaml

from fitting.axes import check_up
from models.errors import InputError
from models.skeleton import POINTS, Skeleton, hung

NEEDED = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")  # where a fit begins
KEYS = ("joints", "unit", "fps", "up")


@cache
def load_skeleton(path: str) -> Skeleton:
    """The skeleton in a YAML file (docs/formats.md has an example), called after the file.

    joints: a mapping from each joint's name, in the order of the motion file, to a name in POINTS or null; unit: metres
    a file unit; fps; up. Raises InputError that names what is wrong.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--skeleton {path}: cannot be read as YAML ({error})") from None
    joints = content.get("joints") if isinstance(content, dict) else None
    if not isinstance(joints, dict) or set(content) - set(KEYS):
        raise InputError(f"--skeleton {path}: expected the keys {', '.join(KEYS)}, joints a mapping (docs/formats.md)")
    shows = tuple(joints.values())
    about = {"unit": content.get("unit", 1.0), "fps": content.get("fps", 20.0)}
    _check(path, shows, about)
    check_up(content.get("up", "y"))
    return Skeleton(Path(path).stem, tuple(map(str, joints)), hung(shows), shows, up=content.get("up", "y"), **about)


def _check(path: str, shows: tuple, about: dict) -> None:
    """InputError unless joints show points of the body, each once, hips and shoulders among them, and numbers are."""
    unknown = [str(point) for point in shows if point is not None and point not in POINTS]
    if unknown:
        raise InputError(f"--skeleton {path}: {', '.join(unknown)} is none of {', '.join(POINTS)}; null = left out")
    given = [point for point in shows if point is not None]
    twice = sorted({point for point in given if given.count(point) > 1})
    missing = [point for point in NEEDED if point not in given]
    if twice or missing:
        what = f"{', '.join(twice)} stands there twice" if twice else f"no joint shows {', '.join(missing)}"
        raise InputError(f"--skeleton {path}: {what}; each point is shown once, hips and shoulders must be")
    for name, value in about.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise InputError(f"--skeleton {path}: {name} should be a number above 0; it is {value!r}")
