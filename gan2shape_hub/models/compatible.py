"""Whether a checkpoint's networks belong together."""

from __future__ import annotations

from torch import nn

from gan2shape_hub.config import CategoryConfig, ConfigError
from gan2shape_hub.models.latent_projection import LatentProjection

OUTPUTS = {"depth_net": 1, "albedo_net": 3, "view_net": 6, "light_net": 4}
"""Channels (or numbers) that each shape net must give."""


def check_components(config: CategoryConfig, components: dict[str, nn.Module]) -> None:
    """ConfigError in one sentence where a network is of another size than ``config`` or than the generator asks for."""
    try:
        encoding_size = LatentProjection(components["generator"], config.projection).encoding_size
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for name, channels in {**OUTPUTS, "latent_encoder": encoding_size, "average_sheet": 1}.items():
        if name not in components:
            continue
        own = getattr(components[name], "config", {})  # of the classes of this package
        for key, wanted in (("image_size", config.image_size), ("out_channels", channels), ("in_channels", 3)):
            if own.get(key, wanted) != wanted:
                raise ConfigError(
                    f"{name} has {key} {own[key]}, must be {wanted} in this checkpoint: it belongs to another one."
                )
    maps = getattr(components.get("discriminator"), "num_features", None)
    if maps is not None and not 1 <= config.loss.discriminator_layers <= maps:
        raise ConfigError(
            f"loss.discriminator_layers is {config.loss.discriminator_layers}, must be 1 to {maps} with this "
            "discriminator."
        )
