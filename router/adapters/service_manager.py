"""What the service manager that started the gateway is sent about it, in systemd's protocol `sd_notify`."""

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """Receives when the gateway listens, reloads and stops; nothing is sent where there is none.

    No method raises or waits: a manager that can not be reached keeps no request waiting.
    """

    def __init__(self, address: str | None) -> None:
        """`address` of its socket: a path, or a name in the abstract namespace after `@`."""
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> "ServiceManager":
        """That of the variable, which is taken out: a version has nothing to say about its gateway."""
        return cls(environ.pop(VARIABLE, None))

    def listening(self, url: str) -> None:
        """Requests are answered at `url`, be it by 503: what is served is loaded afterwards."""
        self._send("READY=1", f"STATUS=listens on {url}")

    def reloading(self) -> None:
        """The configuration is read. `reloaded` has to follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """A configuration is in force: the new one, or the former one still."""
        self._send("READY=1")

    def stopping(self) -> None:
        """What is under way is answered, then the gateway ends."""
        self._send("STOPPING=1", "STATUS=drains")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            message = "\n".join(assignments).encode()
            sending.sendto(message, socket.MSG_DONTWAIT, os.fsencode(self._address))
