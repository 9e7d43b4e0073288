"""The recipe as a file: a round trip, and mistakes that are named."""

import dataclasses
import json

import pytest

from gan2shape_hub.config import ConfigError
from gan2shape_hub.training.program import PHASES
from gan2shape_hub.training.recipe import Recipe


@pytest.mark.parametrize("recipe", [Recipe(), Recipe.quick()])
def test_it_comes_back_as_it_was(recipe, tmp_path):
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert Recipe.read(tmp_path / "recipe.json") == recipe


def test_what_is_left_out_is_as_by_default():
    recipe = Recipe.from_json('{"seed": 3, "pool": {"identities": 20}}')
    assert recipe == dataclasses.replace(Recipe(), seed=3, pool=dataclasses.replace(Recipe().pool, identities=20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"taps": {"imges": 3}}', r"unknown key 'taps\.imges'"),
        ('{"networks": {"shape": {"training": {"steps": "many"}}}}', r"networks\.shape\.training\.steps"),
        ('{"light": {"images": 2}}', r"light\.images is 2, must be 3 or more"),
        ('{"dtype": "int8"}', "dtype is 'int8'"),
        ("{", "not valid JSON"),
    ],
)
def test_mistakes_are_named(text, message, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        Recipe.read(file)
    assert "mine.json" in str(error.value)


def test_every_phase_has_its_part():
    sections = json.loads(Recipe().to_json())
    assert {phase.name for phase in PHASES} == sections.keys() - {"seed", "dtype"}
