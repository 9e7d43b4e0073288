"""Train the tap heads of a MobileStyleGAN checkpoint, one process a head; resumable.

Example:
    python scripts/train_taps.py checkpoints/face --size 64 --work runs/taps
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
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    config, components = hub.load_components(options.checkpoint)
    generator = components["generator"]
    if options.size not in generator.tap_sizes:
        print(f"train_taps: the generator has taps at {generator.tap_sizes}, not at {options.size}.", file=sys.stderr)
        return 1
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    training = TapTraining(iterations=options.iterations, first_images=options.images, seed=options.seed)
    train_tap(generator, options.size, training, checkpoint=work / f"tap{options.size}.pt")
    # The other head's process may have finished meanwhile: put this head into what is there now.
    config, components = hub.load_components(options.checkpoint)
    trained = generator.tap_heads[str(options.size)].state_dict()
    components["generator"].tap_heads[str(options.size)].load_state_dict(trained)
    hub.save_components(options.checkpoint, config, components)
    return 0


if __name__ == "__main__":
    sys.exit(main())
