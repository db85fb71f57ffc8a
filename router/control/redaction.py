"""Texts of other people's errors, made fit to be read by others: no credentials, no hosts, no directories."""

import re

from router.core.redaction import MASK, masked

LONGEST_TEXT = 1000
"""Characters of a text that are kept."""

# Repetitions are bounded: whoever writes these texts must not be able to make them slow to read. A match
# begins with its word, not with what may stand before it: that would be tried at every place for each length.
_SECRET = re.compile(
    r"""(?ix) (
        (?: password | passwd | secret | token | signature | credential | api[_-]?key ) [\w.-]{0,30}
        ["']? \s{0,3} [=:] \s{0,3} (?: bearer \s{1,3} | basic \s{1,3} )? ["']? ) [^\s"'&,;]+"""
)
_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s{1,3})[\w.~+/=-]{8,}")
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20})://[^\s'\"<>)\]]+")
_NAMED_HOST = re.compile(r"(?i)(\bhost(?:name)?=|\bresolve )['\"]?[^'\"\s,)]+['\"]?")
_HOST_AND_PORT = re.compile(r"\b[\w-]{1,63}(?:\.[\w-]{1,63}){1,9}(?<!\.py)(?<!\.yaml)(?<!\.yml):\d{2,5}\b")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[(?=[^\]]{0,45}:)[\da-fA-F:.]{2,45}\](?::\d+)?")
_DIRECTORIES = re.compile(r"(?<![\w:/.])(?:~|\.{0,2})/(?:[^\s/'\":;,()]{1,255}/)+")


def without_credentials(text: str) -> str:
    """`text` without the credentials of URIs; `***` stands for what is named like a secret elsewhere."""
    return _BEARER.sub(rf"\g<1>{MASK}", _SECRET.sub(rf"\g<1>{MASK}", masked(text)))


def without_places(text: str) -> str:
    """`text` without credentials, hosts, addresses and directories; at most 1 000 characters of it.

    The last name of a path stays: that it was `MLmodel` that was missing is what the reader needs.
    """
    text = _URL.sub(r"\1://…", without_credentials(text[: 4 * LONGEST_TEXT]))
    text = _ADDRESS.sub("…", _HOST_AND_PORT.sub("…", _NAMED_HOST.sub(r"\1…", text)))
    text = _DIRECTORIES.sub("…/", text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
