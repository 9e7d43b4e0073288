"""A checkpoint folder to a repository of the Hub."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gan2shape_hub.arguments import user_path
from gan2shape_hub.cards import MINIMAL, lint_card
from gan2shape_hub.version import __version__

from .errors import CheckpointError
from .layout import CARD, CONFIG, INDEX, RECIPE, SLOTS, read_index, shard_index_name, weights_name
from .remote import ERRORS, LIBRARY, http_error, patiently, variants_in
from .weights import inspect_weights

_EXTRA = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt", "NOTICE.md")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_FIGURES = "figures"


def files_to_push(folder: str | os.PathLike) -> list[tuple[str, int]]:
    """(path within the repository, bytes) of everything that ``push`` would send, sorted.

    Only what belongs to a checkpoint: its files, the card, a licence, pictures beside them and ``figures/``.
    CheckpointError where the checkpoint is not complete.
    """
    folder = user_path(folder)
    index = read_index(folder)
    names = [n for n in (CONFIG, INDEX, CARD, RECIPE, *_EXTRA) if (folder / n).is_file()]
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


def card_problems(folder: str | os.PathLike, card: str | None = None, figures: Collection[str] = ()) -> list[str]:
    """What the Hub would not like about the card of a checkpoint (or about ``card`` in its place).

    ``figures``: paths in the folder that are still to be written.
    """
    file = Path(folder) / CARD
    if card is None:
        if not file.exists():
            return ["the card is missing."]
        card = file.read_text(encoding="utf-8")
    return lint_card(card, Path(folder), figures)


def _is_minimal(folder: Path) -> bool:
    return (folder / CARD).is_file() and MINIMAL in (folder / CARD).read_text(encoding="utf-8")


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
    folder = user_path(folder)
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

    def upload() -> str:
        full_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # with the owner, where it had none
        if revision is not None and not create_pr:
            api.create_branch(full_id, branch=revision, exist_ok=True)
        kept = _is_minimal(folder) and api.file_exists(full_id, CARD, revision=None if create_pr else revision)
        info = api.upload_folder(
            repo_id=full_id,
            folder_path=folder,
            allow_patterns=[name for name in files if not (kept and name == CARD)],
            delete_patterns=stale,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
        )
        return str(info.pr_url or info.commit_url)

    try:
        # A commit that is asked for twice is made once; a pull request is not.
        return upload() if create_pr else patiently(upload)
    except ERRORS as error:
        raise _explained(error, repo_id, revision) from error


def _explained(error: Exception, repo_id: str, revision: str | None) -> CheckpointError:
    """The client's error as one sentence with a remedy. Never quotes headers, so that no token can leak."""
    where = constants.ENDPOINT
    error = http_error(error) or error
    if isinstance(error, HFValidationError):
        return CheckpointError(f"'{repo_id}' is no Hub id: write it as 'owner/name'.")
    if isinstance(error, OfflineModeIsEnabled):
        return CheckpointError(f"'{repo_id}' cannot be published while HF_HUB_OFFLINE is set: unset it.")
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(
            f"'{repo_id}' has no revision '{revision}': check its branches and tags at {where}/{repo_id}/refs."
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
            return CheckpointError(
                f"'{repo_id}' is refused to this token (HTTP {status}): log in with `hf auth login`, or pass a token= "
                "that may write there."
            )
        return CheckpointError(
            f"'{repo_id}' was not taken by {where} (HTTP {status}): try again in a while; what has arrived is kept."
        )
    if isinstance(error, httpx2.HTTPError):
        return CheckpointError(
            f"{where} was not reached ({type(error).__name__}): check the network connection and try again; what has "
            "arrived is kept."
        )
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return CheckpointError(f"'{repo_id}' cannot be published ({reason}): try again.")
