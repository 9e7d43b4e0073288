"""What is going to be reconstructed: a photograph with its crop and mask, or a generated image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.demo.shelf import DemoError, Shelf
from gan2shape_hub.errors import InputError
from gan2shape_hub.records import Alignment, Sample
from gan2shape_hub.stages.align import align_photograph
from gan2shape_hub.stages.prepare import load_image

MAX_PIXELS = 40_000_000
"""Of a photograph. It stays in memory for pasting edits back, 120 MB at this size."""
MASK_SIDE = 256


@dataclass(frozen=True, eq=False)
class Subject:
    """An image that is ready to be reconstructed with a checkpoint."""

    checkpoint: str
    item: Image.Image | Sample
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
    faces: int = 0
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
        return isinstance(self.item, Image.Image)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the pipeline."""
        return {"align": self.align, "face_index": self.face_index} if self.is_photograph else {}


def prepare_photograph(
    path: str | Path,
    checkpoint: str,
    shelf: Shelf,
    *,
    face_index: int | None = None,
    align: bool = True,
    name: str | None = None,
) -> Subject:
    """Read and cut a photograph; DemoError is one sentence for the visitor.

    ``face_index`` counts from 0, the largest face first. ``align=False`` takes the central square as it is. ``name``
    is what the visitor calls the file.
    """
    config = shelf.config(checkpoint)
    label = "the photograph"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            photograph = load_image(path, max_pixels=MAX_PIXELS, name=label)
            how = config.align if align else "none"
            cut = align_photograph(photograph, how, config.image_size, face_index if align else None, label)
    except InputError as error:
        # The file's path on this machine says nothing to the visitor.
        raise DemoError(_sentence(str(error).replace(f"'{path}'", label))) from None
    remarks = [_sentence(str(w.message).replace(f"'{path}'", label)) for w in said if w.category is UserWarning]
    return Subject(
        checkpoint=checkpoint,
        item=photograph,
        crop=cut.square.convert("RGB"),
        mask=_mask(cut, config),
        note=" ".join((_found(cut, config), *remarks)),
        name=name or Path(path).name,
        faces=cut.faces,
        face_index=face_index if align else None,
        align=align,
    )


def draw_sample(checkpoint: str, shelf: Shelf, seed: int, variety: float | None = None) -> Subject:
    """Let the generator draw the image of ``seed``; ``variety`` 0..1, None takes the checkpoint's."""
    if not 0 <= seed < 2**63:
        raise DemoError(f"the seed is {seed}, must be 0 or more and below 2^63.")
    if variety is not None and not 0 <= variety <= 1:
        raise DemoError(f"the variety is {variety:g}, must be between 0 and 1.")
    with shelf.use(checkpoint, patience_s=20) as pipeline:
        sample = pipeline.sample(seed=seed, truncation=variety)
    return Subject(
        checkpoint=checkpoint,
        item=sample,
        crop=sample.image,
        mask=Image.new("L", (MASK_SIDE, MASK_SIDE), 255),
        note=f"Drawn by the generator (seed {seed}, variety {sample.truncation:g}): nobody real. All of it counts.",
        name=f"seed {seed}",
    )


def _found(cut: Alignment, config: CategoryConfig) -> str:
    if cut.box is None:
        later = config.use_mask and cut.square.mode != "RGBA"
        return "The central square is taken." + (" The object is found when the run starts." if later else "")
    more = f" of {cut.faces} (the largest unless you choose another)" if cut.faces > 1 else ""
    return f"Face found{more}: {cut.side:.0f} pixels wide in the photograph, certain to {100 * (cut.score or 0):.0f} %."


def _mask(cut: Alignment, config: CategoryConfig) -> Image.Image:
    if config.use_mask and cut.square.mode == "RGBA":
        return cut.square.getchannel("A").resize((MASK_SIDE, MASK_SIDE))
    inside = Image.new("L", cut.photograph.size, 255)
    place = cut.matrix / MASK_SIDE
    place[:, 2] = cut.matrix[:, 2]
    return inside.transform((MASK_SIDE, MASK_SIDE), Image.Transform.AFFINE, tuple(place.ravel()), fillcolor=0)


def _sentence(text: str) -> str:
    """The package's messages speak to programmers; the page's visitors have neither arguments nor options."""
    text = text.replace(", or pass align=False (--no-align) if it is cut out already", ", or tick 'already cut out'")
    return text[:1].upper() + text[1:]
