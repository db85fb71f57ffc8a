"""Limits of single requests to an MLflow server.

MLflow's own retries are made for long silences: a refused port blocks for 247 s and a silent one for 120 s
per try. The agent allows none, and repeats one thing itself: a request on a connection that the server had
closed while it was idle. Nothing was read of the answer, so the repetition is on a fresh connection, once.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SILENCE_SECONDS = 5
"""Longest silence of a server within one request. MLflow takes whole seconds."""
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
LIMITS = {_RETRIES: "0", _TIMEOUT: str(SILENCE_SECONDS)}
LOOKUP_LIMITS = {_RETRIES: "2", _TIMEOUT: "10"}
"""For the few small questions before a download: of a server that is away they make some 4 s, of a silent one
34, where MLflow's own limits make 247 s and a quarter of an hour. Two downloads are all that run at once."""
_RESERVE_SECONDS = 0.25
"""Left of a deadline to answer in."""
_RESETS = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
_CHAIN = 20


@contextmanager
def limited(limits: Mapping[str, str]) -> Iterator[None]:
    """Requests of MLflow within the block keep to `limits`, those after it to what held before."""
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class RequestLimits:
    """The deadline of the order that is under way, and clients whose requests keep to it."""

    def __init__(self) -> None:
        self._until: float | None = None

    def begin(self, seconds: float | None) -> None:
        """An order begins, which is to be answered within `seconds`; None: nobody said."""
        self._until = None if seconds is None else time.monotonic() + seconds - _RESERVE_SECONDS

    def client(self, client: Any) -> "LimitedClient":
        """`client` of MLflow, within the limits of the order that is under way when it is asked."""
        return LimitedClient(client, self)

    def silence_seconds(self) -> int:
        """What one request may be silent now, in whole seconds; 0 when no time is left for one."""
        if self._until is None:
            return SILENCE_SECONDS
        return max(0, min(SILENCE_SECONDS, int(self._until - time.monotonic())))


class LimitedClient:
    """Any client of MLflow whose methods each make one request that changes nothing."""

    def __init__(self, client: Any, limits: RequestLimits) -> None:
        self._client = client
        self._limits = limits

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def request(*arguments: Any, **named: Any) -> Any:
            # The first one is made in any case: a second is the least that MLflow can wait.
            os.environ[_TIMEOUT] = str(self._limits.silence_seconds() or 1)
            try:
                return method(*arguments, **named)
            except Exception as error:
                if not was_reset(error) or not (left_seconds := self._limits.silence_seconds()):
                    raise
            os.environ[_TIMEOUT] = str(left_seconds)
            return method(*arguments, **named)

        return request


def was_reset(error: BaseException) -> bool:
    """Whether the server, or what is between, ended the connection: neither refused it nor stayed silent."""
    return any(isinstance(cause, _RESETS) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was made from: MLflow, requests and urllib3 each keep it in another place."""
    waiting: list[BaseException] = [error]
    for _ in range(_CHAIN):
        if not waiting:
            return
        cause = waiting.pop()
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [each for each in inner if isinstance(each, BaseException)]
