"""A receiver of notifications that a test steers: it answers as the test says, and keeps what it was sent."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import http_server


@dataclass(frozen=True)
class Received:
    """One request, and the status that it was answered with."""

    status: int
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class Receiver:
    """Listens on this machine."""

    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    """All, also those that were not answered with 2xx."""
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set, nothing is answered."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def taken(self) -> list[Received]:
        """Those that were answered with 2xx."""
        return [one for one in self.requests if one.status // 100 == 2]

    def kinds(self) -> list[str]:
        """Of the CloudEvents that were taken, in their order."""
        return [one.json["type"].removeprefix("canary_router.") for one in self.taken]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver, for the block."""
    receiver = Receiver()
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            while receiver.silent.is_set() and not closing.wait(0.01):
                continue
            status = receiver.status
            receiver.requests.append(Received(status, self.path, dict(self.headers.items()), body))
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            with suppress(ConnectionError):  # who asked gave up, which is what the test is about
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http_server(Handler) as server:
        receiver.port = server.server_address[1]
        try:
            yield receiver
        finally:
            closing.set()
