"""Presets: the stages, terms and weights of a fit, read from YAML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from fitting.terms import TERMS, Term
from models.errors import InputError

FOLDER = Path(__file__).parent / "presets"
PRESETS = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


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
    `probe` iterations; follow_noise: trust and smooth the joints according to the clip's noise; belief: weight of the
    rotations that a learned start believes, where there is one.
    """

    name: str
    stages: dict[str, Stage]
    fitted: Literal["visible", "all"] = "visible"
    shape: Literal["clip", "frame"] = "clip"
    starts: list[Literal["geometric", "mean"]] = field(default_factory=lambda: ["geometric"])
    probe: int = 3
    follow_noise: bool = False
    belief: float = 1.0

    def has(self, *terms: str) -> bool:
        """Whether a stage has one of these terms."""
        return any(name in stage.terms for stage in self.stages.values() for name in terms)


def load_preset(name: str) -> Preset:
    """A preset by name, or by the path of a YAML file of the same form; InputError lists what would work."""
    path = FOLDER / f"{name}.yaml" if name in PRESETS else Path(name)
    if not path.is_file():
        known = ", ".join(PRESETS)
        raise InputError(f"Unknown preset {name!r}. Known: {known}; or the path of a YAML file like those.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        stages = {key: _stage(value) for key, value in content.pop("stages").items()}
        return Preset(path.stem, stages, **content)
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} is not a preset: {error}. Expected the keys of fitting/presets/careful.yaml."
        ) from error


def _stage(content: dict[str, Any]) -> Stage:
    terms = {}
    for name, options in content.pop("terms").items():
        if name not in TERMS:
            raise InputError(f"Unknown term {name!r} in a preset. Known: {', '.join(TERMS)}.")
        terms[name] = TERMS[name](**options)
    return Stage(terms, **content)
