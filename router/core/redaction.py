"""Texts made fit to be read: no credentials, and for `/v1/state` no hosts and no directories either.

`redact_uri` is for texts whose only secrets are in addresses, `redact_credentials` for the log, and `redact`
for whoever can reach the traffic port. Each text is redacted once, where it leaves: at the log's formatter,
in the document of `/v1/state`, and in what a child sends to the gateway.

Whoever writes these texts must not be able to make them slow to read, for this runs on the event loop: all
repetitions are bounded, and a match begins with its word, not with what may stand before it, which would be
tried at every place for each length.
"""

import re

MASK = "***"
LONGEST_TEXT = 1000
"""Characters of a text that `redact` keeps."""

# Two shapes of user information. In http(s) it ends at the first slash; database URLs, as SQLAlchemy reads
# them, may carry slashes in the password, so there everything up to the last @ of the word goes. The name of
# a query's value holds no question mark: else a line of `?pass?pass…` takes cubic time.
_WEB_USER = re.compile(r"(?i)(\bhttps?://)[^\s/?#]{0,1000}@")
# Found by `://`, and what stands before it looked at from there: to try a scheme at every letter takes long.
_OTHER_SCHEME = re.compile(
    r"(?i)://(?<=[a-z0-9+.\-]://)(?:(?<!http://)(?<!https://)|(?<=[a-z0-9+.\-]http://)|(?<=[a-z0-9+.\-]https://))"
)
_OTHER_USER = re.compile(r"[^\s/:@]{0,300}:\S{0,1000}@|[^\s/@]{1,1000}@")
_LONGEST_USER = 1301
_QUERY_SECRET = re.compile(
    r"(?i)([?&;][^=&;?\s]{0,200}(?:pass|pwd|secret|token|sig|key|credential|odbc_connect)[^=&;?\s]{0,200}=)"
    r"[^&\s\"']+"
)
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


def redact_uri(text: str) -> str:
    """`text` without the credentials of any URI in it: no user information, no secret query values.

    Rather hides too much than too little: `s3://` and other URIs whose user part is no secret lose it too.
    """
    text = _WEB_USER.sub(rf"\g<1>{MASK}@", text)
    return _QUERY_SECRET.sub(rf"\g<1>{MASK}", _without_other_users(text))


def redact_line(text: str, limit: int = 400) -> str:
    """`text` without credentials of URIs, in one line of at most `limit` printable characters."""
    # A server may answer a hundred megabytes of HTML: no more is looked at than can be shown.
    line = redact_uri(" ".join(text[: 20 * limit].split()))
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def redact_credentials(text: str) -> str:
    """`text` without the credentials of URIs; `***` stands for what is named like a secret elsewhere."""
    return _BEARER.sub(rf"\g<1>{MASK}", _SECRET.sub(rf"\g<1>{MASK}", redact_uri(text)))


def redact(text: str) -> str:
    """`text` without credentials, hosts, addresses and directories; at most 1 000 characters of it.

    The last name of a path stays: that it was `MLmodel` that was missing is what the reader needs.
    """
    text = _URL.sub(r"\1://…", redact_credentials(text[: 4 * LONGEST_TEXT]))
    text = _ADDRESS.sub("…", _HOST_AND_PORT.sub("…", _NAMED_HOST.sub(r"\1…", text)))
    text = _DIRECTORIES.sub("…/", text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _without_other_users(text: str) -> str:
    parts: list[str] = []
    done = 0
    for scheme in _OTHER_SCHEME.finditer(text):
        at = scheme.end()
        # Without an @ nearby nothing is tried: else `a://b:a://b:…` is read to its bound at each of them.
        if at < done or text.find("@", at, at + _LONGEST_USER) < 0:
            continue
        if user := _OTHER_USER.match(text, at):
            parts += text[done:at], f"{MASK}@"
            done = user.end()
    return "".join((*parts, text[done:]))
