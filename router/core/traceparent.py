"""The trace a request belongs to, by the W3C header `traceparent`."""

import re

HEADER = "traceparent"

_VERSION_0 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_LATER = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]*)?", re.ASCII)
_LONGEST = 512
"""Characters; a version that is yet to come may add some, and nobody needs more."""
_SAMPLED = 1


def trace_id_of(sent: str) -> str:
    """The trace id, 32 hexadecimal digits, or nothing.

    Nothing for a header that is not as W3C Trace Context says to the letter, and for a trace that its caller
    does not keep (the flag `sampled` is not set): whoever followed it would find nothing.
    """
    if len(sent) > _LONGEST:
        return ""
    found = _VERSION_0.fullmatch(sent) if sent.startswith("00") else _LATER.fullmatch(sent)
    if found is None:
        return ""
    trace_id, parent_id, flags = found.groups()
    if not int(flags, 16) & _SAMPLED or not trace_id.strip("0") or not parent_id.strip("0"):
        return ""
    return trace_id
