"""What was read of a file, as a checkpoint folder of a category."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator

from .components import with_space
from .public import PublicWeights
from .verify import Report, configure, finish


def write(
    read: tuple[StyleGAN2Generator, StyleGAN2Discriminator | None, Report],
    category: str,
    output: str | Path,
    *,
    license_id: str = "unknown",
    space: str = "mapping_tail",
    overwrite: bool = False,
    origin: PublicWeights | None = None,
    perceptual: nn.Module | None = None,
) -> Report:
    """Write the checkpoint folder ``output``; ConversionError or ConfigError in a sentence.

    Args:
        read: generator, discriminator and report, as a format's ``read_file`` gives them.
        space: where step 2 moves latents, see ``components.with_space``.
        origin: of public weights, for description and card.
        perceptual: network to take along; pixels alone are compared without one.
    """
    generator, discriminator, report = read
    generator, changes = with_space(generator, space)
    components: dict[str, nn.Module] = {
        "generator": generator,
        **({"discriminator": discriminator} if discriminator else {}),
    }
    if perceptual is not None:
        components["perceptual"] = perceptual
    config = configure(category, generator, license_id, **changes)
    if origin is not None:
        config = dataclasses.replace(config, description=f"{origin.title}, {origin.image_size} pixels")
    finish(output, config, components, report, overwrite, origin)
    return report
