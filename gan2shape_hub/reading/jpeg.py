"""What a JPEG file will cost, read off its markers before anything is decoded."""

from __future__ import annotations

import re
from typing import BinaryIO

from gan2shape_hub.cancel import place_to_stop
from gan2shape_hub.errors import InputError

MAX_SCANS = 50
"""Encoders write about 10. Every scan goes over the whole picture once more, and may take 59 bytes of the file."""
MAX_SEGMENTS = 20_000
"""A depth map of 100 MB beside the picture takes 1,600."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the data of a scan: bytes of 255 in it are followed by a zero, and restart markers belong to it."""
_BLOCK = 2**16
_END, _START_OF_SCAN = 0xD9, 0xDA
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a segment: restarts and the beginning of a picture."""


def count_scans(stream: BinaryIO, label: str) -> int:
    """How often a decoder would go over the first picture of a JPEG file; ``stream`` is left where it stood.

    InputError: more often than any encoder asks for, which would keep a processor busy for minutes or hours.
    """
    place, scans = stream.tell(), 0
    try:
        stream.seek(2)
        for _ in range(MAX_SEGMENTS):
            marker = _next_marker(stream)
            if marker is None or marker == _END:
                return scans
            if marker in _ALONE:
                continue
            scans += marker == _START_OF_SCAN
            if scans > MAX_SCANS:
                break
            length = stream.read(2)
            if len(length) < 2:
                return scans
            stream.seek(max(int.from_bytes(length, "big") - 2, 0), 1)
    finally:
        stream.seek(place)
    raise InputError(
        f"{label} is a JPEG of over {MAX_SCANS} scans or {MAX_SEGMENTS:,} segments, which no camera or program writes: "
        "save it again.",
        code="too-many-scans",
    )


def _next_marker(stream: BinaryIO) -> int | None:
    """The second byte of the next marker, with the stream behind it; None at the end of the file."""
    pair = stream.read(2)
    while len(pair) == 2:
        if _MARKER.match(pair):
            return pair[1]
        place_to_stop()
        begin = stream.tell() - 2
        stream.seek(begin)
        block = stream.read(_BLOCK)
        found = _MARKER.search(block)
        if found:
            stream.seek(begin + found.end())
            return block[found.end() - 1]
        if len(block) < _BLOCK:
            return None
        stream.seek(begin + len(block) - 1)  # the last byte may be the first half of a marker
        pair = stream.read(2)
    return None
