"""A disk that fails when a test wants it to."""

import os
import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has every write to a file fail with this error, until it is 0."""
    write, now = os.write, [0]

    def failed(descriptor: int, content: bytes) -> int:
        if now[0] and threading.current_thread().name == "state":
            raise OSError(now[0], os.strerror(now[0]))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", failed)

    def fail(code: int) -> None:
        now[0] = code

    return fail
