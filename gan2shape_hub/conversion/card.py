"""The model card of a converted checkpoint: what is known from the files, and plainly what is not."""

from __future__ import annotations

from gan2shape_hub.config import CategoryConfig

_CARD = """---
library_name: gan2shape-hub
pipeline_tag: image-to-3d
license: {license}{license_extra}
tags:
- gan2shape
- stylegan2
- single-image-3d
- {category}
---

# GAN2Shape: {category}

{description}. A converted checkpoint: the networks are those of the files named below, their tensors checked one by
one after conversion.

![Samples of the generator, truncated at {truncation}](samples.png)

## How to load

```python
from PIL import Image
from gan2shape_hub import GAN2ShapePipeline

pipeline = GAN2ShapePipeline.from_pretrained("path/to/this/folder")
result = pipeline(Image.open("photo.jpg"))
```

## Contents

| component | network | parameters |
|---|---|---|
{components}

{report}

## Intended use

Depth, albedo, light and viewpoint of one image that the generator can reproduce ({category}), for research and
illustration. Not for identifying people or measuring anything.

## Limits

The generator knows only what its training images show: other subjects, poses and crops are pulled towards them. Shape
is recovered up to the method's own prior; sides that training images rarely show are guessed. {start}

## Bias

The generator reproduces the make-up of its training images, and so does everything derived from it.

## Training data

That of the generator: see where the files came from. The conversion trains nothing.

## Evaluation

None was run on this conversion beyond the check that every tensor is the source's.

## Licence

The licence of the source files holds for the converted weights ({license}); the code is MIT. Method: Pan et al., "Do 2D
GANs Know 3D Shape? Unsupervised 3D Shape Reconstruction from 2D Image GANs", ICLR 2021.
"""


def card(config: CategoryConfig, components: dict, report_lines: list[str]) -> str:
    """README.md of a checkpoint; ``components`` by name, ``report_lines`` as ``Report.lines`` gives them."""
    rows = [
        f"| {name} | {type(network).__name__} | {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M |"
        for name, network in sorted(components.items())
    ]
    extra = ""
    if config.license == "other":  # the Hub wants these two beside it
        extra = "\nlicense_name: see-source\nlicense_link: https://github.com/XingangPan/GAN2Shape"
    start = (
        "Reconstructions start from the pretrained shape networks."
        if "depth_net" in components
        else "There are no pretrained shape networks: every reconstruction starts from the ellipsoid."
    )
    return _CARD.format(
        license=config.license,
        license_extra=extra,
        category=config.category,
        description=config.description,
        truncation=config.truncation,
        components="\n".join(rows),
        report="\n".join(f"- {line}" for line in report_lines),
        start=start,
    )
