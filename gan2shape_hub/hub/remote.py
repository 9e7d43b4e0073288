"""The Hub: a name or a folder to a local folder with everything that loading needs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gan2shape_hub.arguments import user_path
from gan2shape_hub.version import __version__

from .errors import CheckpointError
from .layout import CONFIG, INDEX, file_patterns, read_index, read_json, shard_index_name, weights_name

LIBRARY = "gan2shape-hub"
ERRORS = (OSError, ValueError, RuntimeError, EntryNotFoundError, httpx2.HTTPError)
"""What the client raises."""
_RETRY_WAITS_S = (1.0, 2.0)
_Result = TypeVar("_Result")


def resolve(
    name_or_folder: str | os.PathLike,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    variant: str | None = None,
    only: tuple[str, ...] | None = None,
) -> Path:
    """A folder with every file that ``load_components`` needs.

    An existing folder wins (``revision`` and the rest then mean nothing); any other name is the id of a Hub repository,
    of which only the needed files are fetched into the Hub's cache. ``only`` names the components to fetch,
    ``subfolder`` is where in the folder or repository the checkpoint is.

    CheckpointError (an OSError) says what is wrong and what to do about it: no network, no such repository, a gated
    one, no such revision, a malformed id, a cache that holds only a part, one that cannot be written.
    """
    inside = Path(subfolder or "")
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"subfolder is '{subfolder}', must be a path inside of the checkpoint's folder or repository.")
    folder = user_path(name_or_folder)
    if folder.is_dir():
        return folder / inside
    name = os.fspath(name_or_folder)
    if not isinstance(name_or_folder, str) or folder.exists():
        raise CheckpointError(f"{name} is not a folder: check the path, or give the id of a Hub repository.")
    if force_download and (local_files_only or constants.HF_HUB_OFFLINE):
        raise CheckpointError(
            f"'{name}' cannot be downloaded again (force_download) without the network: drop force_download, or unset "
            "HF_HUB_OFFLINE and local_files_only."
        )
    try:
        path = patiently(
            lambda: snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=[(inside / pattern).as_posix() for pattern in file_patterns(variant, only)],
                library_name=LIBRARY,
                library_version=__version__,
            )
        )
    except ERRORS as error:
        raise _explained(error, name, revision, cache_dir) from error
    snapshot = Path(path) / inside
    _check_complete(snapshot, name, variant, only)
    return snapshot


def patiently(ask: Callable[[], _Result]) -> _Result:
    """``ask()``, again where the Hub is busy or down, which the client does not do for every kind of request."""
    for wait_s in _RETRY_WAITS_S:
        try:
            return ask()
        except ERRORS as error:
            answer = http_error(error)
            if answer is None or answer.response.status_code not in (429, 500, 502, 503, 504):
                raise
            time.sleep(wait_s)
    return ask()


def http_error(error: BaseException) -> HfHubHTTPError | None:
    """The Hub's answer behind an error: the client wraps some of them in "not in the cache either"."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, HfHubHTTPError) else None


def _check_complete(snapshot: Path, name: str, variant: str | None, only: tuple[str, ...] | None) -> None:
    """The client returns a partly cached snapshot without a word where it cannot reach the Hub."""
    missing = missing_files(snapshot, variant, only)
    if not missing:
        return
    if INDEX in missing and not list(snapshot.glob("*/model*.safetensors*")):
        raise CheckpointError(
            f"'{name}' has no {INDEX}, so it is no checkpoint of GAN2Shape (or its cached copy is incomplete): check "
            "the id, pass subfolder= where it holds one in a folder, or load it once with a network connection."
        )
    others = variants_in((snapshot / missing[0]).parent)
    hint = " or ".join(f"variant={v!r}" for v in others if v != variant)
    raise CheckpointError(
        f"the cached copy of '{name}' is incomplete, {missing[0]} is missing from {snapshot}: "
        f"load it once with a network connection, or {f'pass {hint}' if hint else 'check the variant'}."
    )


def missing_files(folder: Path, variant: str | None, only: tuple[str, ...] | None = None) -> list[str]:
    """Files, relative to ``folder``, that loading needs and that are not there."""
    missing = [name for name in (CONFIG, INDEX) if not (folder / name).exists()]
    if INDEX in missing:
        return missing
    single, index = weights_name(variant).format(suffix=""), shard_index_name(variant)
    for slot in sorted(read_index(folder).components):
        if only is not None and slot not in only:
            continue
        needed = [CONFIG]
        if (folder / slot / index).exists() and not (folder / slot / single).exists():
            weight_map = read_json(folder / slot / index).get("weight_map")
            needed += sorted({str(f) for f in weight_map.values()}) if isinstance(weight_map, dict) else []
        else:
            needed.append(single)
        missing += [f"{slot}/{name}" for name in needed if not (folder / slot / name).exists()]
    return missing


def _explained(
    error: Exception, name: str, revision: str | None, cache_dir: str | os.PathLike | None
) -> CheckpointError:
    """The client's error as one sentence with a remedy. Never quotes headers, so that no token can leak."""
    where = constants.ENDPOINT
    error = http_error(error) or error
    if isinstance(error, HFValidationError):
        return CheckpointError(
            f"'{name}' is neither an existing folder nor a Hub id: check the path, or write the id as 'owner/name'."
        )
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"'{name}' is gated: ask for access at {where}/{name}, then log in with `hf auth login` or pass token=."
        )
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointError(
            f"'{name}' is neither an existing folder nor a repository that you may see at {where}: check the "
            "spelling; if it is private, log in with `hf auth login` or pass token=."
        )
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(
            f"'{name}' has no revision '{revision}': check its branches and tags at {where}/{name}/refs."
        )
    if type(error).__name__ == "IncompleteSnapshotError":  # by name: older clients have no such class
        return CheckpointError(
            f"the cached copy of '{name}' is incomplete, and {where} was not reached: load it once with a network "
            "connection."
        )
    if isinstance(error, LocalEntryNotFoundError):
        reason = f" ({type(error.__cause__).__name__})" if error.__cause__ is not None else ""
        return CheckpointError(
            f"'{name}' is neither an existing folder nor in the local cache, and {where} was not reached{reason}: "
            "check the path and the network connection, and that neither HF_HUB_OFFLINE nor local_files_only is set."
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return CheckpointError(
                f"'{name}' is refused to this token (HTTP {status}): log in with `hf auth login`, or pass a token= "
                "with the rights it needs."
            )
        return CheckpointError(f"'{name}' cannot be had from {where} (HTTP {status}): try again in a while.")
    if isinstance(error, httpx2.HTTPError):
        return CheckpointError(
            f"'{name}' cannot be had from {where} ({type(error).__name__}): check the network connection and try "
            "again; what has arrived is kept."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return CheckpointError(f"'{name}' cannot be had while HF_HUB_OFFLINE is set: unset it.")
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        return CheckpointError(
            f"'{name}' cannot be stored in {cache_dir or constants.HF_HUB_CACHE} ({error.strerror}): free some space "
            "or mend its permissions, or choose another place with cache_dir= or HF_HOME; what has arrived is kept."
        )
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return CheckpointError(f"'{name}' cannot be had ({reason}): try again, or with force_download=True.")


NO_PLACE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENOENT,
)


def variants_in(folder: Path) -> list[str | None]:
    """Variants of the weights in a component's folder; None is the plain one."""
    found: set[str | None] = set()
    for file in folder.glob("model*"):
        parts = file.name.replace("safetensors.index.", "").split(".")
        if parts[-1] in ("safetensors", "json"):
            found.add(None if len(parts) == 2 else parts[1].split("-")[0])
    return sorted(found, key=str)
