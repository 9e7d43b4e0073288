"""What a run of ``gan2shape train`` does, as a value: a small class a phase; recipe.json of a checkpoint is this."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from gan2shape_hub.config import ConfigError
from gan2shape_hub.training.trainer import Training
from gan2shape_hub.typed_json import check, choice, from_dict


@dataclass(frozen=True)
class TapsRecipe:
    """Tap heads of the generator, where it has them (``training/taps.py``)."""

    images: int = 800
    """Full images that the heads are matched to."""
    linear_images: int = 48
    """Those of which the linear read-out is made that a head starts from."""
    truncation: tuple[float, float] = (0.5, 1.0)
    wide_rate: float = 0.2
    """Part of the learning rate for layers that read many channels or the latent: a step of Adam there moves the output
    far more."""
    training: Training = field(
        default_factory=lambda: Training(
            steps=1400, parts=8, learning_rate=1e-3, final=0.0, ema=0.995, clip=0.3, save_every=100
        )
    )
    """A part is one image."""

    def __post_init__(self) -> None:
        check(1 <= self.linear_images <= self.images, "taps.linear_images", self.linear_images, "1 to taps.images")


@dataclass(frozen=True)
class ViewsRecipe:
    """Generated views of many identities (``training/view_pool.py``). The first of every identity is its own image."""

    identities: int = 400
    views: int = 6
    truncation: tuple[float, float] = (0.5, 0.9)
    yaw_deg: float = 45.0
    """Turned views go to a yaw within this of the average object's, evenly spread ..."""
    pitch_deg: float = 8.0
    """... and a pitch within this: further steps along the pitch's direction change the object."""
    lit: bool = False
    """Whether every view is seen under the lights of the category's light walk too, where it knows directions of
    light: 14 more images a view."""
    masks: bool = False

    def __post_init__(self) -> None:
        check(self.identities >= 1, "views.identities", self.identities, "1 or more")
        check(self.views >= 2, "views.views", self.views, "2 or more")


@dataclass(frozen=True)
class PoolRecipe(ViewsRecipe):
    """The pool from which persons' shapes are read."""

    identities: int = 500
    views: int = 5
    pitch_deg: float | None = None
    """None: every object keeps its own. A step along the pitch's direction changes who it is."""
    lit: bool = True
    lights: int = 8
    """The first so many of the light walk."""
    masks: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.lights >= 3, "pool.lights", self.lights, "3 or more: normals have 3 numbers")


@dataclass(frozen=True)
class MultiviewLoss:
    """Weights of the losses on turned views, each relative to the mean absolute difference of the images."""

    perceptual: float = 2.0
    agreement: float = 0.3
    """Of the difference between the depths that two views of one identity give, in units of the depth range."""
    smoothness: float = 0.2
    """Of the second differences of the normals."""
    background: float = 0.1
    """What a pixel outside the category's box counts: what is behind the object does not turn with it."""
    turns: float = 1.0
    """Of the pitch that the walked latents say and the view network does not, see ``pitch_disagreement``."""
    lighting: float = 1.0
    """Of what no light explains in the brightness of many heads, see ``training/lighting.py``."""
    occlusion: float = 0.006
    """Scene units that a point may lie behind the surface and still be taken as seen."""


@dataclass(frozen=True)
class MultiviewRecipe:
    """Networks taught on turned views (``training/multiview.py``)."""

    training: Training = field(default_factory=lambda: Training(steps=1500, parts=2, learning_rate=6e-4, warm_up=100))
    identities: int = 2
    """Of a part. On one core a step of 4 takes as long in one part as in two, and a tenth more in four."""
    views: int = 3
    """Of each identity."""
    sources: int = 2
    """How many of them give a depth (an albedo), which has to explain the others."""
    mirror: float = 0.5
    """How often an identity's sheets are mirrored."""
    lit: int = 64
    """Heads under other lights that each identity's shape has to explain in a step."""
    jitter: float = 0.15
    """Brightness and contrast of what the depth and view networks see."""
    loss: MultiviewLoss = field(default_factory=MultiviewLoss)

    def __post_init__(self) -> None:
        check(1 <= self.sources <= self.views, "multiview.sources", self.sources, "1 to multiview.views")


def _appearance(steps: int) -> MultiviewRecipe:
    """Albedo and light: colours, and those of the background too, matter there."""
    training = Training(steps=steps, parts=2, learning_rate=6e-4, warm_up=min(100, steps // 4))
    return MultiviewRecipe(training, loss=MultiviewLoss(perceptual=0.5, background=0.35))


@dataclass(frozen=True)
class TurnRecipe:
    """From the ellipsoid to networks that know how the object turns (``training/phase2_turn.py``)."""

    width: int = 16
    encoder_width: int = 16
    """Channels of the first level of the view and light networks, and of the latent encoder."""
    images: int = 2500
    truncation: tuple[float, float] = (0.6, 0.9)
    encoder: Training = field(
        default_factory=lambda: Training(
            steps=600, parts=2, learning_rate=1e-3, warm_up=0, final=0.0, weight_decay=1e-4, betas=(0.9, 0.999)
        )
    )
    encoder_batch: int = 12
    renders: Training = field(default_factory=lambda: Training(steps=160, parts=2, learning_rate=5e-4))
    """Of view and light, read off renders of the ellipsoid."""
    batch: int = 8
    """Images of a part, but for the encoder's and those of turned views."""
    ridge: float = 20.0
    """Of the regression of views on latents."""
    measured: int = 16
    """Objects on which the step is measured."""
    smallest_step_deg: float = 1.2
    """A direction that turns the object by this or less a step does not turn it."""
    views: ViewsRecipe = field(default_factory=lambda: ViewsRecipe(400, 5, (0.6, 0.9), 38.0))
    turned: Training = field(default_factory=lambda: Training(steps=160, parts=2, learning_rate=5e-4))
    """Of the view, on turned views."""
    shape: MultiviewRecipe = field(
        default_factory=lambda: MultiviewRecipe(
            Training(steps=1500, parts=2, learning_rate=6e-4, warm_up=40), loss=MultiviewLoss(lighting=0.0)
        )
    )
    appearance: MultiviewRecipe = field(default_factory=lambda: _appearance(160))
    projection: Training = field(
        default_factory=lambda: Training(steps=130, parts=2, learning_rate=3e-4, betas=(0.9, 0.999))
    )
    """Step 2 of the method: the encoder projects renders."""


@dataclass(frozen=True)
class LightRecipe:
    """Directions of light (``training/light_directions.py``)."""

    images: int = 10
    purity: float = 0.2
    """Share of a change that the first shape's normals must explain, in the worst of the three directions, for it to be
    a light. Layer 0 of the face generator, which moves the head, has 0.04, and the layers that relight 0.24 to 0.70."""

    def __post_init__(self) -> None:
        check(self.images >= 3, "light.images", self.images, "3 or more")


@dataclass(frozen=True)
class AverageRecipe:
    """The average object, out of light walks (``training/average_sheet.py``)."""

    people: int = 40
    yaws_deg: tuple[float, ...] = (-38.0, -19.0, 0.0, 19.0, 38.0)
    """Views of every object, where the category knows directions to turn along; else its own view alone."""
    rounds: int = 2
    """Each after the first finds the light again by the average object's normals, and then the object."""
    purity: float = 0.3
    """As the light's, by those normals. Layer 0 of the face generator has 0.03 then, the layers that relight 0.36 to
    0.73."""

    def __post_init__(self) -> None:
        check(self.rounds >= 1, "average.rounds", self.rounds, "1 or more")
        check(self.people >= 1, "average.people", self.people, "1 or more")
        check(len(self.yaws_deg) >= 1, "average.yaws_deg", self.yaws_deg, "one or more")


@dataclass(frozen=True)
class PosesRecipe:
    """Relief, angles, and a view network that reads them (``training/poses.py``)."""

    views: ViewsRecipe = field(default_factory=lambda: ViewsRecipe(60, 5, lit=True, masks=True))
    """On which relief and angles are measured: their pitch is level, which the view network reads best."""
    reliefs: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
    angles: tuple[float, ...] = (0.9, 1.0, 1.1, 1.2, 1.3)
    front_deg: float = 12.0
    """Views within this tell of the relief alone ..."""
    turned_deg: tuple[float, float] = (18.0, 45.0)
    """... and those between these of its product with the angle."""
    training: Training = field(
        default_factory=lambda: Training(steps=1500, parts=2, learning_rate=1e-3, warm_up=30, final=0.02, ema=0.99)
    )
    batch: int = 12
    """Images of a part."""
    rendered: float = 0.75
    """Share of them that are renders of a view, turned by a known angle; the others are the views themselves."""
    known_deg: float = 30.0
    """Renders start from views within this of the front."""
    yaw_deg: float = 32.0
    pitch_deg: float = 10.0
    roll_deg: float = 4.0
    """How far they are turned: a yaw up to this, standard deviations of pitch and roll."""
    kept: float = 0.3
    """Share of the old weights in the average that is kept (Wortsman et al., "Robust fine-tuning of zero-shot
    models", 2022): each alone errs more."""

    def __post_init__(self) -> None:
        for name in ("reliefs", "angles"):
            check(len(getattr(self, name)) >= 1, f"poses.{name}", getattr(self, name), "one or more")
        for name in ("rendered", "kept"):
            check(0 <= getattr(self, name) <= 1, f"poses.{name}", getattr(self, name), "0 to 1")


@dataclass(frozen=True)
class PersonsRecipe:
    """Shapes of the pool's identities, each fused from its views (``training/persons.py``)."""

    power: float = 1.5
    """Of a view's weight, so that the one that sees a place best says most of it."""
    known: float = 0.05
    """Weight at which half of what the views say of a place is believed."""


@dataclass(frozen=True)
class PersonalDepthRecipe:
    """The depth network taught persons' shapes (``training/persons.py``)."""

    training: Training = field(
        default_factory=lambda: Training(steps=1500, parts=2, learning_rate=4e-4, warm_up=50, final=0.03, ema=0.99)
    )
    batch: int = 8
    """Images of a part."""
    depth: float = 30.0
    """Weight of the depth's error, scene units, beside that of the slopes."""
    fresh: float = 0.3
    """What is kept of what the network said of single objects before: little of it was true."""


@dataclass(frozen=True)
class NetworksRecipe:
    """Shape, then appearance, on the pool."""

    persons: PersonalDepthRecipe = field(default_factory=PersonalDepthRecipe)
    """Of the shape, where persons' shapes are known."""
    shape: MultiviewRecipe = field(default_factory=MultiviewRecipe)
    """Of the shape elsewhere."""
    appearance: MultiviewRecipe = field(default_factory=lambda: _appearance(250))


@dataclass(frozen=True)
class UnitsRecipe:
    """The step of the directions, measured again with the trained view network."""

    identities: int = 64
    reach: tuple[float, ...] = (-1.8, -0.6, 0.6, 1.8)
    """Steps along each direction, in standard deviations of W."""

    def __post_init__(self) -> None:
        check(self.identities >= 1, "units.identities", self.identities, "1 or more")
        check(len(self.reach) >= 2, "units.reach", self.reach, "two steps or more")


@dataclass(frozen=True)
class Recipe:
    """All that decides a run beside the checkpoint it starts from; the defaults are for faces, on two cores."""

    seed: int = 0
    dtype: str = "float16"
    """Of the stored weights."""
    taps: TapsRecipe = field(default_factory=TapsRecipe)
    turn: TurnRecipe = field(default_factory=TurnRecipe)
    light: LightRecipe = field(default_factory=LightRecipe)
    average: AverageRecipe = field(default_factory=AverageRecipe)
    pool: PoolRecipe = field(default_factory=PoolRecipe)
    poses: PosesRecipe = field(default_factory=PosesRecipe)
    persons: PersonsRecipe = field(default_factory=PersonsRecipe)
    networks: NetworksRecipe = field(default_factory=NetworksRecipe)
    units: UnitsRecipe = field(default_factory=UnitsRecipe)

    def __post_init__(self) -> None:
        choice("dtype", self.dtype, ("float16", "float32"))

    @classmethod
    def quick(cls) -> Recipe:
        """The same phases with little of everything: minutes, to see whether a category's objects turn and relight."""
        turn = TurnRecipe()
        return cls(
            taps=TapsRecipe(60, 24, training=_steps(TapsRecipe().training, 80)),
            turn=dataclasses.replace(
                turn,
                images=600,
                encoder=_steps(turn.encoder, 100),
                renders=_steps(turn.renders, 80),
                views=dataclasses.replace(turn.views, identities=40),
                turned=_steps(turn.turned, 60),
                shape=_fewer(turn.shape, 60),
                appearance=_fewer(turn.appearance, 30),
                projection=_steps(turn.projection, 20),
            ),
            light=LightRecipe(images=4),
            average=AverageRecipe(people=6),
            pool=PoolRecipe(identities=40),
            poses=PosesRecipe(
                views=dataclasses.replace(PosesRecipe().views, identities=12),
                training=_steps(PosesRecipe().training, 100),
            ),
            networks=NetworksRecipe(
                PersonalDepthRecipe(_steps(PersonalDepthRecipe().training, 100)),
                _fewer(MultiviewRecipe(), 60),
                _fewer(_appearance(30), 30),
            ),
            units=UnitsRecipe(identities=16),
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """ConfigError (a ValueError) names an unknown key or a value that makes no sense; what is left out is as it is
        by default."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"the recipe is not valid JSON ({error}): correct it.") from None
        return from_dict(cls, data)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """The recipe in a file; ConfigError or OSError in one sentence that names it."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (ConfigError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {str(error).rstrip('.')}.") from None


def _steps(training: Training, steps: int) -> Training:
    return dataclasses.replace(training, steps=steps, warm_up=min(training.warm_up, steps // 4))


def _fewer(recipe: MultiviewRecipe, steps: int) -> MultiviewRecipe:
    return dataclasses.replace(recipe, training=_steps(recipe.training, steps))
