"""What every request passes before Gradio sees it: whose it is, how large, and from which page."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from starlette.middleware import Middleware

from gan2shape_hub.demo.visitors import DemoError, Workspace

MAX_REQUEST = 24_000_000
"""Bytes: the largest photograph, and what is around it."""
MAX_CALL = 1_000_000
"""Bytes of a call, which names its photographs."""


def middleware(workspace: Workspace, local: bool) -> list[Middleware]:
    """What `launch` gives to Gradio's application. ``local``: it is meant for this machine alone."""
    names = [Middleware(LocalNames)] if local else []
    return [*names, *(Middleware(kind, workspace=workspace) for kind in (RequestLimit, Comings, Calls))]


class Comings:
    """A page holds one request open as long as it is there, and when that request ends, in whatever way, its visitor
    has left. Gradio's own ``unload`` event is raised inside that request's answer, and is lost when the connection
    breaks while a part of the answer is being sent or before its first part.

    A browser waits for as long as it takes, so that the end of its request is the end of its page. Programs
    (gradio_client) give up where this machine stalls for 20 seconds and never ask again, while their calls go on: they
    are there while they listen for an answer too, and may come back.
    """

    def __init__(self, app: Any, workspace: Workspace) -> None:
        self.app, self.workspace = app, workspace

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        key, for_good = _visitor(scope) if scope["type"] == "http" else ("", False)
        if not key:
            await self.app(scope, receive, send)
            return
        self.workspace.arrive(key)
        try:
            await self.app(scope, receive, send)
        finally:
            self.workspace.leave(key, for_good=for_good)


class Calls:
    """A photograph belongs to its visitor as soon as a call names it: the call may wait in the queue for longer than
    an upload that nobody owns is kept."""

    def __init__(self, app: Any, workspace: Workspace) -> None:
        self.app, self.workspace = app, workspace

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/queue/join"):
            await self.app(scope, receive, send)
            return
        messages, body = [], b""
        while not messages or (messages[-1].get("more_body") and len(body) <= MAX_CALL):
            messages.append(await receive())
            body += messages[-1].get("body", b"")
        with contextlib.suppress(ValueError, RecursionError, AttributeError, DemoError):  # Gradio answers what is wrong
            call = json.loads(body)
            if key := call.get("session_hash"):
                for path in _paths(call.get("data")):
                    await asyncio.to_thread(self._own, str(key), path)

        async def again() -> dict[str, Any]:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, again, send)

    def _own(self, key: str, path: str) -> None:
        self.workspace.own(self.workspace.session(key), path)


class RequestLimit:
    """Requests of any kind end at `MAX_REQUEST` bytes (Gradio limits each file of a request, not their number), and
    nothing is uploaded where the workspace is full."""

    def __init__(self, app: Any, workspace: Workspace) -> None:
        self.app, self.workspace = app, workspace

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        uploads = scope["path"].endswith("/upload")
        if uploads and await asyncio.to_thread(self.workspace.is_full):
            await _answer(send, 503, "the server holds as many photographs as it can: try again in a few minutes.")
            return
        declared = _header(scope, b"content-length")
        taken, refused = int(declared) if declared.isdecimal() else 0, False
        if taken <= MAX_REQUEST:
            taken, begun = 0, False

            async def counted() -> dict[str, Any]:
                nonlocal taken, refused
                message = await receive()
                taken += len(message.get("body", b""))
                if taken <= MAX_REQUEST:
                    return message
                refused = True
                return {"type": "http.disconnect"}

            async def watched(message: dict[str, Any]) -> None:
                nonlocal begun
                if not refused or begun:
                    begun = True
                    await send(message)

            try:
                await self.app(scope, counted, watched)
            except Exception:  # how Gradio takes the end of a request that was too large
                if not refused:
                    raise
            if not refused or begun:
                return
        await _answer(send, 413, f"the request is too large, may have {MAX_REQUEST:,} bytes: send a smaller file.")


class LocalNames:
    """Answer only to this machine's own names. A page from elsewhere whose name is made to mean 127.0.0.1 (DNS
    rebinding) could read what its visitor's demo holds."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not is_loopback(_without_port(_header(scope, b"host"))):
            await _answer(send, 421, "this demo answers to localhost and 127.0.0.1 only: start it with --host.")
            return
        await self.app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine and is reached from nowhere else."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _paths(value: Any) -> Iterator[str]:
    """The files that the arguments of a call name."""
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and isinstance(one.get("path"), str):
            yield one["path"]


def _visitor(scope: dict[str, Any]) -> tuple[str, bool]:
    """(whose connection it is, empty where it says nothing of that; whether its end is the visitor's)."""
    path = scope["path"]
    browser = _header(scope, b"user-agent").startswith("Mozilla/")
    _, _, key = path.partition("/heartbeat/")
    if not key and not browser and path.endswith("/queue/data"):
        key = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]
    return key, browser


def _header(scope: dict[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name), "")


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host


async def _answer(send: Any, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))  # the rest of the request is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
