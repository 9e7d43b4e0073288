"""Every constant of the reference's configuration files, pinned."""

import pytest

from gan2shape_hub.config import CategoryConfig, ConfigError
from gan2shape_hub.presets import PRESETS, category_preset

FACES = ("face", "face-ffhq", "cat", "synthetic-face", "animal-face")
OBJECTS = ("car", "church", "horse", "animal")


def iterations(schedule):
    return [(r.decompose, r.explore, r.refine) for r in schedule.rounds]


def test_categories():
    assert set(PRESETS) == {*FACES, *OBJECTS}
    for name, config in PRESETS.items():
        assert config.category == name
        assert CategoryConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="must be one of face, "):
        category_preset("dog")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_constants_of_all_categories(name):
    c = category_preset(name)
    cam = c.camera
    assert (cam.fov_deg, cam.center_depth, cam.min_depth, cam.max_depth) == (10, 1.0, 0.9, 1.1)
    assert cam.border_depth == pytest.approx(1.04)
    assert (cam.border_px, cam.view_angle_deg, cam.view_translation_xy, cam.view_translation_z) == (2, 60, 0.1, 0)
    assert (c.prior.near, c.prior.radius) == (0.91, 0.4)
    assert (c.lighting.direction_x, c.lighting.direction_y) == ((-1, 1), (-0.2, 0.8))
    assert (c.lighting.extra_diffuse, c.lighting.ambient_per_diffuse) == ((-0.1, 0.6), -0.6)
    assert (c.loss.perceptual_weight, c.loss.smoothness_weight, c.loss.discriminator_layers) == (0.5, 0.01, 4)
    assert c.projection.offset_weight == 0.01
    assert c.projection.space == "mapping_tail"
    assert c.add_mean
    for schedule in c.schedules.values():
        assert (schedule.learning_rate, schedule.encoder_learning_rate) == (1e-4, 1e-4)
        assert (schedule.betas, schedule.weight_decay) == ((0.9, 0.999), 5e-4)
    paper = c.schedule("paper")
    assert (paper.prior_iterations, paper.collected_batches) == (1000, 100)
    assert set(c.schedules) == {"fast", "balanced", "paper"}


@pytest.mark.parametrize("name", ["face", "face-ffhq", "cat"])
def test_faces_and_cats(name):
    c = category_preset(name)
    assert iterations(c.schedule("paper")) == [(600, 600, 400)] + [(200, 500, 300)] * 3
    assert [r.mirror for r in c.schedule("paper").rounds] == [True, False, False, False]
    assert c.schedule("paper").batch_size == 16
    assert c.image_size == 128
    assert (c.view_yaw_scale, c.use_mask) == (1.2, False)
    assert (c.projection.first_layer, c.projection.relative) == (5, True)
    assert c.prior.far == 1.02
    assert c.rotation_limit_deg == (70, 20)


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name):
    c = category_preset(name)
    assert iterations(c.schedule("paper")) == [(700, 700, 600)] + [(200, 500, 400)] * 3
    assert not any(r.mirror for s in c.schedules.values() for r in s.rounds)
    assert c.schedule("paper").batch_size == 8
    assert c.image_size == 128
    assert (c.view_yaw_scale, c.use_mask) == (1.0, True)
    assert (c.projection.first_layer, c.projection.relative) == (5, False)
    assert c.rotation_limit_deg == (45, 20)


def test_synthetic_faces():
    c = category_preset("synthetic-face")
    assert iterations(c.schedule("paper")) == [(500, 500, 200)]
    assert c.schedule("paper").rounds[0].mirror
    assert c.schedule("paper").batch_size == 16
    assert (c.image_size, c.center_crop, c.view_yaw_scale, c.use_mask) == (64, 170, 1.2, False)
    assert (c.projection.first_layer, c.projection.relative) == (0, True)


def test_crops_and_ellipsoids():
    assert {n: c.center_crop for n, c in PRESETS.items() if c.center_crop} == {"cat": 170, "synthetic-face": 170}
    prior = {n: c.prior for n, c in PRESETS.items()}
    assert {n: p.far for n, p in prior.items() if p.far != 1.02} == {"church": 1.0}
    assert [n for n, p in prior.items() if p.bottom_to_edge] == ["face"]
    assert {n: p.shrink_sides for n, p in prior.items() if p.shrink_sides} == {"face": pytest.approx(1 / 12)}
    assert {n: p.extend_top for n, p in prior.items() if p.extend_top} == {"synthetic-face": pytest.approx(1 / 6)}
    assert sorted(n for n, p in prior.items() if p.extend_bottom == 1 / 6) == ["car", "church"]


def test_shorter_schedules_are_shorter():
    for c in PRESETS.values():
        total = {n: sum(map(sum, iterations(s))) * s.batch_size for n, s in c.schedules.items()}
        assert total["fast"] < total["balanced"] < total["paper"] or c.category == "synthetic-face"
        assert total["fast"] < total["paper"]
        assert [r.mirror for r in c.schedule("fast").rounds] == [c.schedule("paper").rounds[0].mirror]
