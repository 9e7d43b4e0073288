"""Directions of light and their layers, on a generator whose lamp is known."""

import pytest
import torch
from lamps import LIT, MIXED, TURNING, Lamps, config, dome, everywhere, nets, turning

from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.rendering.photometric import luminance
from gan2shape_hub.training.light_directions import acting_layers, find_light_directions, measure_responses, with_light
from gan2shape_hub.training.recipe import LightRecipe

PURITY = LightRecipe().purity


def find(generator, count=6, turning=(), **changes):
    said = []
    layers, responses = measure_responses(generator, nets(dome()), everywhere, config(**changes), said.append, count)
    return find_light_directions(layers, responses, turning, said.append, PURITY), said


def test_the_lamp_is_found_in_its_layers_and_the_right_way_round():
    found, said = find(Lamps(dome()))
    assert set(found.layers) <= set(LIT)
    # The step that adds light from the left alone is what the mixture's inverse says.
    wanted = torch.linalg.inv(MIXED)
    got = found.directions[:, :3]
    assert torch.nn.functional.cosine_similarity(got, wanted).min() > 0.9
    assert found.purity.min() > 0.6
    assert found.directions.norm(dim=1) == pytest.approx(torch.ones(3))
    assert any("purity" in line for line in said)


def test_only_layers_that_change_the_picture_take_part():
    generator = Lamps(dome())
    assert acting_layers(generator, torch.zeros(1, 5, 8), config()) == (0, *LIT)


def test_no_light_turns_the_object():
    """Component 3 brings light from the left as well, better than any other."""
    free, _ = find(Lamps(dome()))
    found, _ = find(Lamps(dome()), turning=turning())
    assert free.directions[0, TURNING].abs() > 0.3
    assert found.directions[:, TURNING].abs().max() < 1e-6


def test_where_nothing_relights_there_is_nothing():
    found, said = find(Lamps(dome(), lit=()))
    assert found is None
    assert "no direction" in said[-1]
    assert with_light(config(), None).projection.light_directions == ()


def test_a_flat_sheet_says_nothing_of_light():
    said = []
    layers, responses = measure_responses(
        Lamps(dome()), nets(torch.zeros(1, 1, 32, 32)), everywhere, config(), print, 3
    )
    assert find_light_directions(layers, responses, (), said.append, PURITY) is None


def test_steps_of_the_configuration_relight():
    generator = Lamps(dome())
    known = with_light(config(), find(generator)[0])
    projection = LatentProjection(generator, known.projection)
    assert projection.relights
    images = generator(projection.relight(torch.zeros(1, 8), torch.eye(3) * 2))
    left, above, front = (luminance(images) / luminance(generator(torch.zeros(1, 8)))).log()
    inner = slice(8, 24)
    left, above, front = left[inner, inner], above[inner, inner], front[inner, inner]
    assert left[:, :6].mean() > left[:, -6:].mean() + 0.05
    assert above[:6].mean() > above[-6:].mean() + 0.05
    assert front[6:10, 6:10].mean() > (front[:2].mean() + front[-2:].mean()) / 2 + 0.02


def test_the_same_seed_finds_the_same():
    assert torch.equal(find(Lamps(dome()))[0].directions, find(Lamps(dome()))[0].directions)
