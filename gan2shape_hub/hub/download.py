"""Files behind plain addresses, into the Hub's cache by the Hub's client: resumed, checked, and remembered.

The Hub says what a file's hash is; other servers do not. The hash that a file had when it was first fetched is
remembered beside it, and another one is refused later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx2
from huggingface_hub import cached_assets_path
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, get_session, hf_raise_for_status

from gan2shape_hub.atomic import ExportError, atomic_file

from .errors import CheckpointError
from .remote import ERRORS, LIBRARY, NO_PLACE, http_error, patiently

RECORD, PART = "fetched.json", "part"
_NO_ADDRESS = (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError)


@dataclass(frozen=True)
class Fetched:
    """What is remembered of a file."""

    address: str
    size: int
    """Bytes."""
    sha256: str


def download(
    address: str,
    *,
    sha256: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """The file behind ``address`` in the cache, fetched where it is not there.

    Args:
        sha256: of the file, where it is known; else that of the first time counts.
        cache_dir: default: the assets in ``HF_HOME``, a folder an address.
        say: is told what was fetched, in a sentence.

    Raises:
        CheckpointError: one sentence: no network or no such file, a file of another length or hash, no space. What has
            arrived is kept, and the next call goes on from there.
    """
    name = re.sub(r"[^\w.+-]", "_", unquote(re.split("[?#]", address)[0].rpartition("/")[2])).lstrip(".") or "file"
    try:
        place = _place(address, cache_dir)
        with WeakFileLock(place / ".lock"):
            file, part, known = place / name, place / f"{name}.{PART}", _remembered(place)
            if not (file.is_file() and known and file.stat().st_size == known.size):
                file.unlink(missing_ok=True)
                _fetch(address, part)
                new = Fetched(address, part.stat().st_size, _hash(part))
                _check(new, sha256, known, place)
                os.replace(part, file)
                with atomic_file(place / RECORD) as record:
                    record.write_text(json.dumps(asdict(new), indent=2) + "\n", encoding="utf-8")
                say(f"Fetched {name}, {new.size / 1e6:.0f} MB, sha256 {new.sha256}.")
            elif sha256 is not None and known.sha256 != sha256:
                raise CheckpointError(f"{file} has sha256 {known.sha256}, expected {sha256}: delete {place}.")
            return file
    except CheckpointError:
        raise
    except (*ERRORS, ExportError, *_NO_ADDRESS) as error:
        raise _explained(error, address) from error


def _place(address: str, cache_dir: str | os.PathLike | None) -> Path:
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    return cached_assets_path(LIBRARY, "weights", key, assets_dir=cache_dir)


def _remembered(place: Path) -> Fetched | None:
    try:
        return Fetched(**json.loads((place / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _fetch(address: str, part: Path) -> None:
    """Fill ``part``, which may hold the file's beginning already."""
    etag, size = patiently(lambda: _look(address))
    mark = part.with_suffix(".etag")
    if not mark.is_file() or mark.read_text(encoding="utf-8") != etag or not etag:
        part.unlink(missing_ok=True)  # of a file that there is no longer
    mark.write_text(etag, encoding="utf-8")
    held = part.stat().st_size if part.exists() else 0
    if size is not None and held > size:
        part.unlink()
        held = 0
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - held > free:
        raise CheckpointError(
            f"{address} has {size / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free in {part.parent}: free some "
            "space, or choose another place with HF_HOME."
        )
    with part.open("ab") as stream:
        patiently(lambda: http_get(address, stream, resume_size=stream.tell(), expected_size=size))
    mark.unlink()


def _look(address: str) -> tuple[str, int | None]:
    """ETag ("" where there is none) and length of a file, of which one byte is asked for: signed addresses answer no
    HEAD."""
    with get_session().stream("GET", address, headers={"Range": "bytes=0-0", "Accept-Encoding": "identity"}) as answer:
        hf_raise_for_status(answer)
        length = answer.headers.get("Content-Length")
        if answer.status_code == 206:
            length = answer.headers.get("Content-Range", "").rpartition("/")[2]
        return answer.headers.get("ETag", ""), int(length) if length and length.isdecimal() else None


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(new: Fetched, sha256: str | None, known: Fetched | None, place: Path) -> None:
    """CheckpointError where the file is not the one that is expected; what arrived is deleted."""
    expected = sha256 or (known.sha256 if known else None)
    if expected is None or new.sha256 == expected:
        return
    for leftover in place.glob(f"*.{PART}"):
        leftover.unlink()
    remedy = "fetch it again" if sha256 else f"if its owner replaced it, delete {place} and fetch it again"
    raise CheckpointError(f"{new.address} has sha256 {new.sha256}, expected {expected}: {remedy}.")


def _explained(error: BaseException, address: str) -> CheckpointError:
    answer = http_error(error)
    if answer is not None:
        status = answer.response.status_code
        again = "try again in a while" if status >= 500 or status == 429 else "check the address"
        return CheckpointError(f"{address} cannot be had (HTTP {status}): {again}.")
    if isinstance(error, OfflineModeIsEnabled):
        return CheckpointError(f"{address} cannot be had while HF_HUB_OFFLINE is set: unset it.")
    if isinstance(error, _NO_ADDRESS):
        return CheckpointError(f"{address!r} is no address: check it.")
    if isinstance(error, httpx2.HTTPError):
        return CheckpointError(
            f"{address} cannot be had ({type(error).__name__}): check the network connection and try again; what has "
            "arrived is kept."
        )
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        return CheckpointError(
            f"{address} cannot be stored ({error.strerror} in the cache): free some space or mend its permissions, or "
            "choose another place with HF_HOME; what has arrived is kept."
        )
    if isinstance(error, OSError) and "should be of size" in str(error):
        return CheckpointError(f"{address} did not arrive whole: try again; what has arrived is kept.")
    return CheckpointError(f"{address} cannot be had ({' '.join(str(error).split()).rstrip('.')}): try again.")
