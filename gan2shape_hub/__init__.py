"""Single-image 3D out of ordinary 2D GANs: ``GAN2ShapePipeline.from_pretrained(...)(photo).save(folder)``."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Large tensors in huge pages: page faults otherwise cost as much as the arithmetic of a full-size image on a CPU.
# PyTorch reads it at its first allocation; a value that the user has set stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from gan2shape_hub.version import __version__

if TYPE_CHECKING:
    from gan2shape_hub.cancel import CancelToken
    from gan2shape_hub.config import CategoryConfig, ScheduleConfig
    from gan2shape_hub.errors import Cancelled, ConfigError, InputError
    from gan2shape_hub.pipeline import GAN2ShapePipeline
    from gan2shape_hub.plan import Step
    from gan2shape_hub.reconstruction import Reconstruction
    from gan2shape_hub.records import PreparedPhotograph, Progress, Sample
    from gan2shape_hub.rendering import Environment, Light
    from gan2shape_hub.report import RunReport

_HOMES = {
    "CancelToken": "cancel",
    "Cancelled": "errors",
    "CategoryConfig": "config",
    "ConfigError": "errors",
    "Environment": "rendering",
    "GAN2ShapePipeline": "pipeline",
    "InputError": "errors",
    "Light": "rendering",
    "PreparedPhotograph": "records",
    "Progress": "records",
    "Reconstruction": "reconstruction",
    "RunReport": "report",
    "Sample": "records",
    "ScheduleConfig": "config",
    "Step": "plan",
}
"""Public name -> module, imported when it is first asked for: a command line answers --help without PyTorch."""

__all__ = [
    "CancelToken",
    "Cancelled",
    "CategoryConfig",
    "ConfigError",
    "Environment",
    "GAN2ShapePipeline",
    "InputError",
    "Light",
    "PreparedPhotograph",
    "Progress",
    "Reconstruction",
    "RunReport",
    "Sample",
    "ScheduleConfig",
    "Step",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
