"""Servers that misbehave on purpose: one that never answers, and a proxy that spoils what passes."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@contextmanager
def black_hole() -> Iterator[str]:
    """A server that takes connections and never says a word; its URI."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
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
    told_bytes: int | None = None
    """Content-Length told; None: as long as the body. -1: none, the end of the connection is the end."""
    released: threading.Event | None = None
    """When set, the second half of the body waits for it."""


@dataclass
class Proxy:
    """Passes requests to `target`; `spoil` may change each answer."""

    target: str
    uri: str = ""
    spoil: Spoil = field(default=lambda _answer: None)
    paths: list[str] = field(default_factory=list)
    """Every path that was asked for."""

    def mend(self) -> None:
        """Pass everything as it is again."""
        self.spoil = lambda _answer: None


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """A proxy in front of the server at `target`."""
    proxy = Proxy(target)
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = _ask(proxy.target, self.path, self.headers)
            proxy.paths.append(self.path)
            proxy.spoil(answer)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.told_bytes != -1:
                told = len(answer.body) if answer.told_bytes is None else answer.told_bytes
                self.send_header("Content-Length", str(told))
            self.end_headers()
            half = len(answer.body) // 2
            try:
                self.wfile.write(answer.body[:half])
                self.wfile.flush()
                if answer.released is not None:
                    released.wait()
                self.wfile.write(answer.body[half:])
            except ConnectionError:
                pass  # the client was ended, which is what the test is about

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def is_artifact(answer: Answer) -> bool:
    """Whether it is the body of one file, rather than a listing or a registry's answer."""
    return "/mlflow-artifacts/artifacts/" in answer.path


def is_poll(answer: Answer) -> bool:
    """Whether it answers the read of one registered model."""
    return "/registered-models/get" in answer.path


def cut_half_way(answer: Answer) -> None:
    """The connection ends after half of a file."""
    if is_artifact(answer):
        answer.told_bytes = len(answer.body)
        answer.body = answer.body[: len(answer.body) // 2]


def cut_silently(answer: Answer) -> None:
    """Half of a file, and nothing that says so."""
    if is_artifact(answer):
        answer.told_bytes = -1
        answer.body = answer.body[: len(answer.body) // 2]


def hang_half_way(answer: Answer) -> None:
    """Half of a file, then silence."""
    if is_artifact(answer):
        answer.released = threading.Event()


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
