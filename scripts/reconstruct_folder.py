"""A folder of photographs in, a folder of reconstructions out: ``gan2shape folder``, in a clone."""

import sys

from gan2shape_hub.cli.folder import main

if __name__ == "__main__":
    sys.exit(main())
