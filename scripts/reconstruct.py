"""Image in, textured 3D model out: ``gan2shape reconstruct``, in a clone."""

import sys

from gan2shape_hub.cli.reconstruct import main

if __name__ == "__main__":
    sys.exit(main())
