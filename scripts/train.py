"""The making of a category's checkpoint: ``gan2shape train``, in a clone."""

import sys

from gan2shape_hub.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
