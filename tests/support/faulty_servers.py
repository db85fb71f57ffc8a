"""Servers that misbehave on purpose: one that never answers, and a proxy that spoils what passes."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.http_server import http_server


@contextmanager
def black_hole(port: int = 0) -> Iterator[str]:
    """A server that takes connections and never says a word; its URI."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


Spoil = Callable[["Answer"], None]


@dataclass
class Answer:
    """What the server behind said, on its way to the client."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    reported_bytes: int | None = None
    """Content-Length announced; None: as long as the body. -1: none, the end of the connection is the end."""
    released: threading.Event | None = None
    """When set, the second half of the body waits for it."""
    bytes_per_second: float | None = None
    """Of the body; None: as fast as it goes."""


@dataclass
class Proxy:
    """Passes requests to `target`; `spoil` may change each answer. Closed, its port is refused."""

    target: str
    spoil: Spoil = field(default=lambda _answer: None)
    paths: list[str] = field(default_factory=list)
    """Every path that was asked for."""
    authorizations: list[str | None] = field(default_factory=list)
    """What each of them was asked with."""
    writes: list[str] = field(default_factory=list)
    """Every request that was no GET; it gets 501, and the server behind does not see it."""
    port: int = 0
    """The same each time it is opened."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Answers that wait, or trickle, end with it."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def uri(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Pass everything as it is again."""
        self.spoil = lambda _answer: None

    def open(self) -> None:
        """Take connections."""
        self.closing = threading.Event()
        server = self._stack.enter_context(http_server(_handler_of(self), self.port))
        self.port = server.server_address[1]

    def close(self) -> None:
        """Refuse connections, and end those that wait."""
        self.closing.set()
        self._stack.close()


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """A proxy in front of the server at `target`."""
    proxy = Proxy(target)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.close()


def _handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = _ask(proxy.target, self.path, self.headers)
            proxy.paths.append(self.path)
            proxy.authorizations.append(self.headers.get("Authorization"))
            proxy.spoil(answer)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.reported_bytes != -1:
                reported = len(answer.body) if answer.reported_bytes is None else answer.reported_bytes
                self.send_header("Content-Length", str(reported))
            try:
                self.end_headers()
                self._send(answer)
            except ConnectionError:
                pass  # the client was ended, which is what the test is about

        def _send(self, answer: Answer) -> None:
            closing = proxy.closing
            if answer.bytes_per_second is not None:
                # Ten times a second at most: a crawl of megabytes is not to cost the machine anything.
                step = max(1, int(answer.bytes_per_second / 10))
                for begin in range(0, len(answer.body), step):
                    self.wfile.write(answer.body[begin : begin + step])
                    if closing.wait(step / answer.bytes_per_second):
                        return
                return
            half = len(answer.body) // 2
            self.wfile.write(answer.body[:half])
            self.wfile.flush()
            if answer.released is not None:
                while not (closing.is_set() or answer.released.wait(0.05)):
                    continue
            self.wfile.write(answer.body[half:])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return _refusing_writes(proxy, Handler)


def _refusing_writes(proxy: Proxy, handler: type[BaseHTTPRequestHandler]) -> type[BaseHTTPRequestHandler]:
    def refuse(request: BaseHTTPRequestHandler) -> None:
        proxy.writes.append(f"{request.command} {request.path}")
        request.send_error(501)

    for verb in ("POST", "PUT", "PATCH", "DELETE"):
        setattr(handler, f"do_{verb}", refuse)
    return handler


def is_artifact(answer: Answer) -> bool:
    """Whether it is the body of one file, rather than a listing or a registry's answer."""
    return "/mlflow-artifacts/artifacts/" in answer.path


def is_poll(answer: Answer) -> bool:
    """Whether it answers the read of one registered model."""
    return "/registered-models/get" in answer.path


def cut_half_way(answer: Answer) -> None:
    """The connection ends after half of a file."""
    if is_artifact(answer):
        answer.reported_bytes = len(answer.body)
        answer.body = answer.body[: len(answer.body) // 2]


def cut_silently(answer: Answer) -> None:
    """Half of a file, and nothing that says so."""
    if is_artifact(answer):
        answer.reported_bytes = -1
        answer.body = answer.body[: len(answer.body) // 2]


def hang_half_way(answer: Answer) -> None:
    """Half of a file, then silence."""
    if is_artifact(answer):
        answer.released = threading.Event()


def a_page(answer: Answer) -> None:
    """What a proxy in front says that wants somebody to sign in."""
    answer.headers, answer.body = {"Content-Type": "text/html"}, b"<html>Sign in</html>"


def broken(answer: Answer) -> None:
    """The server fails, at length."""
    answer.status, answer.body = 500, b"oops " * 1_000_000


def too_many(answer: Answer) -> None:
    """The server asks to be left alone for an hour."""
    answer.status, answer.body = 429, b"slow down"
    answer.headers["Retry-After"] = "3600"


def a_byte_a_second(answer: Answer) -> None:
    """No silence is ever long enough for a timeout."""
    answer.bytes_per_second = 1.0


def endless_json(answer: Answer) -> None:
    """100 MB that are JSON, and no answer."""
    answer.body = b"[" + b"1," * 50_000_000 + b"1]"


def list_a_way_out(answer: Answer) -> None:
    """The listing names a file outside of the version's directory."""
    if urlsplit(answer.path).path.endswith("/mlflow-artifacts/artifacts"):
        listing = json.loads(answer.body)
        listing["files"].append({"path": "../../evil", "is_dir": False, "file_size": "1"})
        answer.body = json.dumps(listing).encode()


def _ask(target: str, path: str, headers: http.client.HTTPMessage) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(target).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Accept": headers.get("Accept", "*/*")})
        response = connection.getresponse()
        kept = {"Content-Type": response.getheader("Content-Type", "text/plain")}
        return Answer(path, response.status, kept, response.read())
    finally:
        connection.close()
