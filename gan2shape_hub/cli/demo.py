"""The demo: a page in the browser, served from this machine, offline.

Examples:
    gan2shape demo --open
    gan2shape demo --host 0.0.0.0 --port 8000      for the whole network
    gan2shape demo --share --password secret       for the whole internet, by an address of gradio.live
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import warnings
from collections.abc import Callable, Sequence

from gan2shape_hub.arguments import require
from gan2shape_hub.errors import MissingPackage


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="gan2shape demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", help="address to listen on (default: this machine alone; 0.0.0.0: the network)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="also at a public address, through Gradio's servers")
    parser.add_argument(
        "--password", help="ask for it, with any user name (default: GAN2SHAPE_PASSWORD, which other users cannot list)"
    )
    parser.add_argument("--open", action="store_true", help="open a browser")
    options = parser.parse_args(arguments)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    try:
        require("gradio", "demo", "the demo")
        from gan2shape_hub.conversion.public import offered
        from gan2shape_hub.demo.desk import Desk
        from gan2shape_hub.demo.door import is_loopback
        from gan2shape_hub.demo.kinds import Kinds
        from gan2shape_hub.demo.memory import use_few_heaps
        from gan2shape_hub.demo.page import build, launch
        from gan2shape_hub.demo.shelf import Shelf

        use_few_heaps()
        # The page says so to those whom it concerns; a log of whose photographs were hard is nobody's business.
        warnings.filterwarnings("ignore", message="the generator reproduces this photograph")
        for name in ("SIGTERM", "SIGHUP"):  # so that what was written is removed then too
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: sys.exit(0))
        share = options.share or os.environ.get("GRADIO_SHARE", "").lower() == "true"
        host = options.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        # Behind a server of another name (GRADIO_ROOT_PATH, a Space) visitors come from elsewhere.
        local = is_loopback(host) and not share and not {"GRADIO_ROOT_PATH", "SPACE_ID"} & set(os.environ)
        shelf = Shelf(only_listed=not local)
        desk = Desk(shelf=shelf, kinds=Kinds(shelf, offered(public=not local)))
        launch(
            build(desk),
            desk,
            local=local,
            server_name=options.host,
            server_port=options.port,
            inbrowser=options.open,
            share=share,
            auth=checker(options.password or os.environ.get("GAN2SHAPE_PASSWORD")),
        )
    except (OSError, MissingPackage) as error:
        print(f"gan2shape demo: {error}", file=sys.stderr)
        return 1
    return 0


def checker(password: str | None) -> Callable[[str, str], bool] | None:
    """What tells Gradio whether a visitor may come in; None where there is no password."""
    if not password:
        return None
    return lambda _, given: secrets.compare_digest(given.encode(), password.encode())
