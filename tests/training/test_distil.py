"""A StyleGAN2 distilled out of another generator: the file is rosinality's, and the student learns."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest
import stylegan2_originals as originals
import torch
from accelerate import Accelerator

from gan2shape_hub.conversion import rosinality
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.training.trainer import Job, Training

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
rosinality_file = importlib.import_module("distil_parts.rosinality_file")
student = importlib.import_module("distil_parts.student")

WIDTHS, SIZE, DIM = [10, 8, 6, 4], 32, 16


@pytest.fixture
def networks():
    torch.manual_seed(0)
    generator = StyleGAN2Generator(SIZE, channels=WIDTHS, latent_dim=DIM, mapping_layers=2)
    for name, value in generator.state_dict().items():
        if "bias" in name or "strength" in name or name == "latent_mean":
            value.add_(0.3 * torch.randn_like(value))
    discriminator = StyleGAN2Discriminator(SIZE, channels=WIDTHS)
    for name, value in discriminator.state_dict().items():
        if "bias" in name:
            value.add_(0.3 * torch.randn_like(value))
    return generator, discriminator


def test_the_file_is_read_as_what_was_written(networks, tmp_path):
    generator, discriminator = networks
    rosinality_file.write(tmp_path / "g.pt", generator, discriminator)
    read, judge, report = rosinality.read_file(tmp_path / "g.pt")
    assert not report.unused
    for made, wanted in ((read, generator), (judge, discriminator)):
        assert made.state_dict().keys() == wanted.state_dict().keys()
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(made.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_the_port_itself_draws_the_same_from_it(networks):
    generator, discriminator = networks
    state = rosinality_file.generator_state(generator)
    z = torch.randn(2, DIM, generator=torch.Generator().manual_seed(1))
    w = originals.rosinality_mapping(state, z, layers=2)
    torch.testing.assert_close(w, generator.mapping(z), rtol=1e-4, atol=1e-5)
    image = originals.rosinality_synthesis(state, w[:, None].expand(-1, generator.num_latents, -1))
    torch.testing.assert_close(image, generator(w), rtol=1e-4, atol=1e-4)
    logits, _ = originals.rosinality_discriminator(rosinality_file.discriminator_state(discriminator), image)
    torch.testing.assert_close(discriminator(image), logits, rtol=1e-4, atol=1e-4)


def tiny(steps: int, adversarial: int = 2) -> object:
    training = Training(steps, parts=2, learning_rate=0.02, warm_up=2, ema=0.9, save_every=3, clip=10.0)
    return dataclasses.replace(
        student.Distillation(),
        channels=tuple(WIDTHS),
        images=24,
        coarse=(16,),
        regression=(training, training),
        batch=(4, 4),
        adversarial=dataclasses.replace(training, steps=adversarial, betas=(0.0, 0.99)),
        penalty=1.0,
    )


def run(teacher, recipe, folder):
    lines = []
    made = student.distil(teacher, None, recipe, folder, Accelerator(cpu=True), lines.append)
    return *made, lines


def test_the_student_comes_nearer_and_keeps_the_latents(networks, tmp_path):
    teacher, _ = networks
    generator, discriminator, lines = run(teacher, tiny(60), tmp_path)
    levels = [float(line.split(": ")[1].split(" dB")[0]) for line in lines if "dB on unseen" in line]
    recipe = tiny(60)
    begun = student.psnr_db(student.grown(None, SIZE, recipe, teacher), teacher)
    assert levels[-1] > begun + 3
    z = torch.randn(2, DIM, generator=torch.Generator().manual_seed(1))
    assert torch.equal(generator.mapping(z), teacher.mapping(z))
    assert torch.equal(generator.latent_mean, teacher.latent_mean)
    assert discriminator.features(generator(teacher.mapping(z)), 2)[1].isfinite().all()


def test_a_larger_student_begins_as_the_smaller_one(networks):
    teacher, _ = networks
    recipe = tiny(1)
    small = student.grown(None, 16, recipe, teacher)
    large = student.grown(small, 32, recipe, teacher)
    for name, value in small.state_dict().items():
        assert torch.equal(large.state_dict()[name], value), name


def test_a_run_that_was_stopped_ends_with_the_same_weights(networks, tmp_path):
    teacher, _ = networks
    whole = run(teacher, tiny(6), tmp_path / "whole")[0]
    folder = tmp_path / "stopped"

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if "regression32 3/6" in line:
            raise Stop

    with pytest.raises(Stop):
        student.distil(teacher, None, tiny(6), folder, Accelerator(cpu=True), stop)
    again = run(teacher, tiny(6), folder)[0]
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_each_player_is_a_constant_to_the_other(networks, tmp_path):
    """Gradients of the joint loss are those of each player's own loss."""
    teacher, discriminator = networks
    recipe = dataclasses.replace(tiny(1), penalty=0.0)
    latents, images = student.teacher_images(teacher, SIZE, recipe, Job(0, tmp_path, Accelerator(cpu=True), print))
    generator = student.grown(None, SIZE, recipe, teacher)
    for module in (generator, discriminator):
        module.requires_grad_(True)
    terms = student.adversarial_terms(generator, discriminator, latents, images, None, recipe)
    found = terms(torch.Generator().manual_seed(3))
    found["loss"].backward()
    own = {name: p.grad.clone() for name, p in discriminator.named_parameters()}
    again = terms(torch.Generator().manual_seed(3))
    alone = torch.autograd.grad(again["told apart"], list(discriminator.parameters()))
    for (name, value), wanted in zip(own.items(), alone, strict=True):
        torch.testing.assert_close(value, wanted, msg=name)
    again = terms(torch.Generator().manual_seed(3))
    wanted = torch.autograd.grad(again["image"] + recipe.realism * again["realism"], generator.const)[0]
    torch.testing.assert_close(generator.const.grad, wanted)
