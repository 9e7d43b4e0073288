"""The line in front of the one heavy job: first come, first served, with a bound."""

from __future__ import annotations

import threading

from gan2shape_hub.demo.shelf import DemoError

MAX_WAITING = 8


class Line:
    """One job at a time. Not the web framework's queue, so that those who wait can be told their place and can stop
    waiting, and so that edits are not in the same line."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self.max_waiting = max_waiting
        self._tickets: list[object] = []
        self._lock = threading.Lock()

    def enter(self) -> object:
        """A ticket; DemoError where too many wait already."""
        with self._lock:
            if len(self._tickets) > self.max_waiting:
                raise DemoError(
                    f"{self.max_waiting} visitors are waiting already: try again in a few minutes, or run the demo on "
                    "your own machine with `gan2shape demo`."
                )
            ticket = object()
            self._tickets.append(ticket)
            return ticket

    def ahead(self, ticket: object) -> int:
        """How many come before; 0: it is this ticket's turn."""
        with self._lock:
            return self._tickets.index(ticket)

    def leave(self, ticket: object) -> None:
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def __len__(self) -> int:
        return len(self._tickets)
