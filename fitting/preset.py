"""Presets: the stages, terms and weights of a fit, read from and written to YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from torch import Tensor

from fitting.export.atomic import atomic_path
from fitting.terms import TERMS, Term
from models.errors import InputError
from models.skeleton import BODY

FOLDER = Path(__file__).parent / "presets"
PRESETS = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
NUMBERS = {int: "a whole number from 0", float: "a number from 0, such as 0.5 or 1.0e-4 (not 1e-4)"}
Made = TypeVar("Made")


@dataclass
class Stage:
    """One solve. steps: outer steps when L-BFGS or Adam solves it instead of Levenberg-Marquardt."""

    terms: dict[str, Term]
    unknowns: Literal["rigid", "all"] = "all"
    iterations: int = 50
    tolerance: float = 1e-5
    steps: int = 150


@dataclass
class Preset:
    """What a fit minimises, and how.

    fitted: rotations that the joints see ("visible") or all; shape: one a clip or a frame; starts: each is tried for
    `probe` iterations; follow_noise: trust and smooth the joints according to the clip's noise; prior: path of the
    pose prior that the weights go with, None = the own one; belief: weight of the rotations that a learned start
    believes, where there is one.
    """

    name: str
    stages: dict[str, Stage]
    fitted: Literal["visible", "all"] = "visible"
    shape: Literal["clip", "frame"] = "clip"
    starts: list[Literal["geometric", "mean"]] = field(default_factory=lambda: ["geometric"])
    probe: int = 3
    follow_noise: bool = False
    prior: str | None = None
    belief: float = 1.0

    def has(self, *terms: str) -> bool:
        """Whether a stage has one of these terms."""
        return any(name in stage.terms for stage in self.stages.values() for name in terms)


def load_preset(name: str) -> Preset:
    """A preset by name, or by the path of a YAML file of the same form; InputError lists what would work.

    The file names its prior relative to itself.
    """
    path = FOLDER / f"{name}.yaml" if name in PRESETS else Path(name)
    if not path.is_file():
        known = ", ".join(PRESETS)
        raise InputError(f"Unknown preset {name!r}. Known: {known}; or the path of a YAML file like those.")
    try:
        preset = _preset(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (InputError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not a preset: {error}. {FOLDER / 'careful.yaml'} is one.") from error
    preset.prior = preset.prior and str(path.parent / preset.prior)
    return preset


def save_preset(preset: Preset, path: Path, notes: Sequence[str]) -> None:
    """Write what load_preset reads, with the notes as comments on top; numbers with six digits, the prior as it is."""
    content = {f.name: getattr(preset, f.name) for f in fields(preset)[2:] if getattr(preset, f.name) != _default(f)}
    content["stages"] = {
        name: {f.name: getattr(stage, f.name) for f in fields(stage)[1:] if getattr(stage, f.name) != f.default}
        | {"terms": {key: _options(term) for key, term in stage.terms.items()}}
        for name, stage in preset.stages.items()
    }
    text = "".join(f"# {note}\n" for note in notes)
    with atomic_path(path) as temporary:
        temporary.write_text(text + yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")


def _default(of: Field) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


def _options(term: Term) -> dict[str, Any]:
    """What a file says of a term: its weight, and what is not as usual."""
    values = {f.name: getattr(term, f.name) for f in fields(term)}
    defaults = {f.name: f.default for f in fields(term)}
    return {key: _plain(x) for key, x in values.items() if isinstance(x, Tensor) or x != defaults[key]}


def _plain(value: Any) -> Any:
    """A tensor's numbers, those of joints by name, rounded to six digits; anything else as it is."""
    if isinstance(value, Tensor) and value.dim():
        return {name: _plain(x) for name, x in zip(BODY, value, strict=True) if x != 1}
    return float(f"{float(value):.6g}") if isinstance(value, Tensor | float) else value


def _preset(name: str, content: object) -> Preset:
    """A preset from a file's content. Raises InputError for names and values that none has, saying where they stand."""
    options = dict(_mapping(content, "the file"))
    stages = _mapping(options.pop("stages", None), "stages")
    made = {key: _stage(stage, f"stages.{key}") for key, stage in stages.items()}
    return _made(Preset, options, "the file", name=name, stages=made)


def _stage(content: object, place: str) -> Stage:
    options, terms = dict(_mapping(content, place)), {}
    for name, values in _mapping(options.pop("terms", None), f"{place}.terms").items():
        if name not in TERMS:
            raise InputError(f"{place}.terms: unknown term {name!r}; known are {', '.join(TERMS)}")
        here = f"{place}.terms.{name}"
        terms[name] = _made(TERMS[name], _mapping(values, here), here)
    return _made(Stage, options, place, terms=terms)


def _mapping(content: object, place: str) -> Mapping:
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{place}: expected are names, each with a colon and a value; got {content!r}")
    return content


def _made(kind: type[Made], options: Mapping, place: str, **made: Any) -> Made:
    """kind(**options, **made), the options from a file. Raises InputError for what the fields of kind do not take."""
    known = {f.name: f for f in fields(kind) if f.name not in made}
    for name, value in options.items():
        if name not in known:
            raise InputError(f"{place}: unknown key {name!r}; known are {', '.join(known)}")
        if not _fits(value, known[name].type):
            wanted = NUMBERS.get(known[name].type, str(known[name].type).replace("typing.", ""))
            raise InputError(f"{place}: {name} is {value!r}; expected is {wanted}")
    if missing := [name for name, f in known.items() if _default(f) is MISSING and name not in options]:
        raise InputError(f"{place}: {', '.join(missing)} is missing")
    return kind(**options, **made)


def _fits(value: object, wanted: Any) -> bool:
    """Whether a value from a file is of the type that a field has; numbers are 0 or more, lists not empty."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return value in inner
    if origin is UnionType:
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and len(value) > 0 and all(_fits(one, *inner) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(one, inner[1]) for one in value.values())
    if wanted in NUMBERS:
        return isinstance(value, int | wanted) and not isinstance(value, bool) and value >= 0
    return isinstance(value, origin or wanted)
