"""Read NVIDIA's network pickles without running them.

A pickle is a small program that may call any importable function. NVIDIA's files need a handful; this unpickler knows
those names, answers each with a harmless stand-in of its own, and refuses every other name. The Python source
that the files carry (``module_src``, ``build_module_src``) is never executed; constructors are never called.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import numpy_records
from .pickle_program import check_program, check_storage
from .verify import ConversionError

MODULES = 10_000
"""Of a network at most."""


class RefusedGlobal(ConversionError):
    """The pickle asks for a name that is not admitted."""


@dataclass
class Network:
    """A module of the file, not built: the name of its class and its attributes."""

    class_name: str
    state: dict[str, Any] = field(default_factory=dict)

    def attribute(self, path: str, default: Any = None) -> Any:
        """Attribute by dotted path through submodules, e.g. ``b4.mbstd.group_size``."""
        *parents, name = path.split(".")
        module: Any = self
        for parent in parents:
            module = module.state.get("_modules", {}).get(parent) if isinstance(module, Network) else None
        return module.state.get(name, default) if isinstance(module, Network) else default

    def modules(self) -> list[tuple[str, Network]]:
        """Every module with its dotted name, this one first; ConversionError where they are too many, as where one
        holds itself."""
        found, waiting = [], [("", self)]
        while waiting:
            name, module = waiting.pop()
            found.append((name, module))
            if len(found) > MODULES:
                raise ConversionError("a network in the pickle has more modules than any network has.")
            children = [
                (key, child) for key, child in module._children("_modules").items() if isinstance(child, Network)
            ]
            waiting += [(f"{name}.{key}" if name else str(key), child) for key, child in reversed(children)]
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by dotted name, as ``state_dict`` would give them."""
        result = {}
        for prefix, module in self.modules():
            for kind in ("_parameters", "_buffers"):
                for name, value in module._children(kind).items():
                    if isinstance(value, Tensor):
                        result[f"{prefix}.{name}" if prefix else str(name)] = value.detach()
        return result

    def _children(self, kind: str) -> dict[str, Any]:
        value = self.state.get(kind)
        return value if isinstance(value, dict) else {}


@dataclass
class GraphNetwork:
    """A network of dnnlib's TensorFlow library, not built: how its graph was made, and the values of its variables."""

    build_func_name: str = ""
    static_kwargs: dict[str, Any] = field(default_factory=dict)
    components: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: Any) -> None:
        self.build_func_name = str(state["build_func_name"])
        self.static_kwargs, self.components = dict(state["static_kwargs"]), dict(state.get("components", {}))
        self.variables = {str(name): value for name, value in state["variables"]}

    def parts(self) -> list[tuple[str, GraphNetwork]]:
        """Itself under an empty name, and its components with theirs and a slash; those have none of their own."""
        found = [(f"{name}/", part) for name, part in self.components.items() if isinstance(part, GraphNetwork)]
        if any(part.components for _, part in found):
            raise ConversionError("a network in the pickle has components in its components.")
        return [("", self), *found]


class _EasyDict(dict):
    """Stands in for ``dnnlib.util.EasyDict``, a dictionary with attribute access."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


def _stand_ins(size: int) -> dict[tuple[str, str], Any]:
    """Fresh stand-ins for one file of ``size`` bytes, so that a file cannot leave a mark on the next one's."""
    left = size

    def reconstruct_persistent_obj(meta: Any) -> Network:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise ConversionError("a network in the pickle is not of the form that stylegan2-ada-pytorch writes.")
        return Network(str(meta.get("class_name")), dict(meta["state"]))

    def load_from_bytes(data: bytes) -> Any:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise ConversionError("the pickle reads the same tensor data again and again.")
        try:
            check_storage(data)
        except ConversionError as error:
            raise RefusedGlobal(str(error).rstrip(".")) from None
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(storage, (torch.TypedStorage, torch.UntypedStorage)):
            raise RefusedGlobal("tensor data in it holds something that is no tensor")
        return storage

    def rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        if math.prod(size) > len(storage):
            raise ConversionError("a tensor in the pickle is larger than its data.")
        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, None)

    def rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
        return data

    def encode(text: str, encoding: str) -> bytes:  # how bytes are written in the oldest protocols
        if encoding != "latin1":
            raise ConversionError("bytes in the pickle are not written as Python writes them.")
        return text.encode("latin1")

    easy_dict = type("EasyDict", (_EasyDict,), {})
    return {
        **numpy_records.stand_ins(size),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): reconstruct_persistent_obj,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): load_from_bytes,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("dnnlib.util", "EasyDict"): easy_dict,
        ("dnnlib.tflib.network", "Network"): type("GraphNetwork", (GraphNetwork,), {}),
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
        ("_codecs", "encode"): encode,
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, encoding="latin1")  # what Python 2 wrote
        self._known = _stand_ins(size)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._known:
            return self._known[module, name]
        raise RefusedGlobal(f"it asks for {module}.{name}, which is not one of the names that network pickles need")


def load_network_pickle(path: str | Path) -> Any:
    """Contents of a network ``.pkl``: containers, numbers, tensors, `Network` and `GraphNetwork` stand-ins.

    ConversionError in one sentence where the file is missing, damaged, or asks for any name but the admitted ones.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"{path} is not there: check the path.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            check_program(file, size)
            file.seek(0)
            return _Unpickler(file, size).load()
    except RefusedGlobal as error:
        raise RefusedGlobal(f"{path} was refused: {error}.") from None
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except Exception as error:  # damaged pickles raise anything
        if "Weights only load failed" in str(error):
            raise RefusedGlobal(f"{path} was refused: tensor data in it holds something that is no tensor.") from None
        raise ConversionError(
            f"{path} is not a readable network pickle: it is damaged or of another format ({type(error).__name__})."
        ) from None
