"""Configuration: what is written is what is read, and what is wrong is named in one sentence."""

import dataclasses
import json
import re

import pytest

from gan2shape_hub.config import (
    FORMAT_VERSION,
    CameraConfig,
    CategoryConfig,
    ConfigError,
    DetailsConfig,
    GaussianConfig,
    InvertConfig,
    LossConfig,
    PriorConfig,
    ProjectionConfig,
    RoundConfig,
    ScheduleConfig,
    diagonal_gaussian,
    from_dict,
)
from gan2shape_hub.presets import PRESETS, shipped_face_config

CONFIGS = {**PRESETS, "default": CategoryConfig("things"), "shipped": shipped_face_config()}


def changed(path, value):
    """The default configuration as JSON, with the value at the dotted ``path`` replaced (a callable edits it)."""
    data = json.loads(CONFIGS["default"].to_json())
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    key = int(last) if isinstance(place, list) else last
    place[key] = value
    return json.dumps(data)


def refused(text, *words):
    """The error's message, which is one sentence and holds all ``words``."""
    with pytest.raises(ConfigError) as caught:
        CategoryConfig.from_json(text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert ". " not in re.sub(r"\d\. ", "", message), f"more than a sentence: {message}"
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_json_round_trip(name):
    config = CONFIGS[name]
    text = config.to_json()
    again = CategoryConfig.from_json(text)
    assert again == config
    assert again.to_json() == text
    assert isinstance(again.schedules["paper"].rounds, tuple)
    assert isinstance(again.prior.default_box, tuple)
    assert hash(again.camera) == hash(config.camera)  # lists left in a frozen class would not hash


def test_every_value_survives_the_round_trip():
    """A configuration in which nothing has its default value."""

    def unusual(value):
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, float)):
            return value + (value / 64 if isinstance(value, float) else 1)
        return value

    def shake(config):
        changes = {}
        for f in dataclasses.fields(config):
            value = getattr(config, f.name)
            changes[f.name] = shake(value) if dataclasses.is_dataclass(value) else unusual(value)
        return type(config)(**changes)

    schedule = dataclasses.replace(
        shake(ScheduleConfig(betas=(0.8, 0.99), light_walk_size=64)), rounds=(shake(RoundConfig()),) * 2
    )
    config = CategoryConfig(
        category="odd",
        image_size=64,
        description="Ü · 猫",
        license="mit",
        camera=shake(CameraConfig()),
        prior=PriorConfig(0.92, 1.0, 0.5, (0.0, 0.1, 0.9, 1.0), 0.1, 0.2, True, 0.3),
        projection=dataclasses.replace(shake(ProjectionConfig()), space="pca"),
        loss=shake(LossConfig()),
        view_gaussian=GaussianConfig((0.1,) * 6, ((0.5,) * 6,) * 6),
        light_gaussian=diagonal_gaussian((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)),
        view_yaw_scale=1.5,
        add_mean=False,
        use_mask=True,
        center_crop=99,
        rotation_limit_deg=(33.0, 11.0),
        truncation=0.31,
        schedules={"a": schedule, "b": ScheduleConfig()},
        default_preset="b",
    )
    assert CategoryConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("learning_rate", ""),
        ("camera.fov", "camera."),
        ("prior.radius_px", "prior."),
        ("lighting.x", "lighting."),
        ("view_gaussian.std", "view_gaussian."),
        ("schedules.paper.lr", "schedules.paper."),
        ("schedules.paper.rounds.0.steps", "schedules.paper.rounds[0]."),
    ],
)
def test_unknown_keys_are_named_at_any_depth(path, parent):
    key = path.split(".")[-1]
    refused(changed(path, 1), f"unknown key '{parent}{key}'", "known keys are")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("image_size", "128", "'image_size'"),
        ("image_size", 128.0, "'image_size'"),
        ("image_size", True, "'image_size'"),
        ("category", 3, "'category'"),
        ("use_mask", 1, "'use_mask'"),
        ("truncation", True, "'truncation'"),
        ("truncation", None, "'truncation'"),
        ("camera", [1], "camera"),
        ("camera.fov_deg", "10", "'camera.fov_deg'"),
        ("prior.default_box", [0, 0, 1], "'prior.default_box'"),
        ("prior.default_box", 0.5, "'prior.default_box'"),
        ("prior.default_box.2", "a", "'prior.default_box[2]'"),
        ("view_gaussian.mean", {"a": 1}, "'view_gaussian.mean'"),
        ("view_gaussian.covariance.1.2", "x", "'view_gaussian.covariance[1][2]'"),
        ("schedules", [], "'schedules'"),
        ("schedules.paper", 3, "schedules.paper"),
        ("schedules.paper.rounds.0.refine", 1.5, "'schedules.paper.rounds[0].refine'"),
    ],
)
def test_wrong_types_are_named(path, value, named):
    refused(changed(path, value), named)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("image_size", 96, "image_size is 96, must be a power of two"),
        ("image_size", 8, "image_size is 8"),
        ("camera.fov_deg", 0, "camera.fov_deg"),
        ("camera.min_depth", 1.2, "camera.min_depth is 1.2, must be positive, below max_depth"),
        ("prior.near", 1.05, "prior.near is 1.05, must be below prior.far"),
        ("prior.radius", 0.05, "prior.radius is 0.05"),
        ("prior.default_box", [0.5, 0.1, 0.4, 0.9], "prior.default_box"),
        ("projection.space", "z", "projection.space is 'z', must be one of mapping_tail, pca"),
        ("view_gaussian.mean", [0.0] * 4, "gaussian.covariance"),
        ("light_gaussian", {"mean": [0.0], "covariance": [[1.0]]}, "light_gaussian is 1, must be 4 numbers"),
        ("truncation", 1.5, "truncation is 1.5, must be between 0 and 1"),
        ("schedules.paper.batch_size", 0, "schedule.batch_size is 0, must be 1 or more"),
        ("schedules.paper.collected_batches", 0, "schedule.collected_batches"),
        ("schedules.paper.learning_rate", -1e-4, "schedule.learning_rate is -0.0001, must be above 0"),
        ("schedules.paper.rounds.0.explore", -1, "round.explore is -1, must be 0 or more iterations"),
        ("default_preset", "quick", "default_preset is 'quick', must be one of paper"),
        ("schedules", {}, "default_preset"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(path, value, named):
    refused(changed(path, value), named)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("path", ["truncation", "prior.near", "view_gaussian.mean.3", "schedules.paper.weight_decay"])
def test_numbers_that_are_not_finite_are_refused_by_name(path, number):
    # Python's JSON reads and writes NaN; a NaN in a prior would only show hours later.
    text = changed(path, "HERE").replace('"HERE"', number)
    name = re.sub(r"\.(\d+)", r"[\1]", path)
    refused(text, f"'{name}' must be a finite number")


def test_what_is_not_finite_is_not_written():
    config = dataclasses.replace(CONFIGS["default"], view_yaw_scale=float("nan"))
    with pytest.raises(ValueError):
        config.to_json()


def test_missing_keys():
    data = json.loads(CONFIGS["default"].to_json())
    refused(json.dumps({k: v for k, v in data.items() if k != "category"}), "missing key 'category'")
    del data["view_gaussian"]["covariance"]
    refused(json.dumps(data), "missing key 'view_gaussian.covariance'")
    # What has a default may be left out: files of an earlier version stay readable.
    assert CategoryConfig.from_json('{"category": "things"}') == CONFIGS["default"]


def test_a_newer_format_asks_for_an_upgrade_even_where_it_has_new_keys():
    data = {"category": "x", "format_version": FORMAT_VERSION + 1, "a key of the future": 1}
    refused(json.dumps(data), f"format_version {FORMAT_VERSION + 1}", "pip install -U")
    with pytest.raises(ConfigError, match="upgrade"):
        CategoryConfig("x", format_version=FORMAT_VERSION + 1)


@pytest.mark.parametrize("text", ["", "{", '{"category": "a"', "[1, 2]", "3", "null", '"text"'])
def test_what_is_no_object_is_refused(text):
    refused(text)


def test_presets_are_looked_up_by_name():
    config = CONFIGS["default"]
    assert config.schedule() is config.schedules["paper"]
    assert config.schedule(None) is config.schedule("paper")
    with pytest.raises(ConfigError, match="preset is 'quick', must be one of paper"):
        config.schedule("quick")


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIGS["default"].image_size = 64


def test_schedules_read_back_by_themselves():
    """``result.json`` holds the schedule of a run; it must give the same schedule again."""
    for schedule in (ScheduleConfig(), *PRESETS["cat"].schedules.values()):
        data = json.loads(json.dumps(dataclasses.asdict(schedule)))
        assert from_dict(ScheduleConfig, data) == schedule


def test_constants_of_the_stages_are_the_categorys_and_older_files_have_their_defaults():
    config = CategoryConfig("face", invert=InvertConfig(coarse=0.5), details=DetailsConfig(floor=0.2))
    again = CategoryConfig.from_json(config.to_json())
    assert again == config
    assert again.invert.coarse == 0.5
    data = json.loads(config.to_json())
    for name in ("alignment", "invert", "tune", "turn", "adjust", "details"):
        del data[name]
    older = CategoryConfig.from_json(json.dumps(data))
    assert older == CategoryConfig("face")
    for name, values, words in (
        ("invert", {"coarse": 1.5}, "invert.coarse is 1.5, must be between 0 and 1"),
        ("adjust", {"partners": 0}, "adjust.partners is 0, must be 1 or more"),
        ("details", {"fine": 6.0}, r"details.fine is 6.0, must be above 0 and below details.coarse, 5.0"),
        ("alignment", {"noses": 2}, "unknown key 'alignment.noses'"),
    ):
        with pytest.raises(ConfigError, match=words):
            CategoryConfig.from_json(json.dumps({**data, name: values}))
