"""What can be chosen: a checkpoint, of which one at a time is in memory, and a picture for it."""

from __future__ import annotations

import dataclasses
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from gan2shape_hub import hub
from gan2shape_hub.arguments import user_path
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.demo.faces import FOLDER, Face
from gan2shape_hub.demo.visitors import DemoError
from gan2shape_hub.errors import InputError
from gan2shape_hub.pipeline import GAN2ShapePipeline
from gan2shape_hub.reading.formats import NAMES
from gan2shape_hub.records import Alignment, PreparedPhotograph, Sample
from gan2shape_hub.targets import prepare_photograph

VARIABLE = "GAN2SHAPE_CHECKPOINTS"
"""Environment variable: folders and Hub ids to offer, separated by commas, the default first."""
ORDER = ("instant", "fast", "balanced")
"""Presets that are offered, in this order, where the checkpoint has them. The reference's own, ``paper``, takes hours
on a CPU and is not."""
MAX_PIXELS, KEPT_PIXELS = 64_000_000, 40_000_000
"""Of a photograph that is decoded whole, which every telephone's is below (JPEG files are decoded reduced), and of what
stays in memory for pasting edits back, 120 MB at this size."""
MASK_SIDE = 256
CLONE = Path(__file__).resolve().parents[2]

TROUBLE = {
    "not-an-image": f"the photograph is in no known format: take a {NAMES} file.",
    "heic": "the photograph is a HEIC file, which this server cannot read: convert it to JPEG or PNG first.",
    "corrupt": "the photograph is damaged: download or save it again.",
    "too-many-scans": "the photograph is damaged or made to keep this machine busy: save it again.",
    "too-small": "the photograph is too small, must be at least 32 pixels on each side: use a larger original.",
    "too-large": f"the photograph is too large, must have at most {MAX_PIXELS:,} pixels: scale it down, or save it as "
    "JPEG.",
    "no-face": "no face of {smallest_px:.0f} pixels or larger was found in the photograph: take one that shows a face "
    "from the front, or tick 'already cut out'.",
    "no-such-face": "the photograph does not show that many faces: choose another one, 0 is the largest.",
    "face-too-small": "the face in the photograph is too small: use a larger original or a closer photograph.",
}
"""Code of an InputError -> what the visitor is told, who has neither our arguments nor our file names; with the error's
numbers."""
REMARKS = {
    "several-frames": "The file has several frames: the first one is used.",
    "face-cut": "The border cuts the face: what is missing is mirrored.",
}
"""Code of an InputWarning -> the same."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An image that is ready to be reconstructed with a checkpoint."""

    checkpoint: str
    item: PreparedPhotograph | Sample
    """Handed to the pipeline."""
    crop: Image.Image
    """The square that will be seen, ``RGB``."""
    mask: Image.Image
    """``L``: the object where the photograph has transparency and the category uses it; else where the square shows
    the photograph and not what was mirrored beyond its border."""
    note: str
    """One line about what was found."""
    name: str = "photo"
    """File name of the photograph, for the command that repeats the run."""
    face_index: int | None = None
    align: bool = True

    @property
    def masked(self) -> Image.Image:
        """The square with what the mask leaves out in the dark, (256, 256): a mask alone says little."""
        crop = self.crop.resize((MASK_SIDE, MASK_SIDE), Image.Resampling.LANCZOS)
        dark = crop.convert("L").point(lambda v: 24 + v // 6).convert("RGB")
        return Image.composite(crop, dark, self.mask)

    @property
    def is_photograph(self) -> bool:
        return isinstance(self.item, PreparedPhotograph)

    @property
    def faces(self) -> int:
        return self.item.faces if self.is_photograph else 0


class Shelf:
    """Checkpoints by public name, loaded when they are first needed; the one before gives way.

    A public name is a Hub id, a folder of this clone by its place in it, any other by its name alone: where it lies on
    this machine is nobody's business.
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        load: Callable[[str], GAN2ShapePipeline] = GAN2ShapePipeline.from_pretrained,
        *,
        only_listed: bool = False,
    ) -> None:
        """``only_listed``: visitors cannot name a folder or Hub id that was not listed. Whoever comes from another
        machine has no business in this one's file system, nor a say in what it downloads."""
        self._places: dict[str, str] = {}
        for place in names or listed_checkpoints():
            self.add(place)
        self.only_listed = only_listed
        self._load = load
        self._configs: dict[str, CategoryConfig] = {}
        self._loaded: tuple[str, GAN2ShapePipeline] | None = None
        self._users = 0
        self._free = threading.Condition()

    def add(self, place: str) -> str:
        """List a folder or Hub id too; its public name."""
        name, number = public_name(place), 1
        while self._places.get(name, place) != place:
            number += 1
            name = f"{public_name(place)}-{number}"
        self._places[name] = place
        return name

    @property
    def listed(self) -> list[str]:
        return list(self._places)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(label, name) of all that is listed."""
        return [(self.label(name), name) for name in self.listed]

    @property
    def default(self) -> str:
        return self.listed[0]

    @property
    def loaded(self) -> str | None:
        """Name of the checkpoint in memory."""
        return self._loaded[0] if self._loaded else None

    def label(self, name: str) -> str:
        """How a checkpoint is called on the page."""
        short = Path(name).name if Path(name).is_absolute() else name
        category = self._configs[name].category if name in self._configs else short
        return short if category == short else f"{category} ({short})"

    def config(self, name: str) -> CategoryConfig:
        """The configuration of a checkpoint, without its weights where it is a folder; DemoError says what is
        wrong."""
        name = self._checked(name)
        if name not in self._configs:
            try:
                self._configs[name] = hub.read_config(hub.resolve(self._places.get(name, name)))
            except (OSError, ValueError) as error:
                raise self._trouble(name, error) from None
        return self._configs[name]

    def presets(self, name: str) -> tuple[list[str], str]:
        """Presets of a checkpoint that are offered (its default where it has none of the usual names), and the one that
        is chosen at first."""
        config = self.config(name)
        offered = [preset for preset in ORDER if preset in config.schedules] or [config.default_preset]
        return offered, config.default_preset if config.default_preset in offered else offered[0]

    def _checked(self, name: str) -> str:
        """The public name of what a visitor or the program's own code calls ``name``. What is not listed is answered
        in the same words whatever it is."""
        name = (name or "").strip() or self.default
        if name in self._places:
            return name
        if self.only_listed:
            raise DemoError(f"'{name}' is not offered here: take one of {', '.join(self.listed)}.")
        return next((public for public, place in self._places.items() if place == name), name)

    def _trouble(self, name: str, error: Exception) -> DemoError:
        if self.only_listed:  # the sentence names folders
            return DemoError(f"the category '{self.label(name)}' cannot be loaded: tell the people who run this page.")
        return DemoError(str(error))

    @contextmanager
    def use(self, name: str, patience_s: float | None = None) -> Iterator[GAN2ShapePipeline]:
        """The pipeline of a checkpoint, kept in memory while the block runs.

        Another checkpoint is only dropped when nobody uses it any more; after ``patience_s`` seconds of waiting for
        that, or where loading fails, DemoError says so. None waits as long as it takes.
        """
        name = self._checked(name)
        self.config(name)  # what has to be downloaded comes before anybody waits
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with self._free:
            while self._loaded and self._loaded[0] != name and self._users:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise DemoError(
                        f"another visitor's run uses the category '{self.label(self._loaded[0])}', and one fits into "
                        "memory at a time: try again in a minute."
                    )
                self._free.wait(left)
            if self._loaded is None or self._loaded[0] != name:
                self._loaded = None
                gc.collect()  # networks reference themselves: let go of the old one before the new one comes
                self._loaded = (name, self._loading(name))
                self._configs[name] = self._loaded[1].config
            self._users += 1
            pipeline = self._loaded[1]
        try:
            yield pipeline
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()

    def _loading(self, name: str) -> GAN2ShapePipeline:
        try:
            return self._load(self._places.get(name, name))
        except (OSError, ValueError) as error:
            raise self._trouble(name, error) from None
        except MemoryError:
            raise DemoError(f"'{name}' does not fit into this machine's memory: use a smaller checkpoint.") from None

    def photograph(
        self, path: str | Path, checkpoint: str, *, face_index: int | None = None, align: bool = True
    ) -> Subject:
        """Read and cut a photograph, without the checkpoint's weights; DemoError is one sentence for the visitor.

        ``face_index`` counts from 0, the largest face first. ``align=False`` takes the central square as it is.
        """
        checkpoint = self._checked(checkpoint)
        config, face = self.config(checkpoint), face_index if align else None
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                # A Path, which is never taken for an address: nobody is to send this machine around.
                limits = {"max_pixels": MAX_PIXELS, "kept_pixels": KEPT_PIXELS}
                found = prepare_photograph(Path(path), config, align=align, face_index=face, **limits)
        except InputError as error:
            told = TROUBLE.get(error.code, "the photograph cannot be used: take another one.")
            raise DemoError(told.format(**error.numbers)) from None
        codes = [getattr(warning.message, "code", None) for warning in said]
        remarks = [REMARKS[code] for code in codes if code in REMARKS]
        return Subject(
            checkpoint=checkpoint,
            item=dataclasses.replace(found, name=None),  # its name on this machine is nobody's business
            crop=found.square.convert("RGB"),
            mask=_mask(found.alignment, config),
            note=" ".join((_found(found.alignment, config), *remarks)),
            name=Path(path).name,
            face_index=face,
            align=align,
        )

    def drawn(self, checkpoint: str, seed: int, variety: float | None = None) -> Subject:
        """Let the generator draw the image of ``seed``; ``variety`` 0..1, None takes the checkpoint's."""
        if not 0 <= seed < 2**63:
            raise DemoError(f"the seed is {seed}, must be 0 or more and below 2^63.")
        if variety is not None and not 0 <= variety <= 1:
            raise DemoError(f"the variety is {variety:g}, must be between 0 and 1.")
        checkpoint = self._checked(checkpoint)
        with self.use(checkpoint, patience_s=20) as pipeline:
            sample = pipeline.sample(seed=seed, truncation=variety)
        return Subject(
            checkpoint=checkpoint,
            item=sample,
            crop=sample.image,
            mask=Image.new("L", (MASK_SIDE, MASK_SIDE), 255),
            note=f"Drawn by the generator (seed {seed}, variety {sample.truncation:g}): nobody real.",
            name=f"seed {seed}",
        )

    def offered(self, face: Face, checkpoint: str) -> Subject:
        """One of the page's faces. Where the checkpoint draws somebody else for its seed, its picture."""
        if not face.photograph:
            subject = self.drawn(checkpoint, face.seed)
            if _alike(subject.crop, FOLDER / face.file("jpg")):
                return subject
        return self.photograph(FOLDER / (face.photograph or face.file("jpg")), checkpoint)


def _alike(picture: Image.Image, file: Path) -> bool:
    """Whether a picture is that of a JPEG file."""
    with Image.open(file) as other:
        pair = [one.convert("RGB").resize((64, 64), Image.Resampling.BOX) for one in (picture, other)]
    return max(ImageStat.Stat(ImageChops.difference(*pair)).mean) < 4


def public_name(place: str) -> str:
    """What visitors are told of a checkpoint."""
    folder = user_path(place)
    if not folder.is_dir():
        return place
    folder = folder.resolve()
    return folder.relative_to(CLONE).as_posix() if CLONE in folder.parents else folder.name


def listed_checkpoints() -> list[str]:
    """What ``GAN2SHAPE_CHECKPOINTS`` lists, else ``hub.default_checkpoint``."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return [name for name in names if name] or [hub.default_checkpoint()]


def _found(cut: Alignment, config: CategoryConfig) -> str:
    if cut.box is None:
        later = config.use_mask and cut.square.mode != "RGBA"
        return "The central square is taken." + (" The object is found when the run starts." if later else "")
    more = f" of {cut.faces} (the largest unless you choose another)" if cut.faces > 1 else ""
    return f"Face found{more}: {cut.side:.0f} pixels wide in the photograph."


def _mask(cut: Alignment, config: CategoryConfig) -> Image.Image:
    if config.use_mask and cut.square.mode == "RGBA":
        return cut.square.getchannel("A").resize((MASK_SIDE, MASK_SIDE))
    inside = Image.new("L", cut.photograph.size, 255)
    place = cut.matrix / MASK_SIDE
    place[:, 2] = cut.matrix[:, 2]
    return inside.transform((MASK_SIDE, MASK_SIDE), Image.Transform.AFFINE, tuple(place.ravel()), fillcolor=0)
