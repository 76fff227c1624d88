"""Presets from files: what is wrong in one is named with its place, before anything is fitted."""

import pytest
import yaml

from fitting.preset import load_preset
from models.errors import InputError

TERMS = {"joints": {"weight": 360000}, "shape": {"weight": 25}}


def written(tmp_path, content) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def stages(terms=TERMS, **options) -> dict:
    return {"stages": {"pose": {"terms": terms, **options}}}


def test_a_file_of_the_least(tmp_path):
    preset = load_preset(written(tmp_path, stages()))
    assert preset.name == "mine" and preset.shape == "clip"
    assert preset.stages["pose"].terms["joints"].weight == 360000
    assert preset.stages["pose"].unknowns == "all"


@pytest.mark.parametrize(
    "content, words",
    [
        ("a: [b", "flow sequence"),
        ("", "the file: expected are names"),
        ("- a", "the file: expected are names.*'a'"),
        ({"shape": "clip"}, "stages: expected are names"),
        ({"stages": {}}, "stages: expected are names"),
        (stages({}), "stages.pose.terms: expected are names"),
        (stages({"joint": {"weight": 1}}), "stages.pose.terms: unknown term 'joint'; known are joints, torso"),
        (stages({"joints": 360000}), "stages.pose.terms.joints: expected are names.*360000"),
        (stages({"joints": {"wieght": 1}}), "terms.joints: unknown key 'wieght'; known are weight, sigma"),
        (stages({"joints": {"sigma": 1}}), "terms.joints: weight is missing"),
        (stages({"joints": {"weight": "abc"}}), "weight is 'abc'; expected is a number"),
        (stages({"joints": {"weight": -1}}), "weight is -1; expected is a number from 0"),
        (stages({"joints": {"weight": 1, "confidence": {"head": "low"}}}), "confidence is {'head': 'low'}"),
        (stages({"joints": {"weight": 1, "confidence": {"hat": 1.0}}}), "confidence names hat"),
        (stages(iterations=2.5), "stages.pose: iterations is 2.5; expected is a whole number"),
        (stages(iteration=2), "stages.pose: unknown key 'iteration'; known are unknowns, iterations"),
        (stages(tolerance="3e-4"), "tolerance is '3e-4'; expected is a number.*1.0e-4"),
        (stages(unknowns="some"), r"unknowns is 'some'; expected is Literal\['rigid', 'all'\]"),
        (stages() | {"shap": "clip"}, "the file: unknown key 'shap'; known are fitted, shape"),
        (stages() | {"shape": "foo"}, r"shape is 'foo'; expected is Literal\['clip', 'frame'\]"),
        (stages() | {"starts": "geometric"}, "starts is 'geometric'; expected is list"),
        (stages() | {"starts": ["mean", "geometrc"]}, "starts is .*'geometrc'"),
        (stages() | {"name": "other"}, "the file: unknown key 'name'"),
    ],
)
def test_a_wrong_file_is_told_where_it_is_wrong(tmp_path, content, words):
    with pytest.raises(InputError, match=rf"(?s)mine.yaml is not a preset: .*{words}"):
        load_preset(written(tmp_path, content))
