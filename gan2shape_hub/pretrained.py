"""Habits of the Hub that a pipeline has: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gan2shape_hub import hub
from gan2shape_hub.accelerator import check_device, check_precision, find_device
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.errors import ConfigError
from gan2shape_hub.surroundings import in_own_surroundings

if TYPE_CHECKING:
    from typing_extensions import Self


class Pretrained:
    """Base of a pipeline that is made as ``cls(config, **components, device=..., mixed_precision=...)``."""

    config: CategoryConfig
    components: dict[str, nn.Module]

    @classmethod
    @in_own_surroundings
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        variant: str | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        low_memory: bool = True,
        mixed_precision: str = "no",
        **component_overrides: Any,
    ) -> Self:
        """Load a checkpoint folder or Hub repository.

        Args:
            pretrained_model_name_or_path: an existing folder wins over a Hub id ``org/name``.
            subfolder: where in that folder or repository the checkpoint is.
            revision, token, cache_dir, force_download, local_files_only: as ``huggingface_hub`` has them.
            variant: weights named ``model.<variant>.safetensors``.
            dtype: of the weights in memory, ``torch.float32`` (None), ``torch.float16`` or ``torch.bfloat16`` (or
                ``"fp32"``, ``"fp16"``, ``"bf16"``); the reconstruction itself trains in float32. A CPU, which is ten
                times slower at half precision, computes in float32 whatever the weights are held in: on copies, made
                for each call and kept by its results. ``torch_dtype`` is the same by its older name.
            device: None takes the GPU, MPS or CPU that accelerate finds. Weights go there straight from the files.
            low_memory: never hold a second copy of the weights while loading; False builds every network in full
                before it is filled. The pipeline is the same.
            mixed_precision: "no", "bf16" or "fp16" autocast of the networks during reconstruction.
            component_overrides: a component by name (``depth_net=...``), or None to leave it out; its files are
                neither fetched nor looked at. Of arguments that diffusers has, those that ask for what is done anyway
                (``use_safetensors=True``) are taken.

        Raises:
            OSError: one sentence naming what is missing or malformed, and the remedy.
            ValueError: ``dtype``, ``device``, ``variant`` or ``mixed_precision`` is none that there is.
            TypeError: no such argument, or one of diffusers that asks for what is not done here.
        """
        component_overrides = hub.check_foreign(component_overrides)
        unknown = set(component_overrides) - set(hub.COMPONENTS)
        if unknown:
            raise TypeError(
                f"from_pretrained has no argument {sorted(unknown)[0]!r}: components are {', '.join(hub.COMPONENTS)}."
            )
        given = {hub.check_dtype(one) for one in (dtype, torch_dtype) if one is not None}
        if len(given) > 1:
            raise ValueError(f"dtype is {dtype!r} and torch_dtype {torch_dtype!r}: give one of them.")
        place = find_device() if device is None else check_device(device)
        check_precision(mixed_precision, place)
        folder = hub.resolve(
            pretrained_model_name_or_path,
            subfolder=subfolder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            variant=variant,
            only=tuple(name for name in hub.COMPONENTS if name not in component_overrides),
        )
        config, components = hub.load_components(
            folder,
            variant=variant,
            dtype=given.pop() if given else torch.float32,
            device=place if device is None else device,
            overrides=component_overrides or None,
            low_memory=low_memory,
        )
        try:
            return cls(config, **components, device=device, mixed_precision=mixed_precision)
        except ConfigError as error:  # networks that do not belong together
            raise hub.CheckpointError(f"{folder}: {error}") from None

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        variant: str | None = None,
        max_shard_size: int | str = "5GB",
        dtype: torch.dtype | str | None = None,
        card: str | None = None,
    ) -> Path:
        """Write the checkpoint folder that ``from_pretrained`` opens: whole or not at all, the same bytes every time.

        Args:
            variant: part of the weights' names, ``model.<variant>.safetensors``.
            max_shard_size: larger components are split into files of at most so many bytes (``"500MB"``, or a number).
            dtype: floating point tensors are stored as it. None: as they are; weights in float32 that came from files
                of half precision as in those.
            card: text of README.md (None keeps the one that is there, or writes a plain one with the configuration's
                licence).

        Raises:
            OSError: ``folder`` holds something else, or cannot be written.
        """
        return hub.save_components(
            folder,
            self.config,
            self.components,
            card=card,
            variant=variant,
            max_shard_size=max_shard_size,
            dtype=hub.stored_dtypes(self.components) if dtype is None else hub.check_dtype(dtype),
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload category",
        token: str | bool | None = None,
        variant: str | None = None,
        max_shard_size: int | str = "5GB",
        dtype: torch.dtype | str | None = None,
        card: str | None = None,
    ) -> str:
        """Publish the checkpoint as a model repository of the Hub; returns the commit's (or pull request's) address.

        ``private``, ``revision``, ``create_pr``, ``commit_message`` and ``token`` are as ``huggingface_hub`` has them,
        the rest as in ``save_pretrained``. OSError in one sentence with the remedy.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(
                Path(temporary) / "checkpoint", variant=variant, max_shard_size=max_shard_size, dtype=dtype, card=card
            )
            return hub.push(
                folder,
                repo_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
            )
