"""A StyleGAN2 taught to draw what another generator draws: regression on known latents, coarse to fine, then together
with a discriminator. It shares the teacher's W (its mapping network is a copy), so that latents mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.perceptual import feature_loss
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.training.chunks import make_chunks, read_chunks
from gan2shape_hub.training.trainer import Job, Training, train

CHUNK = 100


def _training(steps: int, rate: float, momentum: float = 0.9) -> Training:
    """Adam on weights as they were before equalised learning rate, see ``equalised``."""
    return Training(
        steps, 2, learning_rate=rate, final=0.1, ema=0.995, betas=(momentum, 0.99), clip=10.0, save_every=100
    )


@dataclass(frozen=True)
class Distillation:
    """What decides the student, beside the teacher."""

    seed: int = 0
    channels: tuple[int, ...] = (256, 256, 256, 256, 128, 64)
    """At 4, 8, ... pixels: rosinality's widths with a channel multiplier of a half, and 256 at most."""
    images: int = 8000
    truncation: tuple[float, float] = (0.4, 1.0)
    coarse: tuple[int, ...] = (32, 64)
    """Sizes in pixels that are learned first: most of a face is known before an image of full size is drawn."""
    regression: tuple[Training, ...] = field(
        default_factory=lambda: (_training(2000, 4e-3), _training(1500, 4e-3), _training(1500, 3e-3))
    )
    """Of each coarse size, and of the full one."""
    batch: tuple[int, ...] = (8, 4, 4)
    """Images of a part, of each."""
    perceptual: float = 1.0
    adversarial: Training = field(default_factory=lambda: _training(600, 1.5e-3, 0.0))
    adversarial_batch: int = 4
    realism: float = 0.02
    """Weight of the discriminator's opinion beside the regression, which keeps latents what they are."""
    penalty: float = 1.0
    """Of the discriminator's squared gradient at real images (R1; Mescheder et al., ICML 2018), on every 8th step for
    8."""


def distil(
    teacher: ComponentGenerator,
    perceptual: nn.Module | None,
    recipe: Distillation,
    folder: Path,
    accelerator: Accelerator,
    log: Callable[[str], None],
) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
    """The student and its discriminator; what is done stays in ``folder``, and the same call goes on from there."""
    size = 4 * 2 ** (len(recipe.channels) - 1)

    def job(name: str) -> Job:
        return Job(recipe.seed, folder / name, accelerator, log)

    latents, images = teacher_images(teacher, size, recipe, job("images"))
    student = None
    for number, small in enumerate((*recipe.coarse, size)):
        student = grown(student, small, recipe, teacher).to(accelerator.device)
        terms = regression_terms(student, latents, images, perceptual, recipe, recipe.batch[number])
        learners, training = {"generator": student}, recipe.regression[number]
        student = train(learners, terms, training, job(f"regression{small}"), scale=equalised(learners))["generator"]
        log(f"{small} px: {psnr_db(student, teacher):.2f} dB on unseen latents")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        discriminator = StyleGAN2Discriminator(size, channels=list(recipe.channels)).to(accelerator.device)
    learners = {"generator": student, "discriminator": discriminator}
    terms = adversarial_terms(student, discriminator, latents, images, perceptual, recipe)
    made = train(learners, terms, recipe.adversarial, job("adversarial"), scale=equalised(learners))
    log(f"with the discriminator: {psnr_db(made['generator'], teacher):.2f} dB on unseen latents")
    return made["generator"], made["discriminator"]


@torch.no_grad()
def teacher_images(teacher: ComponentGenerator, size: int, recipe: Distillation, job: Job) -> tuple[Tensor, Tensor]:
    """Latents (N, D) and the teacher's images of them (N, 3, size, size), bytes."""
    rng = torch.Generator().manual_seed(recipe.seed)
    latents = sample_latents(teacher, recipe.images, rng, recipe.truncation)

    def make(chosen: range) -> dict[str, Tensor]:
        image = torch.cat([teacher.image_at(latents[i : i + 1], size) for i in chosen])
        return {"image": ((image.clamp(-1, 1) + 1) * 127.5).round().byte()}

    paths = make_chunks(job, recipe.images, make, CHUNK)
    return latents, read_chunks(paths, "image", recipe.images)


def grown(
    student: StyleGAN2Generator | None, size: int, recipe: Distillation, teacher: ComponentGenerator
) -> StyleGAN2Generator:
    """A student of ``size`` pixels that begins as the smaller one, whose image it enlarges at first."""
    layers = len(teacher.mapping.layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        levels = int(math.log2(size)) - 1
        made = StyleGAN2Generator(
            size, channels=list(recipe.channels[:levels]), latent_dim=teacher.latent_dim, mapping_layers=layers
        )
    made.mapping.load_state_dict(teacher.mapping.state_dict())
    made.latent_mean.copy_(teacher.latent_mean)
    for to_rgb in made.to_rgbs[0 if student is None else len(student.to_rgbs) :]:
        to_rgb.weight.mul_(0.1)
    if student is not None:
        made.load_state_dict({**made.state_dict(), **student.state_dict()})
    return made


def equalised(learners: dict[str, nn.Module]) -> Callable[[str], float]:
    """Part of the learning rate by parameter: what equalised learning rate (Karras et al., "Progressive growing of
    GANs", 2018) makes of a step on weights of unit variance. The mapping network stays the teacher's."""
    shapes = {f"{name}.{key}": p.shape for name, module in learners.items() for key, p in module.named_parameters()}

    def scale(name: str) -> float:
        shape = shapes[name]
        if name.startswith("generator.mapping."):
            return 0.0
        return 1 / math.sqrt(math.prod(shape[1:])) if name.endswith("weight") and len(shape) > 1 else 1.0

    return scale


def _drawn(
    latents: Tensor, images: Tensor, count: int, size: int, rng: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    pick = torch.randint(len(latents), (count,), generator=rng)
    image = images[pick].to(device).float() / 127.5 - 1
    return latents[pick].to(device), F.adaptive_avg_pool2d(image, size)


def _likeness(made: Tensor, wanted: Tensor, perceptual: nn.Module | None, weight: float) -> dict[str, Tensor]:
    terms = {"image": (made - wanted).abs().mean()}
    if perceptual is not None:
        with torch.no_grad():
            features = perceptual.features(wanted)
        terms["perceptual"] = feature_loss(perceptual.features(made), features)
    return {**terms, "loss": terms["image"] + weight * terms.get("perceptual", 0.0)}


def regression_terms(
    student: StyleGAN2Generator,
    latents: Tensor,
    images: Tensor,
    perceptual: nn.Module | None,
    recipe: Distillation,
    batch: int,
) -> Callable[[torch.Generator], dict[str, Tensor]]:
    """How far the student's images are from the teacher's, of the same latents."""

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        w, wanted = _drawn(latents, images, batch, student.image_size, rng, student.latent_mean.device)
        return _likeness(student(w), wanted, perceptual, recipe.perceptual)

    return terms


def adversarial_terms(
    student: StyleGAN2Generator,
    discriminator: StyleGAN2Discriminator,
    latents: Tensor,
    images: Tensor,
    perceptual: nn.Module | None,
    recipe: Distillation,
) -> Callable[[torch.Generator], dict[str, Tensor]]:
    """Both players' losses in one: each is a constant to the other."""

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        w, wanted = _drawn(latents, images, recipe.adversarial_batch, student.image_size, rng, latents.device)
        made = student(w)
        found = _likeness(made, wanted, perceptual, recipe.perceptual)
        frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
        found["realism"] = F.softplus(-functional_call(discriminator, frozen, (made,))).mean()
        found["told apart"] = (
            F.softplus(discriminator(made.detach())).mean() + F.softplus(-discriminator(wanted)).mean()
        )
        loss = found["loss"] + recipe.realism * found["realism"] + found["told apart"]
        if int(torch.randint(8, (), generator=rng)) == 0:
            real = wanted.requires_grad_(True)
            slope = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)[0]
            loss = loss + recipe.penalty / 2 * 8 * slope.square().sum(dim=(1, 2, 3)).mean()
        return {**found, "loss": loss}

    return terms


@torch.no_grad()
def psnr_db(student: StyleGAN2Generator, teacher: ComponentGenerator, count: int = 24) -> float:
    """Mean PSNR in dB against the teacher's images of latents that were not taught, truncation 0.7, images in -1..1."""
    w = sample_latents(teacher, count, torch.Generator().manual_seed(10_000), 0.7)
    size, values = student.image_size, []
    for row in w.split(1):
        wanted = F.adaptive_avg_pool2d(teacher.image_at(row, max(size, 64)), size)
        values.append(10 * torch.log10(4 / (student(row) - wanted).square().mean()))
    return float(torch.stack(values).mean())
