"""Joint pretraining of a checkpoint's shape nets and latent encoder on generated images.

The work folder holds the state after every finished phase; run the same command again to go on after an interruption.

Examples:
    python scripts/pretrain.py checkpoints/face --work runs/face
    python scripts/pretrain.py checkpoints/face --work runs/face --rounds 3 --identities 800
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from gan2shape_hub import hub
from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.presets import shipped_face_pretraining
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.training.joint import JointTraining, train_jointly


def main(arguments: list[str] | None = None) -> int:
    defaults = JointTraining(schedule=shipped_face_pretraining())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder with at least a generator; the trained nets are written into it")
    parser.add_argument("--work", required=True, help="folder of the resumable state")
    parser.add_argument("--rounds", type=int, default=len(defaults.schedule.rounds))
    parser.add_argument("--identities", type=int, default=defaults.identities, help="new generated images a round")
    parser.add_argument("--width", type=int, default=16, help="channels of the shape nets' first level")
    parser.add_argument("--encoder-width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="default: what accelerate finds")
    options = parser.parse_args(arguments)
    try:
        config, components = hub.load_components(options.checkpoint)
    except OSError as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 1
    accelerator = make_accelerator(options.device)
    generator = components["generator"].to(accelerator.device)
    perceptual = components.get("perceptual")
    encoding = LatentProjection(generator, config.projection).encoding_size
    nets = ShapeNets.create(
        config, encoding, seed=options.seed, width=options.width, encoder_width=options.encoder_width
    ).to(accelerator.device)
    training = dataclasses.replace(
        defaults,
        schedule=shipped_face_pretraining(options.rounds),
        identities=options.identities,
        seed=options.seed,
    )
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    # Joint training takes cheaper features and smoother shading than the fit of one image.
    loss = dataclasses.replace(config.loss, perceptual_layers=1, smoothness_weight=0.03)
    trained = train_jointly(
        dataclasses.replace(config, loss=loss),
        generator,
        perceptual.to(accelerator.device) if perceptual is not None else None,
        nets,
        training,
        folder=work,
        log=lambda text: print(time.strftime("%H:%M:%S"), text, flush=True),
        accelerator=accelerator,
    )
    config = dataclasses.replace(trained, loss=config.loss)
    components |= {SHAPE_COMPONENTS[name]: module for name, module in nets.modules()}
    hub.save_components(options.checkpoint, config, components)
    return 0


if __name__ == "__main__":
    sys.exit(main())
