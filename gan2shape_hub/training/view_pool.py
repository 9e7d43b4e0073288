"""Generated identities seen from several viewpoints: what joint pretraining looks at, made once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.latent_projection import along, gan_image

CHUNK = 50
"""Identities a file: what an interruption costs."""


@dataclass(frozen=True)
class PoolSettings:
    """Which views are generated. The first of every identity is the generator's own image of its latent."""

    identities: int = 800
    views: int = 6
    truncation: tuple[float, float] = (0.5, 0.9)
    yaw_deg: float = 45.0
    """Turned views go to a yaw within this of the average face's, evenly spread ..."""
    pitch_deg: float = 8.0
    """... and a pitch within this. Further steps along the pitch's direction change hair and age."""
    seed: int = 0


@dataclass(frozen=True)
class ViewPool:
    """images (N, V, 3, S, S) uint8; latents (N, V, D); turns (N, V, 2), the pitch and yaw in view units that the
    directions of W say of each (up to an unknown pose of the average face)."""

    images: Tensor
    latents: Tensor
    turns: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def floats(self, identity: Tensor, view: Tensor) -> Tensor:
        """Images (len(identity), 3, S, S) in -1..1."""
        return self.images[identity, view].float() / 127.5 - 1


def load_pool(
    folder: Path,
    config: CategoryConfig,
    generator: ComponentGenerator,
    settings: PoolSettings,
    log: Callable[[str], None],
) -> ViewPool:
    """The pool in ``folder``, generated where it is not there yet; every identity has its own seed.

    Raises:
        ValueError: ``folder`` holds a pool of other settings, or the category knows no directions to turn along.
    """
    if len(config.projection.view_directions) != 2:
        raise ValueError("the category knows no directions along which the object turns: run the bootstrap first.")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {**asdict(settings), "image_size": config.image_size, "directions": config.projection.view_directions}
    wanted = json.loads(json.dumps({**wanted, "units": config.projection.view_units}))
    note = folder / "settings.json"
    made = wanted
    if note.exists():
        made = json.loads(note.read_text())
        free = {"identities": 0, "units": 0}
        if {**made, **free} != {**wanted, **free}:
            raise ValueError(f"{folder} holds views made with other settings: choose another folder.")
    with atomic_file(note) as part:
        part.write_text(json.dumps({**wanted, "units": made["units"]}))
    chunks = []
    for first in range(0, settings.identities, CHUNK):
        path = folder / f"views-{first:06d}.safetensors"
        last = min(first + CHUNK, settings.identities)
        if path.exists():
            chunk = load_file(path)
        if not path.exists() or len(chunk["images"]) < last - first:
            chunk = _generate(range(first, last), config, generator, settings)
            with atomic_file(path) as part:
                save_file(chunk, part)
            log(f"views of {last}/{settings.identities} identities")
        chunks.append({name: values[: last - first] for name, values in chunk.items()})
    images, latents, turns = (torch.cat([chunk[name] for chunk in chunks]) for name in ("images", "latents", "turns"))
    # The same steps are other angles once a training has measured them better.
    return ViewPool(images, latents, turns * torch.tensor(config.projection.view_units) / torch.tensor(made["units"]))


@torch.no_grad()
def _generate(
    identities: range, config: CategoryConfig, generator: ComponentGenerator, settings: PoolSettings
) -> dict[str, Tensor]:
    device = generator.latent_mean.device
    directions = torch.tensor(config.projection.view_directions, device=device)
    units = torch.tensor(config.projection.view_units, device=device)
    limit = config.projection.view_step_limit
    reach = torch.tensor([settings.pitch_deg, settings.yaw_deg]) / config.camera.view_angle_deg
    made: dict[str, list[Tensor]] = {"images": [], "latents": [], "turns": []}
    for identity in identities:
        rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + identity)
        w = sample_latents(generator, 1, rng, settings.truncation)
        coordinates = (w - generator.latent_mean) @ generator.component_basis.T / generator.component_std
        own = (coordinates @ directions.T * units)[0]
        count = settings.views - 1
        spread = (torch.arange(count) + torch.rand(count, generator=rng)) / max(count, 1) * 2 - 1  # one in each stratum
        pitch = torch.rand(count, generator=rng) * 2 - 1
        goal = (torch.stack((pitch, spread), 1) * reach).to(device)
        steps = ((goal - own) / units).clamp(-limit, limit)
        latents = torch.cat([w, w + along(generator, steps, directions)])
        images = torch.cat(
            [gan_image(generator, one[None], config.image_size, config.crop_fraction) for one in latents]
        )
        made["images"].append(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
        made["latents"].append(latents.cpu())
        made["turns"].append(torch.cat([own[None], own + steps * units]).cpu())
    return {name: torch.stack(values).contiguous() for name, values in made.items()}
