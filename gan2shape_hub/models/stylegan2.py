"""StyleGAN2's generator: mapping network and synthesis with skip outputs (Karras et al., CVPR 2020).

One parametrisation serves the weights of rosinality's and NVIDIA's ports: tensors hold *effective* values, every
constant gain of training (equalised learning rate and, in the synthesis, the square root of 2 of the activations)
folded in when a checkpoint is converted. Folding keeps results exact to rounding, and keeps the weights in the range
where half precision stores them well. What remains of the ports' differences is in the configuration: NVIDIA clamps
activations (``conv_clamp``) and demodulates before dividing by the fan-in, so that its constant counts for less
(``demod_eps_per_fan_in``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .component import Component
from .mapping import MappingNetwork
from .stylegan2_ops import memory_format, modulated_conv, pack_weight, upsample_image

DEMOD_EPS = 1e-8
CHUNK_BYTES = 16 * 2**20
"""On a CPU, images go one at a time through the blocks whose maps are larger than this for the batch: they then stay in
the cache, and the allocator reuses its memory instead of asking the system for fresh pages."""


def channels_at(image_size: int, channel_base: int, channel_max: int = 512) -> list[int]:
    """Channels at 4, 8, ... ``image_size``; channel_base is 32768 for config F, 16384 for config E (multiplier 1)."""
    if image_size & (image_size - 1) or not 4 <= image_size <= 1024:
        raise ValueError(f"image_size is {image_size}, must be a power of two from 4 to 1024.")
    sizes = [2**i for i in range(2, image_size.bit_length())]
    return [max(min(channel_base // size, channel_max), 1) for size in sizes]


class StyledConv(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias and activation at one size; ``up`` doubles the size first."""

    def __init__(self, c_in: int, c_out: int, size: int, latent_dim: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3) / math.sqrt(9 * c_in))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(size, size))
        self.style = _style_layer(latent_dim, c_in)
        self._cache: dict = {}

    def packed(self, dtype: torch.dtype) -> Tensor:
        """The weight as ``modulated_conv`` wants it, in ``dtype``."""
        return self._derived(dtype, lambda: pack_weight(self.weight.to(dtype), self.up))

    def energy(self) -> Tensor:
        """Sum of the squared weights of each kernel, (C_out, C_in), at least in float32 (its eps is 1e-8)."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        return self._derived("energy", lambda: self.weight.to(dtype).square().sum((2, 3)))

    def _derived(self, name: object, make: Callable[[], Tensor]) -> Tensor:
        """``make()``, kept for as long as the frozen weight stays what it is."""
        weight = self.weight
        if weight.requires_grad or weight.is_inference():
            return make()
        key = (weight._version, weight.data_ptr(), weight.dtype)
        if weight.device.type == "cpu":  # writes to .data are no versions: a sample of the values notices most of them
            key += tuple(weight.detach().flatten()[:: max(weight.numel() // 64, 1)].tolist())
        if self._cache.get(name, (None,))[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # it outlives what the caller has switched off
                self._cache[name] = (key, make())
        return self._cache[name][1]

    def modulation(self, w: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """w (B, D) -> style (B, C_in) and demodulation times the activation's gain (B, C_out)."""
        energy = self.energy()
        style = self.style(w).to(energy.dtype)
        demod = (style.square() @ energy.T + eps).rsqrt() * math.sqrt(2)
        return style, demod


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to RGB, not demodulated."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(3))
        self.style = _style_layer(latent_dim, channels)

    def forward(self, x: Tensor, weight: Tensor, clamp: float | None) -> Tensor:
        """x (B, C, H, W), modulated weight (B, 3, C) -> (B, 3, H, W) in the weight's dtype."""
        b, c, h, w = x.shape
        rgb = (weight.to(x.dtype) @ x.permute(0, 2, 3, 1).reshape(b, h * w, c).mT).to(weight.dtype)
        rgb = rgb.view(b, 3, h, w) + self.bias[:, None, None]
        return rgb if clamp is None else rgb.clamp(-clamp, clamp)


def _style_layer(latent_dim: int, channels: int) -> nn.Linear:
    layer = nn.Linear(latent_dim, channels)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(latent_dim))
    nn.init.ones_(layer.bias)
    return layer


class StyleGAN2Generator(Component):
    """StyleGAN2 synthesis and mapping: ``generator(w)`` -> images (B, 3, S, S), about -1..1, not clamped.

    Built frozen (``requires_grad`` False on every parameter), because the method never trains it and frozen weights
    make the backward to w cheaper; ``requires_grad_(True)`` enables fine-tuning.

    ``channels`` lists the widths at 4, 8, ... pixels and overrides ``channel_base`` and ``channel_max``.
    ``components`` makes room for that many principal components of W (0: none), for projections in their space.
    """

    def __init__(
        self,
        image_size: int = 128,
        channel_base: int = 16384,
        channel_max: int = 512,
        channels: list[int] | None = None,
        latent_dim: int = 512,
        mapping_layers: int = 8,
        conv_clamp: float | None = None,
        demod_eps_per_fan_in: bool = False,
        components: int = 0,
    ) -> None:
        widths = channels_at(image_size, channel_base, channel_max)
        if channels is not None:
            if len(channels) != len(widths):
                raise ValueError(
                    f"channels has {len(channels)} widths, must have {len(widths)} for {image_size} pixels."
                )
            widths = [int(c) for c in channels]
        super().__init__(
            dict(
                image_size=image_size,
                channel_base=channel_base,
                channel_max=channel_max,
                channels=widths,
                latent_dim=latent_dim,
                mapping_layers=mapping_layers,
                conv_clamp=conv_clamp,
                demod_eps_per_fan_in=demod_eps_per_fan_in,
                components=components,
            )
        )
        self.image_size = image_size
        self.latent_dim = latent_dim
        self.num_latents = 2 * len(widths)
        self.conv_clamp = conv_clamp
        self.mapping = MappingNetwork(latent_dim, mapping_layers)
        for layer in self.mapping.layers:
            nn.init.normal_(layer.weight, std=1 / math.sqrt(latent_dim))
            nn.init.zeros_(layer.bias)
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        if components:
            self.register_buffer("component_basis", torch.zeros(components, latent_dim))
            self.register_buffer("component_std", torch.ones(components))
        self.const = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.convs = nn.ModuleList([StyledConv(widths[0], widths[0], 4, latent_dim, up=False)])
        self.to_rgbs = nn.ModuleList([ToRGB(widths[0], latent_dim)])
        for level in range(1, len(widths)):
            c_in, c_out, size = widths[level - 1], widths[level], 4 * 2**level
            self.convs.append(StyledConv(c_in, c_out, size, latent_dim, up=True))
            self.convs.append(StyledConv(c_out, c_out, size, latent_dim, up=False))
            self.to_rgbs.append(ToRGB(c_out, latent_dim))
        self.requires_grad_(False)

    def demod_eps(self, conv: StyledConv) -> float:
        fan_in = conv.weight[0].numel() if self._config["demod_eps_per_fan_in"] else 1
        return DEMOD_EPS / fan_in

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull w (..., D) towards ``latent_mean``: psi 1 keeps it, 0 gives the mean."""
        return self.latent_mean + psi * (w - self.latent_mean)

    def broadcast(self, w: Tensor) -> Tensor:
        """One latent a layer: (B, D) or (B, L, D) -> (B, L, D); ValueError for any other shape."""
        if w.ndim == 2 and w.shape[1] == self.latent_dim:
            return w[:, None].expand(-1, self.num_latents, -1)
        if w.ndim == 3 and w.shape[1:] == (self.num_latents, self.latent_dim):
            return w
        d = self.latent_dim
        raise ValueError(f"w has shape {tuple(w.shape)}, must be (B, {d}) or (B, {self.num_latents}, {d}).")

    def mix(self, w_coarse: Tensor, w_fine: Tensor, crossover: int) -> Tensor:
        """Style mixing: the first ``crossover`` latents of ``w_coarse``, the rest of ``w_fine`` -> (B, L, D)."""
        coarse, fine = self.broadcast(w_coarse), self.broadcast(w_fine)
        return torch.cat([coarse[:, :crossover], fine[:, crossover:]], dim=1)

    def forward(
        self, w: Tensor, noise: str = "const", generator: torch.Generator | None = None, impl: str = "fast"
    ) -> Tensor:
        """w (B, D) or W+ (B, L, D) -> images (B, 3, S, S), RGB, about -1..1.

        ``noise``: ``const`` uses the checkpoint's noise maps, ``none`` none, ``random`` draws fresh ones from
        ``generator``. ``impl="reference"`` runs the plain per-sample-weight twin. ValueError names a bad argument.
        """
        if noise not in ("const", "random", "none"):
            raise ValueError(f"noise is {noise!r}, must be 'const', 'random' or 'none'.")
        if noise == "random" and generator is None:
            raise ValueError("noise='random' needs a torch.Generator: pass generator=.")
        if impl not in ("fast", "reference"):
            raise ValueError(f"impl is {impl!r}, must be 'fast' or 'reference'.")
        ws = self.broadcast(w)
        noises = [self._noise(conv, noise, w, generator) for conv in self.convs]
        if impl == "reference":
            from .stylegan2_reference import synthesize

            return synthesize(self, ws, noises)
        kind = w.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else ws.dtype
        with torch.autocast(kind, enabled=False):
            return self._synthesize(ws, noises, dtype)

    def image_at(self, w: Tensor, size: int) -> Tensor:
        """The image at ``size`` pixels: (B, 3, size, size), averaged over pixels where smaller than ``image_size``."""
        image = self(w)
        if size < self.image_size:
            return F.interpolate(image, (size, size), mode="area")
        return image if size == self.image_size else F.interpolate(image, (size, size), mode="bilinear")

    def _noise(self, conv: StyledConv, mode: str, w: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "const":
            return (conv.noise * conv.noise_strength)[None, None]
        shape = (w.shape[0], 1, *conv.noise.shape)
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
        return drawn.to(conv.noise) * conv.noise_strength

    def _synthesize(self, ws: Tensor, noises: list[Tensor | None], dtype: torch.dtype) -> Tensor:
        latents = ws.unbind(1)
        layers = []  # (style, demod, noise) of every convolution
        for i, conv in enumerate(self.convs):
            layers.append((*conv.modulation(latents[i], self.demod_eps(conv)), noises[i]))
        rgbs = [to_rgb.weight * to_rgb.style(latents[2 * i + 1])[:, None] for i, to_rgb in enumerate(self.to_rgbs)]

        batch = ws.shape[0]
        first = self._first_single_block(batch, ws)
        x = self.const.to(dtype).expand(batch, -1, -1, -1).contiguous(memory_format=memory_format(ws))
        x, image = self._blocks(x, None, layers, rgbs, 0, first)
        if first == len(self.to_rgbs):
            return image
        images = []
        parts = [_one_each(t) for t in (x, *([] if image is None else [image]))]
        split_layers = [tuple(_one_each(t, batch) for t in layer) for layer in layers]
        split_rgbs = [_one_each(t) for t in rgbs]
        for n in range(batch):
            state = [part[n] for part in parts]
            one_layers = [tuple(t[n] for t in layer) for layer in split_layers]
            one_rgbs = [t[n] for t in split_rgbs]
            images.append(self._blocks(state[0], state[1], one_layers, one_rgbs, first, len(self.to_rgbs))[1])
        return torch.cat(images)

    def _blocks(
        self, x: Tensor, image: Tensor | None, layers: list, rgbs: list[Tensor], first: int, last: int
    ) -> tuple[Tensor, Tensor | None]:
        """Blocks ``first`` to ``last`` (block i works at 4 * 2^i pixels) on features x and the image so far."""
        for level in range(first, last):
            for i in range(max(2 * level - 1, 0), 2 * level + 1):
                conv = self.convs[i]
                style, demod, noise = layers[i]
                if x.dtype == torch.float16:  # the scale moves from before the convolution to after it: no overflow
                    peak = style.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
                    style, demod = style / peak, demod * peak
                x = modulated_conv(x, style, demod, conv.packed(x.dtype), conv.bias, noise, conv.up, self.conv_clamp)
            rgb = self.to_rgbs[level](x, rgbs[level], self.conv_clamp)
            image = rgb if image is None else upsample_image(image) + rgb
        return x, image

    def _first_single_block(self, batch: int, w: Tensor) -> int:
        """First block to run image by image; the number of blocks where none should."""
        if w.device.type == "cpu" and batch > 1:
            for level, to_rgb in enumerate(self.to_rgbs):
                size = 4 * 2**level
                if level > 0 and batch * to_rgb.weight.shape[1] * size * size * 4 > CHUNK_BYTES:
                    return level
        return len(self.to_rgbs)


def _one_each(t: Tensor | None, batch: int = 0) -> tuple[Tensor | None, ...]:
    """The samples of t, each as a batch of one; a tensor of one sample (or None) is shared by all ``batch``."""
    if t is None or (t.shape[0] == 1 and batch > 1):
        return (t,) * batch
    return t.split(1)
