"""NVIDIA pickles: written as the original writes them, read without running anything."""

import collections
import contextlib
import io
import os
import pickle
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import stylegan2_originals as originals
import torch
from pickled import DIM, SIZE, WIDTHS, Call, clamped, network, nvidia_pickle, tree

from gan2shape_hub.cli import convert as cli
from gan2shape_hub.conversion import nvidia, restricted_pickle
from gan2shape_hub.conversion.restricted_pickle import Network, RefusedGlobal, load_network_pickle
from gan2shape_hub.conversion.rosinality import load_torch_file
from gan2shape_hub.conversion.verify import ConversionError


@pytest.fixture(autouse=True)
def _forget_made_up_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("torch_utils", "dnnlib"):
            del sys.modules[name]


@pytest.mark.parametrize("clamp", [256, None])
def test_pickle_is_converted_exactly(tmp_path, clamp):
    g, d = nvidia_pickle(tmp_path / "net.pkl", clamp)
    generator, discriminator, report = nvidia.read_file(tmp_path / "net.pkl")
    assert generator.config["conv_clamp"] == clamp
    assert discriminator.config["conv_clamp"] == clamp
    assert discriminator.config["mbstd_group"] == 2, "read off the file"
    assert {"G", "training_set_kwargs", "augment_pipe"} <= set(report.unused)
    w = torch.randn(2, 2 * len(WIDTHS), DIM)
    expected = originals.nvidia_synthesis(g, w, clamp)
    assert (generator(w) - expected).abs().max() < 1e-4 * expected.abs().max()
    x = torch.randn(4, 3, SIZE, SIZE)
    logits, _ = originals.nvidia_discriminator(d, x, clamp, group=2)
    assert (discriminator(x) - logits).abs().max() < 1e-4 * logits.abs().max()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, protocol):
    net = network("Generator", {"weight": torch.arange(6.0).view(2, 3)}, attributes={"c_dim": 0})
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"G_ema": net}, protocol=protocol))
    loaded = load_network_pickle(path)["G_ema"]
    assert isinstance(loaded, Network)
    assert loaded.class_name == "Generator"
    assert loaded.state["weight_gain"] == 0.25, "numpy scalars are read without numpy's own constructors"
    assert torch.equal(loaded.tensors()["weight"], torch.arange(6.0).view(2, 3))


MARK = "gan2shape_malicious_mark"


class Reduce:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def malicious():
    mark = f"{MARK}.touch"
    torch_bytes = io.BytesIO()
    torch.save(Reduce(os.system, f"touch {mark}"), torch_bytes)
    nested = Call("torch.storage", "_load_from_bytes", torch_bytes.getvalue())
    return {
        "os.system": Reduce(os.system, f"touch {mark}"),
        "builtins.eval": Reduce(eval, f"open({mark!r}, 'w')"),
        "builtins.exec": Reduce(exec, f"open({mark!r}, 'w')"),
        "builtins.getattr": Reduce(getattr, Reduce(__import__, "os"), "system"),
        "getattr chain": Reduce(Reduce(getattr, Reduce(__import__, "os"), "system").__class__, 1),
        "builtins.__import__": Reduce(__import__, "os"),
        "subprocess.Popen": Reduce(__import__("subprocess").Popen, ["touch", mark]),
        "nested torch bytes": nested,
        "pathlib": Path(mark),
        "torch.load": Reduce(torch.load, mark),
        "numpy.load": Reduce(np.load, mark),
        "inside a network": network("G", {}, attributes={"x": Reduce(os.system, f"touch {mark}")}),
    }


@pytest.mark.parametrize("name", sorted(malicious()))
def test_malicious_pickles_are_refused(tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"G_ema": malicious()[name]}))
    with pytest.raises(RefusedGlobal):
        load_network_pickle(path)
    assert cli.main(["nvidia", str(path), "--category", "cat", "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "refused" in error
    if "." in name and " " not in name:
        assert name.split(".")[-1] in error, "the message names what was asked for"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pkl"], "nothing ran, nothing was written"


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch x'\ntR.",
        b"cposix\nsystem\n(S'touch x'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.",  # a dotted name behind an admitted one
        b"\x80\x04\x8c\x0bcollections\x8c\x19OrderedDict.__reduce_ex__\x93.",
        b"\x80\x02]\x94\x82\x01.",  # an extension code
        b"P1\n.",  # a persistent id
        b"(i__main__\nX\n.",
    ],
)
def test_handwritten_programs_are_refused(tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pkl"
    path.write_bytes(program)
    with pytest.raises(ConversionError):
        load_network_pickle(path)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pkl"]


def test_malicious_torch_files_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, suffix in (("rosinality", ".pt"), ("nvidia", ".pt"), ("nvidia", ".pth")):
        path = tmp_path / f"bad{suffix}"
        torch.save({"g_ema": Reduce(os.system, f"touch {MARK}")}, path)
        assert cli.main([command, str(path), "--category", "cat", "--output", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert "refused" in error
        assert "system" in error
        assert len(error.strip().splitlines()) == 1
        path.unlink()
    assert not list(tmp_path.iterdir())


def test_stylegan3_and_conditional_pickles_are_refused(tmp_path, capsys):
    path = tmp_path / "net.pkl"
    argv = ["nvidia", str(path), "--category", "cat", "--output", str(tmp_path / "out")]
    g, _ = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    path.write_bytes(pickle.dumps({"G_ema": tree("Generator", g, {"c_dim": 3}, clamped(None))}))
    assert cli.main(argv) == 1
    assert "conditional" in capsys.readouterr().err
    sg3 = {"synthesis.input.freqs": torch.ones(4, 2), "synthesis.L0_36_512.weight": torch.ones(2, 2)}
    path.write_bytes(pickle.dumps({"G_ema": tree("Generator", sg3, {"c_dim": 0})}))
    assert cli.main(argv) == 1
    assert "StyleGAN3" in capsys.readouterr().err


def test_truncated_pickle(tmp_path):
    path = tmp_path / "net.pkl"
    nvidia_pickle(path)
    whole = path.read_bytes()
    for part in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(ConversionError, match="not a readable network pickle"):
            load_network_pickle(path)


# -- bombs: small files that ask for much ----------------------------------------------------------------------------


def shared_modules(depth):
    """A network of 2 to the power of ``depth`` paths, each module of which is written once."""
    module = network("Layer", {})
    for _ in range(depth):
        module = network("Layer", {}, submodules={"a": module, "b": module})
    return module


def nested_tuples(depth):
    value = (1, 2)
    for _ in range(depth):
        value = (value, value)
    return value


def storage_of(objects):
    """Bytes as those of a tensor's data, with other objects in their place."""
    stream = io.BytesIO()
    torch.save(objects, stream, _use_new_zipfile_serialization=False)
    return Call("torch.storage", "_load_from_bytes", stream.getvalue())


MANY = Call("torch.storage", "_load_from_bytes", torch.ones(64).storage().__reduce__()[1][0])
BOMBS = {
    "shared modules": (lambda: {"G_ema": shared_modules(22)}, "more modules"),
    "nested tuples": (lambda: {"G_ema": nested_tuples(30)}, "nests tuples"),
    "far memo": (lambda: b"\x80\x02]r\xff\xff\xff\x7f.", "more steps"),
    "many steps": (lambda: b"\x80\x02" + b"N0" * 1_000_001 + b"N.", "more steps"),
    "long bytes": (lambda: b"\x80\x04\x8e\x00\x00\x00\x00\x02\x00\x00\x00abc.", "damaged"),
    "long array": (lambda: b"\x80\x05\x96\x00\x00\x00\x00\x02\x00\x00\x00abc.", "damaged"),
    "long frame": (lambda: b"\x80\x04\x95\x00\x00\x00\x00\x02\x00\x00\x00N.", "damaged"),
    "long number": (lambda: b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", "damaged"),
    "tuples as data": (lambda: {"G_ema": storage_of(nested_tuples(30))}, "nests tuples"),
    "a tensor's call as data": (lambda: {"G_ema": storage_of(torch.ones(2))}, "no tensor"),
    "a type as data": (lambda: {"G_ema": storage_of(torch.float32)}, "no tensor"),
}


def dumped(value):
    return value if isinstance(value, bytes) else pickle.dumps(value, protocol=4)


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_small_files_cannot_ask_for_much(tmp_path, name):
    make, words = BOMBS[name]
    path = tmp_path / "bomb.pkl"
    path.write_bytes(dumped(make()))
    assert path.stat().st_size < 3_000_000
    begun = time.process_time()
    with pytest.raises(ConversionError, match=words):
        load_network_pickle(path)["G_ema"].tensors()
    assert time.process_time() - begun < 20


def test_data_that_is_read_again_and_again_is_refused(tmp_path):
    path, data = tmp_path / "bomb.pkl", MANY.args[0]
    # data once, and then a call for each of the names that read it out of the memo
    program = b"\x80\x03]q\x00(ctorch.storage\n_load_from_bytes\nq\x01B" + len(data).to_bytes(4, "little") + data
    program += b"q\x02\x85R" + b"h\x01h\x02\x85R" * 100 + b"e."
    path.write_bytes(program)
    with pytest.raises(ConversionError, match="again and again"):
        load_network_pickle(path)


def test_a_tensor_larger_than_its_data_is_refused(tmp_path):
    path = tmp_path / "bomb.pkl"
    huge = Call("torch._utils", "_rebuild_tensor_v2", torch.ones(2).storage(), 0, (2**40,), (0,), False, {})
    path.write_bytes(pickle.dumps({"G_ema": huge}))
    with pytest.raises(ConversionError, match="larger than its data"):
        load_network_pickle(path)


def test_files_leave_no_mark_on_torch(tmp_path):
    """BUILD sets attributes on whatever is on the stack: on nothing that outlives the file."""
    path = tmp_path / "mark.pkl"
    for program in (
        b"ctorch.storage\n_load_from_bytes\n}X\x04\x00\x00\x00markK\x01sb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00markK\x01sb.",
        b"ccollections\nOrderedDict\nN}X\x04\x00\x00\x00markK\x01s\x86b.",
        b"cbuiltins\nset\nN}X\x04\x00\x00\x00markK\x01s\x86b.",
        b"cdnnlib.util\nEasyDict\nN}X\x04\x00\x00\x00markK\x01s\x86b.",
    ):
        path.write_bytes(b"\x80\x02" + program)
        with contextlib.suppress(ConversionError):
            load_network_pickle(path)
    owners = (torch.load, torch.storage._load_from_bytes, torch._utils._rebuild_tensor_v2, torch.UntypedStorage)
    assert not any(
        hasattr(owner, "mark") for owner in (*owners, collections.OrderedDict, set, restricted_pickle._EasyDict)
    )


def test_torch_files_that_ask_for_much_are_refused(tmp_path, capsys):
    whole, path = tmp_path / "whole.pt", tmp_path / "bomb.pt"
    torch.save({"g_ema": {"x": torch.zeros(1000)}}, whole)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(ConversionError, match=r"bomb\.pt was refused: it is compressed"):
        load_torch_file(path)
    for new in (True, False):
        torch.save({"g_ema": nested_tuples(30)}, path, _use_new_zipfile_serialization=new)
        with pytest.raises(ConversionError, match="nests tuples"):
            load_torch_file(path)
        torch.save({"g_ema": {"x": torch.ones(3)}}, path, _use_new_zipfile_serialization=new)
        assert torch.equal(load_torch_file(path)["g_ema"]["x"], torch.ones(3))
