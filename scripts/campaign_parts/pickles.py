"""Hostile and damaged pickles and torch files. Nothing in them may be called."""

from __future__ import annotations

import collections
import io
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from campaign_parts.damage import damaged

from gan2shape_hub.conversion.restricted_pickle import load_network_pickle
from gan2shape_hub.conversion.rosinality import load_torch_file

NAMES = (
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "subprocess Popen", "os fork"),
    *("builtins bytearray", "builtins open", "io open", "webbrowser open", "runpy run_path", "torch.hub load"),
    *("torch.storage _load_from_bytes", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
    *("torch_utils.persistence _reconstruct_persistent_obj", "collections OrderedDict", "dnnlib.util EasyDict"),
    *("numpy dtype", "numpy.core.multiarray scalar", "_codecs encode", "builtins set", "__builtin__ set"),
    *("torch FloatStorage", "torch load", "argparse Namespace", "functools partial", "operator attrgetter"),
)
ARGUMENTS = (b"touch x", b"__import__('os').system('touch x')", b"latin1", b"f4", b"state", b"class", b"type")


def case(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A program of pickle's machine, a pickle of containers, or a torch file, whole or damaged."""
    data = rng.choice((program, program, containers, torch_file))(rng)
    data = damaged(rng, data) if rng.random() < 0.4 else data
    path = folder / "file"
    path.write_bytes(data)
    reader = rng.choice((load_network_pickle, load_torch_file))
    return lambda: reader(path)


def program(rng: random.Random) -> bytes:
    """Opcodes at random, most of them such that the machine comes to the end."""
    out = bytearray(b"\x80" + bytes([rng.choice((2, 4, 5))]))
    for _ in range(rng.choice((3, 8, 20, 60))):
        out += _step(rng)
    return bytes(out) + b"."


def _step(rng: random.Random) -> bytes:
    module, name = rng.choice(NAMES).split()
    word = rng.choice(ARGUMENTS)
    huge = rng.choice((1, 255, 2**16, 2**31 - 1))
    return rng.choice(
        (
            f"c{module}\n{name}\n".encode(),
            f"\x8c{chr(len(module))}{module}\x8c{chr(len(name))}{name}\x93".encode(),
            b"U" + bytes([len(word)]) + word,
            b"X" + struct.pack("<I", len(word)) + word,
            b"C" + bytes([len(word)]) + word,
            b"(" + f"c{module}\n{name}\n".encode() + b"U" + bytes([len(word)]) + word + b"\x85R",
            f"(S'touch x'\ni{module}\n{name}\n".encode(),
            *(b"(", b")", b"]", b"}", b"\x8f", b"t", b"\x85", b"\x86", b"l", b"d", b"0", b"1", b"2", b"N", b"\x88"),
            *(b"R", b"R", b"b", b"\x81", b"\x92", b"a", b"e", b"s", b"u", b"\x90", b"Q", b"\x94", b"h\x00", b"q\x00"),
            b"r" + struct.pack("<I", huge) + b"j" + struct.pack("<I", huge),
            b"\x96" + struct.pack("<Q", huge * rng.choice((1, 2**30))),
            b"\x8e" + struct.pack("<Q", huge * rng.choice((1, 2**30))),
            b"\x8b" + struct.pack("<I", huge) + b"\xff",
            b"\x95" + struct.pack("<Q", huge),
            b"J" + struct.pack("<I", huge),
            b"I" + b"9" * rng.choice((1, 5000)) + b"\n",
            rng.randbytes(1),
        )
    )


def containers(rng: random.Random) -> bytes:
    """Nested and shared containers and tensors."""
    value: object = rng.choice((torch.ones(3), {"G_ema": 1}, 1, b"x" * 1000, collections.OrderedDict(a=1)))
    for _ in range(rng.choice((1, 5, 30, 200))):
        value = rng.choice(
            (
                lambda v: [v, v],
                lambda v: (v, v),
                lambda v: {"state": v},
                lambda v: {"type": "class", "state": {"_modules": v}},
            )
        )(value)
    return pickle.dumps(value, rng.choice((0, 2, 4)))


def torch_file(rng: random.Random) -> bytes:
    """As ``torch.save`` writes it, in either of its forms."""
    out = io.BytesIO()
    tensors = {f"g.{k}": torch.zeros(rng.choice(((), (3,), (4, 5)))) for k in range(rng.randrange(6))}
    torch.save(
        rng.choice(({"g_ema": tensors}, tensors, [tensors])), out, _use_new_zipfile_serialization=rng.random() < 0.6
    )
    return out.getvalue()
