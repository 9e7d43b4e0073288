"""What a pipeline returns: a reconstructed scene that can be looked at, edited and saved."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trimesh
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.editing import Editing
from gan2shape_hub.generator import Generator
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.records import Alignment, Scene
from gan2shape_hub.rendering import Light, Pose
from gan2shape_hub.rendering.scene import resized_scene
from gan2shape_hub.report import RunReport
from gan2shape_hub.results.edit import LightLike, rotate_poses
from gan2shape_hub.results.export import ExportOptions, export_scene
from gan2shape_hub.results.mesh import MAX_STRETCH, SheetMesh
from gan2shape_hub.results.mesh_files import HEIGHT_MM, to_trimesh
from gan2shape_hub.results.model import Model, ModelOptions, Shape, TextureKind
from gan2shape_hub.results.paste import FEATHER
from gan2shape_hub.results.sides import Sides, align_sides
from gan2shape_hub.results.texture import BakedTexture
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.stages.gan_edit import GanEditor, side_pictures
from gan2shape_hub.stages.mask import mask_from_scene
from gan2shape_hub.surroundings import class_in_own_surroundings


@class_in_own_surroundings
@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One reconstructed image. Tensors are on the pipeline's device, without batch dimension.

    S is the sheet's side, N what the networks saw (``config.image_size``), T the texture's (the photograph's side, at
    most 1024). Images are (3, H, W) in -1..1, depths in scene units (about 0.9..1.1, larger is further).

    A record; what is seen of it is made by its `Viewer`, its edits by an `Editing`, its files by ``results.export``.
    """

    config: CategoryConfig
    source: Tensor
    """(3, P, P) the prepared photograph, as sharp as it came."""
    image: Tensor
    """(3, N, N) what the networks saw."""
    scene: Scene
    """Canonical depth (1, S, S), albedo (1, 3, S, S), view (1, 6) and light (1, 4), in network-output units."""
    latent: Tensor
    """(1, D) or (1, L, D)."""
    original: Tensor
    """(1, 3, N, N) the generator's own image of the latent."""
    editor: GanEditor
    report: RunReport
    """Preset, seed, versions, timings, losses: enough to repeat the run."""
    alignment: Alignment | None = None
    """Where the square lies in the photograph; None for a latent."""
    alpha: Tensor | None = None
    """(M, M) in 0..1 where the photograph shows the object: given, the photograph's own, or the ``masker`` component's
    answer. The mesh is cut out there; None: it keeps the background."""
    known_sides: Sides | None = None
    """Of ``sides``, where they were drawn before."""

    def __repr__(self) -> str:
        report = self.report
        words = [report.category, f"preset '{report.preset}'", f"seed {report.seed}"]
        words += [f"sheet {self.depth.shape[-1]} px", f"source {self.source.shape[-1]} px"]
        words += [] if self.inversion_db is None else [f"inverted at {self.inversion_db:.1f} dB"]
        return f"Reconstruction({', '.join(words)}, {self.depth.device})"

    @cached_property
    def viewer(self) -> Viewer:
        """What pictures of the scene are made by."""
        return Viewer(
            self.config.camera,
            self.source,
            self.depth,
            self.albedo,
            self.pose,
            self.light,
            self.object_mask,
            cut_out=self.alpha is not None,
            sides=lambda: self.sides,
        )

    @cached_property
    def sides(self) -> Sides | None:
        """The object from its left and right, as the generator draws it, aligned to the sheet; drawn when they are
        first asked for. None where it cannot: no directions, no masker, or a photograph that is somebody else to it."""
        if self.known_sides is not None or not self.editor.turns or self.alpha is None or self.shows_another:
            return self.known_sides
        camera, viewer = self.config.camera, self.viewer
        images, masks, turns = side_pictures(self.editor, self.latent, float(self.view[1]), self.config.crop_fraction)
        starts = rotate_poses([(turn * camera.view_angle_deg, 0.0) for turn in turns], camera, start=self.pose)
        pictures, sheet = (
            (images.to(self.depth), masks.to(self.depth)),
            (viewer.baked, viewer.depth, viewer.pose, camera),
        )
        return align_sides(*pictures, starts, *sheet, self.config.details, self.config.prior.default_box)

    @cached_property
    def _editing(self) -> Editing:
        return Editing(
            config=self.config,
            viewer=self.viewer,
            image=self.image[None],
            original=self.original,
            latent=self.latent,
            scene=self.scene,
            gan=self.editor,
            alignment=self.alignment,
            object_mask=self.object_mask,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """The report as result.json has it; to be read, ``with_report`` changes it."""
        return MappingProxyType(self.report.to_dict())

    def with_report(self, **changes: Any) -> Reconstruction:
        """The same with other fields in its report, such as the ``checkpoint`` that the caller knows."""
        return dataclasses.replace(self, report=dataclasses.replace(self.report, **changes))

    # -- what was found ------------------------------------------------------------------------------------------

    @property
    def depth(self) -> Tensor:
        """(S, S) canonical depth."""
        return self.scene.depth[0]

    @property
    def albedo(self) -> Tensor:
        """(3, S, S) canonical albedo."""
        return self.scene.albedo[0]

    @property
    def view(self) -> Tensor:
        """(6) view in network-output units."""
        return self.scene.view[0]

    @property
    def light(self) -> Light:
        """The photograph's light, batch of one."""
        return Light.from_output(self.scene.light)

    @property
    def pose(self) -> Pose:
        """Canonical frame to the photograph's view, batch of one."""
        return Pose.from_view(self.scene.view, self.config.camera)

    @property
    def view_depth(self) -> Tensor:
        """(S, S) depth seen from the photograph's viewpoint."""
        return self.viewer.seen[0]

    @property
    def mask(self) -> Tensor:
        """(S, S) 1 where the sheet is seen from the photograph's viewpoint."""
        return self.viewer.seen[1]

    @property
    def normals(self) -> Tensor:
        """(3, S, S) canonical unit normals."""
        return self.viewer.normals

    @property
    def reconstruction(self) -> Tensor:
        """(3, S, S) the scene rendered in the photograph's view."""
        return self.viewer.reconstruction

    @property
    def baked(self) -> BakedTexture:
        """The photograph in the canonical frame, and where it shows the texel."""
        return self.viewer.baked

    @property
    def texture(self) -> Tensor:
        """(3, T, T) canonical texture, as the photograph is lit."""
        return self.viewer.texture

    @property
    def sheet(self) -> SheetMesh:
        """The surface, cut at silhouettes."""
        return self.viewer.sheet

    def build_sheet(self, max_stretch: float = MAX_STRETCH) -> SheetMesh:
        """The surface, cut where it is stretched more than ``max_stretch`` times (silhouettes)."""
        return self.viewer.build_sheet(max_stretch)

    def model(self, options: ModelOptions | None = None) -> Model:
        """Mesh and texture that ``options`` ask for; None: the front."""
        return self.viewer.model(options or ModelOptions())

    def mesh(
        self,
        shape: Shape = "front",
        *,
        background: bool = False,
        faces: int | None = None,
        texture_size: int | None = None,
        texture: TextureKind = "photograph",
        sides: bool = True,
    ) -> trimesh.Trimesh:
        """Textured mesh: y up, z toward the viewer, one unit wide. Arguments: `ModelOptions`."""
        model = self.model(ModelOptions(shape, background, faces, texture_size, texture, sides))
        return to_trimesh(model.mesh, model.picture, self.config.camera)

    @property
    def shows_another(self) -> bool:
        """Whether the generator's picture of the photograph shows somebody else, and so do edits through it."""
        return self.report.shows_another(self.config.invert.unlike_limit)

    def warn_if_poor(self) -> bool:
        """Warn where the generator shows somebody else than the photograph. The pipeline does so itself; True where it
        does."""
        if not self.shows_another:
            return False
        remedy = (
            "take a photograph from the front without glasses or hands before the face, or pass tuned=True (--tune)"
        )
        if not self.report.schedule.invert_iterations:
            remedy = f"preset '{self.report.preset}' guesses the person and searches for nobody: take one that does"
        warnings.warn(
            f"the generator reproduces this photograph as somebody else ({self.inversion_db:.1f} dB), and so do edits "
            f"through it; {remedy}.",
            stacklevel=2,
        )
        return True

    # -- other views and lights ----------------------------------------------------------------------------------

    def render(
        self,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: LightLike | None = None,
        *,
        size: int = 512,
        shaded_only: bool = False,
    ) -> Image.Image:
        """Picture of the mesh, turned from the photograph's view. Positive yaw turns a face to the image's left,
        positive pitch down. ``shaded_only`` shows the bare shape, under ``light`` or two lamps of its own."""
        return self.viewer.render(yaw_deg, pitch_deg, light, size=size, shaded_only=shaded_only)

    def rotate(
        self,
        yaw_deg: float | Sequence[float],
        pitch_deg: float | Sequence[float] = 0.0,
        *,
        through_gan: bool = False,
        size: int = 512,
    ) -> Image.Image | list[Image.Image]:
        """The photograph from another side: one picture for numbers, a list for sequences.

        ``through_gan=True`` projects the render onto the generator's image manifold and synthesises it at full size.
        """
        return self._editing.rotate(yaw_deg, pitch_deg, through_gan=through_gan, size=size)

    def relight(
        self, light: LightLike | Sequence[LightLike], *, through_gan: bool = False, size: int = 512
    ) -> Image.Image | list[Image.Image]:
        """The photograph under another light: one picture for a light, a list for a list of them.

        A light is a name (left, right, top, below, rim, flat; studio, window, sunset: light from all around), a
        direction (x, y) or (x, y, z) that the rays travel, a ``Light``, an ``Environment``, or the path (a ``Path``) of
        a panorama whose light it is (Radiance .hdr, or any photograph).

        Rendered, it is the photograph's own pixels times new over old shading, shadows included; ``through_gan=True``
        lets the generator make the picture at full size, which knows single lamps: light from all around becomes the
        nearest of them, without its colours.
        """
        return self._editing.relight(light, through_gan=through_gan, size=size)

    def project(self, pose: Pose, light: Light) -> Tensor:
        """Latent (1, D) or (1, L, D) of the scene under ``pose`` and ``light`` (batches of one)."""
        return self._editing.project(pose, light)

    # -- the photograph -------------------------------------------------------------------------------------------

    @property
    def inversion_db(self) -> float | None:
        """How close the generator's picture (``inverted``) comes to the photograph: its PSNR at N pixels. Above 24 dB
        it is hard to tell apart when small; who it shows, `shows_another` says. None for a latent, which is exact."""
        return self.report.psnr_db

    @property
    def inverted(self) -> Image.Image:
        """The generator's own picture of the latent, at its full size: what edits through the GAN start from."""
        return self._editing.inverted

    @cached_property
    def object_mask(self) -> Tensor:
        """(M, M) in 0..1 where the photograph shows the object: ``alpha``, or (N, N) read off the scene where there is
        none (``stages/mask.py``)."""
        if self.alpha is not None:
            return self.alpha
        scene = resized_scene(self.scene, self.image.shape[-1])
        return mask_from_scene(self.image[None], scene, self.config.camera)[0, 0]

    def paste(
        self, edited: Image.Image | Tensor, *, feather: float = FEATHER, mask: Image.Image | None = None
    ) -> Image.Image:
        """``edited`` (a relit or turned square, any size) in its place in the photograph, fading out toward its edge
        over ``feather`` of its side and beyond ``mask`` (mode L, any size). ValueError for a reconstruction of a
        latent, which has no photograph."""
        return self._editing.paste(edited, feather=feather, mask=mask)

    def edit_photograph(
        self,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: LightLike | None = None,
        *,
        through_gan: bool = False,
    ) -> Image.Image:
        """The whole photograph with its object turned (degrees, as ``rotate``) and lit by ``light``.

        Rendered, it keeps the photograph's own pixels; ``through_gan=True`` lets the generator make them, in the
        photograph's colours. As much of the edit is shown as the object covers before and after it.

        Returns:
            An image of the photograph's size; beyond the reconstructed square it is the photograph's, pixel by pixel.

        Raises:
            ValueError: the reconstruction started from a latent, which has no photograph.
        """
        return self._editing.edit_photograph(yaw_deg, pitch_deg, light, through_gan=through_gan)

    # -- files ---------------------------------------------------------------------------------------------------

    def save(
        self,
        folder: str | Path,
        *,
        shape: Shape = "front",
        background: bool = False,
        faces: int | None = None,
        texture_size: int | None = None,
        texture: TextureKind = "photograph",
        sides: bool = True,
        height_mm: float = HEIGHT_MM,
        turntable: bool = True,
        path: str = "turn",
        video: bool | None = None,
        max_stretch: float = MAX_STRETCH,
        pictures: Mapping[str, Image.Image] | None = None,
    ) -> list[Path]:
        """Write everything to ``folder``, with ``pictures`` of edits by name, whole or not at all (see
        ``results.export``).

        ``shape`` to ``sides``: as `ModelOptions`; ``height_mm`` to ``video``: as `ExportOptions`."""
        options = ExportOptions(
            ModelOptions(shape, background, faces, texture_size, texture, sides), height_mm, turntable, path, video
        )
        viewer = self.viewer
        if max_stretch != viewer.max_stretch:
            viewer = dataclasses.replace(viewer, max_stretch=max_stretch)
        return export_scene(
            folder,
            viewer,
            options,
            result_json=json.dumps(self.report.to_dict(), indent=2, default=str) + "\n",
            yaw_limit_deg=self.config.rotation_limit_deg[0],
            pictures=pictures,
        )

    def with_sides(self) -> Reconstruction:
        """The same with its ``sides`` drawn, which it keeps wherever it goes."""
        return dataclasses.replace(self, known_sides=self.sides)

    def with_generator(self, generator: Generator | None) -> Reconstruction:
        """The same with ``generator`` for edits through the GAN. None: without any, which leaves the rest; what is kept
        for long, of many checkpoints, then keeps none of these in memory. The sides of models are drawn before."""
        kept = self.with_sides() if generator is None else self
        projection = None if generator is None else LatentProjection(generator, self.config.projection)
        editor = dataclasses.replace(self.editor, generator=generator, projection=projection)
        return dataclasses.replace(kept, editor=editor)

    def cpu(self) -> Reconstruction:
        """The same on the CPU (the networks stay where they are)."""
        scene = Scene(**{f.name: getattr(self.scene, f.name).cpu() for f in dataclasses.fields(self.scene)})
        alpha = None if self.alpha is None else self.alpha.cpu()
        sides = None if self.known_sides is None else self.known_sides.to("cpu")
        moved = dict(source=self.source.cpu(), image=self.image.cpu(), scene=scene, alpha=alpha, known_sides=sides)
        return dataclasses.replace(self, **moved)
