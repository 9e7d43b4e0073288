"""The Hub: a name or a folder to a local folder, and a folder to a repository."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gan2shape_hub.version import __version__

from .card_rules import lint_card
from .errors import CheckpointError
from .layout import CARD, CONFIG, INDEX, SLOTS, file_patterns, read_index, read_json, shard_index_name, weights_name
from .weights import inspect_weights

LIBRARY = "gan2shape-hub"
_EXTRA = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt", "NOTICE.md")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_FIGURES = "figures"
_RETRY_WAITS_S = (1.0, 2.0)


def resolve(
    name_or_folder: str | os.PathLike,
    *,
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
    of which only the needed files are fetched into the Hub's cache. ``only`` names the components to fetch.

    CheckpointError (an OSError) says what is wrong and what to do about it: no network, no such repository, a gated
    one, no such revision, a malformed id, a cache that holds only a part.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    name = os.fspath(name_or_folder)
    if not isinstance(name_or_folder, str) or folder.exists():
        raise CheckpointError(f"{name} is not a folder: check the path, or give the id of a Hub repository.")
    for wait_s in (*_RETRY_WAITS_S, None):
        try:
            path = snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=file_patterns(variant, only),
                library_name=LIBRARY,
                library_version=__version__,
            )
            break
        except (OSError, ValueError, EntryNotFoundError, httpx2.HTTPError) as error:
            if wait_s is None or not _is_transient(error):
                raise _explained(error, name, revision) from error
            time.sleep(wait_s)
    snapshot = Path(path)
    _check_complete(snapshot, name, variant, only)
    return snapshot


def _is_transient(error: Exception) -> bool:
    """Whether the Hub answered that it is busy or down, which the client does not retry for every kind of request."""
    answer = _http_error(error)
    return answer is not None and answer.response.status_code in (429, 500, 502, 503, 504)


def _http_error(error: BaseException) -> HfHubHTTPError | None:
    """The Hub's answer behind an error: the client wraps some of them in "not in the cache either"."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, HfHubHTTPError) else None


def _check_complete(snapshot: Path, name: str, variant: str | None, only: tuple[str, ...] | None) -> None:
    """The client returns a partly cached snapshot without a word where it cannot reach the Hub."""
    missing = missing_files(snapshot, variant, only)
    if not missing:
        return
    if INDEX in missing and not list(snapshot.glob("*/model*")):
        raise CheckpointError(
            f"'{name}' has no {INDEX}, so it is no checkpoint of GAN2Shape (or its cached copy is incomplete): check "
            "the id, or load it once with a network connection."
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


def _explained(error: Exception, name: str, revision: str | None) -> CheckpointError:
    """The client's error as one sentence with a remedy. Never quotes headers, so that no token can leak."""
    where = constants.ENDPOINT
    error = _http_error(error) or error
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
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return CheckpointError(f"'{name}' cannot be had ({reason}): try again, or with force_download=True.")


def files_to_push(folder: str | os.PathLike) -> list[tuple[str, int]]:
    """(path within the repository, bytes) of everything that ``push`` would send, sorted.

    Only what belongs to a checkpoint: its files, the card, a licence, pictures beside them and
    ``figures/``. CheckpointError where the
    checkpoint is not complete.
    """
    folder = Path(folder)
    index = read_index(folder)
    names = [n for n in (CONFIG, INDEX, CARD, *_EXTRA) if (folder / n).is_file()]
    for slot in index.components:
        weights = sorted(
            f"{slot}/{f.name}"
            for f in (folder / slot).glob("model*")
            if f.name.endswith(".safetensors") or f.name.startswith("model.safetensors.index")
        )
        for variant in variants_in(folder / slot):
            inspect_weights(folder / slot, variant)
        if not weights or not (folder / slot / CONFIG).is_file():
            raise CheckpointError(f"{folder / slot} lacks its {CONFIG} or weights: save the checkpoint again.")
        names += [f"{slot}/{CONFIG}", *weights]
    figures = folder / _FIGURES
    names += [f.name for f in folder.iterdir() if f.suffix.lower() in _PICTURES and f.name[0] != "."]
    names += [f.relative_to(folder).as_posix() for f in figures.rglob("*") if f.is_file() and f.name[0] != "."]
    return [(name, (folder / name).stat().st_size) for name in sorted(names)]


def card_problems(folder: str | os.PathLike, card: str | None = None) -> list[str]:
    """What the Hub would not like about the card of a checkpoint (or about ``card`` in its place)."""
    file = Path(folder) / CARD
    if card is None:
        if not file.exists():
            return ["the card is missing."]
        card = file.read_text(encoding="utf-8")
    return lint_card(card, Path(folder))


def _is_minimal(folder: Path) -> bool:
    from gan2shape_hub.cards import MINIMAL  # cards checks itself by this package's rules

    return (folder / CARD).is_file() and MINIMAL in (folder / CARD).read_text(encoding="utf-8")


def variants_in(folder: Path) -> list[str | None]:
    """Variants of the weights in a component's folder; None is the plain one."""
    found: set[str | None] = set()
    for file in folder.glob("model*"):
        parts = file.name.replace("safetensors.index.", "").split(".")
        if parts[-1] in ("safetensors", "json"):
            found.add(None if len(parts) == 2 else parts[1].split("-")[0])
    return sorted(found, key=str)


def push(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload GAN2Shape checkpoint",
    token: str | bool | None = None,
) -> str:
    """Send a checkpoint to the Hub in one commit and return its address (the commit's, or the pull request's).

    The repository and the branch ``revision`` are made where they do not exist. Files of the same variant that the
    checkpoint no longer has (shards, components) are deleted in that commit; anything else in the repository stays. A
    card that was written for want of a better one does not replace the repository's.
    CheckpointError (an OSError) says what is wrong and what to do about it.
    """
    folder = Path(folder)
    files = [name for name, _ in files_to_push(folder)]
    for problem in card_problems(folder):
        raise CheckpointError(f"{folder / CARD} breaks the Hub's rules, {problem.rstrip('.')}: correct it.")
    components = read_index(folder).components
    stale = [f"{slot}/*" for slot in SLOTS if slot not in components]
    for slot in components:
        for variant in variants_in(folder / slot):
            shards = weights_name(variant).format(suffix="-?????-of-?????")
            stale += [f"{slot}/{n}" for n in (weights_name(variant).format(suffix=""), shards)]
            stale.append(f"{slot}/{shard_index_name(variant)}")
    api = HfApi(token=token, library_name=LIBRARY, library_version=__version__)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        if _is_minimal(folder) and api.file_exists(repo_id, CARD, revision=None if create_pr else revision):
            files.remove(CARD)
        info = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=files,
            delete_patterns=stale,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
        )
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise _explained(error, repo_id, revision) from error
    return str(info.pr_url or info.commit_url)
