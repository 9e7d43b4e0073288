"""From the latent encoder's output to a latent on the image manifold (paper section 3.3, step 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.generator import ComponentGenerator, Generator


class LatentProjection:
    """Turns encodings into offsets of w: through the tail of the mapping network, which keeps them on the manifold,
    or in normalised principal components of W, softly bounded.

    Stateless but for the constants of the generator: the encoder is an argument of every call.
    """

    def __init__(self, generator: Generator, config: ProjectionConfig) -> None:
        self.generator = generator
        self.config = config
        _check_space(generator, config)
        if config.space == "mapping_tail":
            with torch.no_grad():
                # The anchor is z = 0: w_mean is the tail's output there, so a zero encoding is a zero offset.
                zero = torch.zeros_like(generator.latent_mean)[None]
                self._h_mean = generator.mapping(zero, stop=config.first_layer)
                self._w_mean = generator.mapping(self._h_mean, start=config.first_layer)

    @property
    def encoding_size(self) -> int:
        """Outputs that the encoder must have."""
        return self.config.components if self.config.space == "pca" else self.generator.latent_dim

    def offset(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Encoding (B, encoding_size) -> offset of w (B, latent_dim), and what the regulariser squares."""
        # Never in autocast's half precision: the anchor is subtracted, which would leave mostly rounding.
        with torch.autocast(encoding.device.type, enabled=False):
            if self.config.space == "pca":
                bound = self.config.clamp
                normalised = bound * torch.tanh(encoding.float() / bound)
                basis, std = self.generator.component_basis.float(), self.generator.component_std.float()
                return (normalised * std) @ basis, normalised
            h = encoding.to(self._h_mean.dtype) + self._h_mean
            offset = (self.generator.mapping(h, start=self.config.first_layer) - self._w_mean).float()
            return offset, offset

    @property
    def walks(self) -> bool:
        """Whether the configuration knows directions along which the object turns."""
        return len(self.config.view_directions) == 2

    def walk(self, latent: Tensor, turn: Tensor) -> Tensor:
        """Latents (B, D) or (B, L, D) whose images are turned by ``turn`` (B, 2), pitch and yaw in view units, as far
        as ``view_step_limit`` allows; unchanged where the configuration knows no directions."""
        if not self.walks:
            return latent
        directions = latent.new_tensor(self.config.view_directions)
        limit = self.config.view_step_limit
        steps = (turn.to(latent) / latent.new_tensor(self.config.view_units)).clamp(-limit, limit)
        moved = along(self.generator, steps, directions)
        return latent + (moved if latent.ndim == 2 else moved[:, None])

    @property
    def holds(self) -> bool:
        """Whether it knows which layers make the person's looks: those after the light's, which a turn leaves alone."""
        return self.walks and bool(self.config.light_layers)

    def turn(self, latent: Tensor, turn: Tensor) -> Tensor:
        """Latents (B, L, D) as `walk` turns them, in the layers up to the light's: colours and expression are made
        later, and stay."""
        layers = 1 + max(self.config.light_layers, default=self.generator.num_latents - 1)
        wide = latent if latent.ndim == 3 else latent[:, None].expand(-1, self.generator.num_latents, -1)
        return torch.cat((self.walk(wide, turn)[:, :layers], wide[:, layers:]), 1)

    def turned(self, latent: Tensor, yaw: float) -> tuple[Tensor, tuple[float, ...]]:
        """Latents (N, L, D) of ``latent`` (1, D) or (1, L, D), whose yaw is ``yaw`` (view units), turned to either side
        as far as ``view_step_limit`` allows, from where it is and from the front; and by how much (N), in view units. A
        side to which it is turned already is left out. The layers that take the light, and later ones, stay: the lamp
        does not move and colours do not change."""
        limit = self.config.view_step_limit * self.config.view_units[1]
        wanted = (max(-limit, min(limit, side * limit - yaw)) for side in (-1, 1))
        turns = tuple(turn for turn in wanted if abs(turn) > limit / 3)
        layers = min(self.config.light_layers, default=self.generator.num_latents)
        wide = latent if latent.ndim == 3 else latent[:, None].expand(-1, self.generator.num_latents, -1)
        moved = self.walk(wide, latent.new_tensor([(0.0, turn) for turn in turns]))
        return torch.cat((moved[:, :layers], wide[:, layers:].expand(len(moved), -1, -1)), 1), turns

    @property
    def relights(self) -> bool:
        """Whether the configuration knows directions along which the light moves."""
        return len(self.config.light_directions) == 3

    def relight(self, latent: Tensor, steps: Tensor) -> Tensor:
        """Latents (B, L, D) of ``latent`` (B or 1, D or L, D) with the light carried ``steps`` (B, 3) to the left,
        upward and to the front, in standard deviations of W; person and pose stay. ValueError where the configuration
        knows no such directions."""
        if not self.relights:
            raise ValueError("this checkpoint knows no directions of light: see docs/new-category.md.")
        moved = along(self.generator, steps.to(latent), latent.new_tensor(self.config.light_directions))
        wide = latent if latent.ndim == 3 else latent[:, None].expand(-1, self.generator.num_latents, -1)
        lit = wide.expand(len(steps), -1, -1).clone()
        lit[:, list(self.config.light_layers)] += moved[:, None]
        return lit

    def project(
        self,
        encoder: nn.Module,
        pseudo: Tensor,
        latent: Tensor,
        original: Tensor,
        gap: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latent of a pseudo image.

        Args:
            pseudo: (B, 3, S, S) rendered pseudo images.
            latent: (B, D) or (B, L, D) latents of the unperturbed images.
            original: (B, 3, S, S) the generator's own images of ``latent``, encoded too in the relative form.
            gap: (B, encoding_size) what the encoder says of the difference between photographs and the generator's
                images of their latents (``difference``), which no edit asked for; None: there is none.

        Returns:
            latents like ``latent``; the offset penalty (scalar).
        """
        encoding = encoder(pseudo)
        if self.config.relative:
            encoding = encoding - encoder(original)
        if gap is not None:
            encoding = encoding - gap
        offset, penalised = self.offset(encoding)
        shifted = latent + (offset if latent.ndim == 2 else offset[:, None])
        return shifted, penalised.square().mean()


@torch.no_grad()
def difference(encoder: nn.Module, images: Tensor, originals: Tensor) -> Tensor:
    """(B, encoding_size) by which the encodings of images (B, 3, S, S) differ from those of ``originals``."""
    return encoder(images) - encoder(originals)


def gan_image(generator: Generator, latent: Tensor, size: int, crop_fraction: float = 1.0) -> Tensor:
    """The generator's image of latents (B, D) or (B, L, D) as the shape nets see it: (B, 3, size, size) in about -1..1,
    its central ``crop_fraction``. Of the latents' dtype, whatever the generator's weights are stored in."""
    if crop_fraction == 1:
        return generator.image_at(latent.to(generator.latent_mean.dtype), size).to(latent.dtype)
    return full_image(generator, latent, size, crop_fraction)


def full_image(generator: Generator, latent: Tensor, size: int, crop_fraction: float = 1.0) -> Tensor:
    """As ``gan_image``, but of the whole network's picture and never of a tap's."""
    image = generator(latent.to(generator.latent_mean.dtype)).to(latent.dtype)
    side = round(image.shape[-1] * crop_fraction)
    first = (image.shape[-1] - side) // 2
    image = image[..., first : first + side, first : first + side]
    if side % size == 0:
        return F.avg_pool2d(image, side // size)
    return F.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)


def along(generator: ComponentGenerator, steps: Tensor, directions: Tensor) -> Tensor:
    """Offset of w (B, D) of ``steps`` (B, n) along ``directions`` (n, components), unit in normalised components."""
    return (steps @ directions * generator.component_std.to(steps)) @ generator.component_basis.to(steps)


def _check_space(generator: Generator, config: ProjectionConfig) -> None:
    """ValueError where ``config`` asks for what ``generator`` does not have."""
    name = type(generator).__name__
    last = max(config.light_layers, default=0)
    if not 0 <= min(config.light_layers, default=0) <= last < generator.num_latents:
        raise ValueError(f"projection.light_layers has {last}, must be 0 to {generator.num_latents - 1} with a {name}.")
    if config.space == "mapping_tail":
        layers = len(generator.mapping.layers)
        if config.first_layer > layers:
            raise ValueError(f"projection.first_layer is {config.first_layer}, must be 0 to {layers} with this {name}.")
        return
    basis = getattr(generator, "component_basis", None)
    if basis is None:
        raise ValueError(f"projection.space is 'pca', but a {name} has no principal components: use mapping_tail.")
    if len(basis) != config.components:
        raise ValueError(f"projection.components is {config.components}, but this {name} has {len(basis)} of them.")
