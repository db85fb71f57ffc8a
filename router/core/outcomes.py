"""How a prediction request can end, and why: values of metric labels, of `/v1/compare` and of the log.

Looking up a member of an enumeration costs CPython 3.11 as much as a function call. What every request passes
binds the members that it needs under names of its module.
"""

from enum import StrEnum
from typing import Literal


class Outcome(StrEnum):
    """What a caller got, once a version was chosen; `outcome` of `requests_total`."""

    OK = "ok"
    FALLBACK = "fallback"
    """Production answered in a canary's place."""
    CLIENT_ERROR = "client_error"
    MODEL_ERROR = "model_error"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    ABANDONED = "abandoned"
    """The caller hung up before there was an answer."""


class FaultKind(StrEnum):
    """What can be wrong with a version's answer, or with its coming; `kind` of `canary_faults_total`."""

    ERROR = "error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    INVALID_OUTPUT = "invalid_output"


Fault = FaultKind | Literal[""]
"""Empty where nothing went wrong, and where the version was never asked."""


class RefusalReason(StrEnum):
    """Why a request has no version's answer; `RequestRefused.reason`."""

    MALFORMED = "malformed"
    HEADERS_TOO_LARGE = "headers_too_large"
    INVALID_BODY = "invalid_body"
    UNKNOWN_MODEL = "unknown_model"
    TOO_LARGE = "too_large"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    NO_KEY = "no_key"
    TIMEOUT = "timeout"
    CRASH = "crash"
    ABANDONED = "abandoned"
    INTERNAL = "internal"
    """The gateway's own code failed; the log says how."""


NOT_HTTP = (RefusalReason.MALFORMED, RefusalReason.HEADERS_TOO_LARGE)
"""Reasons for which nothing of a request was read, so that its model is not known."""
REJECTIONS = (
    *NOT_HTTP,
    RefusalReason.INVALID_BODY,
    RefusalReason.UNKNOWN_MODEL,
    RefusalReason.TOO_LARGE,
    RefusalReason.OVERLOADED,
    RefusalReason.NOT_READY,
    RefusalReason.NO_KEY,
    RefusalReason.INTERNAL,
)
"""Reasons known before a version is chosen, and `INTERNAL`; `reason` of `requests_rejected_total`."""


class CutReason(StrEnum):
    """Why a connection was closed before its client had taken its answer; `reason` of `answers_cut_total`."""

    TOO_SLOW = "too_slow"
    """Less than 64 KiB in `server.idle_seconds`."""
    TOO_MANY_BYTES = "too_many_bytes"
    """More than `server.unsent_answers_mib` waited for clients, and it was the slowest."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    """Its place was needed for another client."""


class FallbackReason(StrEnum):
    """Why production was asked in a canary's place; `reason` of `fallbacks_total`."""

    MODEL_ERROR = "model_error"
    CLIENT_ERROR = "client_error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    INVALID_OUTPUT = "invalid_output"


NEVER_ASKED: frozenset[str] = frozenset({FallbackReason.OVERLOADED, FallbackReason.NOT_READY})
"""Reasons, of a refusal or of a fallback, that say nothing about a version: it never saw the request."""
_FAULTS = {
    FallbackReason.TIMEOUT: FaultKind.TIMEOUT,
    FallbackReason.CRASH: FaultKind.CRASH,
    FallbackReason.INVALID_OUTPUT: FaultKind.INVALID_OUTPUT,
}


def fault_kind(reason: FallbackReason) -> FaultKind:
    """How a canary's failure counts, when production was asked for this reason and could answer."""
    return _FAULTS.get(reason, FaultKind.ERROR)
