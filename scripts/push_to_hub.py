"""A checkpoint folder to a repository of the Hub: ``gan2shape push``, in a clone."""

import sys

from gan2shape_hub.cli.push import main

if __name__ == "__main__":
    sys.exit(main())
