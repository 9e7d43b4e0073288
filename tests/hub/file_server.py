"""A server of plain files on localhost, as of networks' authors: ranges, ETags, redirects, and what goes wrong."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are part of the tests."""


@dataclass
class FileServer:
    """``with FileServer({"/a.pkl": data}) as server: ... server.url``"""

    files: dict[str, bytes]
    redirects: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """Of the next answers of more than one byte: bytes after which the connection breaks."""
    statuses: list[int] = field(default_factory=list)
    """Of the next answers, in place of theirs."""
    short: int = 0
    """Bytes that every answer of more than one byte lacks at its end, with a length that fits."""
    ranges: bool = True
    etags: bool = True
    log: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of every request."""

    def __enter__(self) -> FileServer:
        self._server = _QuietServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:  # as signed addresses do
                self.send_error(403)

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.log.append((self.path, asked))
                if outer.statuses:
                    return self.send_error(outer.statuses.pop(0))
                path = self.path.partition("?")[0]
                if path in outer.redirects:
                    self.send_response(302)
                    self.send_header("Location", outer.redirects[path])
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                if path not in outer.files:
                    return self.send_error(404)
                whole = outer.files[path]
                found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "") if outer.ranges else None
                first, last = (int(found[1]), int(found[2] or len(whole) - 1)) if found else (0, len(whole) - 1)
                if first >= len(whole):
                    return self.send_error(416)
                body = whole[first : last + 1]
                if outer.short and len(body) > 1:
                    body = body[: -outer.short]
                self.send_response(206 if found else 200)
                self.send_header("Content-Length", str(len(body)))
                if found:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
                if outer.etags:
                    self.send_header("ETag", f'"{hashlib.md5(whole).hexdigest()}"')
                self.end_headers()
                if len(body) > 1 and outer.cuts:
                    self.wfile.write(body[: outer.cuts.pop(0)])
                    self.wfile.flush()
                    self.connection.close()
                    raise ConnectionAbortedError
                self.wfile.write(body)

        return Handler
