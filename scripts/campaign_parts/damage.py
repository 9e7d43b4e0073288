"""Damage to bytes and JSON, as disks, networks and attackers do it."""

from __future__ import annotations

import random
from typing import Any

ODD = (
    *(None, True, [], {}, "", "x" * 5000, "\x00", "../../secret.json", "/etc/passwd", ["A"], {"a": 1}, [[[[]]]]),
    *(0, -1, 1, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "NaN", "1e999"),
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """``data`` cut, with bytes flipped, a part removed, doubled, zeroed, or numbers in it made large."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        size = len(data) or 1
        # Half of the damage is where the headers are.
        at = rng.randrange(min(size, 200) if rng.random() < 0.5 else size)
        length = rng.choice((1, 2, 4, 8, 64, size // 4))
        match rng.randrange(7):
            case 0:
                del data[at:]
            case 1:
                for _ in range(rng.choice((1, 4, 40))):
                    if data:
                        data[rng.randrange(len(data))] = rng.randrange(256)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length] * rng.choice((1, 3, 50))
            case 4:
                data[at : at + length] = bytes(length)
            case 5:
                data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80"))
            case 6:
                data[at:at] = rng.randbytes(length)
    return bytes(data)


def damaged_json(rng: random.Random, value: Any) -> Any:
    """``value`` with one place in it made odd, removed, or added to."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or rng.random() < 0.1:
        return rng.choice(ODD)
    key = rng.choice(keys)
    changed = value.copy()
    match rng.randrange(6):
        case 0:
            del changed[key]
        case 1 if isinstance(value, dict):
            changed[rng.choice(("", "extra", "_class_name", "__class__", "format_version"))] = rng.choice(ODD)
        case 2:
            changed[key] = value[rng.choice(keys)]
        case _:
            changed[key] = damaged_json(rng, value[key])
    return changed
