"""From what the user hands over (photographs, samples, latents, masks) to the targets of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.given_mask import check_cover, masker_answer
from gan2shape_hub.records import Alignment, InputError, Sample, Targets
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.run import Run
from gan2shape_hub.stages.align import align_photograph
from gan2shape_hub.stages.invert import invert
from gan2shape_hub.stages.mask import Masker
from gan2shape_hub.stages.prepare import MIN_SIDE, Prepared, load_image, prepare_square


@dataclass(frozen=True)
class Item:
    """One checked input: its latent (1, D) or (1, L, D), or where it was cut out of its photograph."""

    given: Any
    latent: Tensor | None
    cut: Alignment | None

    @property
    def settings(self) -> dict[str, Any]:
        """What repeats this input, for result.json."""
        if isinstance(self.given, Sample):
            return {"sample_seed": self.given.seed, "truncation": self.given.truncation}
        if self.cut is None:
            return {"latent": self.latent.tolist()}
        own = {"faces": self.cut.faces, "square": [round(float(v), 2) for v in self.cut.matrix.ravel()]}
        return {"image": str(self.given), **own} if isinstance(self.given, (str, Path)) else own


@dataclass(frozen=True)
class Inputs:
    """The targets of a run (K images), their prepared squares as sharp as they came ((3, P, P) each), and how well the
    generator expresses each photograph (dB; None for latents)."""

    targets: Targets
    sources: list[Tensor]
    quality_db: list[float | None]


def check_items(
    items: Sequence[Any],
    generator: nn.Module,
    config: CategoryConfig,
    *,
    align: bool = True,
    face_index: int | None = None,
) -> list[Item]:
    """Read and check every input before any of them costs time; InputError names the first that cannot be used."""
    if not items:
        raise InputError("image is an empty list, must hold at least one image or latent.")
    how, checked = config.align if align else "none", []
    for k, item in enumerate(items):
        label = f"'{item}'" if isinstance(item, (str, Path)) else "image" if len(items) == 1 else f"image {k + 1}"
        latent = latent_of(item, generator)
        cut = None
        if latent is None:
            cut = align_photograph(load_image(item, name=label), how, config.image_size, face_index, label)
        checked.append(Item(item, latent, cut))
    return checked


def latent_of(item: Any, generator: nn.Module) -> Tensor | None:
    """The latent (1, D) or (1, L, D) that ``item`` is, or None where it is an image.

    InputError for a tensor that can be no image, nor a latent of this generator.
    """
    latent = item.latent if isinstance(item, Sample) else item
    if not isinstance(latent, Tensor):
        return None
    d, layers, shape = generator.latent_dim, generator.num_latents, tuple(latent.shape)
    if shape in ((d,), (1, d)):
        latent = latent.reshape(1, d)
    elif shape != (1, layers, d):
        flat = len(shape) == 1 or (len(shape) == 2 and shape[0] < MIN_SIDE)
        if flat or isinstance(item, Sample) or (len(shape) == 3 and shape[0] == 1 and shape[1] < MIN_SIDE):
            raise InputError(
                f"latent has shape {shape}, must be ({d}), (1, {d}) or (1, {layers}, {d}): pass several as a list."
            )
        return None
    if not bool(torch.isfinite(latent).all()):
        raise InputError("latent has values that are NaN or infinite: pass the latent of a sample.")
    return latent.detach()


def make_inputs(
    items: list[Item],
    masks: Tensor | None,
    run: Run,
    masker: Masker | None = None,
    encoder: torch.nn.Module | None = None,
) -> Inputs:
    """Generate the images of the latents, find the latents of the photographs, starting at what ``encoder`` says.

    Object masks, where the category uses them: the given ``masks`` (K, 1, S, S), else an image's alpha channel, else
    what ``masker`` says, else the whole image.
    """
    config, generator = run.config, run.generator
    sources, images, latents, originals, found_masks = [], [], [], [], []
    quality: list[float | None] = []
    for k, item in enumerate(items):
        if item.cut is None:
            latent = item.latent.to(run.device, generator.latent_mean.dtype)
            with torch.no_grad():
                full = generator(latent).float().clamp(-1, 1)
                original = run.gan_image(latent, config.image_size).float().clamp(-1, 1)
            prepared = _prepare(to_pil(full[0]), config)
            quality.append(None)
        else:
            prepared = _prepare(item.cut.square, config)
            image = prepared.image.to(run.device)
            own = _own_mask(prepared, masks, k)
            if own is None and masker is not None:
                own = masker_answer(masker(image), config)
            found = invert(image, run.schedule.invert_iterations, run, own, encoder)
            latent = found.latent
            with torch.no_grad():  # of the tap where there is one, as the encoder was trained to see it
                original = run.gan_image(latent, config.image_size).float().clamp(-1, 1)
            quality.append(round(found.psnr_db, 2))
        sources.append(prepared.source[0].to(run.device))
        images.append(prepared.image.to(run.device))
        latents.append(latent.float())
        originals.append(original)
        own = _own_mask(prepared, masks, k)
        if own is None and masker is not None and config.use_mask:
            own = masker_answer(masker(images[-1]), config)
        found_masks.append((torch.ones_like(prepared.image[:, :1]) if own is None else own).to(run.device))
        if config.use_mask:
            check_cover(found_masks[-1])
    if len({latent.ndim for latent in latents}) > 1:
        latents = [w if w.ndim == 3 else w[:, None].expand(-1, generator.num_latents, -1) for w in latents]
    targets = Targets(
        images=torch.cat(images),
        latents=torch.cat(latents),
        originals=torch.cat(originals),
        masks=torch.cat(found_masks) if config.use_mask else None,
    )
    return Inputs(targets, sources, quality)


def _own_mask(prepared: Prepared, masks: Tensor | None, k: int) -> Tensor | None:
    """The given mask of input ``k``, else its alpha channel, (1, 1, S, S)."""
    return prepared.mask if masks is None else masks[k : k + 1]


def _prepare(square: Image.Image, config: CategoryConfig) -> Prepared:
    crop = round(min(square.size) * config.crop_fraction) if config.center_crop else 0
    return prepare_square(square, config.image_size, center_crop=crop)
