"""GAN2ShapePipeline: image or latent in, a 3D scene out (Pan et al., ICLR 2021)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gan2shape_hub.accelerator import check_device, check_precision, find_device, holds_halves
from gan2shape_hub.arguments import finite, listed, whole
from gan2shape_hub.cancel import CancelToken, stoppable
from gan2shape_hub.config import CategoryConfig, ScheduleConfig
from gan2shape_hub.generator import Generator, sample_latents
from gan2shape_hub.given_mask import given_masks
from gan2shape_hub.models.compatible import check_components
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.plan import Abilities, Images, Step, plan
from gan2shape_hub.pretrained import Pretrained
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.records import SHAPE_COMPONENTS, PreparedPhotograph, Progress, Sample
from gan2shape_hub.report import RunReport
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.run import Run
from gan2shape_hub.stages.adjust import adjust
from gan2shape_hub.stages.decompose import decompose
from gan2shape_hub.stages.explore import collect_views, train_projection
from gan2shape_hub.stages.gan_edit import GanEditor
from gan2shape_hub.stages.invert import invert, tune
from gan2shape_hub.stages.light_walk import walk_light
from gan2shape_hub.stages.mask import MIN_COVER, Masker, cover, first_answer, mask_from_nets
from gan2shape_hub.stages.photometric import photometric_stereo
from gan2shape_hub.stages.prepare import ImageSource
from gan2shape_hub.stages.prior import fit_prior
from gan2shape_hub.stages.refine import refine
from gan2shape_hub.stages.turn import turn
from gan2shape_hub.state import State
from gan2shape_hub.surroundings import in_own_surroundings, ordinary_
from gan2shape_hub.targets import Item, check_items, latent_of, make_targets, prepare_photograph

SEEDS = (-(2**63), 2**64 - 1)
"""What torch takes as a seed."""
ALPHA_SIDE = 512
"""Pixels up to which an object's outline is looked for: hair has nothing finer to say to a mesh."""


class GAN2ShapePipeline(Pretrained):
    """Single-image 3D reconstruction out of a 2D GAN.

    Example:
        >>> pipeline = GAN2ShapePipeline.from_pretrained("checkpoints/face")  # doctest: +SKIP
        >>> result = pipeline(pipeline.sample(seed=7), preset="fast")  # doctest: +SKIP
        >>> result.save("out")  # doctest: +SKIP
    """

    @in_own_surroundings
    def __init__(
        self,
        config: CategoryConfig,
        generator: Generator,
        *,
        discriminator: nn.Module | None = None,
        depth_net: nn.Module | None = None,
        albedo_net: nn.Module | None = None,
        view_net: nn.Module | None = None,
        light_net: nn.Module | None = None,
        latent_encoder: nn.Module | None = None,
        perceptual: nn.Module | None = None,
        masker: nn.Module | None = None,
        average_sheet: nn.Module | None = None,
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
                "average_sheet": average_sheet,
            }.items()
            if module is not None
        }
        for module in self.components.values():
            ordinary_(module).requires_grad_(False).eval()
        check_components(config, self.components)
        place = find_device() if device is None else check_device(device)
        self.mixed_precision = check_precision(mixed_precision, place)
        self.to(place)

    # -- components ----------------------------------------------------------------------------------------------

    @property
    def generator(self) -> Generator:
        return self.components["generator"]

    @property
    def discriminator(self) -> nn.Module | None:
        return self.components.get("discriminator")

    @property
    def perceptual(self) -> nn.Module | None:
        return self.components.get("perceptual")

    def to(
        self, device: torch.device | str | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> GAN2ShapePipeline:
        """Move every component, or hold its weights in another type (``from_pretrained`` says what that means), or
        both: ``to("cuda")``, ``to(torch.float16)``, ``to("cuda", torch.float16)``. Returns self."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        self.device = self.device if device is None else check_device(device)
        for module in self.components.values():
            module.to(self.device, dtype)
        return self

    def cpu(self) -> GAN2ShapePipeline:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self, index: int = 0) -> GAN2ShapePipeline:
        """``to("cuda:index")``."""
        return self.to(torch.device("cuda", index))

    def __repr__(self) -> str:
        names = ", ".join(name for name in self.components if name != "generator")
        generator = type(self.generator).__name__
        return f"GAN2ShapePipeline({self.config.category!r}, {generator}, [{names}], device={str(self.device)!r})"

    # -- generating ----------------------------------------------------------------------------------------------

    @in_own_surroundings
    @torch.no_grad()
    def sample(self, seed: int | None = None, truncation: float | None = None) -> Sample:
        """A random image of the generator. ``truncation`` 0..1: 0 is the average image, 1 the whole variety."""
        psi = self.config.truncation if truncation is None else finite(truncation, "truncation")
        if not 0 <= psi <= 1:
            raise ValueError(f"truncation is {psi}, must be between 0 and 1.")
        rng = torch.Generator()
        seed = rng.seed() if seed is None else whole(seed, "seed", *SEEDS)
        rng.manual_seed(seed)
        generator = self._computing("generator").generator
        latent = sample_latents(generator, 1, rng, psi)
        return Sample(to_pil(generator(latent)[0].float().clamp(-1, 1)), latent, seed, psi)

    # -- reconstructing ------------------------------------------------------------------------------------------

    @in_own_surroundings
    def prepare(
        self, photograph: ImageSource, *, align: bool = True, face_index: int | None = None
    ) -> PreparedPhotograph:
        """Read a photograph, find its faces and cut the square that would be reconstructed.

        Args:
            photograph: path, PIL image, array or tensor (3, H, W).
            align, face_index: as the pipeline takes them; they are decided here.

        Returns:
            PreparedPhotograph, which the pipeline takes in the place of the photograph.

        Raises:
            InputError: the photograph cannot be used; its ``code`` says why to programs.
        """
        return prepare_photograph(photograph, self.config, align=align, face_index=face_index)

    def plan(
        self,
        image: Any = Images(photographs=1),  # noqa: B008  (frozen)
        *,
        preset: str | ScheduleConfig | None = None,
        tuned: bool = False,
    ) -> tuple[Step, ...]:
        """What a run would do, step by step; nothing is read or computed.

        Args:
            image: what the pipeline takes, or ``Images``: how many images and how many photographs among them.
            preset, tuned: as the pipeline takes them.

        Raises:
            ConfigError: no such preset, or one that asks for what cannot be together.
        """
        if not isinstance(image, Images):
            given = image if isinstance(image, (list, tuple)) else [image]
            photographs = sum(latent_of(item, self.generator) is None for item in given)
            image = Images(len(given), photographs)
        can = Abilities.of(self.config, pretrained="depth_net" in self.components)
        return plan(self._schedule(preset, tuned), can, image)

    @in_own_surroundings
    def __call__(
        self,
        image: ImageSource | PreparedPhotograph | Sample | Tensor | Sequence[Any],
        *,
        preset: str | ScheduleConfig | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
        callback: Callable[[Progress], Any] | None = None,
        cancel: CancelToken | None = None,
        mask: Any | Masker | None = None,
        align: bool = True,
        face_index: int | None = None,
        tuned: bool = False,
    ) -> Reconstruction | list[Reconstruction]:
        """Reconstruct the shape, albedo, view and light of an image.

        Gradients are switched on and the caller's settings of torch put aside while it runs.

        Args:
            image: a photograph (path, PIL image, array, tensor (3, H, W), or what ``prepare`` returned), a Sample, or a
                latent (D), (1, D) or (1, L, D); or a list of them, reconstructed jointly with one set of networks.
                Where the category aligns its images (``config.align``), the face of a photograph is found and cut out.
            preset: name of a schedule in the checkpoint's config (None: its default), or a ScheduleConfig.
            seed: of all randomness; the same seed gives the same result. ``generator`` overrides it.
            callback: called with a Progress after every iteration; returning False cancels (``Cancelled``).
            cancel: a token that stops the run within a second from any thread (``Cancelled``).
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
            InputError: the image cannot be used; ConfigError: no such preset, or one that asks for what cannot be
            together; Cancelled: the callback or the token said so.
        """
        begun = time.perf_counter()
        self = self._computing(*self.components)
        schedule, seed = self._schedule(preset, tuned), whole(seed, "seed", *SEEDS)
        if generator is not None and (not isinstance(generator, torch.Generator) or generator.device.type != "cpu"):
            raise ValueError(f"generator is {generator!r}, must be a torch.Generator of the CPU: a seed says the same.")
        with stoppable(cancel):
            items = check_items(listed(image), self.generator, self.config, align=align, face_index=face_index)
            images = Images(len(items), sum(item.is_photograph for item in items))
            rng = generator if generator is not None else torch.Generator().manual_seed(seed)
            run = self._run(schedule, rng, images, callback=callback, cancel=cancel)
            state, sources = self._start(items, mask, run, seed)  # images (K, 3, S, S), latents (K, D) or (K, L, D)
            stages: dict[str, Callable[[State, Run], State]] = {
                "invert": invert,  # latents (K, L, D), the generator's images of them (K, 3, S, S)
                "tune": tune,  # a copy of the generator, its images (K, 3, S, S)
                "prior": fit_prior,  # depth net: the ellipsoid
                "turn": turn,  # turned views (K, 1 + M, 3, S, S)
                "adjust": adjust,  # depth (K, S, S), view (K, 6)
                "light": walk_light,  # the images under J other lights (K, 1 + J, 3, S, S)
                "stereo": photometric_stereo,  # depth (K, S, S), view (K, 6); S is the preset's from here on
                "decompose": decompose,  # step 1: albedo (K, 3, S, S)
                "explore": train_projection,  # step 2: latent encoder
                "collect": collect_views,  # step 2: projected views (K, M, 3, S, S)
                "refine": refine,  # step 3: depth (K, S, S), albedo (K, 3, S, S), view (K, 6), light (K, 4)
            }
            for step in run.steps:  # the plan: which of them, how often, in which order
                state = stages[step.name](state, run.at(step))

            name = preset if isinstance(preset, str) else self.config.default_preset if preset is None else "custom"
            report = RunReport(
                category=self.config.category,
                preset=name,
                seed=seed if generator is None else None,
                mixed_precision=self.mixed_precision,
                schedule=run.schedule,
                device=str(run.device),
                steps=tuple(run.clock.steps),
                seconds=round(time.perf_counter() - begun, 2),
                images=len(items),
            )
            results = self._results(state, items, sources, report, mask)
        for result in results:
            result.warn_if_poor()
        return results if isinstance(image, (list, tuple)) else results[0]

    def _computing(self, *names: str) -> GAN2ShapePipeline:
        """This pipeline; on a CPU, which is slow at half precision, one with its components ``names`` in float32."""
        if self.device.type != "cpu" or not any(map(holds_halves, self.components.values())):
            return self
        pipeline = copy.copy(self)
        pipeline.components = {
            name: copy.deepcopy(module).float() if name in names and holds_halves(module) else module
            for name, module in self.components.items()
        }
        return pipeline

    def _schedule(self, preset: str | ScheduleConfig | None, tuned: bool) -> ScheduleConfig:
        schedule = preset if isinstance(preset, ScheduleConfig) else self.config.schedule(preset)
        return schedule if tuned else dataclasses.replace(schedule, tune_iterations=0)

    def _run(self, schedule: ScheduleConfig, rng: torch.Generator, images: Images, **services: Any) -> Run:
        return Run(
            config=self.config,
            schedule=schedule,
            rng=rng,
            steps=self.plan(images, preset=schedule, tuned=True),
            perceptual=self.perceptual,
            discriminator=self.discriminator,
            encoder=self.components.get("latent_encoder"),
            masker=self.components.get("masker"),
            precision=self.mixed_precision,
            device=self.device,
            **services,
        )

    def _start(self, items: list[Item], mask: Any, run: Run, seed: int) -> tuple[State, list[Tensor]]:
        """The state before the first step, and the squares as sharp as they came ((3, P, P) each)."""
        given_masker = mask if callable(mask) and not isinstance(mask, Tensor) else None
        masks = None if given_masker else given_masks(mask, [item.cut for item in items], self.config)
        turns = given_masker is None and self._turns_tell
        targets, sources = make_targets(items, masks, self.generator, run, given_masker or self._masker(), turns)
        state = State(
            targets=targets,
            projection=LatentProjection(self.generator, self.config.projection),
            nets=self._nets(run.schedule, seed),
            photographs=tuple(item.is_photograph for item in items),
            quality_db=(None,) * len(items),
            unlikeness=(None,) * len(items),
            average=self.components["average_sheet"]() if "average_sheet" in self.components else None,
        )
        return state, sources

    @property
    def _turns_tell(self) -> bool:
        """Whether objects are found by what the generator turns: where masks are used and no component makes them."""
        return self.config.use_mask and "masker" not in self.components

    def _masker(self) -> Masker | None:
        """The component's answer; where it finds nothing, or there is none, the pretrained shape nets' own idea of the
        object; None where there are neither."""
        maskers = [self.components["masker"]] if "masker" in self.components else []
        if set(SHAPE_COMPONENTS.values()) <= set(self.components):
            nets = ShapeNets(**{field: self.components[name] for field, name in SHAPE_COMPONENTS.items()})
            maskers.append(partial(mask_from_nets, nets=nets, config=self.config))
        return partial(first_answer, maskers=maskers) if maskers else None

    def _nets(self, schedule: ScheduleConfig, seed: int) -> ShapeNets:
        """Copies of the checkpoint's networks, fresh ones where it has none: nothing carries over between images."""
        wanted = SHAPE_COMPONENTS if schedule.from_pretrained else {"encoder": SHAPE_COMPONENTS["encoder"]}
        given = {field: self.components[name] for field, name in wanted.items() if name in self.components}
        if given.keys() == SHAPE_COMPONENTS.keys():  # random numbers for all of them take longer than a short run
            nets = ShapeNets(**given)
        else:
            encoding_size = LatentProjection(self.generator, self.config.projection).encoding_size
            nets = dataclasses.replace(ShapeNets.create(self.config, encoding_size, seed=seed), **given)
        return nets.clone().to(self.device).frozen()

    @torch.no_grad()
    def _results(
        self, state: State, items: list[Item], sources: list[Tensor], report: RunReport, mask: Any
    ) -> list[Reconstruction]:
        editor = GanEditor(state.nets.encoder, state.generator, state.projection, self.components.get("masker"))
        scene, targets, results = state.seen(self.config), state.targets, []
        for k, item in enumerate(items):
            own = dataclasses.replace(report, input=item.report, number=k + 1, **state.quality(k))
            results.append(
                Reconstruction(
                    config=self.config,
                    source=sources[k],
                    image=targets.images[k],
                    scene=scene.select(slice(k, k + 1)),
                    latent=targets.latents[k : k + 1],
                    original=targets.originals[k : k + 1],
                    editor=editor,
                    alignment=item.cut,
                    report=own,
                    alpha=self._alpha(item, sources[k], targets.masks[k], mask),
                )
            )
        return results

    def _alpha(self, item: Item, source: Tensor, known: Tensor, mask: Any) -> Tensor | None:
        """(M, M) where the object is: ``known`` (1, S, S) where the user, the photograph, the category's frame or the
        generator's turns said so, else what the masker component says of ``source`` (3, P, P), as sharp as that; None
        where there is next to no object, or only the shape networks guess."""
        if float(cover(known[None])) < MIN_COVER:
            return None
        turned = item.cut is None and self._turns_tell and bool(self.config.projection.view_directions)
        told = turned or min(self.config.frame) < 1 or mask is not None
        if told or (item.cut is not None and item.cut.square.mode == "RGBA"):
            return known[0]
        if "masker" not in self.components:
            return None
        side = min(source.shape[-1], ALPHA_SIDE)
        fine = torch.nn.functional.interpolate(source[None], (side, side), mode="bilinear", antialias=True)
        return self.components["masker"](fine)[0, 0].float()
