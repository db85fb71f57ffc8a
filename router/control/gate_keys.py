"""Reads the keys that sign records of the gate, from files whose disk may hang."""

import asyncio
import errno
from pathlib import Path

from router.core.gate_record import MOST_KEY_BYTES, signing_key
from router.processes.disk import DiskThreads
from router.processes.small_files import open_at_once

READ_SECONDS = 2.0
"""For one file; it is read in an instant, or its disk hangs."""


class GateKeys:
    """Reads each file anew at each use, and waits for none longer than `READ_SECONDS`.

    A read that hangs is remembered: until it ends, nobody waits for that file again, and there is no second
    read of it. In threads of its own: where keys hang, nothing else that needs a disk waits behind them.
    """

    def __init__(self) -> None:
        self._threads = DiskThreads()
        self._reads: dict[Path, tuple[asyncio.Future[bytes], float]] = {}
        """Those that have not ended, and when each began, by the clock of the loop."""

    async def read(self, path: Path) -> bytes:
        """The key in `path`. Raises OSError, and ValueError with a sentence; neither quotes any of it."""
        now = asyncio.get_running_loop().time()
        if path not in self._reads:
            self._reads[path] = asyncio.ensure_future(self._threads.run(_read_key, path)), now
            self._reads[path][0].add_done_callback(lambda done: self._ended(path, done))
        read, began = self._reads[path]
        await asyncio.wait({read}, timeout=max(began + READ_SECONDS - now, 0.0))
        if not read.done():
            raise TimeoutError(errno.ETIMEDOUT, f"its disk did not answer within {READ_SECONDS:g} s")
        return read.result()

    def _ended(self, path: Path, read: asyncio.Future[bytes]) -> None:
        del self._reads[path]
        if not read.cancelled():
            read.exception()  # which asyncio would report where nobody waits any more


def _read_key(path: Path) -> bytes:
    with open(path, "rb", opener=open_at_once) as file:
        return signing_key(file.read(MOST_KEY_BYTES + 1024))
