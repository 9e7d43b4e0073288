"""The constants of every category, as the reference implementation sets them.

``category_preset("cat")`` is what a converted checkpoint's ``config.json`` starts from. Where the reference has no
configuration (aligned FFHQ faces, horses) or no such constant (shorter schedules, boxes where no mask is given), a
comment says so. Numbers: Pan et al. (ICLR 2021) and its released configuration files.
"""

from __future__ import annotations

import dataclasses

from .config import (
    CameraConfig,
    CategoryConfig,
    ConfigError,
    LossConfig,
    PriorConfig,
    ProjectionConfig,
    RoundConfig,
    ScheduleConfig,
    diagonal_gaussian,
)

_SIXTH, _TWELFTH = 1 / 6, 1 / 12
_SPACE = "mapping_tail"


def _rounds(first: tuple[int, int, int], later: tuple[int, int, int], stages: int, mirror_first: bool):
    return (
        RoundConfig(*first, mirror=mirror_first),
        *(RoundConfig(*later) for _ in range(stages - 1)),
    )


def _schedules(paper: ScheduleConfig, mirror: bool) -> dict[str, ScheduleConfig]:
    """The paper's schedule and two shorter ones of our own: fewer iterations, same order of steps."""
    balanced = dataclasses.replace(
        paper,
        rounds=_rounds((300, 300, 300), (100, 200, 200), 2, mirror),
        prior_iterations=600,
        batch_size=8,
        collected_batches=50,
    )
    fast = dataclasses.replace(
        paper,
        rounds=_rounds((150, 150, 200), (0, 0, 0), 1, mirror),
        prior_iterations=400,
        batch_size=4,
        collected_batches=25,
    )
    return {"fast": fast, "balanced": balanced, "paper": paper}


_FACE_PAPER = ScheduleConfig(rounds=_rounds((600, 600, 400), (200, 500, 300), 4, True), batch_size=16)
_CAR_PAPER = ScheduleConfig(rounds=_rounds((700, 700, 600), (200, 500, 400), 4, False), batch_size=8)
_SYNTHETIC_PAPER = ScheduleConfig(rounds=(RoundConfig(500, 500, 200, mirror=True),), batch_size=16)

_RELATIVE = ProjectionConfig(space=_SPACE, first_layer=5, relative=True, offset_weight=0.01)
_ABSOLUTE = ProjectionConfig(space=_SPACE, first_layer=5, relative=False, offset_weight=0.01)
"""first_layer 5: the reference's F1_d = 2 counts in a list that starts with the pixel norm, so the tail has 3."""
_WHOLE_MAPPING = ProjectionConfig(space=_SPACE, first_layer=0, relative=True, offset_weight=0.01)
"""F1_d = 8: the whole mapping network, pixel norm included."""

_LOSS = LossConfig(perceptual_weight=0.5, smoothness_weight=0.01, discriminator_layers=4)

# The reference reads the Gaussians from released files, which `gan2shape convert gan2shape` takes
# over; until then these stand in (ours). The first three are the angles in units of 60 degrees, the second one yaw.
_FACE_VIEW = diagonal_gaussian((0.0,) * 6, (0.08, 0.25, 0.03, 0.05, 0.05, 0.0))
_OBJECT_VIEW = diagonal_gaussian((0.0,) * 6, (0.05, 0.35, 0.02, 0.05, 0.05, 0.0))


def _face(category: str, description: str, **changes) -> CategoryConfig:
    base = CategoryConfig(
        category=category,
        description=description,
        projection=_RELATIVE,
        loss=_LOSS,
        view_gaussian=_FACE_VIEW,
        view_yaw_scale=1.2,
        use_mask=False,
        rotation_limit_deg=(70.0, 20.0),
        schedules=_schedules(_FACE_PAPER, mirror=True),
        default_preset="balanced",
    )
    return dataclasses.replace(base, **changes)


def _object(category: str, description: str, prior: PriorConfig, **changes) -> CategoryConfig:
    base = CategoryConfig(
        category=category,
        description=description,
        prior=prior,
        projection=_ABSOLUTE,
        loss=_LOSS,
        view_gaussian=_OBJECT_VIEW,
        view_yaw_scale=1.0,
        use_mask=True,
        rotation_limit_deg=(45.0, 20.0),
        schedules=_schedules(_CAR_PAPER, mirror=False),
        default_preset="balanced",
    )
    return dataclasses.replace(base, **changes)


PRESETS: dict[str, CategoryConfig] = {
    # CelebA's crop cuts the chin off: the ellipsoid runs to the lower edge and is narrower than head and hair.
    "face": _face(
        "face",
        "Human faces in CelebA's crop, 128 pixels",
        prior=PriorConfig(bottom_to_edge=True, shrink_sides=_TWELFTH),
    ),
    # Ours: FFHQ's alignment shows the whole head, so none of the crop's corrections apply.
    "face-ffhq": _face(
        "face-ffhq",
        "Human faces aligned as in FFHQ",
        align="face",
        prior=PriorConfig(default_box=(0.14, 0.2, 0.94, 0.8)),
    ),
    "cat": _face("cat", "Cat faces", center_crop=170),
    "synthetic-face": _face(
        "synthetic-face",
        "Synthetic faces (Basel face model), 64 pixels",
        image_size=64,
        prior=PriorConfig(extend_top=_SIXTH),
        projection=_WHOLE_MAPPING,
        center_crop=170,
        schedules=_schedules(_SYNTHETIC_PAPER, mirror=True),
    ),
    # Ours: AFHQ shows heads from the shoulders up in the whole square, so nothing is cropped.
    "animal-face": _face(
        "animal-face", "Faces of animals, framed as in AFHQ", prior=PriorConfig(default_box=(0.08, 0.14, 0.98, 0.86))
    ),
    "car": _object("car", "Cars", PriorConfig(extend_bottom=_SIXTH, default_box=(0.25, 0.06, 0.75, 0.94))),
    "church": _object(
        "church", "Churches", PriorConfig(far=1.0, extend_bottom=_SIXTH, default_box=(0.06, 0.06, 0.9, 0.94))
    ),
    # The paper shows horses, the code has their mask but no configuration: the constants of cars, less the extra sixth.
    "horse": _object("horse", "Horses", PriorConfig(default_box=(0.12, 0.1, 0.9, 0.9))),
    # Ours, for whole cats and dogs as LSUN shows them: in any pose, so those of horses.
    "animal": _object("animal", "Whole animals", PriorConfig(default_box=(0.12, 0.1, 0.95, 0.9))),
}


def _short(light: int, decompose: int = 0, adjust: int = 0, turned: int = 0, invert: int = 120) -> ScheduleConfig:
    # Step 3 of so few iterations spoils shapes that a long training made. The light walk finds the object's own; where
    # a checkpoint of this kind knows no light, turned views say what they know.
    return ScheduleConfig(
        rounds=(RoundConfig(decompose, 0, 0),),
        batch_size=8,
        invert_iterations=invert,
        light_walk_size=light,
        turned_views=turned,
        adjust_iterations=adjust,
        learning_rate=1e-3,
        encoder_learning_rate=1e-4,
        weight_decay=0.0,
    )


_SHORT = {
    # Without a search, a photograph's light walk is that of the object that the encoder takes it for.
    "instant": _short(128, invert=0),
    "fast": _short(256, decompose=80, adjust=40, turned=6),
    "balanced": _short(512, decompose=300, adjust=100, turned=12),
}


def after_training(config: CategoryConfig) -> CategoryConfig:
    """``config`` with the schedules of checkpoints whose networks know the category and how its objects turn, in place
    of the paper's shortened ones; as it is where it has them, or the training found no turns."""
    if "instant" in config.schedules or not config.projection.view_directions:
        return config
    return dataclasses.replace(config, schedules={**config.schedules, **_SHORT}, default_preset="fast")


def category_preset(name: str) -> CategoryConfig:
    """Configuration of the category ``name``; ConfigError names the categories there are."""
    if name not in PRESETS:
        raise ConfigError(f"category is {name!r}, must be one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def shipped_face_config() -> CategoryConfig:
    """The face checkpoint of this repository: MobileStyleGAN on FFHQ, whole heads in 128 pixels.

    Where it departs from ``face-ffhq``: latents are moved in principal components of W (a one-hour encoder stays on
    the manifold there), the encoder trains through the 64 pixel tap, and the short schedules start from shape nets
    that know faces. ``paper`` is the reference's schedule.
    """
    base = category_preset("face-ffhq")
    return dataclasses.replace(
        base,
        category="face",
        description="Human faces aligned as in FFHQ; MobileStyleGAN at 1024 pixels",
        license="cc-by-nc-sa-4.0",
        average_mirrored=True,
        # FFHQ's alignment keeps the eyes and the mouth in place, so heads turn about the face and not about the neck.
        # Relief and turning angles are only known up to a common factor (bas-relief); the one that lets photographs,
        # turned by the shape, match their turned views best flattens the first training's range by 1.4.
        camera=CameraConfig(
            center_depth=0.97,
            min_depth=0.92,
            max_depth=1.0629,
            view_angle_deg=84.0,
            # Turned heads come closer in FFHQ's alignment; the edges of the sheet need no holding.
            view_translation_z=0.1,
            border_px=0,
        ),
        # FFHQ's crop shows the head at two thirds of CelebA's scale, so the cap is as much flatter.
        prior=PriorConfig(near=0.955, far=1.01, default_box=(0.14, 0.19, 0.97, 0.81)),
        projection=ProjectionConfig(
            space="pca", components=64, clamp=1.5, offset_weight=0.1, texture="image", training_size=64
        ),
        view_gaussian=diagonal_gaussian((0.0,) * 6, (0.08, 0.18, 0.015, 0.03, 0.03, 0.0)),
        light_gaussian=diagonal_gaussian((0.0, 0.0, 0.0, 0.2), (0.1, 0.1, 0.3, 0.2)),
        schedules={
            **_SHORT,
            "paper": base.schedules["paper"],
        },
        default_preset="fast",
    )
