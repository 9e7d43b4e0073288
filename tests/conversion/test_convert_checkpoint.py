"""The command line end to end, at tiny sizes: what it writes, what it refuses, what it leaves alone."""

import json

import pytest
import stylegan2_originals as originals
import torch
from safetensors.torch import save_file

from gan2shape_hub.cards import lint_card
from gan2shape_hub.cli import convert as cli
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.hub import load_components
from gan2shape_hub.models.shape_nets import EDDeconv, Encoder, ResEncoder

WIDTHS, SIZE, DIM = [12, 10, 8, 8], 32, 16


@pytest.fixture
def weights():
    return originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)


@pytest.fixture
def rosinality_file(tmp_path, weights):
    g, d = weights
    path = tmp_path / "gan.pt"
    torch.save({"g_ema": g, "d": d, "latent_avg": torch.randn(DIM), "g_optim": {"state": {}}}, path)
    return path


def refuse(argv, capsys, *words):
    """The command fails with one sentence on stderr that holds the words."""
    capsys.readouterr()  # what came before
    assert cli.main([str(a) for a in argv]) != 0
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert not captured.out
    for word in words:
        assert word in lines[0], lines[0]


def parts(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_rosinality_writes_a_checkpoint(rosinality_file, weights, tmp_path, capsys):
    out = tmp_path / "church"
    assert cli.main(["rosinality", str(rosinality_file), "--category", "church", "--output", str(out)]) == 0
    text = capsys.readouterr().out
    assert "g_optim" in text, "what was not used is reported"
    config, components = load_components(out)
    assert (config.category, config.image_size) == ("church", SIZE)
    assert config.use_mask
    assert config.loss.discriminator_layers == components["discriminator"].num_features == 3, "4 need 64 pixels"
    index = json.loads((out / "model_index.json").read_text())
    assert index["_class_name"] == "GAN2ShapePipeline"
    assert index["generator"] == "StyleGAN2Generator"
    assert index["discriminator"] == "StyleGAN2Discriminator"
    w = torch.randn(2, DIM)
    flat = w[:, None].repeat(1, 2 * len(WIDTHS), 1)
    expected = originals.rosinality_synthesis(weights[0], flat)
    assert (components["generator"](w) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert lint_card((out / "README.md").read_text(), out) == []
    from PIL import Image

    assert Image.open(out / "samples.png").size == (4 * SIZE, 3 * SIZE)
    assert not parts(tmp_path)


def test_old_key_names_module_prefix_and_missing_parts(weights, tmp_path, capsys):
    """style.0-7, a DataParallel prefix, no noise maps, no latent_avg, no discriminator."""
    g = dict(weights[0])
    for i in range(8):
        g[f"style.{i}.weight"], g[f"style.{i}.bias"] = g[f"style.{i + 1}.weight"], g[f"style.{i + 1}.bias"]
    del g["style.8.weight"], g["style.8.bias"]
    g = {f"module.{k}": v for k, v in g.items() if not k.startswith("noises.")}
    path, out = tmp_path / "old.pt", tmp_path / "out"
    torch.save({"g_ema": g}, path)
    assert cli.main(["rosinality", str(path), "--category", "car", "--output", str(out)]) == 0
    text = capsys.readouterr().out
    for note in ("no noise maps", "no latent_avg", "no discriminator"):
        assert note in text
    _, components = load_components(out)
    z = torch.randn(2, DIM)
    generator = components["generator"]
    expected = originals.rosinality_mapping(weights[0], z)
    assert torch.allclose(generator.mapping(z), expected, atol=1e-5)
    assert generator.latent_mean.abs().sum() > 0
    assert "discriminator" not in components


@pytest.mark.parametrize("layout", ["flat.safetensors", "prefixed.safetensors", "flat.pt", "nested.pt"])
def test_nvidia_state_dicts(layout, tmp_path):
    g, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    path, out = tmp_path / layout, tmp_path / "out"
    if layout.startswith("nested"):
        torch.save({"G_ema": g, "D": d}, path)
    else:
        prefix = ("G_ema.", "D.") if layout.startswith("prefixed") else ("", "")
        flat = {f"{prefix[0]}{k}": v for k, v in g.items()} | {f"{prefix[1]}{k}": v for k, v in d.items()}
        save_file(flat, path) if layout.endswith("safetensors") else torch.save(flat, path)
    assert cli.main(["nvidia", str(path), "--category", "cat", "--output", str(out), "--size", str(SIZE)]) == 0
    _, components = load_components(out)
    assert components["generator"].config["conv_clamp"] == 256.0
    w = torch.randn(2, 2 * len(WIDTHS), DIM)
    expected = originals.nvidia_synthesis(g, w)
    assert (components["generator"](w) - expected).abs().max() < 1e-4 * expected.abs().max()
    x = torch.randn(4, 3, SIZE, SIZE)
    logits, _ = originals.nvidia_discriminator(d, x)
    assert (components["discriminator"](x) - logits).abs().max() < 1e-4 * logits.abs().max()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_gan2shape_release(prefix, rosinality_file, tmp_path, capsys):
    nets = {
        "netD": EDDeconv(3, 1, 32, nf=8, bottleneck=12),
        "netA": EDDeconv(3, 3, 32, nf=8, bottleneck=12, activation="tanh"),
        "netV": Encoder(3, 6, 32, nf=4),
        "netL": Encoder(3, 4, 32, nf=4),
        "netEnc": ResEncoder(3, DIM, 32, nf=4),
    }
    states = {k: {prefix + n: t for n, t in v.state_dict().items()} for k, v in nets.items()}
    torch.save({**states, "optimizerA": {}, "iteration": 7}, tmp_path / "nets.pth")
    view = {"mean": torch.arange(6.0), "cov": torch.eye(6) * 0.5}
    light = {"mean": torch.arange(4.0), "cov": torch.eye(4)}
    torch.save(view, tmp_path / "view.pth")
    torch.save(light, tmp_path / "light.pth")
    out = tmp_path / "out"
    argv = ["gan2shape", "--stylegan2", rosinality_file, "--shape-nets", tmp_path / "nets.pth"]
    argv += ["--view-mvn", tmp_path / "view.pth", "--light-mvn", tmp_path / "light.pth"]
    assert cli.main([str(a) for a in (*argv, "--category", "cat", "--output", out)]) == 0
    assert "iteration" in capsys.readouterr().out
    config, components = load_components(out)
    assert config.view_gaussian.mean == (0, 1, 2, 3, 4, 5)
    assert config.view_gaussian.covariance[1][1] == 0.5
    assert config.light_gaussian.mean == (0, 1, 2, 3)
    names = dict(netD="depth_net", netA="albedo_net", netV="view_net", netL="light_net", netEnc="latent_encoder")
    x = torch.randn(1, 3, 32, 32)
    for key, name in names.items():
        assert torch.equal(components[name](x), nets[key](x))


def test_gan2shape_without_shape_nets(rosinality_file, tmp_path):
    out = tmp_path / "out"
    argv = ["gan2shape", "--stylegan2", str(rosinality_file), "--category", "horse", "--output", str(out)]
    assert cli.main(argv) == 0
    config, components = load_components(out)
    assert set(components) == {"generator", "discriminator"}
    assert isinstance(config, CategoryConfig)


def test_bad_files(rosinality_file, weights, tmp_path, capsys):
    end = ["--category", "cat", "--output", tmp_path / "out"]
    refuse(["rosinality", tmp_path / "none.pt", *end], capsys, "none.pt", "not there")
    refuse(["nvidia", tmp_path / "none.pkl", *end], capsys, "not there")
    truncated = tmp_path / "truncated.pt"
    truncated.write_bytes(rosinality_file.read_bytes()[:5000])
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.pt"
    empty.touch()
    for path in (truncated, text, empty):
        refuse(["rosinality", path, *end], capsys, path.name, "not a readable")
        renamed = path.with_suffix(".pkl")
        renamed.write_bytes(path.read_bytes())
        refuse(["nvidia", renamed, *end], capsys, renamed.name)
    for bad in ([1, 2], {"a": torch.ones(1)}, torch.ones(3), {"g_ema": {}}, {"g_ema": {"input.input": "x"}}):
        torch.save(bad, text)
        refuse(["rosinality", text, *end], capsys, "text.pt")
        refuse(["nvidia", text, *end], capsys, "text.pt")
    g, d = weights
    for change, words in (
        ({"convs.1.conv.weight": torch.ones(1, 10, 10, 5, 5)}, ("convs.1.conv.weight", "shape")),
        ({"to_rgbs.0.upsample.kernel": torch.ones(4, 4)}, ("to_rgbs.0.upsample.kernel", "[1, 3, 3, 1]")),
        ({"convs.0.conv.blur.kernel": g["convs.0.conv.blur.kernel"] / 4}, ("blur.kernel",)),
        ({"conv1.noise.weight": torch.tensor([float("nan")])}, ("not finite",)),
        ({"style.3.weight": None}, ("mapping",)),
        ({"input.input": torch.ones(1, 12, 8, 8)}, ("input.input",)),
    ):
        torch.save({"g_ema": {k: v for k, v in (g | change).items() if v is not None}, "d": d}, text)
        refuse(["rosinality", text, *end], capsys, *words)
    torch.save({"g_ema": g, "d": d | {"final_linear.0.weight": torch.ones(2, 2)}}, text)
    refuse(["rosinality", text, *end], capsys, "final_linear.0.weight")
    torch.save({"g_ema": g, "d": originals.rosinality_weights(64, [*WIDTHS, 8], dim=DIM)[1]}, text)
    refuse(["rosinality", text, *end], capsys, "do not belong together")
    refuse(["rosinality", rosinality_file, *end, "--size", "64"], capsys, "32", "64")
    refuse(["rosinality", rosinality_file, "--category", "dog", "--output", tmp_path / "out"], capsys, "'dog'")
    torch.save({"mean": torch.ones(5), "cov": torch.eye(5)}, text)
    start = ["gan2shape", "--stylegan2", rosinality_file]
    refuse([*start, "--view-mvn", text, *end], capsys, "expected 6 numbers")
    refuse([*start, "--shape-nets", text, *end], capsys, "no file of shape nets")
    torch.save({"netD": Encoder(3, 6, 32, nf=4).state_dict()}, text)
    refuse([*start, "--shape-nets", text, *end], capsys, "released architecture")
    assert not (tmp_path / "out").exists()
    assert not parts(tmp_path)


def test_refuses_other_networks_in_a_sentence(tmp_path, capsys):
    end = ["--category", "cat", "--output", tmp_path / "out"]
    g, _ = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    path = tmp_path / "other.pt"
    for change, words in (
        ({"mapping.embed.weight": torch.ones(2, 2)}, ("conditional",)),
        ({"synthesis.input.freqs": torch.ones(2, 2)}, ("StyleGAN3",)),
        ({"synthesis.b8.conv0.resample_filter": torch.ones(4, 4)}, ("[1, 3, 3, 1]",)),
        ({"synthesis.b16.torgb.weight": None}, ("architecture",)),
        ({"mapping.fc0.weight": None}, ("mapping.fc0.weight",)),
    ):
        torch.save({k: v for k, v in (g | change).items() if v is not None}, path)
        refuse(["nvidia", path, *end], capsys, *words)


def test_existing_folders(rosinality_file, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["rosinality", str(rosinality_file), "--category", "cat", "--output", str(out)]
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    refuse(argv, capsys, "--overwrite")
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    assert cli.main([*argv, "--overwrite"]) == 0
    assert (out / "thesis.txt").read_text() == "mine", "what is not the checkpoint's stays"
    (out / "depth_net").mkdir()
    assert cli.main(argv) == 0, "a checkpoint is replaced without asking"
    assert not (out / "depth_net").exists(), "parts of the old checkpoint do not"
    assert (out / "thesis.txt").exists()
    file = tmp_path / "file"
    file.write_text("mine")
    refuse([*argv[:-1], str(file)], capsys, "is a file")
    refuse([*argv[:-1], str(file / "below")], capsys, "cannot write")
    assert file.read_text() == "mine"
    assert not parts(tmp_path)
