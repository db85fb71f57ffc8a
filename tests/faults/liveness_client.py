"""A client that asks the gateway for signs of life while something is broken, and what it heard."""

import http.client
import time
from typing import NamedTuple

import psutil

from tests.faults.background_thread import BackgroundThread

PERIOD_SECONDS = 0.02


class Sign(NamedTuple):
    """One answer to `GET /ping`."""

    seconds: float
    status: int


class Pulse(BackgroundThread):
    """`with Pulse(port) as pulse:` — asks `/ping` fifty times a second on one connection."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.signs: list[Sign] = []
        self._port = port

    @property
    def slowest(self) -> float:
        """Seconds."""
        return max(sign.seconds for sign in self.signs)

    @property
    def statuses(self) -> set[int]:
        return {sign.status for sign in self.signs}

    def work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        ended = False
        while not ended:  # once more after the end, so that the shortest block has a sign of life, too
            ended = self.stop.wait(PERIOD_SECONDS)
            began_at = time.monotonic()
            connection.request("GET", "/ping")
            answer = connection.getresponse()
            answer.read()
            self.signs.append(Sign(time.monotonic() - began_at, answer.status))
        connection.close()


class Peak:
    """The most memory a process held, in bytes above what it held when this was made."""

    def __init__(self, pid: int) -> None:
        self._status = f"/proc/{pid}/status"
        with open(f"/proc/{pid}/clear_refs", "w") as high_water:
            high_water.write("5")  # from now on
        self._before = psutil.Process(pid).memory_info().rss

    def growth(self) -> int:
        """Bytes; 0 when it never held more."""
        with open(self._status) as reported:
            fields = dict(line.split(":", 1) for line in reported)
        return max(0, int(fields["VmHWM"].split()[0]) * 1024 - self._before)
