"""The gateway's errors. Each names a condition; which HTTP status that is, `web.responses` decides.

RouterError
├─ ConfigRefused              the configuration is not valid
├─ SlowParser                 aiohttp runs without its compiled HTTP parser
├─ SubreaperRefused           this process can not wait for orphans
├─ RegistryError              the registry was asked, and the answer can not be used
│  ├─ RegistryUnavailable       it did not answer
│  ├─ RegistryRefused           it answered that it may not, or can not, be used
│  ├─ ModelUnknown              it has no registered model of that name
│  ├─ VersionUnknown            it has no such version of the model
│  ├─ CacheRefused              the record of what served last can not be used
│  └─ FetchFailed               a version's files did not come into the cache
│     └─ FetchRefused             they may not be used
├─ PromotionRefused           an alias of the registry was not moved, or is not where it was moved to
│  ├─ MovedByOthers             somebody else acts on the same model
│  ├─ GatewaysUnreachable       gateways that have to be asked did not answer
│  └─ NotServedYet              it was moved, and not every gateway serves it
├─ EnvironmentFailed          a version's own Python environment is not there, and may be later
│  ├─ IndexUnreachable          the package index gave no answer
│  └─ EnvironmentRefused        it can not be made of what the version asks for
├─ LoadFailed                 a version did not become READY
│  ├─ NoRoom                    it would not fit into the memory that is left
│  └─ WarmUpLost                its warm-up ended its worker, or took too long
├─ CapRefused                 what is to be capped, or resumed, can not be
│  ├─ CapUnknown                it is not here
│  └─ NothingServed             the alias serves no version that could be capped
├─ ChildLost                  a child process ended before it answered
│  └─ WorkerOutOfMemory         the kernel ended it for want of memory
├─ ChildTimeout               a child process did not answer in time
├─ OutboundFailed             another server did not answer, or not as it should
│  ├─ OutboundTimeout           it did not answer in time
│  └─ ExchangeUnknown           it is a gateway of a version that exchanges caps only
└─ RequestRefused             a prediction request that no version answered
   ├─ before a version is chosen: HeadersTooLarge, ModelNotConfigured, VersionNotServed, NoDirectAccess,
   │                              KeyMissing, TooLarge, BodyTimeout, BodyUnreadable, BinaryTensors
   ├─ before or after that:       NotReady, Overloaded
   └─ after that:                 DeadlineExceeded, WorkerDied (VersionUnloaded), CallerGone
"""

from typing import ClassVar

from router.core.outcomes import RefusalReason


class RouterError(Exception):
    """Everything this package raises on purpose."""


class ConfigRefused(RouterError):
    """The configuration is not valid; `problems` holds every one, as `file:line path: what to do`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class SlowParser(RouterError):
    """aiohttp runs without its compiled HTTP parser."""


class SubreaperRefused(RouterError):
    """The kernel does not let this process wait for its grandchildren."""


class RegistryError(RouterError):
    """The registry was asked and the answer cannot be used."""


class RegistryUnavailable(RegistryError):
    """The registry did not answer; what we last heard still holds."""


class RegistryRefused(RegistryError):
    """The registry answered that it may not, or can not, be used: credentials, permission or its schema.

    What it last named still holds, but waiting does not help: somebody has to act.
    """


class ModelUnknown(RegistryError):
    """The registry answered: there is no registered model of that name."""


class VersionUnknown(RegistryError):
    """The registry answered: the registered model has no such version."""


class CacheRefused(RegistryError):
    """The cache's record of what served last cannot be read, written or trusted."""


class FetchFailed(RegistryError):
    """A version's files could not be brought into the cache."""


class FetchRefused(FetchFailed):
    """A version's files may not be used: by where they come from, or because a copy is not what served."""


class PromotionRefused(RouterError):
    """A promotion or a rollback was not done, or is not as it was asked; the message says why."""


class MovedByOthers(PromotionRefused):
    """The registry names other versions than it did, or than were written: somebody else acts, too."""


class GatewaysUnreachable(PromotionRefused):
    """Gateways that have to be asked beforehand did not answer."""


class NotServedYet(PromotionRefused):
    """The registry was written, and some gateways do not serve what it names."""


class EnvironmentFailed(RouterError):
    """A version's own Python environment could not be made: another try may do."""


class DiskFull(EnvironmentFailed):
    """There was no room on disk for it."""


class IndexUnreachable(EnvironmentFailed):
    """The package index did not answer, or not as an index does."""


class EnvironmentRefused(EnvironmentFailed):
    """No environment can be made of what the version, and the configuration, ask for.

    It is tried again when one of them changed, not before.
    """


class LoadFailed(RouterError):
    """A version did not become READY; `phase` is fetch, load or warmup."""

    def __init__(self, message: str, *, phase: str, write_refused: bool = False) -> None:
        """`write_refused`: it may load where it may write to its files, which it shares with others."""
        super().__init__(message)
        self.phase = phase
        self.write_refused = write_refused


class NoRoom(LoadFailed):
    """A load was not tried, because its version would not fit into the memory that is left."""

    def __init__(self, message: str, size: int = 0) -> None:
        super().__init__(message, phase="load")
        self.size = size
        """Bytes that it is expected to take."""


class WarmUpLost(LoadFailed):
    """A version was loaded, and then its own input example ended its worker, or took too long to predict."""

    def __init__(self, message: str) -> None:
        super().__init__(message, phase="warmup")


class CapRefused(RouterError):
    """What is to be capped, or resumed, can not be. The message begins with the field that says what."""


class CapUnknown(CapRefused):
    """There is no such registered model, alias or version here."""


class NothingServed(CapRefused):
    """No version serves, or is to serve, so that none could be capped."""


class ChildLost(RouterError):
    """A child process ended, or its socket closed, before it answered."""


class WorkerOutOfMemory(ChildLost):
    """The kernel ended a worker for want of memory, while it loaded its version."""


class ChildTimeout(RouterError):
    """A child process did not answer within its deadline."""


class OutboundFailed(RouterError):
    """What this gateway asked of another server by itself came to nothing.

    The sentence says why, and names neither the address nor anything that was sent.
    """


class OutboundTimeout(OutboundFailed):
    """It did not answer in time."""


class ExchangeUnknown(OutboundFailed):
    """The gateway that was asked exchanges caps only: it is of a former version."""


class RequestRefused(RouterError):
    """A prediction request that reached no version, or came back from none."""

    reason: ClassVar[RefusalReason]

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds after which another try may do better, where that is known."""
        super().__init__(message)
        self.retry_after = retry_after
        self.blamed_batch: int | None = None
        """Number of the batch that held up this request and others; None where it held up no others."""


class HeadersTooLarge(RequestRefused):
    """The request's headers are over `header_limit_kib`."""

    reason = RefusalReason.HEADERS_TOO_LARGE


class ModelNotConfigured(RequestRefused):
    """No such registered model in this gateway's configuration."""

    reason = RefusalReason.UNKNOWN_MODEL


class VersionNotServed(RequestRefused):
    """A caller asked for one version by its number, and no alias serves it."""

    reason = RefusalReason.UNKNOWN_MODEL


class NoDirectAccess(RequestRefused):
    """Aliases of this model can not be asked for by name."""

    reason = RefusalReason.UNKNOWN_MODEL


class KeyMissing(RequestRefused):
    """The request carries no key and the configuration rejects such requests."""

    reason = RefusalReason.NO_KEY


class TooLarge(RequestRefused):
    """The body is over `body_limit_mib`."""

    reason = RefusalReason.TOO_LARGE


class BodyTimeout(RequestRefused):
    """The body did not arrive within `body_timeout_seconds`."""

    reason = RefusalReason.INVALID_BODY


class BodyUnreadable(RequestRefused):
    """The body could not be read as HTTP delivers it."""

    reason = RefusalReason.INVALID_BODY


class BinaryTensors(RequestRefused):
    """Tensors as bytes after the JSON, which is an extension of the protocol."""

    reason = RefusalReason.INVALID_BODY


class NotReady(RequestRefused):
    """The model has no production version bound yet, or its version has no worker."""

    reason = RefusalReason.NOT_READY


class Overloaded(RequestRefused):
    """The version's queue is at its bound."""

    reason = RefusalReason.OVERLOADED


class DeadlineExceeded(RequestRefused):
    """The caller's time, or the time one predict may run, is over."""

    reason = RefusalReason.TIMEOUT


class WorkerDied(RequestRefused):
    """The worker that was running this request ended before it answered."""

    reason = RefusalReason.CRASH
    out_of_memory = False
    """Whether the kernel ended it for want of memory."""


class VersionUnloaded(WorkerDied):
    """The version was unloaded while this request was in it."""

    reason = RefusalReason.NOT_READY


class CallerGone(RequestRefused):
    """The caller hung up, so nobody waits for the answer."""

    reason = RefusalReason.ABANDONED
