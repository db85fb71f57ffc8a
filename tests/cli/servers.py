"""HTTP servers in the place of gateways."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    authorization: str | None
    body: bytes


class Reply(NamedTuple):
    document: Any
    """Sent as JSON, and bytes as they are."""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


Answer = Callable[[Request], Reply]


@contextmanager
def listening(answer: Answer, host: str, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on `host` while the block runs; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = answer(Request(self.command, self.path, self.headers.get("Authorization"), sent))
            document = reply.document
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing: standard error is for what tests look at."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server on the loopback while the block runs; its address."""
    with listening(answer, "127.0.0.1") as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def answering(documents: Mapping[str, Any]) -> Iterator[str]:
    """A server that has these documents by path, and nothing else; its address."""

    def answer(request: Request) -> Reply:
        return Reply(documents[request.path]) if request.path in documents else Reply(b"", 404)

    with serving(answer) as url:
        yield url
