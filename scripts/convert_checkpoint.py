"""StyleGAN2 checkpoints of other projects to a checkpoint folder: ``gan2shape convert``, in a clone."""

import sys

from gan2shape_hub.cli.convert import main

if __name__ == "__main__":
    sys.exit(main())
