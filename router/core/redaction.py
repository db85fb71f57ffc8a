"""Credentials stay out of everything people read. This is the one place that takes them out."""

import re

MASK = "***"

# Two shapes of user information. In http(s) it ends at the first slash; database URLs, as SQLAlchemy reads
# them, may carry slashes in the password, so there everything up to the last @ of the word goes.
# All repetitions are bounded, for whoever writes these texts must not be able to make them slow to read, and
# a name holds no question mark: else a line of `?pass?pass…` takes cubic time.
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


def masked(text: str) -> str:
    """`text` without the credentials of any URI in it: no user information, no secret query values.

    Rather hides too much than too little: `s3://` and other URIs whose user part is no secret lose it too.
    """
    text = _WEB_USER.sub(rf"\g<1>{MASK}@", text)
    return _QUERY_SECRET.sub(rf"\g<1>{MASK}", _without_other_users(text))


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


def masked_line(text: str, limit: int = 400) -> str:
    """`text` masked, on one line without control characters, at most `limit` characters."""
    # A server may answer a hundred megabytes of HTML: masking looks at no more than it can show.
    line = masked(" ".join(text[: 20 * limit].split()))
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"
