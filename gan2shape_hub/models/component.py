"""What every network of a checkpoint has in common: its constructor arguments travel with it, as JSON."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn


class Component(nn.Module):
    """A network that can be rebuilt from ``config`` (its constructor arguments) and its state dict."""

    stored_dtype: torch.dtype | None = None
    """Of the floating point tensors in the files that it was loaded from; None: it was not, or they differ."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self._config = dict(config)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments, JSON-able; ``from_config`` is the inverse."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Component:
        """Build the network from the dictionary ``config`` holds; ValueError names an argument it does not have."""
        known = inspect.signature(cls).parameters
        for key in config:
            if key not in known:
                raise ValueError(f"{cls.__name__} has no argument '{key}': known ones are {', '.join(known)}.")
        return cls(**config)
