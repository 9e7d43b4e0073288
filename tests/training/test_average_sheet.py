"""The average object, on a generator of one known object whose networks know it only roughly."""

import dataclasses

import pytest
import torch
from lamps import LIT, SIZE, Lamps, Says, config, dome, everywhere, nets, turning

from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.rendering.photometric import harmonics
from gan2shape_hub.rendering.renderer import raw_to_depth
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.training.average_sheet import Crowd, _turned, collect_crowd, solve_average

INNER, YAWS_DEG = slice(8, 24), (-20.0, 0.0, 20.0)


def known(**changes):
    """The category with its lights: along components 0 to 2, as `lamps.MIXED` mixes them."""
    rows = torch.eye(8)[:3].tolist()
    return dataclasses.replace(config(light_directions=tuple(map(tuple, rows)), light_layers=LIT), **changes)


def sheet(raw):
    return raw_to_depth(raw[:, 0], known().camera)


def angle_to(depth, truth):
    """Mean angle of the normals inside, degrees."""
    a, b = (normals_from_depth(x.view(1, SIZE, SIZE), known().camera)[0] for x in (depth, truth))
    cosine = (a * b).sum(0)[INNER, INNER].clamp(-1, 1)
    return torch.rad2deg(torch.acos(cosine)).mean().item()


def crowd_of(raw, start, lights=20):
    """What a matte object ``raw`` shows under random lights, in the frame of the networks' sheet ``start``."""
    normals = -normals_from_depth(sheet(raw), known().camera)[0].flatten(1)
    weights = torch.randn(lights, 4, generator=torch.Generator().manual_seed(0)) * 0.5
    ratios = (weights @ harmonics(normals, 1).T).view(lights, SIZE, SIZE)
    return Crowd(sheet(start)[0], ratios, torch.ones_like(ratios), torch.full((SIZE, SIZE), 0.7))


def test_light_gives_the_object_its_nose():
    truth, start = dome(ridge=0.8), dome()
    said = []
    average = solve_average(crowd_of(truth, start), known(), said.append)
    before = angle_to(sheet(start), sheet(truth))
    assert before > 5
    assert angle_to(average.depth, sheet(truth)) < 0.55 * before
    assert torch.equal(average.cover, torch.full((SIZE, SIZE), 0.7))
    assert said


def test_pixels_that_nobody_shows_keep_the_networks_shape():
    crowd = crowd_of(dome(ridge=0.5), dome())
    ratios, weights = crowd.ratios.clone(), crowd.weights.clone()
    ratios[:, 20:], weights[:, 20:] = 100.0, 0.0
    average = solve_average(dataclasses.replace(crowd, ratios=ratios, weights=weights), known(), lambda _: None)
    assert average.depth.isfinite().all()
    assert (average.depth - crowd.sheet)[22:].abs().max() < 0.1 * (crowd.sheet.max() - crowd.sheet.min())


def test_a_symmetric_category_has_a_symmetric_average():
    crowd = crowd_of(dome(ridge=0.5).roll(2, dims=-1), dome())
    skew = solve_average(crowd, known(), lambda _: None).depth
    even = solve_average(crowd, known(average_mirrored=True), lambda _: None).depth
    assert torch.allclose(even, even.flip(-1), atol=1e-6)
    assert not torch.allclose(skew, skew.flip(-1), atol=1e-4)


def test_a_crowd_without_directions_to_turn_is_seen_as_it_is():
    truth, start = dome(ridge=0.5), dome()
    crowd = collect_crowd(Lamps(truth), nets(start), everywhere, known(), lambda _: None, people=6)
    assert crowd.ratios.shape == (len(known().light_walk.steps), SIZE, SIZE)
    assert torch.allclose(crowd.sheet, sheet(start)[0])
    assert crowd.cover == pytest.approx(torch.ones(SIZE, SIZE))
    average = solve_average(crowd, known(), lambda _: None)
    assert angle_to(average.depth, sheet(truth)) < 0.7 * angle_to(sheet(start), sheet(truth))


def test_a_crowd_that_turns_is_seen_from_every_side():
    turns = turning() * 2
    turned = known()
    turned = dataclasses.replace(
        turned, projection=dataclasses.replace(turned.projection, view_directions=turns, view_units=(0.5, 0.5))
    )
    crowd = collect_crowd(Lamps(dome()), nets(dome()), everywhere, turned, lambda _: None, people=2, yaws_deg=YAWS_DEG)
    assert crowd.ratios.shape == (len(YAWS_DEG) * len(known().light_walk.steps), SIZE, SIZE)


def test_turning_a_crowd_keeps_its_pitch():
    """Every head is read as nodding: the walk to another yaw is none along the pitch's direction."""
    directions = torch.eye(8)[3:5]
    config_ = known()
    projection = dataclasses.replace(
        config_.projection, view_directions=tuple(map(tuple, directions.tolist())), view_units=(0.5, 0.5)
    )
    generator, nodding = Lamps(dome()), dataclasses.replace(nets(dome()), view=Says(torch.tensor([[0.4] + [0.0] * 5])))
    latent = torch.ones(1, 8)
    views = _turned(latent, LatentProjection(generator, projection), nodding, config_, YAWS_DEG)
    moved = (torch.cat(views) - latent) @ generator.component_basis.T / generator.component_std
    pitch, yaw = (moved @ directions.T).unbind(1)
    assert pitch.abs().max() < 1e-6
    assert torch.allclose(yaw * 0.5, torch.tensor(YAWS_DEG) / config_.camera.view_angle_deg, atol=1e-5)


def test_masked_and_dark_pixels_do_not_count():
    def upper_half(images):
        mask = torch.ones_like(images[:, :1])
        mask[..., SIZE // 2 :, :] = 0
        return mask

    crowd = collect_crowd(Lamps(dome()), nets(dome()), upper_half, known(), lambda _: None, people=3)
    assert crowd.weights[:, SIZE // 2 + 1 :].max() == 0
    assert crowd.weights[:, 4:12, 8:24].mean() > 0.5
    assert crowd.cover[: SIZE // 2 - 1].min() > 0.99
    assert crowd.cover[SIZE // 2 + 1 :].max() < 0.01


def test_without_light_there_is_no_crowd():
    with pytest.raises(ValueError, match="directions of light"):
        collect_crowd(Lamps(dome()), nets(dome()), everywhere, config(), lambda _: None, people=1)
