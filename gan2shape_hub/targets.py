"""From what the user hands over (photographs, samples, latents, masks) to the targets of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.errors import InputError
from gan2shape_hub.generator import Generator
from gan2shape_hub.given_mask import check_cover, masker_answer
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.reading.arrays import plain_tensor
from gan2shape_hub.records import Alignment, PreparedPhotograph, Sample, Targets
from gan2shape_hub.report import InputReport
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.run import Run
from gan2shape_hub.stages.align import align_photograph
from gan2shape_hub.stages.mask import MIN_COVER, TURNS_DEG, Masker, cover, mask_from_turns
from gan2shape_hub.stages.prepare import MAX_PIXELS, MIN_SIDE, ImageSource, load_image, prepare_square
from gan2shape_hub.stages.prior import ellipsoid_depth


@dataclass(frozen=True)
class Item:
    """One checked input: its latent (1, D) or (1, L, D), or where it was cut out of its photograph."""

    given: Any
    latent: Tensor | None
    cut: Alignment | None

    @property
    def is_photograph(self) -> bool:
        return self.cut is not None

    @property
    def report(self) -> InputReport:
        """What repeats this input."""
        if isinstance(self.given, Sample):
            return InputReport(sample_seed=self.given.seed, truncation=self.given.truncation)
        if self.cut is None:
            return InputReport(latent=self.latent.tolist())
        return InputReport(
            image=str(self.given) if isinstance(self.given, (str, Path)) else None,
            faces=self.cut.faces,
            square=tuple(round(float(v), 2) for v in self.cut.matrix.ravel()),
        )


def check_items(
    items: Sequence[Any],
    generator: Generator,
    config: CategoryConfig,
    *,
    align: bool = True,
    face_index: int | None = None,
) -> list[Item]:
    """Read and check every input before any of them costs time; InputError names the first that cannot be used."""
    if not items:
        raise InputError("image is an empty list, must hold at least one image or latent.", code="empty-list")
    checked = []
    for k, item in enumerate(items):
        latent, cut = latent_of(item, generator), None
        if latent is None:
            label = "image" if len(items) == 1 else f"image {k + 1}"
            photograph = prepare_photograph(item, config, align=align, face_index=face_index, label=label)
            item, cut = item if photograph.name is None else photograph.name, photograph.alignment
        checked.append(Item(item, latent, cut))
    return checked


def prepare_photograph(
    photograph: ImageSource | PreparedPhotograph,
    config: CategoryConfig,
    *,
    align: bool = True,
    face_index: int | None = None,
    label: str = "image",
    max_pixels: int = MAX_PIXELS,
    kept_pixels: int | None = None,
) -> PreparedPhotograph:
    """Read a photograph and cut its square (see ``GAN2ShapePipeline.prepare``); what is prepared already stays as it
    is. ``label`` is what messages call a photograph that is no file; ``max_pixels`` and
    ``kept_pixels`` are ``load_image``'s."""
    if isinstance(photograph, PreparedPhotograph):
        return photograph
    path = str(photograph) if isinstance(photograph, (str, Path)) else None
    label = label if path is None else f"'{path}'"
    how = config.align if align else "none"
    image = load_image(photograph, max_pixels=max_pixels, kept_pixels=kept_pixels, name=label)
    frame = config.frame if align else (1.0, 1.0)
    alignment = align_photograph(image, how, config.image_size, face_index, label, config.alignment, frame)
    return PreparedPhotograph(alignment, path)


def latent_of(item: Any, generator: Generator) -> Tensor | None:
    """The latent (1, D) or (1, L, D) that ``item`` is, or None where it is an image.

    InputError for a tensor that can be no image, nor a latent of this generator.
    """
    latent = item.latent if isinstance(item, Sample) else item
    if not isinstance(latent, Tensor):
        return None
    latent = plain_tensor(latent, "image or latent")
    d, layers, shape = generator.latent_dim, generator.num_latents, tuple(latent.shape)
    if shape in ((d,), (1, d)):
        latent = latent.reshape(1, d)
    elif shape != (1, layers, d):
        flat = len(shape) == 1 or (len(shape) == 2 and shape[0] < MIN_SIDE)
        if flat or isinstance(item, Sample) or (len(shape) == 3 and shape[0] == 1 and shape[1] < MIN_SIDE):
            raise InputError(
                f"latent has shape {shape}, must be ({d}), (1, {d}) or (1, {layers}, {d}): pass several as a list.",
                code="bad-latent",
            )
        return None
    if not latent.is_floating_point():
        raise InputError(f"latent is of type {latent.dtype}, must be floating point.", code="bad-latent")
    if not bool(torch.isfinite(latent.float()).all()):
        raise InputError("latent has values that are NaN or infinite: pass the latent of a sample.", code="bad-latent")
    return latent


def within_frame(masks: Tensor, frame: tuple[float, float]) -> Tensor:
    """``masks`` (..., H, W) without what lies outside the central ``frame`` (height, width, in parts of the sides)."""
    inside = masks
    for axis, part in zip((-2, -1), frame, strict=True):
        length = masks.shape[axis]
        distance = (torch.arange(length, device=masks.device) - (length - 1) / 2).abs() <= part * length / 2
        inside = inside * (distance[:, None] if axis == -2 else distance)
    return inside


@torch.no_grad()
def mask_of_latent(latent: Tensor, generator: Generator, run: Run) -> Tensor | None:
    """(1, 1, S, S) where the object is in the generator's image of ``latent`` (1, D) or (1, L, D): what turns when the
    latent is walked. None where the configuration knows no directions, or nothing turns."""
    config = run.config
    projection = LatentProjection(generator, config.projection)
    if not projection.walks:
        return None
    reach = abs(config.projection.view_units[1]) * config.projection.view_step_limit
    yaws = (torch.tensor(TURNS_DEG, device=latent.device) / config.camera.view_angle_deg).clamp(-reach, reach)
    views = torch.stack((torch.zeros_like(yaws), yaws), 1)
    walked = projection.walk(latent.float().expand(len(views), *latent.shape[1:]), views)
    images = torch.cat([run.gan_image(generator, w[None], config.image_size) for w in (latent[0], *walked)])
    images = images.float().clamp(-1, 1)
    sheet = ellipsoid_depth(config).to(images)
    mask = mask_from_turns(images[:1], images[1:], views, sheet, config.camera)
    return mask if float(cover(mask)) >= MIN_COVER else None


@torch.no_grad()
def make_targets(
    items: list[Item],
    masks: Tensor | None,
    generator: Generator,
    run: Run,
    masker: Masker | None = None,
    turns: bool = False,
) -> tuple[Targets, list[Tensor]]:
    """The K images to explain, and their squares as sharp as they came ((3, P, P) each).

    Latents get the generator's image; photographs the average latent, until they are inverted. Object masks: the given
    ``masks`` (K, 1, S, S), else an image's alpha channel, else, of latents and if ``turns``, what the generator turns,
    else what ``masker`` says, else the whole image.
    """
    config, dtype = run.config, generator.latent_mean.dtype
    sources, images, latents, originals, found_masks = [], [], [], [], []
    for k, item in enumerate(items):
        latent = (generator.latent_mean[None] if item.cut is not None else item.latent).to(run.device, dtype)
        if isinstance(item.given, Sample):
            square = item.given.image  # of this latent: drawn once is enough
        elif item.cut is None:
            square = to_pil(generator(latent).float().clamp(-1, 1)[0])
        else:
            square = item.cut.square
        crop = round(min(square.size) * config.crop_fraction) if config.center_crop else 0
        prepared = prepare_square(square, config.image_size, center_crop=crop)
        image = prepared.image.to(run.device)
        own = prepared.mask if masks is None else masks[k : k + 1]
        if masks is not None:  # who gives one means it, whether the category uses masks or not
            check_cover(own)
        if own is None and turns and item.cut is None:
            own = mask_of_latent(latent, generator, run)
        if own is None and masker is not None:
            own = masker_answer(masker(image), config)
        own = torch.ones_like(image[:, :1]) if own is None else own.to(run.device)
        own = within_frame(own, config.frame)
        if config.use_mask:
            check_cover(own)
        sources.append(prepared.source[0].to(run.device))
        images.append(image)
        latents.append(latent.float())
        originals.append(run.gan_image(generator, latent, config.image_size).float().clamp(-1, 1))
        found_masks.append(own)
    if len({latent.ndim for latent in latents}) > 1:
        latents = [w if w.ndim == 3 else w[:, None].expand(-1, generator.num_latents, -1) for w in latents]
    together = (torch.cat(parts) for parts in (images, latents, originals, found_masks))
    return Targets(*together), sources
