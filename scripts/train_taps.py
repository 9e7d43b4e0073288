"""Train the tap heads of a MobileStyleGAN checkpoint, one process a head; resumable.

Examples:
    python scripts/train_taps.py checkpoints/face --size 64 --work runs/taps
    python scripts/train_taps.py checkpoints/face --size 64 --work runs/more --continue --seed 1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gan2shape_hub import hub
from gan2shape_hub.training.taps import TapTraining, train_tap


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder whose generator gets the trained head")
    parser.add_argument("--size", type=int, required=True, help="side of the tap's image, in pixels")
    parser.add_argument("--work", default="runs/taps", help="folder of the resumable state")
    parser.add_argument("--iterations", type=int, default=TapTraining.iterations)
    parser.add_argument("--images", type=int, default=TapTraining.first_images, help="full images made before training")
    parser.add_argument("--seed", type=int, default=0, help="of the latents that are trained on")
    parser.add_argument("--learning-rate", type=float, default=TapTraining.learning_rate)
    parser.add_argument(
        "--continue",
        dest="continued",
        action="store_true",
        help="go on from the checkpoint's head, with the images of a new --seed, instead of starting afresh",
    )
    options = parser.parse_args(arguments)
    config, components = hub.load_components(options.checkpoint)
    generator = components["generator"]
    if options.size not in generator.tap_sizes:
        print(f"train_taps: the generator has taps at {generator.tap_sizes}, not at {options.size}.", file=sys.stderr)
        return 1
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    training = TapTraining(
        iterations=options.iterations,
        first_images=options.images,
        seed=options.seed,
        learning_rate=options.learning_rate,
        wide_learning_rate=options.learning_rate / TapTraining.learning_rate * TapTraining.wide_learning_rate,
        continued=options.continued,
    )
    train_tap(generator, options.size, training, checkpoint=work / f"tap{options.size}.pt")
    # The other head's process may have finished meanwhile: put this head into what is there now.
    config, components = hub.load_components(options.checkpoint)
    trained = generator.tap_heads[str(options.size)].state_dict()
    components["generator"].tap_heads[str(options.size)].load_state_dict(trained)
    hub.save_components(options.checkpoint, config, components)
    return 0


if __name__ == "__main__":
    sys.exit(main())
