"""The pictures and measured tables of README.md and docs/.

Pictures are of generated faces of consecutive seeds and of scikit-image's portrait, all of them shown as they come out:

    people          two faces, the portrait and matplotlib's: photograph, turned, bare shape, in other light
    overview        three faces and the portrait: input, bare shape, textured, relit
    through_gan     the faces, turned and relit by the generator
    contact_sheet   everything about the first face
    matching        ten people's bare shapes in a shuffled order, and their pictures; the key is matching.json
    photograph      the portrait with tuned=True, step by step
    tables          in README.md and docs/results.md, from the reports in docs/results/ (benchmark.py, evaluate.py)

Examples:
    python scripts/make_figures.py                              all of them, from checkpoints/face
    python scripts/make_figures.py tables
    python scripts/make_figures.py overview matching --checkpoint out/face --preset balanced
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.reconstruction import Reconstruction

ROOT = Path(__file__).resolve().parent.parent
FIGURES, RESULTS = ROOT / "docs" / "figures", ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURES = ("people", "overview", "through_gan", "contact_sheet", "matching", "photograph")
SEEDS, PEOPLE = range(7, 10), range(1100, 1110)
PORTRAIT = "skimage.data.astronaut(), NASA, public domain"
OFFICER = "matplotlib's grace_hopper.jpg, James S. Davis, United States Navy, public domain"


class Figures:
    """Makes pictures with one pipeline; a method a picture, and what several show is reconstructed once."""

    def __init__(self, pipeline: GAN2ShapePipeline, preset: str | None, folder: Path, tile: int) -> None:
        self.pipeline, self.preset, self.folder, self.tile = pipeline, preset, folder, tile
        self.small = tile * 3 // 4  # pages below the first screen, of which there are many tiles

    @cached_property
    def faces(self) -> list[Reconstruction]:
        return [self._generated(seed) for seed in SEEDS]

    def people(self) -> list[Path]:
        from figure_parts.people import officer, people_rows

        photographed = [self._portrait(tuned=True), self._photographed(officer(), "officer", tuned=True)]
        people = [*self.faces[:2], *photographed]
        return [self._page("people", people_rows(people, self.tile), f"{PORTRAIT}; {OFFICER}")]

    def overview(self) -> list[Path]:
        from figure_parts.faces import overview_row

        people = [*self.faces, self._portrait(tuned=False)]
        return [self._page("overview", [overview_row(person, self.tile) for person in people], PORTRAIT)]

    def through_gan(self) -> list[Path]:
        from figure_parts.faces import gan_row

        return [self._page("through_gan", [gan_row(face) for face in self.faces], tile=self.small)]

    def contact_sheet(self) -> list[Path]:
        from gan2shape_hub.results.contact_sheet import contact_sheet

        return [self._write("contact_sheet", contact_sheet(self.faces[0].viewer, tile=self.small))]

    def photograph(self) -> list[Path]:
        from figure_parts.faces import photograph_rows

        rows = photograph_rows(self._portrait(tuned=True), self.small)
        return [self._page("photograph", rows, PORTRAIT, tile=self.small)]

    def matching(self) -> list[Path]:
        from figure_parts.matching import front, matching_rows

        from gan2shape_hub.atomic import atomic_file
        from gan2shape_hub.results.image_files import to_pil

        shapes, inputs = [], []
        for seed in PEOPLE:  # one after the other: ten reconstructions need not be held together
            person = self._generated(seed)
            shapes.append(front(person, self.tile))
            inputs.append(to_pil(person.source))
        rows, key = matching_rows(shapes, inputs)
        picture = self._page("matching", rows)
        with atomic_file(picture.with_suffix(".json")) as part:
            part.write_text(json.dumps({"key": key, "seeds": list(PEOPLE)}, indent=2) + "\n", encoding="utf-8")
        return [picture, picture.with_suffix(".json")]

    def _generated(self, seed: int) -> Reconstruction:
        print(f"make_figures: seed {seed} ...", file=sys.stderr, flush=True)
        return self.pipeline(self.pipeline.sample(seed=seed), preset=self.preset)

    def _portrait(self, *, tuned: bool) -> Reconstruction:
        from PIL import Image
        from skimage import data

        return self._photographed(Image.fromarray(data.astronaut()), "portrait", tuned=tuned)

    def _photographed(self, picture: Image.Image, name: str, *, tuned: bool) -> Reconstruction:
        print(f"make_figures: {name}{', tuned' if tuned else ''} ...", file=sys.stderr, flush=True)
        return self.pipeline(picture, preset=self.preset, tuned=tuned)

    def _page(self, name: str, rows: list[list], photograph: str | None = None, *, tile: int | None = None) -> Path:
        from gan2shape_hub.results.layout import page

        return self._write(name, page(rows, tile=tile or self.tile), photograph)

    def _write(self, name: str, picture: Image.Image, photograph: str | None = None) -> Path:
        from PIL import ImageOps

        from gan2shape_hub.results.image_files import write_image
        from gan2shape_hub.version import __version__

        self.folder.mkdir(parents=True, exist_ok=True)
        text = {"preset": self.preset or self.pipeline.config.default_preset, "version": __version__}
        text |= {"photograph": photograph} if photograph else {}
        # The last bit of a picture's colours cannot be seen and is a fifth of its file.
        return write_image(self.folder / f"{name}.png", ImageOps.posterize(picture, 7), text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="NAME", help="of the above; without one, all")
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "face"), help="folder or Hub id")
    parser.add_argument("--preset", help="default: the checkpoint's")
    parser.add_argument("--tile", type=int, default=256, help="side of a picture's tile, pixels")
    parser.add_argument("--output", type=Path, default=FIGURES, help="folder of the pictures (default: docs/figures)")
    options = parser.parse_args(arguments)
    known = (*PICTURES, "tables")
    for name in options.what:
        if name not in known:
            parser.error(f"there is no '{name}', must be of {', '.join(known)}")
    wanted = [name for name in known if name in (options.what or known)]
    files = []
    try:
        if wanted != ["tables"]:
            from gan2shape_hub import GAN2ShapePipeline

            pipeline = GAN2ShapePipeline.from_pretrained(options.checkpoint)
            figures = Figures(pipeline, options.preset, options.output, options.tile)
            for name in wanted:
                files += getattr(figures, name)() if name in PICTURES else []
        if "tables" in wanted:
            from figure_parts.tables import fill_tables

            files += fill_tables(RESULTS, PAGES)
    except (OSError, ValueError) as error:
        print(f"make_figures: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
