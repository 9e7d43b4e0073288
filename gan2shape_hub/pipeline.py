"""GAN2ShapePipeline: image or latent in, a 3D scene out (Pan et al., ICLR 2021)."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gan2shape_hub import hub
from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.config import CategoryConfig, ScheduleConfig
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.reconstruction import GanEditor, Reconstruction
from gan2shape_hub.records import SHAPE_COMPONENTS, Alignment, Progress, Scene, Targets
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.run import STEP_COST, Clock, Run
from gan2shape_hub.stages.align import align_photograph
from gan2shape_hub.stages.decompose import decompose
from gan2shape_hub.stages.explore import collect_views, train_projection
from gan2shape_hub.stages.invert import invert, tune
from gan2shape_hub.stages.prepare import ImageSource, InputError, Prepared, load_image, prepare_square
from gan2shape_hub.stages.prior import fit_prior
from gan2shape_hub.stages.refine import refine
from gan2shape_hub.version import __version__

OPTIONAL_COMPONENTS = ("discriminator", *SHAPE_COMPONENTS.values(), "perceptual", "masker")


@dataclass(frozen=True)
class Sample:
    """A generated image: image at full size, latent (1, D). Unpacks as ``image, latent = pipeline.sample()``."""

    image: Image.Image
    latent: Tensor
    seed: int | None
    truncation: float

    def __iter__(self) -> Iterator[Any]:
        return iter((self.image, self.latent))


class GAN2ShapePipeline:
    """Single-image 3D reconstruction out of a 2D GAN.

    Example:
        >>> pipeline = GAN2ShapePipeline.from_pretrained("checkpoints/face")  # doctest: +SKIP
        >>> result = pipeline(pipeline.sample(seed=7), preset="fast")  # doctest: +SKIP
        >>> result.save("out")  # doctest: +SKIP
    """

    def __init__(
        self,
        config: CategoryConfig,
        generator: nn.Module,
        *,
        discriminator: nn.Module | None = None,
        depth_net: nn.Module | None = None,
        albedo_net: nn.Module | None = None,
        view_net: nn.Module | None = None,
        light_net: nn.Module | None = None,
        latent_encoder: nn.Module | None = None,
        perceptual: nn.Module | None = None,
        masker: nn.Module | None = None,
        device: torch.device | str | None = None,
        mixed_precision: str = "no",
    ) -> None:
        self.config = config
        self.components: dict[str, nn.Module] = {
            name: module
            for name, module in {
                "generator": generator,
                "discriminator": discriminator,
                "depth_net": depth_net,
                "albedo_net": albedo_net,
                "view_net": view_net,
                "light_net": light_net,
                "latent_encoder": latent_encoder,
                "perceptual": perceptual,
                "masker": masker,
            }.items()
            if module is not None
        }
        for module in self.components.values():
            module.requires_grad_(False).eval()
        self.mixed_precision = mixed_precision
        self.to(device or make_accelerator(None, mixed_precision).device)

    # -- components ----------------------------------------------------------------------------------------------

    @property
    def generator(self) -> nn.Module:
        return self.components["generator"]

    @property
    def discriminator(self) -> nn.Module | None:
        return self.components.get("discriminator")

    @property
    def perceptual(self) -> nn.Module | None:
        return self.components.get("perceptual")

    def to(self, device: torch.device | str) -> GAN2ShapePipeline:
        """Move every component; returns self."""
        self.device = torch.device(device)
        for module in self.components.values():
            module.to(self.device)
        return self

    # -- folders and the Hub -------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        variant: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        mixed_precision: str = "no",
        **component_overrides: nn.Module | None,
    ) -> GAN2ShapePipeline:
        """Load a checkpoint folder or Hub repository.

        Args:
            name_or_folder: an existing folder wins over a Hub id ``org/name``.
            revision, token, cache_dir, force_download, local_files_only: as ``huggingface_hub`` has them.
            variant: weights named ``model.<variant>.safetensors``.
            dtype: of the weights in memory; the reconstruction itself trains in float32.
            device: None takes the GPU, MPS or CPU that accelerate finds.
            mixed_precision: "no", "bf16" or "fp16" autocast of the networks during reconstruction.
            component_overrides: a component by name (``depth_net=...``), or None to leave it out.

        Raises:
            OSError: one sentence naming what is missing or malformed, and the remedy.
        """
        unknown = set(component_overrides) - {"generator", *OPTIONAL_COMPONENTS}
        if unknown:
            raise TypeError(
                f"from_pretrained has no argument {sorted(unknown)[0]!r}: components are generator, "
                f"{', '.join(OPTIONAL_COMPONENTS)}."
            )
        folder = hub.resolve(
            name_or_folder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            variant=variant,
        )
        config, components = hub.load_components(
            folder, variant=variant, dtype=dtype, overrides=component_overrides or None
        )
        return cls(config, **components, device=device, mixed_precision=mixed_precision)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        variant: str | None = None,
        max_shard_size: str = "5GB",
        dtype: torch.dtype | None = None,
        card: str | None = None,
    ) -> Path:
        """Write the checkpoint folder that ``from_pretrained`` opens, atomically. ``dtype`` stores floats in it."""
        hub.save_components(
            folder,
            self.config,
            self.components,
            card=card,
            variant=variant,
            max_shard_size=max_shard_size,
            dtype=dtype,
        )
        return Path(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload category",
        token: str | None = None,
        variant: str | None = None,
        dtype: torch.dtype | None = None,
        card: str | None = None,
    ) -> str:
        """Publish the checkpoint as a model repository of the Hub; returns the commit's address."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / "checkpoint", variant=variant, dtype=dtype, card=card)
            return hub.push(
                folder,
                repo_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
            )

    # -- generating ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, seed: int | None = None, truncation: float | None = None) -> Sample:
        """A random image of the generator. ``truncation`` 0..1: 0 is the average image, 1 the whole variety."""
        psi = self.config.truncation if truncation is None else truncation
        if not 0 <= psi <= 1:
            raise ValueError(f"truncation is {psi}, must be between 0 and 1.")
        rng = torch.Generator()
        if seed is None:
            seed = rng.seed()
        rng.manual_seed(seed)
        z = torch.randn(1, self.generator.latent_dim, generator=rng).to(self.device, self._dtype)
        latent = self.generator.truncate(self.generator.mapping(z), psi)
        return Sample(to_pil(self.generator(latent)[0].float().clamp(-1, 1)), latent, seed, psi)

    # -- reconstructing ------------------------------------------------------------------------------------------

    def __call__(
        self,
        image: ImageSource | Sample | Tensor | Sequence[Any],
        *,
        preset: str | ScheduleConfig | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
        callback: Callable[[Progress], Any] | None = None,
        mask: Tensor | None = None,
        align: bool = True,
        face_index: int | None = None,
        tuned: bool = False,
    ) -> Reconstruction | list[Reconstruction]:
        """Reconstruct the shape, albedo, view and light of an image.

        Args:
            image: a photograph (path, PIL image, array, tensor (3, H, W)), a Sample, or a latent (D), (1, D) or
                (1, L, D); or a list of them, reconstructed jointly with one set of networks. Where the category
                aligns its images (``config.align``), the face of a photograph is found and cut out.
            preset: name of a schedule in the checkpoint's config (None: its default), or a ScheduleConfig.
            seed: of all randomness; the same seed gives the same result. ``generator`` overrides it.
            callback: called with a Progress after every iteration; returning False cancels (``Cancelled``).
            mask: (S, S) or (1, 1, S, S) object mask in 0..1 for categories that use one; by default the image's
                alpha channel.
            align: False takes the photograph's central square as it is.
            face_index: which face of a photograph with several, 0 being the largest; None takes the largest.
            tuned: also adapt a copy of the generator to the photographs (pivotal tuning, Roich et al., 2021), for
                ``tune_iterations`` of the schedule; slower, and closer to the person. The checkpoint's never changes.

        Returns:
            A Reconstruction, or a list for a list.

        Raises:
            InputError: the image cannot be used; ConfigError: no such preset; Cancelled: the callback said so.
        """
        begun = time.perf_counter()
        items = list(image) if isinstance(image, (list, tuple)) else [image]
        if not items:
            raise InputError("image is an empty list, must hold at least one image or latent.")
        schedule = preset if isinstance(preset, ScheduleConfig) else self.config.schedule(preset)
        if not tuned:
            schedule = dataclasses.replace(schedule, tune_iterations=0)
        rng = generator if generator is not None else torch.Generator().manual_seed(seed)
        run = self._run(
            schedule, rng, callback, photographs=sum(not self._is_latent(i) for i in items), count=len(items)
        )

        cuts = [self._cut(item, align, face_index, k, len(items)) for k, item in enumerate(items)]
        # sources (3, P, P) each; images (K, 3, S, S), latents (K, L, D)
        sources, targets, quality = self._targets(items, cuts, mask, run)
        if schedule.tune_iterations and any(cuts):
            run, targets, quality = tune(targets, [cut is not None for cut in cuts], run)  # a copy of the generator
        nets = self._nets(schedule, seed)
        if not self._pretrained(schedule):
            fit_prior(nets, targets, run)  # depth: the ellipsoid
        for index, this_round in enumerate(schedule.rounds):
            run = dataclasses.replace(run, round=index)
            # albedo (K, 3, S, S)
            decompose(nets, targets, this_round.decompose, run, mirror=this_round.mirror_decompose)
            if this_round.explore:
                train_projection(nets, targets, this_round.explore, run)
            if this_round.refine:
                count = min(schedule.collected_batches * schedule.batch_size, 4 * this_round.refine)
                views = collect_views(nets, targets, max(count // len(items), 1), run)  # (K, M, 3, S, S)
                refine(nets, targets, views, this_round, run)  # depth (K, S, S), view (K, 6), light (K, 4)

        settings = self._settings(schedule, preset, seed if generator is None else None, time.perf_counter() - begun)
        results = self._results(nets, sources, targets, items, cuts, quality, run, settings)
        return results if isinstance(image, (list, tuple)) else results[0]

    def _run(self, schedule: ScheduleConfig, rng, callback, photographs: int, count: int) -> Run:
        clock = Clock(planned=max(self._planned_cost(schedule, photographs, count), 1e-6))
        return Run(
            config=self.config,
            schedule=schedule,
            accelerator=make_accelerator(self.device, self.mixed_precision),
            rng=rng,
            generator=self.generator,
            projection=LatentProjection(self.generator, self.config.projection),
            perceptual=self.perceptual,
            discriminator=self.discriminator,
            callback=callback,
            clock=clock,
            device=self.device,
        )

    def _planned_cost(self, schedule: ScheduleConfig, photographs: int, count: int) -> float:
        cost = photographs * schedule.invert_iterations * STEP_COST["invert"]
        cost += schedule.tune_iterations * STEP_COST["tune"] if photographs else 0
        if not self._pretrained(schedule):
            cost += schedule.prior_iterations * STEP_COST["prior"]
        for r in schedule.rounds:
            cost += r.decompose * STEP_COST["decompose"] + r.explore * STEP_COST["explore"]
            if r.refine:
                collected = min(schedule.collected_batches, -(-4 * r.refine // schedule.batch_size))
                cost += r.refine * STEP_COST["refine"] + max(collected, count) * STEP_COST["collect"]
        return cost

    def _pretrained(self, schedule: ScheduleConfig) -> bool:
        return schedule.from_pretrained and "depth_net" in self.components

    def _nets(self, schedule: ScheduleConfig, seed: int) -> ShapeNets:
        """Copies of the checkpoint's networks, fresh ones where it has none: nothing carries over between images."""
        projection = LatentProjection(self.generator, self.config.projection)
        fresh = ShapeNets.create(self.config, projection.encoding_size, seed=seed)
        given = {field: self.components[name] for field, name in SHAPE_COMPONENTS.items() if name in self.components}
        if not schedule.from_pretrained:
            given = {field: net for field, net in given.items() if field == "encoder"}
        return dataclasses.replace(fresh, **given).clone().to(self.device)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.generator.parameters()).dtype

    def _is_latent(self, item: Any) -> bool:
        if isinstance(item, Sample):
            return True
        return (
            isinstance(item, Tensor)
            and item.ndim < 4
            and item.shape[-1] == self.generator.latent_dim
            and (item.ndim == 1 or item.shape[0] == 1)
        )

    def _cut(self, item: Any, align: bool, face_index: int | None, index: int, count: int) -> Alignment | None:
        """The square of a photograph; None for a latent."""
        if self._is_latent(item):
            return None
        label = f"'{item}'" if isinstance(item, (str, Path)) else "image" if count == 1 else f"image {index + 1}"
        how = self.config.align if align else "none"
        return align_photograph(load_image(item, name=label), how, self.config.image_size, face_index, label)

    def _targets(
        self, items: list[Any], cuts: list[Alignment | None], mask: Tensor | None, run: Run
    ) -> tuple[list[Tensor], Targets, list[float | None]]:
        """Sources (3, P, P) each, the targets, and how well each photograph was inverted (dB; None for latents)."""
        size, sources, images, latents, originals, masks = self.config.image_size, [], [], [], [], []
        quality: list[float | None] = []
        for item, cut in zip(items, cuts, strict=True):
            if cut is None:
                latent = item.latent if isinstance(item, Sample) else item
                latent = latent.reshape(1, *latent.shape[-2:]) if latent.ndim == 3 else latent.reshape(1, -1)
                if not bool(torch.isfinite(latent).all()):
                    raise InputError("latent has values that are not finite: pass the latent of a sample.")
                latent = latent.to(self.device, self._dtype)
                with torch.no_grad():
                    full = self.generator(latent).float().clamp(-1, 1)
                    original = run.gan_image(latent, size).float().clamp(-1, 1)
                prepared = self._prepare(to_pil(full[0]))
                quality.append(None)
            else:
                prepared = self._prepare(cut.square)
                found = invert(prepared.image.to(self.device), run.schedule.invert_iterations, run)
                latent, original = found.latent, found.image
                quality.append(round(found.psnr_db, 2))
            sources.append(prepared.source[0].to(self.device))
            images.append(prepared.image.to(self.device))
            latents.append(latent.float())
            originals.append(original)
            masks.append(self._mask(mask, prepared))
        if len({latent.ndim for latent in latents}) > 1:
            layers = self.generator.num_latents
            latents = [w if w.ndim == 3 else w[:, None].expand(-1, layers, -1) for w in latents]
        targets = Targets(
            images=torch.cat(images),
            latents=torch.cat(latents),
            originals=torch.cat(originals),
            masks=torch.cat(masks) if self.config.use_mask else None,
        )
        return sources, targets, quality

    def _prepare(self, square: Image.Image) -> Prepared:
        crop = round(min(square.size) * self.config.crop_fraction) if self.config.center_crop else 0
        return prepare_square(square, self.config.image_size, center_crop=crop)

    def _mask(self, mask: Tensor | None, prepared: Prepared) -> Tensor:
        size = self.config.image_size
        if mask is not None:
            if mask.numel() != size * size:
                raise InputError(f"mask has shape {tuple(mask.shape)}, must be ({size}, {size}).")
            return mask.reshape(1, 1, size, size).float().to(self.device)
        if prepared.mask is not None:
            return prepared.mask.to(self.device)
        return torch.ones(1, 1, size, size, device=self.device)

    @torch.no_grad()
    def _results(
        self, nets, sources, targets: Targets, items, cuts, quality, run: Run, settings: dict
    ) -> list[Reconstruction]:
        for _, module in nets.modules():
            module.eval().requires_grad_(False)
        editor = GanEditor(encoder=nets.encoder, generator=run.generator, projection=run.projection)
        results = []
        for k, source in enumerate(sources):
            scene = nets.predict_scene(targets.images[k : k + 1], self.config)
            item = items[k]
            own = {"sample_seed": item.seed, "truncation": item.truncation} if isinstance(item, Sample) else {}
            if cuts[k] is not None:
                own = {"faces": cuts[k].faces, "square": [round(float(v), 2) for v in cuts[k].matrix.ravel()]}
            results.append(
                Reconstruction(
                    config=self.config,
                    source=source,
                    image=targets.images[k],
                    scene=Scene(scene.depth, scene.albedo, scene.view, scene.light),
                    latent=targets.latents[k : k + 1],
                    original=targets.originals[k : k + 1],
                    editor=editor,
                    alignment=cuts[k],
                    settings={**settings, **own, "psnr_db": quality[k]},
                )
            )
        return results

    def _settings(self, schedule: ScheduleConfig, preset, seed: int | None, seconds: float) -> dict[str, Any]:
        return {
            "category": self.config.category,
            "preset": preset
            if isinstance(preset, str)
            else (self.config.default_preset if preset is None else "custom"),
            "schedule": dataclasses.asdict(schedule),
            "seed": seed,
            "device": str(self.device),
            "mixed_precision": self.mixed_precision,
            "seconds": round(seconds, 2),
            "versions": {
                "gan2shape_hub": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
