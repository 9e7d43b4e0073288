"""Joint pretraining of a checkpoint's shape nets and latent encoder on generated images.

First a short bootstrap (ellipsoid, encoder, directions along which heads turn; skipped where the checkpoint has the
networks and the directions already), then the long training of shape and appearance on generated heads that the
generator turns. The work folder holds the state: run the same command again to go on after an interruption.

Examples:
    python scripts/pretrain.py checkpoints/face --work runs/face
    python scripts/pretrain.py checkpoints/face --work runs/face --steps 6000 --pool 1200
    accelerate launch --num_processes 2 scripts/pretrain.py checkpoints/face --work runs/face --per-step 2
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch

from gan2shape_hub import hub
from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.models.sheet_unet import SheetUNet
from gan2shape_hub.presets import shipped_face_pretraining
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.training.directions import with_measured_units
from gan2shape_hub.training.joint import JointTraining, train_jointly
from gan2shape_hub.training.multiview import MultiviewLoss
from gan2shape_hub.training.pretraining import PretrainingSettings, train_appearance, train_shape
from gan2shape_hub.training.sheet_nets import with_sheet_nets
from gan2shape_hub.training.sheets import write_sheet
from gan2shape_hub.training.view_pool import PoolSettings, load_pool


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        run(options)
        return 0
    except KeyboardInterrupt:
        message = "stopped: the work folder keeps what was saved, the same command goes on from there."
    except (OSError, ValueError, FloatingPointError) as error:
        message = str(error)
    print(f"pretrain: {message}", file=sys.stderr)
    return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    defaults = JointTraining(schedule=shipped_face_pretraining())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder with at least a generator; the trained nets are written into it")
    parser.add_argument("--work", required=True, help="folder of the resumable state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="default: what accelerate finds")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    boot = parser.add_argument_group("bootstrap")
    boot.add_argument("--bootstrap", action="store_true", help="also where the checkpoint has networks already")
    boot.add_argument("--rounds", type=int, default=1)
    boot.add_argument("--identities", type=int, default=defaults.identities, help="new generated images a round")
    boot.add_argument("--width", type=int, default=16, help="channels of the first level of view and light")
    boot.add_argument("--encoder-width", type=int, default=16)
    long = parser.add_argument_group("long training")
    long.add_argument("--pool", type=int, default=PoolSettings.identities, help="identities, each turned several times")
    long.add_argument("--steps", type=int, default=PretrainingSettings.steps, help="of shape; 0: bootstrap only")
    long.add_argument("--appearance-steps", type=int, default=1200, help="of albedo and light")
    long.add_argument("--per-step", type=int, default=PretrainingSettings.identities, help="identities, each process")
    long.add_argument("--learning-rate", type=float, default=PretrainingSettings.learning_rate)
    long.add_argument(
        "--smoothness", type=float, default=MultiviewLoss.smoothness, help="weight of the normals' second differences"
    )
    long.add_argument("--save-every", type=int, default=PretrainingSettings.save_every)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    config, components = hub.load_components(options.checkpoint)
    accelerator = make_accelerator(options.device, options.precision)
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)

    def log(text: str) -> None:
        if accelerator.is_main_process:
            print(time.strftime("%H:%M:%S"), text, flush=True)

    generator = components["generator"].to(accelerator.device)
    if getattr(generator, "component_basis", None) is None:
        raise ValueError("the generator has no principal components of W: convert it with --space pca.")
    perceptual = components.get("perceptual")
    if perceptual is not None:
        perceptual = perceptual.to(accelerator.device).requires_grad_(False).eval()
    complete = all(name in components for name in SHAPE_COMPONENTS.values()) and config.projection.view_directions
    if complete and not options.bootstrap:
        nets = ShapeNets(**{name: components[slot].float() for name, slot in SHAPE_COMPONENTS.items()})
        nets = nets.to(accelerator.device)
    else:
        config, nets = _bootstrap(config, generator, perceptual, options, work / "bootstrap", log, accelerator)
    if options.steps and not config.projection.view_directions:
        log("no direction of W is known that turns this category's objects: the bootstrap is all")
    elif options.steps:
        config, nets = _long_training(config, generator, perceptual, nets, options, work, log, accelerator)
    if accelerator.is_main_process:
        components |= {SHAPE_COMPONENTS[name]: module for name, module in nets.modules()}
        hub.save_components(options.checkpoint, config, components)


def _bootstrap(config, generator, perceptual, options, work, log, accelerator):
    encoding = LatentProjection(generator, config.projection).encoding_size
    nets = ShapeNets.create(
        config, encoding, seed=options.seed, width=options.width, encoder_width=options.encoder_width
    ).to(accelerator.device)
    training = dataclasses.replace(
        JointTraining(schedule=shipped_face_pretraining(options.rounds)),
        identities=options.identities,
        seed=options.seed,
    )
    work.mkdir(parents=True, exist_ok=True)
    # Joint training takes cheaper features and smoother shading than the fit of one image.
    loss = dataclasses.replace(config.loss, perceptual_layers=1, smoothness_weight=0.03)
    trained, nets = train_jointly(
        dataclasses.replace(config, loss=loss),
        generator,
        perceptual,
        nets,
        training,
        folder=work,
        log=log,
        accelerator=accelerator,
    )
    return dataclasses.replace(trained, loss=config.loss), nets


def _long_training(config, generator, perceptual, nets, options, work, log, accelerator):
    with accelerator.main_process_first():
        pool = load_pool(
            work / "pool", config, generator, PoolSettings(identities=options.pool, seed=options.seed), log
        )
    # Heads that turn come closer in FFHQ's alignment, and nothing pulls the sheet's edges: both are learnt.
    camera = dataclasses.replace(config.camera, view_translation_z=0.1, border_px=0)
    config = dataclasses.replace(config, camera=camera)
    first = pool.floats(torch.arange(min(len(pool), 64)), torch.zeros(min(len(pool), 64), dtype=torch.long))
    if not isinstance(nets.depth, SheetUNet):
        nets = with_sheet_nets(nets, first.to(accelerator.device), config, options.seed)
    settings = PretrainingSettings(
        steps=options.steps,
        identities=options.per_step,
        learning_rate=options.learning_rate,
        seed=options.seed,
        save_every=options.save_every,
        loss=MultiviewLoss(smoothness=options.smoothness),
    )

    def sheet(folder: Path):
        return lambda step, averaged: write_sheet(folder / f"{step:06d}.png", averaged, first[:6], config)

    log("shape")
    nets = train_shape(
        nets, pool, config, perceptual, settings, accelerator, work / "shape", log, sheet(work / "shape")
    )
    few = torch.arange(min(len(pool), 64))
    every = torch.arange(pool.images.shape[1])
    views = pool.floats(few[:, None], every.expand(len(few), -1)).to(accelerator.device)
    config = with_measured_units(config, nets, views, pool.turns[few], log)
    log("appearance")
    # Colours, and those of the background too, matter here.
    loss = dataclasses.replace(settings.loss, perceptual=0.5, background=0.35)
    settings = dataclasses.replace(settings, steps=options.appearance_steps, loss=loss)
    nets = train_appearance(
        nets, pool, config, perceptual, settings, accelerator, work / "appearance", log, sheet(work / "appearance")
    )
    return config, nets


if __name__ == "__main__":
    sys.exit(main())
