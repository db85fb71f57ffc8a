"""Work that goes on in a thread of its own while a block of a test runs."""

import threading
from types import TracebackType
from typing import Self


class BackgroundThread:
    """`with` it: `work` runs from the block's beginning, and is asked to stop at its end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set when the block has ended."""
        self._thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self._thread.join(60)

    def work(self) -> None:
        """Until `stop` is set."""
        raise NotImplementedError
