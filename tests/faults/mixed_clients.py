"""Clients of every kind, good and bad, one after the other: what each sends, and what it may hear."""

import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from tests.e2e.test_http_hostile import AMBIGUOUS, MALFORMED
from tests.faults.background_thread import BackgroundThread
from tests.support.raw_http import exchange, get, post

MOST_ROWS = 1000
BODY_LIMIT_MIB = 1
_SLOW_AT_ONCE = 20
_LONGEST_SECONDS = 20.0
_RESET = struct.pack("ii", 1, 0)


def scoring(body: bytes, content_type: str = "application/json", key: str = "user-1") -> bytes:
    """A whole request to `/invocations`, after which the connection ends."""
    head = f"X-Request-Key: {key}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return post(head.encode() + b"Connection: close\r\n", body)


def split_body(rows: int, text: str = "good") -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text]] * rows}}).encode()


RIGHT = {
    "dataframe_split": scoring(split_body(1)),
    "dataframe_records": scoring(b'{"dataframe_records": [{"text": "good"}, {"text": "bad"}]}'),
    "instances": scoring(b'{"instances": [{"text": "good"}]}'),
    "inputs": scoring(b'{"inputs": {"text": ["good"]}}'),
    "csv": scoring(b"text\ngood\nbad\n", "text/csv"),
    "params": scoring(b'{"dataframe_split": {"data": [["good"]], "columns": ["text"]}, "params": {}}'),
    "as many rows as allowed": scoring(split_body(MOST_ROWS)),
    "what the canary cannot bear": scoring(split_body(1, "bad"), key="user-2"),
    "columns that the canary misses": scoring(b'{"dataframe_records": [{"txet": 1}]}', key="user-2"),
}
WRONG = {
    "no JSON": (scoring(b'{"dataframe_split": '), 400),
    "empty": (scoring(b""), 400),
    "no known field": (scoring(b'{"rows": [[1]]}'), 400),
    "columns and data that differ": (scoring(b'{"dataframe_split":{"columns":["a"],"data":[[1,2]]}}'), 400),
    "not UTF-8": (scoring(b"\xff\xfe\xfd" * 20), 400),
    "deep": (scoring(b"[" * 100_000), 400),
    "no such type": (scoring(b"x", "application/x-wonders"), 415),
    "a row too many": (scoring(split_body(MOST_ROWS + 1)), 413),
    "no such model": (
        post(b"Content-Length: 2\r\nConnection: close\r\n", b"{}", b"/models/nobody/invocations"),
        404,
    ),
    "no such path": (get(b"/wp-login.php", b"Connection: close\r\n"), 404),
    "no such verb": (get(b"/invocations", b"Connection: close\r\n"), 405),
}
TOO_LONG = post(b"Content-Length: %d\r\n" % ((BODY_LIMIT_MIB << 20) + 1))
"""Refused before its body is sent; the connection stays open for a while, so that the answer is read."""
NO_HTTP = [*AMBIGUOUS.values(), *MALFORMED.values()]


class MixedClients(BackgroundThread):
    """`with MixedClients(port):` — about `rate` of them per second, at random, to the block's end."""

    def __init__(self, port: int, rate: float = 40.0, seed: int = 7) -> None:
        super().__init__()
        self.heard: Counter[tuple[str, int]] = Counter()
        """By kind and status; 0: the connection was closed without an answer."""
        self.unexpected: list[tuple[str, bytes]] = []
        """What no kind may hear, but 503."""
        self.refused: list[tuple[float, float]] = []
        """When those heard 503 whose request may have run in a worker that was killed: sent, answered."""
        self.slowest = 0.0
        self._port, self._rate = port, rate
        self._dice = random.Random(seed)
        self._slow: list[tuple[float, socket.socket]] = []
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (40, self._right),
            (30, self._wrong),
            (10, self._no_http),
            (5, self._too_long),
            (10, self._vanishing),
            (10, self._dawdling),
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for _, connection in self._slow:
            connection.close()

    def work(self) -> None:
        weights = [weight for weight, _ in self._kinds]
        while not self.stop.wait(self._dice.expovariate(self._rate)):
            [(_, one)] = self._dice.choices(self._kinds, weights)
            one()

    def _right(self) -> None:
        name = self._dice.choice(list(RIGHT))
        self._exchange(name, RIGHT[name], 200)

    def _wrong(self) -> None:
        name = self._dice.choice(list(WRONG))
        self._exchange(name, *WRONG[name])

    def _no_http(self) -> None:
        self._exchange("no HTTP", self._dice.choice(NO_HTTP), 400)

    def _too_long(self) -> None:
        self._exchange("too long", TOO_LONG, 413, until=b"request_id")

    def _exchange(self, name: str, raw: bytes, status: int, until: bytes | None = None) -> None:
        began_at = time.monotonic()
        reported = exchange(self._port, raw, _LONGEST_SECONDS, until)
        ended_at = time.monotonic()
        self.slowest = max(self.slowest, ended_at - began_at)
        heard = reported.statuses[0] if reported.statuses else 0
        self.heard[name, heard] += 1
        if heard == 503:
            self.refused.append((began_at, ended_at))
        elif reported.statuses != [status] or reported.closed != (until is None):
            self.unexpected.append((name, reported.raw[:200]))

    def _vanishing(self) -> None:
        """In the middle, or after all was sent and before the answer; half of them with a reset."""
        raw = RIGHT["dataframe_split"]
        gone = socket.create_connection(("127.0.0.1", self._port))
        if self._dice.random() < 0.5:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        gone.sendall(raw[: self._dice.choice([0, 10, len(raw) - 5, len(raw)])])
        gone.close()
        self.heard["vanished", 0] += 1

    def _dawdling(self) -> None:
        """One more slow client, or one byte more from each; the oldest goes when there are too many."""
        for _, connection in self._slow:
            with suppress(OSError):
                connection.send(b"x")
        opened = socket.create_connection(("127.0.0.1", self._port))
        opened.setblocking(False)
        with suppress(OSError):
            opened.send(
                self._dice.choice([b"", b"GET /livez HTTP/1.1\r\nX-", post(b"Content-Length: 999\r\n")])
            )
        self._slow.append((time.monotonic(), opened))
        self.heard["slow", 0] += 1
        if len(self._slow) > _SLOW_AT_ONCE:
            self._slow.pop(0)[1].close()
