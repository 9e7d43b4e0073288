"""TensorFlow pickles of StyleGAN2: read without TensorFlow and without running anything, exact against the graph."""

import sys

import numpy as np
import pytest
import stylegan2_graph as graph
import torch
from pickled import DIM, SIZE, WIDTHS, graph_pickle

from gan2shape_hub.cli import convert as cli
from gan2shape_hub.conversion import nvidia
from gan2shape_hub.conversion.restricted_pickle import GraphNetwork, load_network_pickle
from gan2shape_hub.conversion.verify import ConversionError, UnsupportedNetwork
from gan2shape_hub.hub import load_components


def agree(ours, theirs, tolerance=1e-4):
    theirs = torch.from_numpy(np.asarray(theirs)).float()
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize(("size", "protocol"), [(16, 4), (32, 2), (32, 4)])
def test_exact_against_the_published_graph(tmp_path, size, protocol):
    widths = WIDTHS[: size.bit_length() - 2]
    own, mapping, synthesis, d = graph_pickle(tmp_path / "net.pkl", size, widths, protocol=protocol)
    generator, discriminator, report = nvidia.read_file(tmp_path / "net.pkl")
    assert "TensorFlow" in report.source
    assert set(report.unused) == {"G", "G.lod"}
    assert (generator.image_size, generator.config["channels"]) == (size, widths)
    rng = np.random.default_rng(3)
    z, ws = rng.normal(size=(3, DIM)), rng.normal(size=(2, 2 * len(widths), DIM))
    w = graph.mapping_of(mapping, z)
    agree(generator.mapping(torch.from_numpy(z).float()), w)
    agree(generator.latent_mean, own["dlatent_avg"])
    agree(generator(torch.from_numpy(ws).float()), graph.synthesis_of(synthesis, ws))
    agree(
        generator(torch.from_numpy(w[:1]).float()),
        graph.synthesis_of(synthesis, np.repeat(w[:1, None], 8, 1)[:, : 2 * len(widths)]),
    )
    agree(generator(torch.from_numpy(ws).float(), noise="none"), graph.synthesis_of(synthesis, ws, noise=False))
    x = rng.uniform(-1, 1, size=(4, 3, size, size))
    agree(discriminator(torch.from_numpy(x).float()), graph.discriminator_of(d, x))


def test_the_demodulations_constant_is_the_graphs(tmp_path):
    """With nearly silent styles it dominates."""

    def silent(own, mapping, synthesis, d):
        for name in synthesis:
            if name.endswith("mod_weight"):
                synthesis[name] *= 1e-5
            if name.endswith("mod_bias"):
                synthesis[name] = np.full_like(synthesis[name], -1)

    _, _, synthesis, _ = graph_pickle(tmp_path / "net.pkl", change=silent)
    ws = np.random.default_rng(0).normal(size=(2, 2 * len(WIDTHS), DIM))
    generator, _, _ = nvidia.read_file(tmp_path / "net.pkl")
    agree(generator(torch.from_numpy(ws).float()), graph.synthesis_of(synthesis, ws), 1e-3)


def test_the_command_writes_a_checkpoint(tmp_path, capsys):
    graph_pickle(tmp_path / "stylegan2-cat-config-f.pkl")
    argv = ["nvidia", tmp_path / "stylegan2-cat-config-f.pkl", "--category", "cat", "--output", tmp_path / "cat"]
    assert cli.main([str(a) for a in argv]) == 0, capsys.readouterr().err
    config, components = load_components(tmp_path / "cat")
    assert config.category == "cat"
    assert components["generator"].config["demod_eps_per_fan_in"] is False
    assert "discriminator" in components
    assert "dnnlib" not in sys.modules


def test_records_are_inert(tmp_path):
    graph_pickle(tmp_path / "net.pkl")
    g, d, gs = load_network_pickle(tmp_path / "net.pkl")
    assert all(isinstance(net, GraphNetwork) for net in (g, d, gs))
    assert not hasattr(gs, "build_module_src"), "source text is not even kept"


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"nonlinearity": "relu"}, "nonlinearity 'relu'"),
        ({"mapping_nonlinearity": "linear"}, "mapping_nonlinearity 'linear'"),
        ({"architecture": "resnet"}, "architecture 'resnet'"),
        ({"resample_kernel": [1, 2, 1]}, r"resample_kernel \[1, 2, 1\]"),
        ({"resample_kernel": None}, "resample_kernel None"),
        ({"label_size": 10}, "label_size 10"),
        ({"normalize_latents": False}, "normalize_latents False"),
        ({"attention": True}, "attention True"),
    ],
)
def test_graphs_without_a_counterpart_are_refused_by_name(tmp_path, kwargs, words):
    graph_pickle(tmp_path / "net.pkl", g_kwargs=kwargs)
    with pytest.raises(UnsupportedNetwork, match=words):
        nvidia.read_file(tmp_path / "net.pkl")


@pytest.mark.parametrize("kwargs", [{"resample_kernel": (1, 3, 3, 1)}, {"resample_kernel": np.array([1, 3, 3, 1])}])
def test_the_usual_filter_in_any_form(tmp_path, kwargs):
    graph_pickle(tmp_path / "net.pkl", g_kwargs=kwargs)
    assert nvidia.read_file(tmp_path / "net.pkl")[0].image_size == SIZE


def test_a_learning_rate_multiplier_is_honoured(tmp_path):
    _, mapping, _, _ = graph_pickle(tmp_path / "net.pkl", g_kwargs={"mapping_lrmul": 0.02})
    z = np.random.default_rng(3).normal(size=(3, DIM))
    generator, _, _ = nvidia.read_file(tmp_path / "net.pkl")
    agree(generator.mapping(torch.from_numpy(z).float()), graph.mapping_of(mapping, z, 0.02))


def test_a_discriminator_of_another_architecture_is_left_out(tmp_path):
    graph_pickle(tmp_path / "net.pkl", d_kwargs={"architecture": "orig"})
    generator, discriminator, report = nvidia.read_file(tmp_path / "net.pkl")
    assert (generator.image_size, discriminator) == (SIZE, None)
    assert "architecture 'orig'" in report.notes[0]


def test_the_first_stylegan_and_progressive_graphs_are_refused(tmp_path):
    def first(own, mapping, synthesis, d):
        for name in [name for name in synthesis if "mod_" in name]:
            synthesis[name.replace("mod_", "StyleMod/")] = synthesis.pop(name)

    def progressive(own, mapping, synthesis, d):
        for name in [name for name in synthesis if "ToRGB" in name]:
            synthesis[f"ToRGB_lod0/{name.rpartition('/')[2]}"] = synthesis.pop(name)

    for change in (first, progressive):
        graph_pickle(tmp_path / "net.pkl", change=change)
        with pytest.raises(UnsupportedNetwork, match=r"only its configurations E and F"):
            nvidia.read_file(tmp_path / "net.pkl")


def test_damaged_variables_are_named(tmp_path):
    def flat(own, mapping, synthesis, d):
        synthesis["8x8/Conv1/weight"] = synthesis["8x8/Conv1/weight"].ravel()

    def missing(own, mapping, synthesis, d):
        del synthesis["8x8/Conv1/bias"]

    def endless(own, mapping, synthesis, d):
        synthesis["8x8/Conv1/bias"][0] = np.inf

    for change, words in ((flat, "8x8/Conv1/weight"), (missing, r"b8\.conv1\.bias"), (endless, "not finite")):
        graph_pickle(tmp_path / "net.pkl", change=change)
        with pytest.raises(ConversionError, match=words):
            nvidia.read_file(tmp_path / "net.pkl")


def test_truncated_files_are_damaged_ones(tmp_path):
    graph_pickle(tmp_path / "net.pkl")
    whole = (tmp_path / "net.pkl").read_bytes()
    for part in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "net.pkl").write_bytes(whole[:part])
        with pytest.raises(ConversionError, match="not a readable network pickle"):
            load_network_pickle(tmp_path / "net.pkl")
