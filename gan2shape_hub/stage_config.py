"""Constants of the stages that are this project's own, one class a stage; a category may have others."""

from __future__ import annotations

from dataclasses import dataclass

from gan2shape_hub.typed_json import check


@dataclass(frozen=True)
class AlignConfig:
    """The square that is laid around a face, and which faces are taken (``stages/align.py``).

    FFHQ's tool measures 68 landmarks; BlazeFace gives six points, of which the mouth is a centre, not two corners, so
    the square's numbers were fitted on 300 generated faces, which are aligned as FFHQ is.
    """

    eye_to_eye: float = 1.96
    eye_to_mouth: float = 1.78
    """Half the square's side in eye-to-eye and in eye-to-mouth distances; the longer counts. FFHQ's: 2.0 and 1.8."""
    drop: float = 0.06
    """How far from the eyes to the mouth the square's centre lies. FFHQ's: 0.1."""
    mouth_weight: float = 0.2
    """What the mouth has to say about the square's direction, where the eyes say 1. FFHQ's: 1; but BlazeFace's mouth
    wanders with turned heads (3.0 against 1.9 degrees of error in one look)."""
    confirmed: float = 0.65
    """Confidence that the second, closer look must reach; generated faces are all above 0.8, what is no face (clouds of
    stars, patterns) stays under 0.63."""
    confirmed_later: float = 0.75
    """The same for faces that only a search of turned or very large pictures finds: it sees ten times as much that is
    no face."""
    sure: float = 0.8
    """A less confident answer is also looked at upside down; upright answers about such faces reach 0.7."""
    min_face_px: float = 40.0
    """Faces whose box is smaller carry too little and are refused."""
    kept_shift: float = 0.035
    kept_log_scale: float = 0.12
    kept_turn_deg: float = 5.0
    """A square picture whose face asks for less than this shift (of the side), logarithm of scale and turn is aligned
    already, as well as can be measured, and kept untouched."""

    def __post_init__(self) -> None:
        for name in ("eye_to_eye", "eye_to_mouth", "min_face_px"):
            check(getattr(self, name) > 0, f"alignment.{name}", getattr(self, name), "above 0")
        for name in ("confirmed", "confirmed_later", "sure"):
            check(0 < getattr(self, name) < 1, f"alignment.{name}", getattr(self, name), "between 0 and 1")


@dataclass(frozen=True)
class InvertConfig:
    """The search for a photograph's latent (``stages/invert.py``)."""

    coarse: float = 0.75
    """Part of the iterations that look at the smallest tap, with one w for all layers: at 0.5 a portrait came 0.6 dB
    closer (20.7 dB) and took nearly twice as long."""
    learning_rate: float = 0.15
    wide_learning_rate: float = 0.12
    """Adam's largest step in standard deviations of W, with one w for all layers and with one for each."""
    length_weight: float = 0.001
    spread_weight: float = 0.02
    """Of the mean squares of the coordinates, and of what each layer's latent departs from them: keeps the latent where
    edits still work."""
    perceptual_weight: float = 0.3
    object_weight: float = 3.0
    """By how much more than the background the object counts: on a portrait the face came 1.5 dB closer (23.0 to
    24.5 dB) and the whole picture stayed as close (20.5 and 20.4 dB)."""
    good_enough_db: float = 40.0
    """The search stops here: closer cannot be seen, and no later step can tell."""
    face_box: tuple[float, float, float, float] = (0.32, 0.25, 0.88, 0.75)
    """(top, left, bottom, right) in 0..1 of the face in an aligned square: forehead to chin."""
    unlike_limit: float = 0.12
    """Beyond this `unlikeness` the generator's picture of a photograph shows somebody else. Of generated
    faces, 0.18 to 0.37 where nobody was searched for, at most 0.07 after 16 iterations (docs/method.md)."""

    def __post_init__(self) -> None:
        top, left, bottom, right = self.face_box
        check(0 <= top < bottom <= 1 and 0 <= left < right <= 1, "invert.face_box", self.face_box, "inside of 0..1")
        check(0 <= self.coarse <= 1, "invert.coarse", self.coarse, "between 0 and 1")
        for name in ("learning_rate", "wide_learning_rate"):
            check(getattr(self, name) > 0, f"invert.{name}", getattr(self, name), "above 0")


@dataclass(frozen=True)
class TuneConfig:
    """The adaptation of the generator to a photograph (``stages/invert.py``)."""

    learning_rate: float = 3e-3
    """Adam's step relative to each weight tensor's root mean square."""
    perceptual_weight: float = 0.3

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, "tune.learning_rate", self.learning_rate, "above 0")


@dataclass(frozen=True)
class TurnConfig:
    """The views that the generator turns by itself (``stages/turn.py``)."""

    yaw_reach_deg: float = 30.0
    pitch_reach_deg: float = 6.0
    """How far to the sides and up and down: yaw evenly spread, pitch at random (it soon changes the person)."""


@dataclass(frozen=True)
class AdjustConfig:
    """Bundle adjustment of relief and poses (``stages/adjust.py``)."""

    grid: int = 32
    """Side of the coarse relief, interpolated to the sheet's size."""
    relief_rate: float = 0.015
    view_rate: float = 0.0005
    """Learning rates of the relief (before the tanh that bounds the depth) and of the poses (view units)."""
    partners: int = 3
    """Turned views that an iteration compares with the unturned one, both ways."""
    smoothness: float = 0.6
    relief: float = 2.0
    """Weights of the normals' second differences and of the relief's mean square."""
    mirror_every: int = 4
    """The mirrored sheet has to explain every so manieth iteration."""
    background: float = 0.1
    """What a pixel counts outside the category's box: it may not turn with the object."""

    def __post_init__(self) -> None:
        for name in ("grid", "partners", "mirror_every"):
            check(getattr(self, name) >= 1, f"adjust.{name}", getattr(self, name), "1 or more")


@dataclass(frozen=True)
class DetailsConfig:
    """What of an image travels with a surface that turns (``rendering/details.py``)."""

    fine: float = 0.8
    coarse: float = 5.0
    """Standard deviations, in pixels of a 128 pixel image, of the blurs between which details lie."""
    floor: float = 0.12
    """Added to the local contrast (of -1..1): flatter regions than this are noise."""
    limit: float = 3.0
    """Details are cut off at so many times the local contrast."""

    def __post_init__(self) -> None:
        check(
            0 < self.fine < self.coarse, "details.fine", self.fine, f"above 0 and below details.coarse, {self.coarse}"
        )
        check(self.floor > 0, "details.floor", self.floor, "above 0")


@dataclass(frozen=True)
class LightWalkConfig:
    """Where the lamp is carried (``stages/light_walk.py``)."""

    steps: tuple[tuple[float, float, float], ...] = (
        *((2.5, 0.0, 0.0), (-2.5, 0.0, 0.0), (0.0, 2.5, 0.0), (0.0, -2.5, 0.0), (0.0, 0.0, 2.2), (0.0, 0.0, -2.2)),
        *((1.8, 1.8, 0.0), (1.8, -1.8, 0.0), (-1.8, 1.8, 0.0), (-1.8, -1.8, 0.0)),
        *((1.5, 0.0, 1.5), (-1.5, 0.0, 1.5), (0.0, 1.5, 1.5), (0.0, -1.5, 1.5)),
    )
    """To the left, upward and to the front, in standard deviations of W: as far as the person stays the same."""

    def __post_init__(self) -> None:
        check(len(self.steps) >= 3, "light_walk.steps", f"{len(self.steps)} steps", "3 or more: normals have 3 numbers")


@dataclass(frozen=True)
class PhotometricConfig:
    """The relief that a light walk shows (``stages/photometric.py``)."""

    from_nets: bool = False
    """Whether the sheet starts as the shape networks say, which were taught persons' shapes, and not as the average."""
    rounds: int = 2
    """Turns of lights, normals and surface; with many the free lights carry the shape away (bas-relief)."""
    order: int = 2
    """Of the lights' spherical harmonics; the first alone does not know how shadows bend the logarithm."""
    ridge: float = 1e-3
    """On the second order, in parts of the pixels' weights."""
    reach: float = 0.3
    """How far normals may depart from the average shape's: a standard deviation, radians."""
    doubt: float = 2.0
    """Standard deviation of a pixel's log ratio, in parts of what the lights leave unexplained: neighbours err
    together."""
    blur_px: float = 0.7
    """Of the brightness, in pixels of a sheet of 128."""
    dark: float = 0.5
    """Pixels darker than this part of the object's mean (hair) count less: their ratios are mostly rounding."""
    trusted: float = 0.25
    """Pixels that count less than this keep part of the average shape's normals."""
    grazing_power: float = 2.0
    """A pixel counts by the cosine of its slant to this power."""
    carries_on: float = 2e-3
    """Weight of the normals beyond the mask: the surface goes on there as the average one does."""
    blocks: int = 16
    tie: float = 0.02
    """Means over blocks (pixels of a sheet of 128) are held to the average shape so much (``depth_from_normals``)."""

    def __post_init__(self) -> None:
        check(self.rounds >= 1, "photometric.rounds", self.rounds, "1 or more")
        check(self.order in (1, 2), "photometric.order", self.order, "1 or 2")
        for name in ("reach", "doubt", "dark", "trusted", "carries_on"):
            check(getattr(self, name) > 0, f"photometric.{name}", getattr(self, name), "above 0")
