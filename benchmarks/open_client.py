"""Requests on schedule, whatever the answers do: `… HOST PORT FILE RATE LIMIT_SECONDS`.

Runs until standard input ends. Latency counts from the moment a request was due, so a server that stops for
a while is charged with everything that was due meanwhile. Prints JSON: `[[due_at, milliseconds, status], …]`
with `due_at` on the machine's monotonic clock; status 0 is a lost connection or no answer, -1 a request that
found no free connection to the end: the server answers less than the rate.
"""

import asyncio
import itertools
import json
import selectors
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path

from benchmarks.http_client import Connection
from benchmarks.workloads import read_requests

CONNECTIONS = 64
LAST_ANSWER_SECONDS = 5.0
NEVER_SENT = -1

Sample = tuple[float, float, int]


class Schedule:
    """Sends one request every `1 / rate` seconds."""

    def __init__(self, host: str, port: int, requests: list[bytes]) -> None:
        self.samples: list[Sample] = []
        self._loop = asyncio.get_running_loop()
        self._turn = itertools.cycle(requests)
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._sent: set[float] = set()
        self._nothing_open = asyncio.Event()
        self._connections = [Connection(host, port, self._take) for _ in range(CONNECTIONS)]

    async def keep(self, rate: float, limit_seconds: float, ended: asyncio.Event) -> None:
        """Send until `ended` or the limit, then wait a little for the last answers."""
        await asyncio.gather(*(connection.open() for connection in self._connections))
        began = self._loop.time()
        for number in itertools.count():
            due_at = began + number / rate
            if ended.is_set() or due_at > began + limit_seconds:
                break
            if (early := due_at - self._loop.time()) > 0:
                await asyncio.sleep(early)
            elif not number % 64:
                await asyncio.sleep(0)  # late: answers must be read all the same
            self._waiting.append(due_at)
            self._send()
        await self._settle()
        never_sent, self._waiting = self._waiting, deque()
        await self._settle()  # those that went out last are owed their time, too
        for due_at in never_sent:
            self._note(due_at, NEVER_SENT)
        for due_at in self._sent:
            self._note(due_at, 0)
        for connection in self._connections:
            connection.close()

    async def _settle(self) -> None:
        self._nothing_open.clear()
        if self._waiting or self._sent:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWER_SECONDS):
                    await self._nothing_open.wait()

    def _take(self, connection: Connection) -> None:
        if connection not in self._free:  # lost and opened again while it waited for work
            self._free.append(connection)
        self._send()

    def _send(self) -> None:
        while self._free and self._waiting:
            connection = self._free.popleft()
            if connection.is_open:
                due_at = self._waiting.popleft()
                self._sent.add(due_at)
                connection.ask(next(self._turn), partial(self._reported, due_at))

    def _reported(self, due_at: float, status: int) -> None:
        if due_at in self._sent:
            self._sent.remove(due_at)
            self._note(due_at, status)
        if not self._waiting and not self._sent:
            self._nothing_open.set()

    def _note(self, due_at: float, status: int) -> None:
        self.samples.append((due_at, (self._loop.time() - due_at) * 1e3, status))


async def _generate(host: str, port: int, requests: list[bytes], rate: float, limit: float) -> list[Sample]:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    schedule = Schedule(host, port, requests)
    await schedule.keep(rate, limit, ended)
    return sorted(schedule.samples)


def main(host: str, port: str, file: str, rate: str, limit_seconds: str) -> None:
    """As the module says."""
    asked = _generate(host, int(port), read_requests(Path(file)), float(rate), float(limit_seconds))
    # epoll wakes on whole milliseconds; select knows microseconds, and has room for our connections.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        print(json.dumps(runner.run(asked)))


if __name__ == "__main__":
    main(*sys.argv[1:])
