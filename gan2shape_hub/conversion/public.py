"""Public StyleGAN2 weights that ``gan2shape get`` knows, as a table: where they are, and under which terms.

Addresses are those that the repositories of NVlabs give (stylegan2, stylegan2-ada-pytorch, stylegan3). Their owners
publish no hashes: the one of the first download is remembered (``hub/download.py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """Under which weights may be used."""

    title: str
    name: str
    """For the Hub's card: lower case letters, digits, dots and hyphens."""
    link: str


@dataclass(frozen=True)
class PublicWeights:
    """A generator that somebody trained, and shares."""

    name: str
    title: str
    category: str
    """A name of ``presets.PRESETS``: the constants that suit it best."""
    address: str
    image_size: int
    """Side of the generator's square, pixels."""
    megabytes: int
    """Of the file, about."""
    terms: Terms
    data: str
    """What it was trained on, and the terms of that, in a sentence."""


STYLEGAN2 = Terms(
    "Nvidia Source Code License-NC", "nvidia-source-code-license-nc", "https://nvlabs.github.io/stylegan2/license.html"
)
ADA = Terms(
    "NVIDIA Source Code License for StyleGAN2 with Adaptive Discriminator Augmentation",
    "nvidia-source-code-license-stylegan2-ada",
    "https://nvlabs.github.io/stylegan2-ada-pytorch/license.html",
)
STYLEGAN3 = Terms(
    "NVIDIA Source Code License for StyleGAN3",
    "nvidia-source-code-license-stylegan3",
    "https://github.com/NVlabs/stylegan3/blob/main/LICENSE.txt",
)
"""Of the repository that gives the addresses in NVIDIA's catalogue."""
_2019 = "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-{}-config-f.pkl"
_ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/{}.pkl"
_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/stylegan2-{}.pkl"

_LSUN = "Photographs of LSUN ({}), collected from the web for research."
_AFHQ = "Animal Faces-HQ ({}), CC BY-NC 4.0."
_FFHQ = "Flickr-Faces-HQ, CC BY-NC-SA 4.0; the photographs have licences of their own."

_ALL = (
    PublicWeights("car", "Cars", "car", _2019.format("car"), 512, 364, STYLEGAN2, _LSUN.format("cars")),
    PublicWeights(
        "church", "Churches", "church", _2019.format("church"), 256, 357, STYLEGAN2, _LSUN.format("churches")
    ),
    PublicWeights("horse", "Horses", "horse", _2019.format("horse"), 256, 357, STYLEGAN2, _LSUN.format("horses")),
    PublicWeights("lsun-cat", "Whole cats", "animal", _2019.format("cat"), 256, 357, STYLEGAN2, _LSUN.format("cats")),
    PublicWeights(
        "lsun-dog", "Whole dogs", "animal", _NGC.format("lsundog-256x256"), 256, 357, STYLEGAN3, _LSUN.format("dogs")
    ),
    PublicWeights("cat", "Cat faces", "animal-face", _ADA.format("afhqcat"), 512, 364, ADA, _AFHQ.format("cats")),
    PublicWeights("dog", "Dog faces", "animal-face", _ADA.format("afhqdog"), 512, 364, ADA, _AFHQ.format("dogs")),
    PublicWeights(
        "wild", "Faces of wild animals", "animal-face", _ADA.format("afhqwild"), 512, 364, ADA, _AFHQ.format("wild")
    ),
    PublicWeights(
        "afhq",
        "Animal faces",
        "animal-face",
        _NGC.format("afhqv2-512x512"),
        512,
        364,
        STYLEGAN3,
        _AFHQ.format("all, v2"),
    ),
    PublicWeights("ffhq-256", "Human faces", "face-ffhq", _NGC.format("ffhq-256x256"), 256, 296, STYLEGAN3, _FFHQ),
    PublicWeights("ffhq-512", "Human faces", "face-ffhq", _NGC.format("ffhq-512x512"), 512, 364, STYLEGAN3, _FFHQ),
    PublicWeights("ffhq-1024", "Human faces", "face-ffhq", _ADA.format("ffhq"), 1024, 381, ADA, _FFHQ),
    PublicWeights(
        "metfaces",
        "Faces in paintings and sculptures",
        "face-ffhq",
        _ADA.format("metfaces"),
        1024,
        381,
        ADA,
        "MetFaces, CC BY-NC 2.0: works in the collection of the Metropolitan Museum of Art.",
    ),
    PublicWeights(
        "celebahq",
        "Faces of celebrities",
        "face-ffhq",
        _NGC.format("celebahq-256x256"),
        256,
        296,
        STYLEGAN3,
        "CelebA-HQ, for non-commercial research.",
    ),
)
PUBLIC: dict[str, PublicWeights] = {weights.name: weights for weights in _ALL}

SWITCH = "GAN2SHAPE_GET"
"""Environment variable: "1" lets a page fetch weights for visitors from elsewhere, "0" forbids any page to."""


def offered(public: bool, environment: Mapping[str, str] = os.environ) -> tuple[PublicWeights, ...]:
    """What a page may offer to fetch: everything on a machine of one's own, nothing where visitors come from elsewhere
    (``public``: a Space, a shared address) unless ``GAN2SHAPE_GET`` is "1"."""
    switch = environment.get(SWITCH, "").strip()
    return tuple(PUBLIC.values()) if (switch == "1" if public else switch != "0") else ()
