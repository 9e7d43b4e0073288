"""Generated identities seen from several viewpoints and under several lights: made once, kept on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.latent_projection import LatentProjection, along, gan_image
from gan2shape_hub.rendering.photometric import log_ratios
from gan2shape_hub.stages.mask import Masker
from gan2shape_hub.training.chunks import items, make_chunks, read_chunks
from gan2shape_hub.training.recipe import PoolRecipe, ViewsRecipe
from gan2shape_hub.training.trainer import Job

CHUNK = 20
"""Identities a file."""
SETTINGS = "settings.json"
STEPS_AT_ONCE = 8
"""Images that the generator is asked for in one call."""


@dataclass(frozen=True)
class ViewPool:
    """images (N, V, 3, S, S) uint8; latents (N, V, D); turns (N, V, 2), the pitch and yaw in view units that the
    directions of W say of each (up to an unknown pose of the average object); masks (N, V, 1, S, S) uint8, 255 on the
    object, or None. Log ratios stay on disk: 14 lights of a view are as large as 10 of its images."""

    images: Tensor
    latents: Tensor
    turns: Tensor
    masks: Tensor | None = None
    files: tuple[Path, ...] = field(default=(), repr=False)
    lit: bool = False
    """Whether the files hold ratios."""

    def __len__(self) -> int:
        return len(self.images)

    def floats(self, identity: Tensor, view: Tensor) -> Tensor:
        """Images (len(identity), 3, S, S) in -1..1."""
        return self.images[identity, view].float() / 127.5 - 1

    def masked(self, identity: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, S, S) in -1..1 and their masks (n, 1, S, S) in 0..1; ones where the pool holds none."""
        images = self.floats(identity, view)
        if self.masks is None:
            return images, torch.ones_like(images[:, :1])
        return images, self.masks[identity, view].float() / 255

    def ratios(self, identity: int, view: int) -> Tensor:
        """Log of a view's brightness under each of J lights over its own: (J, S, S) in half precision, read from disk.

        ValueError where the pool holds none.
        """
        if not self.lit:
            raise ValueError("the pool holds no lit views: generate it with lit, for a category that knows its light.")
        with safe_open(self.files[identity // CHUNK], "pt") as file:
            return file.get_slice("ratios")[identity % CHUNK, view]


def make_pool(
    config: CategoryConfig, generator: ComponentGenerator, recipe: ViewsRecipe, job: Job, masker: Masker | None = None
) -> ViewPool:
    """The pool in the job's folder, generated where it is not there yet; every identity has its own seed, and every
    process makes its part.

    Args:
        masker: asked where the recipe wants masks.

    Raises:
        ValueError: the folder holds a pool of other settings, or the category knows no directions to turn along.
    """
    if len(config.projection.view_directions) != 2:
        raise ValueError("the category knows no directions along which the object turns: nothing can be turned.")
    lit = recipe.lit and len(config.projection.light_directions) == 3
    masker = masker if recipe.masks else None
    _check_settings(config, recipe, job)
    make_chunks(
        job,
        recipe.identities,
        lambda identities: _generate(identities, config, generator, recipe, job.seed, lit, masker),
        CHUNK,
    )
    return read_pool(job.folder, config, recipe.identities)


def read_pool(folder: Path, config: CategoryConfig, identities: int) -> ViewPool:
    """The first ``identities`` of the pool in ``folder``, with turns in the view units of ``config``.

    ValueError where ``folder`` does not hold so many.
    """
    note, paths = folder / SETTINGS, sorted(folder.glob("*.safetensors"))
    paths = paths[: -(-identities // CHUNK)]
    if not note.exists() or sum(items(path) for path in paths) < identities:
        raise ValueError(f"{folder} does not hold {identities} identities: run the phase 'pool' first.")
    made = torch.tensor(json.loads(note.read_text())["units"])
    images, latents, turns, masks = (
        read_chunks(paths, name, identities) for name in ("images", "latents", "turns", "masks")
    )
    with safe_open(paths[0], "pt") as file:
        lit = "ratios" in list(file.keys())
    # The same steps are other angles once a training has measured them better.
    turns = turns * torch.tensor(config.projection.view_units) / made
    return ViewPool(images, latents, turns, masks, tuple(paths), lit)


def _check_settings(config: CategoryConfig, recipe: ViewsRecipe, job: Job) -> None:
    """Note in the job's folder what its pool is; ValueError where it is another one."""
    projection = config.projection
    wanted = {
        **asdict(recipe),
        "seed": job.seed,
        "image_size": config.image_size,
        "directions": projection.view_directions,
        "light": [projection.light_directions, projection.light_layers, _steps_of_light(config, recipe)],
        "units": projection.view_units,
    }
    wanted = json.loads(json.dumps(wanted))
    note, made = job.folder / SETTINGS, wanted
    if note.exists():
        made = json.loads(note.read_text())
        free = {"identities": 0, "units": 0}
        if {**made, **free} != {**wanted, **free}:
            raise ValueError(f"{job.folder} holds views made with other settings: choose another folder.")
    job.accelerator.wait_for_everyone()
    if job.accelerator.is_main_process:
        with atomic_file(note) as part:
            part.write_text(json.dumps({**wanted, "units": made["units"]}))


def _steps_of_light(config: CategoryConfig, recipe: ViewsRecipe) -> tuple[tuple[float, float, float], ...]:
    steps = config.light_walk.steps
    return steps[: recipe.lights] if isinstance(recipe, PoolRecipe) else steps


@torch.no_grad()
def _generate(
    identities: range,
    config: CategoryConfig,
    generator: ComponentGenerator,
    recipe: ViewsRecipe,
    seed: int,
    lit: bool,
    masker: Masker | None,
) -> dict[str, Tensor]:
    device = generator.latent_mean.device
    projection = LatentProjection(generator, config.projection)
    directions = torch.tensor(config.projection.view_directions, device=device)
    units = torch.tensor(config.projection.view_units, device=device)
    limit = config.projection.view_step_limit
    reach = torch.tensor([recipe.pitch_deg or 0.0, recipe.yaw_deg]) / config.camera.view_angle_deg
    turning = torch.tensor([recipe.pitch_deg is not None, True], device=device)
    lamps = torch.tensor(_steps_of_light(config, recipe), device=device)

    def pictures(latents: Tensor) -> Tensor:
        parts = latents.split(STEPS_AT_ONCE)
        return torch.cat([gan_image(generator, w, config.image_size, config.crop_fraction) for w in parts]).clamp(-1, 1)

    made: dict[str, list[Tensor]] = {}
    for identity in identities:
        rng = torch.Generator().manual_seed(seed * 1_000_003 + identity)
        w = sample_latents(generator, 1, rng, recipe.truncation)
        coordinates = (w - generator.latent_mean) @ generator.component_basis.T / generator.component_std
        own = (coordinates @ directions.T * units)[0]
        count = recipe.views - 1
        spread = (torch.arange(count) + torch.rand(count, generator=rng)) / max(count, 1) * 2 - 1  # one in each stratum
        pitch = torch.rand(count, generator=rng) * 2 - 1
        goal = (torch.stack((pitch, spread), 1) * reach).to(device)
        steps = ((goal - own) / units).clamp(-limit, limit) * turning
        latents = torch.cat([w, w + along(generator, steps, directions)])
        images = pictures(latents)
        one = {
            "images": ((images + 1) * 127.5).round().to(torch.uint8),
            "latents": latents,
            "turns": torch.cat([own[None], own + steps * units]),
        }
        if masker is not None:
            one["masks"] = (masker(images) * 255).round().to(torch.uint8)
        if lit:
            walks = [pictures(projection.relight(latent[None], lamps)) for latent in latents]
            one["ratios"] = torch.stack([log_ratios(w, image) for w, image in zip(walks, images, strict=True)]).half()
        for name, value in one.items():
            made.setdefault(name, []).append(value.cpu())
    return {name: torch.stack(values) for name, values in made.items()}
