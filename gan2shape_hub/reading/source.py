"""The bytes of a picture: of a file, an address, or what the program holds already."""

from __future__ import annotations

import io
import os
import stat
import time
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan2shape_hub.arguments import user_path
from gan2shape_hub.cancel import place_to_stop
from gan2shape_hub.errors import InputError

MAX_BYTES = 2**30
"""Of a file: 200 megapixels without compression are 0.6 GB."""
MAX_DOWNLOAD_BYTES, DOWNLOAD_S = 2**28, 120.0
"""An address is given up beyond so many bytes or seconds."""


class StoppableStream:
    """A stream whose every read is a place to stop: decoders ask for 64 kB at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        place_to_stop()
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_address(source: Any) -> bool:
    """Whether ``source`` is an http(s) address; a ``Path`` never is."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def open_path(path: str | os.PathLike[str]) -> BinaryIO:
    """A picture's file, ``~`` and ``file://`` understood; InputError in one sentence where there is none to read."""
    text = os.fspath(path)
    if text.lower().startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    try:
        place = user_path(text)
        status = place.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"'{path}' is a folder: pass the path of an image file.", code="not-found")
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device never ends
            raise InputError(f"'{path}' is no ordinary file: pass the path of an image file.", code="unreadable")
        if status.st_size == 0:
            raise InputError(f"'{path}' is empty: download or save it again.", code="corrupt")
        if status.st_size > MAX_BYTES:
            raise InputError(
                f"'{path}' is {status.st_size / 2**30:.1f} GB large, must have at most {MAX_BYTES / 2**30:.0f} GB: "
                "pass a smaller image file.",
                code="too-large",
            )
        return place.open("rb")
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist: check the path.", code="not-found") from None
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be read ({reason(error)}): check its permissions.", code="unreadable"
        ) from None
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:  # a zero byte, half a surrogate, ~ of nobody
        raise InputError(f"{str(path)!r} is no path ({reason(error)}): check it.", code="not-found") from None


def download(address: str) -> BinaryIO:
    """What an http(s) address answers with; InputError in one sentence where that is no file of a picture's size."""
    import httpx2  # takes a while to import, and most pictures are files

    data, deadline = io.BytesIO(), time.monotonic() + DOWNLOAD_S
    try:
        with httpx2.stream("GET", address, follow_redirects=True, timeout=20) as answer:
            answer.raise_for_status()
            for part in answer.iter_bytes(2**16):
                place_to_stop()
                data.write(part)
                if data.tell() > MAX_DOWNLOAD_BYTES or time.monotonic() > deadline:
                    raise InputError(
                        f"'{address}' sends more than {MAX_DOWNLOAD_BYTES // 2**20} MB or takes over {DOWNLOAD_S:.0f} "
                        "s: download the image first and pass its path.",
                        code="too-large",
                    )
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
        raise InputError(
            f"'{address}' cannot be downloaded ({reason(error)}): check the address, or download the image yourself "
            "and pass its path.",
            code="not-found",
        ) from None
    if not data.tell():
        raise InputError(f"'{address}' is empty: check the address.", code="corrupt")
    data.seek(0)
    return data


def held(source: Any, name: str) -> BinaryIO | None:
    """Bytes, or an open file, which is read from its beginning and left where it stood; None for anything else."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif callable(getattr(source, "read", None)):
        try:
            place = source.tell() if source.seekable() else None
            if place is not None:
                source.seek(0)
            data = source.read(MAX_BYTES + 1)
            if place is not None:
                source.seek(place)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{name} cannot be read ({reason(error)}): open it again.", code="unreadable") from None
        if not isinstance(data, bytes):
            raise InputError(f"{name} is open as text: open it as bytes (mode 'rb').", code="unreadable")
    else:
        return None
    if not data:
        raise InputError(f"{name} is empty: pass the bytes of an image file.", code="corrupt")
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} is over {MAX_BYTES / 2**30:.0f} GB large: pass a smaller image.", code="too-large")
    return io.BytesIO(data)


def reason(error: BaseException) -> str:
    """An exception's text as part of a sentence."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
    return text.splitlines()[0] if text else type(error).__name__
