"""Arguments that ``from_pretrained`` of other libraries has and this one does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FOREIGN: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_safetensors": ((None, True), "weights are read from safetensors alone: leave it out"),
    "low_cpu_mem_usage": ((None, True), "pass low_memory=False"),
    "device_map": ((None,), "a checkpoint goes to one device: pass device="),
    "max_memory": ((None,), "a checkpoint goes to one device: pass device="),
    "offload_folder": ((None,), "nothing is offloaded: pass device='cpu' where the GPU is too small"),
    "offload_state_dict": ((None, False), "nothing is offloaded: leave it out"),
    "safety_checker": ((None,), "there is none: leave it out"),
    "feature_extractor": ((None,), "images are prepared by the pipeline: leave it out"),
    "requires_safety_checker": ((None, False), "there is none: leave it out"),
    "trust_remote_code": ((None, False), "no downloaded code is ever run: leave it out"),
    "custom_pipeline": ((None,), "no downloaded code is ever run: leave it out"),
    "quantization_config": ((None,), "quantised weights are not read: pass dtype='fp16' to save memory"),
    "from_flax": ((None, False), "weights are read from safetensors alone: leave it out"),
    "output_loading_info": ((None, False), "everything is loaded strictly, or refused: leave it out"),
    "use_auth_token": ((None,), "pass token="),
}
"""Name -> (values that ask for what is done anyway, the remedy for any other)."""


def check_foreign(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` without those of other libraries; TypeError where one asks for something that is not done here."""
    for name in arguments.keys() & FOREIGN.keys():
        harmless, remedy = FOREIGN[name]
        value = arguments[name]
        if not any(value is one for one in harmless):
            raise TypeError(f"from_pretrained cannot do {name}={value!r}: {remedy}.")
    return {name: value for name, value in arguments.items() if name not in FOREIGN}
