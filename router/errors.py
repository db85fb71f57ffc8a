"""The error tree. Errors name a condition and know whether trying again helps; HTTP is decided in `web`."""

from typing import ClassVar


class RouterError(Exception):
    """Everything this package raises on purpose."""

    retriable: ClassVar[bool] = False
    """True when the same request may succeed a moment later."""


class ConfigRefused(RouterError):
    """The configuration is not valid; `problems` holds every one, as `file:line path: what to do`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RegistryError(RouterError):
    """The registry was asked and the answer cannot be used."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer; what we last heard still holds."""

    retriable = True


class RegistryRefused(RegistryError):
    """The registry answered that it may not, or can not, be read: credentials, permission or its schema.

    What it last named still holds, but waiting does not help: somebody has to act.
    """


class ModelUnknown(RegistryError):
    """The registry answered: there is no registered model of that name."""


class CacheRefused(RegistryError):
    """The cache's record of what served last cannot be read, written or trusted."""

    retriable = True


class FetchFailed(RegistryError):
    """A version's files could not be brought into the cache."""

    retriable = True


class FetchRefused(FetchFailed):
    """A version's files may not be used: by where they come from, or because a copy is not what served."""


class LoadFailed(RouterError):
    """A version did not become READY; `phase` is fetch, load or warmup."""

    retriable = True

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class NoRoom(LoadFailed):
    """A load was not tried, because its version would not fit into the memory that is left."""

    def __init__(self, message: str) -> None:
        super().__init__(message, phase="load")


class ChildLost(RouterError):
    """A child process ended, or its socket closed, before it answered."""

    retriable = True


class WorkerOutOfMemory(ChildLost):
    """The kernel ended a worker for want of memory, while it loaded its version."""


class ChildTimeout(RouterError):
    """A child process did not answer within its deadline."""

    retriable = True


class RequestRefused(RouterError):
    """A prediction request that reached no version, or came back from none.

    `reason` is one of the `requests_rejected_total` reasons or an outcome of `requests_total`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.call: int | None = None
        """Number of the predict that held this request up and others with it; None where it was its own."""


class ModelNotConfigured(RequestRefused):
    """No such registered model in this gateway's configuration."""


class VersionNotServed(RequestRefused):
    """A caller asked for one version by its number, and no alias serves it."""


class NotReady(RequestRefused):
    """The model has no production version bound yet."""

    retriable = True


class Overloaded(RequestRefused):
    """The version's queue is at its bound."""

    retriable = True


class DeadlineExceeded(RequestRefused):
    """The caller's time, or the time one predict may run, is over."""


class WorkerDied(RequestRefused):
    """The worker that was running this request ended before it answered."""

    retriable = True


class CallerGone(RequestRefused):
    """The caller hung up, so nobody waits for the answer."""


class KeyMissing(RequestRefused):
    """The request carries no key and the configuration rejects such requests."""
