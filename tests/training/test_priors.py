"""Fitting the view and light Gaussians: known distributions, few samples, and configurations that stay consistent."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gan2shape_hub.config import CategoryConfig, diagonal_gaussian
from gan2shape_hub.hub import load_components, save_components
from gan2shape_hub.models.shape_nets import Encoder
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.training import priors

_spec = importlib.util.spec_from_file_location(
    "fit_priors_cli", Path(__file__).parents[2] / "scripts" / "fit_priors.py"
)
cli = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli)


def correlated(n, seed=0):
    root = torch.tensor([[0.3, 0.0, 0.0], [0.2, 0.1, 0.0], [0.0, 0.05, 0.2]])
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) @ root.T + torch.tensor([0.1, -0.2, 0.0])
    return x, root @ root.T


def test_many_samples_give_the_distribution_back():
    x, truth = correlated(20_000)
    fitted = priors.fit_gaussian(x)
    assert torch.allclose(torch.tensor(fitted.mean), torch.tensor([0.1, -0.2, 0.0]), atol=0.01)
    assert torch.allclose(torch.tensor(fitted.covariance), truth, atol=0.003)


def test_shrinkage_by_hand():
    x, _ = correlated(100)
    plain = torch.tensor(priors.fit_gaussian(x, shrinkage=0.0).covariance)
    assert torch.allclose(plain, torch.cov(x.T), atol=1e-5)
    half = torch.tensor(priors.fit_gaussian(x, shrinkage=0.5).covariance)
    none = torch.tensor(priors.fit_gaussian(x, shrinkage=1.0).covariance)
    assert torch.allclose(half.diagonal(), plain.diagonal()), "variances are kept"
    assert half[0, 1] == pytest.approx(plain[0, 1] / 2)
    assert none[0, 1] == 0


def test_independent_samples_lose_their_accidental_correlations():
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    off = ~torch.eye(6, dtype=torch.bool)
    estimated = torch.tensor(priors.fit_gaussian(x).covariance)
    plain = torch.tensor(priors.fit_gaussian(x, shrinkage=0.0).covariance)
    assert estimated[off].abs().mean() < 0.5 * plain[off].abs().mean()
    assert torch.linalg.eigvalsh(estimated).min() > 0


def test_a_constant_output_gets_the_least_variance():
    x = torch.randn(50, 2)
    x[:, 1] = 0.25
    fitted = priors.fit_gaussian(x)
    assert fitted.mean[1] == pytest.approx(0.25)
    assert fitted.covariance[1][1] == pytest.approx(1e-6)


def test_refusals():
    with pytest.raises(priors.PriorError, match="at least 20"):
        priors.fit_gaussian(torch.randn(19, 3))
    with pytest.raises(priors.PriorError, match="shrinkage is 2"):
        priors.fit_gaussian(torch.randn(30, 3), shrinkage=2)
    with pytest.raises(priors.PriorError, match="not finite"):
        priors.fit_gaussian(torch.full((30, 3), float("nan")))
    with pytest.raises(priors.PriorError, match="no images"):
        priors.network_outputs(nn.Identity(), nn.Identity(), [])


class Mean(nn.Module):
    """The first n numbers of an image, moved by 0.3."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        return x.flatten(1)[:, : self.n] * 0.1 + 0.3


def batches():
    return torch.randn(80, 3, 4, 4, generator=torch.Generator().manual_seed(2)).split(16)


def test_nets_without_a_mean_keep_their_predictions():
    config = CategoryConfig("test", view_gaussian=diagonal_gaussian((0.0,) * 6, (0.1,) * 6))
    config = replace(config, light_gaussian=diagonal_gaussian((0.0,) * 4, (0.1,) * 4))
    fitted = priors.fit_priors(config, Mean(6), Mean(4), batches())
    assert fitted.view_gaussian.mean == pytest.approx((0.3,) * 6, abs=0.05)
    assert fitted.light_gaussian.covariance[0][0] == pytest.approx(0.01, abs=0.005)
    assert not fitted.add_mean


def test_nets_on_a_mean_keep_it():
    config = CategoryConfig("test")
    fitted = priors.fit_priors(config, Mean(6), Mean(4), batches())
    assert fitted.add_mean
    assert fitted.light_gaussian.mean == config.light_gaussian.mean
    variance = fitted.light_gaussian.covariance[0][0]
    assert variance == pytest.approx(0.01 + 0.09, abs=0.04), "second moment about the old mean"


def test_nets_from_elsewhere():
    fitted = priors.fit_priors(CategoryConfig("test"), Mean(6), Mean(4), batches(), own_nets=False)
    assert fitted.add_mean
    assert fitted.light_gaussian.mean == pytest.approx((0.3,) * 4, abs=0.05)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    generator = StyleGAN2Generator(32, channels=[4, 4, 4, 4], latent_dim=8)
    components = {"generator": generator, "view_net": Encoder(3, 6, 32, nf=4), "light_net": Encoder(3, 4, 32, nf=4)}
    for name in ("view_net", "light_net"):
        for parameter in components[name].parameters():
            parameter.data.mul_(3)  # fresh encoders say nearly nothing
    folder = tmp_path / "checkpoint"
    save_components(folder, CategoryConfig("test", image_size=32), components, card="---\nlicense: mit\n---\n")
    return folder


def test_command_line(checkpoint, tmp_path, capsys):
    before, _ = load_components(checkpoint)
    card = (checkpoint / "README.md").read_text()
    assert cli.main([str(checkpoint), "--samples", "24"]) == 0
    assert "24 images" in capsys.readouterr().out
    after, components = load_components(checkpoint)
    assert after.view_gaussian != before.view_gaussian
    assert replace(after, view_gaussian=before.view_gaussian, light_gaussian=before.light_gaussian) == before
    assert set(components) == {"generator", "view_net", "light_net"}
    assert (checkpoint / "README.md").read_text() == card

    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(21):
        Image.new("RGB", (40, 50), (10 * i, 5 * i, 99)).save(photos / f"{i}.png")
    assert cli.main([str(checkpoint), "--images", str(photos), "--shrinkage", "1"]) == 0
    assert load_components(checkpoint)[0].view_gaussian.covariance[0][1] == 0


def test_command_line_refusals(checkpoint, tmp_path, capsys):
    text = (checkpoint / "config.json").read_text()
    (tmp_path / "empty").mkdir()
    for argv in (
        [str(checkpoint), "--samples", "5"],
        [str(checkpoint), "--images", str(tmp_path / "empty")],
        [str(tmp_path / "nothing"), "--samples", "24"],
        [str(checkpoint), "--samples", "24", "--shape-nets", str(tmp_path / "none.pth")],
    ):
        assert cli.main(argv) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (checkpoint / "config.json").read_text() == text
