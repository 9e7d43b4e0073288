"""Single-image 3D out of ordinary 2D GANs: ``GAN2ShapePipeline.from_pretrained(...)(photo).save(folder)``."""

import os

# Large tensors in huge pages: page faults otherwise cost as much as the arithmetic of a full-size image on a CPU.
# PyTorch reads it at its first allocation; a value that the user has set stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from gan2shape_hub.config import CategoryConfig, ConfigError, ScheduleConfig
from gan2shape_hub.pipeline import GAN2ShapePipeline, Sample
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.records import Progress
from gan2shape_hub.rendering import Light
from gan2shape_hub.report import RunReport
from gan2shape_hub.run import Cancelled
from gan2shape_hub.stages.prepare import InputError
from gan2shape_hub.version import __version__

__all__ = [
    "Cancelled",
    "CategoryConfig",
    "ConfigError",
    "GAN2ShapePipeline",
    "InputError",
    "Light",
    "Progress",
    "Reconstruction",
    "RunReport",
    "Sample",
    "ScheduleConfig",
    "__version__",
]
