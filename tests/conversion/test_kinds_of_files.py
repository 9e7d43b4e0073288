"""Files that are like the usual ones but for one thing, each built as its program writes it."""

import argparse
import pickle

import numpy as np
import pytest
import stylegan2_originals as originals
import torch
from pickled import DIM, SIZE, WIDTHS, clamped, network, nvidia_pickle, tree

from gan2shape_hub.conversion import nvidia, rosinality
from gan2shape_hub.conversion.restricted_pickle import load_network_pickle
from gan2shape_hub.conversion.verify import ConversionError, UnsupportedNetwork


def activated(activation, where=("conv0", "conv1", "conv", "fromrgb")):
    """Attributes of layers as the original's have them, those called ``where`` with another activation."""

    def layer(path):
        last = path.split(".")[-1]
        usual = "linear" if last in ("affine", "skip", "out") else "lrelu"
        return {**clamped(256)(path), "activation": activation if last in where else usual}

    return layer


def pickled(path, g=None, d=None, layer=None, **entries):
    layer = layer or activated("lrelu")
    weights = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    data = {
        "G_ema": tree("Generator", weights[0] if g is None else g, {"c_dim": 0}, layer),
        "D": tree("Discriminator", weights[1] if d is None else d, {"c_dim": 0}, layer),
        **entries,
    }
    path.write_bytes(pickle.dumps(data))
    return path


# -- activations ------------------------------------------------------------------------------------------------------


def test_leaky_relu_networks_say_so_and_are_read(tmp_path):
    generator, discriminator, _ = nvidia.read_file(pickled(tmp_path / "net.pkl"))
    assert generator.image_size == discriminator.image_size == SIZE


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("layer", ["conv0", "conv1", "fc0"])
def test_other_activations_are_refused(tmp_path, activation, layer):
    path = pickled(tmp_path / "net.pkl", layer=activated(activation, (layer,)))
    with pytest.raises(UnsupportedNetwork, match=rf"activation '{activation}' in .*{layer}: only leaky ReLU"):
        nvidia.read_file(path)


# -- discriminators ---------------------------------------------------------------------------------------------------


def unsupported_discriminators():
    _, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    yield "conditional", d | {"mapping.fc0.weight": torch.ones(2, 2)}
    yield "residual", {name: value for name, value in d.items() if ".skip." not in name}
    yield "[1, 3, 3, 1]", d | {"b16.conv1.resample_filter": torch.ones(4, 4)}


@pytest.mark.parametrize(("words", "d"), list(unsupported_discriminators()), ids=["conditional", "skip", "filter"])
def test_a_generator_does_without_its_discriminator(tmp_path, words, d):
    torch.save({"G_ema": originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)[0], "D": d}, tmp_path / "net.pt")
    generator, discriminator, report = nvidia.read_file(tmp_path / "net.pt")
    assert generator.image_size == SIZE
    assert discriminator is None
    (note,) = report.notes
    assert note.startswith("The discriminator was left out")
    assert str(tmp_path) not in note, "the card, which has it too, is for others"
    assert words in note


def test_a_pickled_discriminator_of_another_activation_is_left_out(tmp_path):
    _, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    other = tree("Discriminator", d, {"c_dim": 0}, activated("relu"))
    generator, discriminator, report = nvidia.read_file(pickled(tmp_path / "net.pkl", D=other))
    assert (generator.image_size, discriminator) == (SIZE, None)
    assert "'relu'" in report.notes[0]


def test_a_damaged_discriminator_is_no_unsupported_one(tmp_path):
    _, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    d["b4.fc.weight"] = torch.full_like(d["b4.fc.weight"], float("nan"))
    with pytest.raises(ConversionError, match=r"b4\.fc\.weight holds values that are not finite"):
        nvidia.read_file(pickled(tmp_path / "net.pkl", d=d))


# -- latents of two sizes ---------------------------------------------------------------------------------------------


def test_z_of_another_size_than_w_is_refused_in_words(tmp_path):
    g, _ = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    g["mapping.fc0.weight"] = torch.randn(DIM, 6)
    with pytest.raises(UnsupportedNetwork, match=r"latents z of 6 numbers through 16, .* to w of 16"):
        nvidia.read_file(pickled(tmp_path / "net.pkl", g=g))
    g, _ = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    g["style.1.weight"] = torch.randn(DIM, 6)
    torch.save({"g_ema": g}, tmp_path / "net.pt")
    with pytest.raises(UnsupportedNetwork, match="latents z of 6 numbers"):
        rosinality.read_file(tmp_path / "net.pt")


# -- encoders' checkpoints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opts", [dict, argparse.Namespace])
def test_encoders_carry_their_generator(tmp_path, opts):
    """pSp, e4e and ReStyle save encoder and decoder in one state dict, and the mean latent once a layer."""
    g, _ = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    state = {f"decoder.{name}": value for name, value in g.items()}
    state |= {"encoder.input_layer.0.weight": torch.ones(4, 3, 3, 3), "face_pool.x": torch.ones(1)}
    mean = torch.randn(DIM)
    path = tmp_path / "e4e.pt"
    torch.save(
        {"state_dict": state, "latent_avg": mean.repeat(2 * len(WIDTHS), 1), "opts": opts(output_size=SIZE)}, path
    )
    generator, discriminator, report = rosinality.read_file(path)
    assert discriminator is None
    assert {"encoder", "face_pool", "opts"} == set(report.unused)
    assert torch.allclose(generator.latent_mean, mean)
    w = torch.randn(2, 2 * len(WIDTHS), DIM)
    expected = originals.rosinality_synthesis(g, w)
    assert (generator(w) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_mean_latents_that_differ_are_told(tmp_path):
    g, _ = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    mean = torch.randn(2 * len(WIDTHS), DIM)
    torch.save(
        {"state_dict": {f"decoder.{name}": value for name, value in g.items()}, "latent_avg": mean}, tmp_path / "a.pt"
    )
    generator, _, report = rosinality.read_file(tmp_path / "a.pt")
    assert torch.allclose(generator.latent_mean, mean.mean(0), atol=1e-6)
    assert any("differs among the layers" in note for note in report.notes)


def test_a_state_dict_without_a_generator_is_refused(tmp_path):
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, tmp_path / "other.pt")
    with pytest.raises(ConversionError, match="has no g_ema"):
        rosinality.read_file(tmp_path / "other.pt")


# -- NumPy's values ---------------------------------------------------------------------------------------------------

VALUES = {
    "scalar": np.float32(0.5),
    "int": np.int16(-3),
    "array": np.arange(6, dtype=np.float64).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 4), np.float16),
}
OPAQUE = {"text": np.array(["a", "b"]), "objects": np.array([{"a": 1}, None], dtype=object), "word": np.str_("x")}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_values_beside_networks_are_read(tmp_path, protocol):
    net = network("Generator", {"weight": torch.ones(2)})
    data = {"G_ema": net, "training_set_kwargs": {**VALUES, **OPAQUE}}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    read = load_network_pickle(tmp_path / "net.pkl")["training_set_kwargs"]
    for name, value in VALUES.items():
        found = getattr(read[name], "value", read[name])
        assert np.array_equal(found, value), name
    for name in OPAQUE:
        assert getattr(read[name], "value", None) is None, name


def test_pickles_with_numpy_values_are_converted(tmp_path):
    nvidia_pickle(tmp_path / "net.pkl", training_set_kwargs={"range": np.array([0.0, 1.0]), "max": np.int64(7)})
    assert nvidia.read_file(tmp_path / "net.pkl")[0].image_size == SIZE


@pytest.mark.parametrize("zipped", [True, False])
def test_a_numpy_mean_latent(tmp_path, zipped):
    g, _ = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    mean = np.linspace(-1, 1, DIM)
    data = {"g_ema": g, "latent_avg": mean, "iteration": np.int64(4), "opts": {"lr": np.float64(0.1)}}
    torch.save(data, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    generator, _, report = rosinality.read_file(tmp_path / "net.pt")
    assert np.allclose(generator.latent_mean.numpy(), mean)
    assert not any("65,536" in note for note in report.notes)


def test_an_array_of_another_length_is_damage(tmp_path):
    whole = pickle.dumps({"G_ema": network("G", {}), "x": np.arange(5.0)}, protocol=2)
    assert whole.count(b"K\x05\x85") == 1, "the shape (5,)"
    (tmp_path / "net.pkl").write_bytes(whole.replace(b"K\x05\x85", b"K\x7f\x85"))
    with pytest.raises(ConversionError, match="damaged"):
        load_network_pickle(tmp_path / "net.pkl")


def test_arrays_of_the_same_bytes_again_and_again_are_refused(tmp_path):
    """Small in the file, and larger than the computer once each is a tensor."""
    data = np.arange(50_000.0).tobytes()
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tRq\x01"
    head = b"\x80\x03]q\x00(B" + len(data).to_bytes(4, "little") + data + b"q\x02" + dtype
    one = b"cnumpy.core.numeric\n_frombuffer\n(h\x02h\x01J\x50\xc3\x00\x00\x85X\x01\x00\x00\x00CtR"
    for count, fits in ((1, True), (50, False)):
        (tmp_path / "bomb.pkl").write_bytes(head + one * count + b"e.")
        if fits:
            assert load_network_pickle(tmp_path / "bomb.pkl")[-1].value[-1] == 49_999
        else:
            with pytest.raises(ConversionError, match="damaged"):
                load_network_pickle(tmp_path / "bomb.pkl")
