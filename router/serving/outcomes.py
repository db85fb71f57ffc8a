"""What a version's answer is called: outcome, reason of a fallback, and fault."""

from router.core.request_events import ABANDONED, FAULT_KINDS
from router.errors import CallerGone, DeadlineExceeded, RequestRefused
from router.protocol.messages import Answer, PredictStatus

Result = Answer | RequestRefused

_OK = PredictStatus.OK
"""Under a name of its own: an enumeration looks its members up, and this is asked thrice a request."""
INVALID_OUTPUT = "invalid_output"
NEVER_ASKED = ("overloaded", "not_ready")
"""Reasons of a fallback that say nothing about the canary, neither good nor bad: it never saw the request."""


def is_good(result: Result) -> bool:
    """Whether a version answered, and found nothing wrong itself."""
    return isinstance(result, Answer) and result.verdict is _OK


def was_asked(result: Result) -> bool:
    """Whether a version saw the request at all."""
    return isinstance(result, Answer) or result.reason not in NEVER_ASKED


def kind_of(reason: str) -> str:
    """Which of `FAULT_KINDS` it is that a version's answer failed to come, or to be one, by `reason`."""
    return reason if reason in FAULT_KINDS else "error"


def fault_of(result: Result, *, odd: bool) -> str:
    """What is wrong with an answer, whoever gave it: a kind of `canary_faults_total`, or nothing.

    `odd`: an odd length is wrong. A refusal is not.
    """
    if not isinstance(result, Answer):
        return kind_of(result.reason) if was_asked(result) else ""
    if result.verdict is _OK:
        return INVALID_OUTPUT if result.all_nan or (odd and result.odd_length) else ""
    return "error" if result.verdict is PredictStatus.MODEL_ERROR else ""


def equally_odd(first: Result, second: Result) -> bool:
    """Whether production's answer, the `second`, is no less odd than the canary's."""
    if not isinstance(first, Answer) or not isinstance(second, Answer):
        return False
    return (second.all_nan or not first.all_nan) and (not second.one_per_row or not first.odd_length)


def reason_of(first: Result) -> str:
    """Why production is asked: values of `fallbacks_total`'s label."""
    if not isinstance(first, Answer):
        return first.reason
    return INVALID_OUTPUT if first.verdict is _OK else first.verdict.value


def outcome_of(result: Result) -> str:
    """`outcome` label of `requests_total` for what its caller gets."""
    if isinstance(result, Answer):
        return "ok" if result.verdict is _OK else result.verdict.value
    if isinstance(result, DeadlineExceeded):
        return "timeout"
    if isinstance(result, CallerGone):
        return ABANDONED
    return "overloaded" if result.reason == "overloaded" else "model_error"
