"""Frozen, typed configuration of a category; JSON round trip; an unknown key is an error.

Everything that differs between categories or presets lives here, so that a checkpoint's ``config.json`` is the
whole story: camera, ellipsoid prior, light and view ranges, constants of the stages (``stage_config.py``), and the
schedules of the iterative reconstruction.
Numbers are the reference implementation's unless a comment says otherwise (Pan et al., ICLR 2021).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from gan2shape_hub.errors import ConfigError
from gan2shape_hub.stage_config import (
    AdjustConfig,
    AlignConfig,
    DetailsConfig,
    InvertConfig,
    LightWalkConfig,
    PhotometricConfig,
    TuneConfig,
    TurnConfig,
)
from gan2shape_hub.typed_json import check, choice, from_dict

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CameraConfig:
    """Pinhole camera and the slab of depths a canonical sheet lives in (units: scene units)."""

    fov_deg: float = 10.0
    center_depth: float = 1.0
    """Depth of the rotation centre (0, 0, center_depth)."""
    min_depth: float = 0.9
    max_depth: float = 1.1
    border_px: int = 2
    """Width, in pixels at 128, of the left and right border pinned to ``border_depth``."""
    border_weight: float = 0.7
    """The border's depth is border_weight * max_depth + (1 - border_weight) * min_depth."""
    view_angle_deg: float = 60.0
    """Angle that a view network output of 1 stands for."""
    view_translation_xy: float = 0.1
    view_translation_z: float = 0.0

    def __post_init__(self) -> None:
        check(0 < self.fov_deg < 120, "camera.fov_deg", self.fov_deg, "an angle between 0 and 120 degrees")
        check(
            0 < self.min_depth < self.max_depth,
            "camera.min_depth",
            self.min_depth,
            "positive, below max_depth",
        )
        check(self.border_px >= 0, "camera.border_px", self.border_px, "0 or more pixels")

    @property
    def border_depth(self) -> float:
        return self.border_weight * self.max_depth + (1 - self.border_weight) * self.min_depth


@dataclass(frozen=True)
class PriorConfig:
    """The ellipsoid that the shape starts from (fractions of the image side; paper section 3.2)."""

    near: float = 0.91
    far: float = 1.02
    radius: float = 0.4
    default_box: tuple[float, float, float, float] = (0.1, 0.2, 1.0, 0.8)
    """(top, left, bottom, right) in 0..1, used where no object mask is given."""
    extend_top: float = 0.0
    """Raise the box's top by this fraction of its height (1/6 for synthetic faces)."""
    extend_bottom: float = 0.0
    """Lower the box's bottom by this fraction of its height (1/6 for cars and churches)."""
    bottom_to_edge: bool = False
    """Lower the box's bottom to the image's (CelebA faces)."""
    shrink_sides: float = 0.0
    """Take this fraction of the box's width off each side (1/12 for CelebA faces)."""

    def __post_init__(self) -> None:
        check(self.near < self.far, "prior.near", self.near, f"below prior.far, which is {self.far}")
        check(self.radius >= self.far - self.near, "prior.radius", self.radius, "at least prior.far - prior.near")
        top, left, bottom, right = self.default_box
        check(
            0 <= top < bottom <= 1 and 0 <= left < right <= 1,
            "prior.default_box",
            self.default_box,
            "(top, left, bottom, right) in 0..1",
        )
        check(0 <= self.shrink_sides < 0.5, "prior.shrink_sides", self.shrink_sides, "0 or more and below 0.5")


@dataclass(frozen=True)
class LightingConfig:
    """Ranges of the random light of pseudo images (step 2)."""

    direction_x: tuple[float, float] = (-1.0, 1.0)
    direction_y: tuple[float, float] = (-0.2, 0.8)
    extra_diffuse: tuple[float, float] = (-0.1, 0.6)
    ambient_per_diffuse: float = -0.6
    """Ambient light changes by this times the extra diffuse light."""


@dataclass(frozen=True)
class GaussianConfig:
    """A Gaussian over network outputs (before scaling to angles or light): mean (n), covariance (n x n)."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.mean)
        check(
            len(self.covariance) == n and all(len(row) == n for row in self.covariance),
            "gaussian.covariance",
            f"{len(self.covariance)} rows",
            f"{n} rows of {n} numbers, as many as the mean has",
        )
        check(
            all(math.isfinite(x) for row in (self.mean, *self.covariance) for x in row),
            "gaussian",
            "a value that is not finite",
            "finite numbers only",
        )


def diagonal_gaussian(mean: tuple[float, ...], std: tuple[float, ...]) -> GaussianConfig:
    """Gaussian with independent coordinates."""
    n = len(mean)
    cov = tuple(tuple(std[i] ** 2 if i == j else 0.0 for j in range(n)) for i in range(n))
    return GaussianConfig(mean=tuple(mean), covariance=cov)


@dataclass(frozen=True)
class ProjectionConfig:
    """How step 2 turns a rendered pseudo image into a latent (paper section 3.3)."""

    space: str = "mapping_tail"
    """``mapping_tail``: the encoder's output passes the last layers of the mapping network, which keeps it on the
    manifold; ``pca``: it is an offset in normalised principal components of W, clamped."""
    first_layer: int = 5
    """``mapping_tail``: number of fully connected layers before the tail; 0 means the whole mapping network."""
    relative: bool = True
    """Subtract the encoding of the unperturbed image, so that an unchanged render keeps its latent."""
    components: int = 64
    clamp: float = 2.5
    """``pca``: bound of an offset, in standard deviations of the component."""
    offset_weight: float = 0.01
    view_directions: tuple[tuple[float, ...], ...] = ()
    """Two unit directions (pitch, yaw) in normalised principal components of W along which the object turns, found
    without labels (``training/directions.py``). With them a projection starts from the latent walked to the wanted
    view, and the encoder adds what the walk does not explain; empty: it starts from the input's latent."""
    view_units: tuple[float, ...] = ()
    """View units (of ``camera.view_angle_deg``) of a step of length 1 along each of them."""
    view_step_limit: float = 2.5
    """Longest step along a direction: beyond it images fall apart."""
    light_directions: tuple[tuple[float, ...], ...] = ()
    """Three unit directions (light from the left, from above, from the front) in normalised principal components of W,
    that relight the object in place when they are added to the latents of ``light_layers``, found without labels
    (``training/light_directions.py``); empty: none are known."""
    light_layers: tuple[int, ...] = ()
    """Indices of the generator's latents (of L) that take them."""
    light_units: tuple[float, ...] = (0.3, 0.4, 0.8)
    """What a step of length 1 along each of them is worth: change of a light's slopes (``stages/gan_edit.py``)."""
    light_step_limit: float = 3.0
    """Length that steps of the light approach and never reach: beyond it images fall apart."""
    texture: str = "albedo"
    """What pseudo images are rendered with: the shaded ``albedo`` (the paper), or the input ``image``'s own pixels
    times new over old shading, which keeps the person while the albedo is still coarse."""
    training_size: int = 0
    """Side at which the encoder's image loss is taken, in pixels; 0: ``image_size``. A generator with a tap at a
    smaller size trains the encoder several times faster there."""

    def __post_init__(self) -> None:
        choice("projection.space", self.space, ("mapping_tail", "pca"))
        check(
            len(self.view_directions) in (0, 2) and len(self.view_units) == len(self.view_directions),
            "projection.view_directions",
            f"{len(self.view_directions)} directions and {len(self.view_units)} units",
            "two of each (pitch, yaw), or none",
        )
        check(
            len(self.light_units) == 3 and min(self.light_units) > 0,
            "projection.light_units",
            self.light_units,
            "three numbers above 0",
        )
        check(self.light_step_limit > 0, "projection.light_step_limit", self.light_step_limit, "above 0")
        choice("projection.texture", self.texture, ("albedo", "image"))
        check(self.first_layer >= 0, "projection.first_layer", self.first_layer, "0 or more layers")
        check(self.components >= 1, "projection.components", self.components, "1 or more")
        check(self.clamp > 0, "projection.clamp", self.clamp, "above 0")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the image losses (paper section 3.3)."""

    perceptual_weight: float = 0.5
    perceptual_layers: int = 2
    """1: relu2_2 only, at half the price; 2: relu3_3 too."""
    smoothness_weight: float = 0.01
    discriminator_layers: int = 4
    """Step 2 compares this many feature maps, where the checkpoint has a discriminator."""


@dataclass(frozen=True)
class RoundConfig:
    """One round: iterations of step 1 (albedo), 2 (projection) and 3 (all nets)."""

    decompose: int = 600
    explore: int = 600
    refine: int = 400
    mirror: bool = False
    """Also render the mirrored depth and albedo in step 3."""
    mirror_decompose: bool = False
    """Also render them in step 1."""

    def __post_init__(self) -> None:
        for name in ("decompose", "explore", "refine"):
            check(getattr(self, name) >= 0, f"round.{name}", getattr(self, name), "0 or more iterations")


@dataclass(frozen=True)
class ScheduleConfig:
    """A preset: what is run for one image (or several images jointly)."""

    rounds: tuple[RoundConfig, ...] = (RoundConfig(),)
    prior_iterations: int = 1000
    """Fit of the depth net to the ellipsoid, where no pretrained depth net exists."""
    batch_size: int = 16
    collected_batches: int = 100
    """Batches of projected images collected after step 2."""
    turned_views: int = 0
    """Views turned along directions of W, where the checkpoint knows such directions; 0 in the paper."""
    adjust_iterations: int = 0
    """Bundle adjustment of relief and poses on the turned views, before step 1, in schedules without step 3; 0 in
    the paper."""
    light_walk_size: int = 0
    """Side in pixels of the pictures under other lights, and of the sheet that is read off them, where the checkpoint
    knows directions of light; bundle adjustment is left out then. 0 in the paper. At the generator's taps pictures are
    cheap."""
    learning_rate: float = 1e-4
    encoder_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    invert_iterations: int = 120
    """Optimisation of the latent, where the input is a photograph and not a latent."""
    tune_iterations: int = 100
    """Adaptation of a copy of the generator to a photograph, where it is asked for (``pipeline(..., tuned=True)``)."""
    from_pretrained: bool = True
    """Start from the checkpoint's shape nets; ``False`` starts from the ellipsoid even where they exist."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "collected_batches"):
            check(getattr(self, name) >= 1, f"schedule.{name}", getattr(self, name), "1 or more")
        for name in ("prior_iterations", "invert_iterations", "turned_views", "adjust_iterations"):
            check(getattr(self, name) >= 0, f"schedule.{name}", getattr(self, name), "0 or more iterations")
        size = self.light_walk_size
        check(size == 0 or 16 <= size <= 1024, "schedule.light_walk_size", size, "0 (none), or 16 to 1024 pixels")
        for name in ("learning_rate", "encoder_learning_rate"):
            check(getattr(self, name) > 0, f"schedule.{name}", getattr(self, name), "above 0")

    def views_of_each(self, count: int) -> int:
        """Projected views that step 2 collects of each of ``count`` images."""
        return max(self.collected_batches * self.batch_size // count, 1)


@dataclass(frozen=True)
class CategoryConfig:
    """All constants of one category. ``config.json`` of a checkpoint is this, as JSON."""

    category: str
    image_size: int = 128
    """Side of the sheets and of the images the shape nets see, in pixels."""
    description: str = ""
    license: str = "other"
    camera: CameraConfig = field(default_factory=CameraConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    lighting: LightingConfig = field(default_factory=LightingConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    alignment: AlignConfig = field(default_factory=AlignConfig)
    invert: InvertConfig = field(default_factory=InvertConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    turn: TurnConfig = field(default_factory=TurnConfig)
    adjust: AdjustConfig = field(default_factory=AdjustConfig)
    details: DetailsConfig = field(default_factory=DetailsConfig)
    light_walk: LightWalkConfig = field(default_factory=LightWalkConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    view_gaussian: GaussianConfig = field(
        default_factory=lambda: diagonal_gaussian((0.0,) * 6, (0.1, 0.25, 0.03, 0.05, 0.05, 0.0))
    )
    light_gaussian: GaussianConfig = field(
        default_factory=lambda: diagonal_gaussian((0.0, 0.0, 0.0, 0.2), (0.1, 0.1, 0.3, 0.2))
    )
    view_yaw_scale: float = 1.0
    """The yaw of sampled views is stretched by this (1.2 for faces)."""
    average_mirrored: bool = False
    """Depth, view and light are means of what the networks say of an image and of its mirror image (mirrored back).
    For categories whose mirror images are as likely: the networks lose all preference for a side."""
    add_mean: bool = True
    """Add the Gaussians' means to the view and light networks' outputs."""
    use_mask: bool = False
    align: str = "none"
    """``face``: photographs are searched for a face, which is cut out as FFHQ's are; ``none``: the central square."""
    center_crop: int = 0
    """Side of the centre crop before resizing, of images of 256 pixels (the reference's data); 0: no crop."""
    frame: tuple[float, float] = (1.0, 1.0)
    """Height and width of the pictures in the generator's square, in parts of its side: (0.75, 1) for LSUN's cars,
    which have black bars above and below. Photographs are cut to it, and nothing outside of it is the object's."""
    rotation_limit_deg: tuple[float, float] = (45.0, 20.0)
    """Largest |yaw|, |pitch| of turntables and view strips."""
    truncation: float = 0.7
    schedules: dict[str, ScheduleConfig] = field(default_factory=lambda: {"paper": ScheduleConfig()})
    default_preset: str = "paper"
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check(
            self.image_size >= 16 and self.image_size & (self.image_size - 1) == 0,
            "image_size",
            self.image_size,
            "a power of two, 16 or more",
        )
        check(len(self.view_gaussian.mean) == 6, "view_gaussian", len(self.view_gaussian.mean), "6 numbers")
        check(len(self.light_gaussian.mean) == 4, "light_gaussian", len(self.light_gaussian.mean), "4 numbers")
        check(0 <= self.center_crop <= 256, "center_crop", self.center_crop, "0 (no crop) or up to 256 pixels")
        check(
            min(self.frame) > 0 and max(self.frame) == 1,
            "frame",
            self.frame,
            "(height, width), the larger one 1 and the other above 0",
        )
        choice("align", self.align, ("none", "face"))
        choice("default_preset", self.default_preset, tuple(self.schedules))
        check(0 <= self.truncation <= 1, "truncation", self.truncation, "between 0 and 1")
        _check_version(self.format_version)

    @property
    def crop_fraction(self) -> float:
        """Part of an image's side that the centre crop keeps."""
        return self.center_crop / 256 if self.center_crop else 1.0

    @property
    def generated_limit_deg(self) -> tuple[float, float]:
        """Largest |yaw|, |pitch| from an image's own view that the generator draws: beyond ``view_step_limit`` it would
        draw the same picture again. ``rotation_limit_deg`` where it knows no directions."""
        yaw, pitch = self.rotation_limit_deg
        if not self.projection.view_directions:
            return yaw, pitch
        steps = self.projection.view_step_limit * self.camera.view_angle_deg
        up, across = (math.floor(steps * unit) for unit in self.projection.view_units)
        return min(yaw, across), min(pitch, up)

    def schedule(self, preset: str | None = None) -> ScheduleConfig:
        """Schedule named ``preset`` (the default preset where it is None); ConfigError names what exists."""
        name = preset or self.default_preset
        if not isinstance(name, str) or name not in self.schedules:
            there = ", ".join(self.schedules)
            raise ConfigError(f"preset is {name!r}, must be one of {there}.", code="no-such-preset")
        return self.schedules[name]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CategoryConfig:
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"config.json is not valid JSON ({error}): restore it or save it again.") from None
        if isinstance(data, dict):
            _check_version(data.get("format_version"))  # first: a newer format explains unknown keys
        return from_dict(cls, data)


def _check_version(version: Any) -> None:
    if type(version) is int and version > FORMAT_VERSION:
        raise ConfigError(
            f"config.json has format_version {version}, this version reads up to {FORMAT_VERSION}: "
            "upgrade with `pip install -U gan2shape-hub`."
        )
