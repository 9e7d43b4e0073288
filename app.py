"""The demo as a Hugging Face Space starts it; the same as ``gan2shape demo``."""

import sys

from gan2shape_hub.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
