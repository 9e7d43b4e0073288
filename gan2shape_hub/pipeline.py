"""GAN2ShapePipeline: image or latent in, a 3D scene out (Pan et al., ICLR 2021)."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan2shape_hub import hub
from gan2shape_hub.accelerator import check_device, make_accelerator
from gan2shape_hub.config import CategoryConfig, ConfigError, ScheduleConfig
from gan2shape_hub.given_mask import given_masks
from gan2shape_hub.models.compatible import check_components
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.records import SHAPE_COMPONENTS, Progress, Sample, Scene
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.run import Clock, Run, planned_cost
from gan2shape_hub.stages.adjust import adjust
from gan2shape_hub.stages.decompose import decompose
from gan2shape_hub.stages.explore import collect_views, train_projection
from gan2shape_hub.stages.gan_edit import GanEditor
from gan2shape_hub.stages.invert import tune
from gan2shape_hub.stages.mask import Masker, first_answer, mask_from_nets
from gan2shape_hub.stages.prepare import ImageSource
from gan2shape_hub.stages.prior import fit_prior
from gan2shape_hub.stages.refine import refine
from gan2shape_hub.stages.turn import collect_turned
from gan2shape_hub.targets import Inputs, Item, check_items, make_inputs

OPTIONAL_COMPONENTS = ("discriminator", *SHAPE_COMPONENTS.values(), "perceptual", "masker")


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
        check_components(config, self.components)
        self.mixed_precision = mixed_precision
        wanted = None if device is None else check_device(device)
        found = make_accelerator(wanted, mixed_precision).device
        self.to(wanted or found)

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
        self.device = check_device(device)
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
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str | None = None,
        low_memory: bool = True,
        mixed_precision: str = "no",
        **component_overrides: nn.Module | None,
    ) -> GAN2ShapePipeline:
        """Load a checkpoint folder or Hub repository.

        Args:
            name_or_folder: an existing folder wins over a Hub id ``org/name``.
            revision, token, cache_dir, force_download, local_files_only: as ``huggingface_hub`` has them.
            variant: weights named ``model.<variant>.safetensors``.
            dtype: of the weights in memory, ``torch.float32``, ``torch.float16`` or ``torch.bfloat16`` (or ``"fp32"``,
                ``"fp16"``, ``"bf16"``); the reconstruction itself trains in float32.
            device: None takes the GPU, MPS or CPU that accelerate finds. Weights go there straight from the files.
            low_memory: never hold a second copy of the weights while loading; False builds every network in full
                before it is filled. The pipeline is the same.
            mixed_precision: "no", "bf16" or "fp16" autocast of the networks during reconstruction.
            component_overrides: a component by name (``depth_net=...``), or None to leave it out; its files are
                neither fetched nor looked at.

        Raises:
            OSError: one sentence naming what is missing or malformed, and the remedy.
            ValueError: ``dtype``, ``device``, ``variant`` or ``mixed_precision`` is none that there is.
        """
        unknown = set(component_overrides) - {"generator", *OPTIONAL_COMPONENTS}
        if unknown:
            raise TypeError(
                f"from_pretrained has no argument {sorted(unknown)[0]!r}: components are generator, "
                f"{', '.join(OPTIONAL_COMPONENTS)}."
            )
        dtype = hub.check_dtype(dtype)
        place = make_accelerator(None if device is None else check_device(device), mixed_precision).device
        folder = hub.resolve(
            name_or_folder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            variant=variant,
            only=tuple(name for name in hub.COMPONENTS if name not in component_overrides),
        )
        config, components = hub.load_components(
            folder,
            variant=variant,
            dtype=dtype,
            device=place if device is None else device,
            overrides=component_overrides or None,
            low_memory=low_memory,
        )
        try:
            return cls(config, **components, device=device, mixed_precision=mixed_precision)
        except ConfigError as error:  # networks that do not belong together
            raise hub.CheckpointError(f"{folder}: {error}") from None

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        variant: str | None = None,
        max_shard_size: int | str = "5GB",
        dtype: torch.dtype | str | None = None,
        card: str | None = None,
    ) -> Path:
        """Write the checkpoint folder that ``from_pretrained`` opens: whole or not at all, the same bytes every time.

        Args:
            variant: part of the weights' names, ``model.<variant>.safetensors``.
            max_shard_size: larger components are split into files of at most so many bytes (``"500MB"``, or a number).
            dtype: floating point tensors are stored as it (None: as they are).
            card: text of README.md (None keeps the one that is there, or writes a plain one).

        Raises:
            OSError: ``folder`` holds something else, or cannot be written.
        """
        return hub.save_components(
            folder,
            self.config,
            self.components,
            card=card,
            variant=variant,
            max_shard_size=max_shard_size,
            dtype=None if dtype is None else hub.check_dtype(dtype),
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload category",
        token: str | bool | None = None,
        variant: str | None = None,
        max_shard_size: int | str = "5GB",
        dtype: torch.dtype | str | None = None,
        card: str | None = None,
    ) -> str:
        """Publish the checkpoint as a model repository of the Hub; returns the commit's (or pull request's) address.

        ``private``, ``revision``, ``create_pr``, ``commit_message`` and ``token`` are as ``huggingface_hub`` has them,
        the rest as in ``save_pretrained``. OSError in one sentence with the remedy.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(
                Path(temporary) / "checkpoint", variant=variant, max_shard_size=max_shard_size, dtype=dtype, card=card
            )
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
        mask: Any | Masker | None = None,
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
            mask: object mask, 1 on the object, of the photograph or of the square that is cut out of it, of any size (a
                path, a PIL image, an array or a tensor; see ``given_mask.py``), or a function that makes it of images
                (1, 3, S, S) in -1..1. By default the image's alpha channel; where it has none, the ``masker``
                component's answer, or what the pretrained shape nets tell (``stages/mask.py``).
            align: False takes the photograph's central square as it is.
            face_index: which face of a photograph with several, 0 being the largest; None takes the largest.
            tuned: also adapt a copy of the generator to the photographs (pivotal tuning, Roich et al., 2021), for
                ``tune_iterations`` of the schedule; slower, and closer to the person. The checkpoint's never changes.

        Returns:
            A Reconstruction, or a list for a list. A ``UserWarning`` says where the generator could not express a
            photograph (``Reconstruction.inversion_db``).

        Raises:
            InputError: the image cannot be used; ConfigError: no such preset; Cancelled: the callback said so.
        """
        begun = time.perf_counter()
        schedule = preset if isinstance(preset, ScheduleConfig) else self.config.schedule(preset)
        if not tuned:
            schedule = dataclasses.replace(schedule, tune_iterations=0)
        several = isinstance(image, (list, tuple))
        given = list(image) if several else [image]
        items = check_items(given, self.generator, self.config, align=align, face_index=face_index)
        given_masker = mask if callable(mask) and not isinstance(mask, Tensor) else None
        masks = None if given_masker else given_masks(mask, [item.cut for item in items], self.config)
        rng = generator if generator is not None else torch.Generator().manual_seed(seed)
        photographs = [item.cut is not None for item in items]
        run = self._run(schedule, rng, callback, photographs=sum(photographs), count=len(items))

        masker = given_masker or self._masker()
        encoder = self.components.get("latent_encoder")
        inputs = make_inputs(items, masks, run, masker, encoder)  # images (K, 3, S, S), latents (K, D) or (K, L, D)
        targets, quality = inputs.targets, inputs.quality_db
        if schedule.tune_iterations and any(photographs):
            run, targets, quality = tune(targets, photographs, run)  # a copy of the generator
        nets = self._nets(schedule, seed)
        if not self._pretrained(schedule):
            fit_prior(nets, targets, run)  # depth: the ellipsoid
        scene = None
        if schedule.adjusts:
            turned = collect_turned(nets, targets, schedule.turned_views, run)  # (K, 1 + M, 3, S, S) or None
            if turned is not None:  # depth (K, S, S), view (K, 6)
                scene = adjust(nets, targets, turned, schedule.adjust_iterations, run)
        for index, this_round in enumerate(schedule.rounds):
            run = dataclasses.replace(run, round=index)
            if this_round.decompose:  # albedo (K, 3, S, S)
                mirror = this_round.mirror_decompose
                decompose(nets, targets, this_round.decompose, run, mirror=mirror, scene=scene)
            if this_round.explore:
                train_projection(nets, targets, this_round.explore, run)
            if this_round.refine:
                views = collect_views(nets, targets, schedule.views_of_each(len(items)), run)  # (K, M, 3, S, S)
                refine(nets, targets, views, this_round, run)  # depth (K, S, S), view (K, 6), light (K, 4)

        name = preset if isinstance(preset, str) else self.config.default_preset if preset is None else "custom"
        settings = {"category": self.config.category, "preset": name, "seed": seed if generator is None else None}
        settings |= {"mixed_precision": self.mixed_precision, **run.record()}
        settings["seconds"] = round(time.perf_counter() - begun, 2)
        inputs = Inputs(targets, inputs.sources, quality)
        results = self._results(nets, items, inputs, run, settings, scene)
        for result in results:
            result.warn_if_poor()
        return results if several else results[0]

    def _run(self, schedule: ScheduleConfig, rng, callback, photographs: int, count: int) -> Run:
        cost = planned_cost(
            schedule,
            photographs=photographs,
            count=count,
            prior=not self._pretrained(schedule),
            turns=bool(self.config.projection.view_directions),
        )
        clock = Clock(planned=max(cost, 1e-6))
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

    def _masker(self) -> Masker | None:
        """The component's answer; where it finds nothing, or there is none, the pretrained shape nets' own idea of the
        object; None where there are neither."""
        maskers = [self.components["masker"]] if "masker" in self.components else []
        if set(SHAPE_COMPONENTS.values()) <= set(self.components):
            nets = ShapeNets(**{field: self.components[name] for field, name in SHAPE_COMPONENTS.items()})
            maskers.append(partial(mask_from_nets, nets=nets, config=self.config))
        return partial(first_answer, maskers=maskers) if maskers else None

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

    @torch.no_grad()
    def _results(
        self,
        nets: ShapeNets,
        items: list[Item],
        inputs: Inputs,
        run: Run,
        settings: dict[str, Any],
        adjusted: Scene | None,
    ) -> list[Reconstruction]:
        for _, module in nets.modules():
            module.eval().requires_grad_(False)
        editor = GanEditor(encoder=nets.encoder, generator=run.generator, projection=run.projection)
        results, targets = [], inputs.targets
        for k, item in enumerate(items):
            scene = nets.predict_scene(targets.images[k : k + 1], self.config)
            if adjusted is not None:
                scene = dataclasses.replace(scene, depth=adjusted.depth[k : k + 1], view=adjusted.view[k : k + 1])
            joint = {"joint": {"image": k + 1, "images": len(items)}} if len(items) > 1 else {}
            results.append(
                Reconstruction(
                    config=self.config,
                    source=inputs.sources[k],
                    image=targets.images[k],
                    scene=scene,
                    latent=targets.latents[k : k + 1],
                    original=targets.originals[k : k + 1],
                    editor=editor,
                    alignment=item.cut,
                    settings={**settings, **joint, **item.settings, "psnr_db": inputs.quality_db[k]},
                )
            )
        return results
