"""A link between two processes of this machine that a test can cut: then nothing comes through, and no
connection ends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Link:
    """Takes connections at `port`, and carries their bytes to another one and back."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on there is silence, also on connections that are open."""
        self._whole.clear()

    def mend(self) -> None:
        """As it was, for new connections; those that heard nothing meanwhile end."""
        self._drop_connections()
        self._whole.set()

    def close(self) -> None:
        """For good."""
        self._server.close()
        self._drop_connections()
        self._whole.set()

    def _drop_connections(self) -> None:
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                self._sockets.append(near)
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._whole.wait()
        with suppress(OSError):
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()  # nobody is there: whoever came knows at once
                raise
            self._sockets.append(far)
            threading.Thread(target=self._carry, args=(far, near), daemon=True).start()
            self._carry(near, far)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._whole.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def link_to(target: int) -> Iterator[Link]:
    """A link to the port `target`, for the block."""
    link = Link(target)
    try:
        yield link
    finally:
        link.close()
