"""Credentials stay out of everything people read. This is the one place that takes them out."""

import re

MASK = "***"

# Two shapes of user information. In http(s) it ends at the first slash; database URLs, as SQLAlchemy reads
# them, may carry slashes in the password, so there everything up to the last @ of the word goes.
# All repetitions are bounded, for whoever writes these texts must not be able to make them slow to read, and
# a name holds no question mark: else a line of `?pass?pass…` takes cubic time.
_WEB_USER = re.compile(r"(?i)(\bhttps?://)[^\s/?#]{0,1000}@")
_OTHER_USER = re.compile(
    r"(?i)(\b(?!https?:)[a-z][a-z0-9+.\-]{0,30}://)(?:[^\s/:@]{0,300}:\S{0,1000}@|[^\s/@]{1,1000}@)"
)
_QUERY_SECRET = re.compile(
    r"(?i)([?&;][^=&;?\s]{0,200}(?:pass|pwd|secret|token|sig|key|credential|odbc_connect)[^=&;?\s]{0,200}=)"
    r"[^&\s\"']+"
)


def masked(text: str) -> str:
    """`text` without the credentials of any URI in it: no user information, no secret query values.

    Rather hides too much than too little: `s3://` and other URIs whose user part is no secret lose it too.
    """
    text = _WEB_USER.sub(rf"\g<1>{MASK}@", text)
    text = _OTHER_USER.sub(rf"\g<1>{MASK}@", text)
    return _QUERY_SECRET.sub(rf"\g<1>{MASK}", text)


def masked_line(text: str, limit: int = 400) -> str:
    """`text` masked, on one line without control characters, at most `limit` characters."""
    # A server may answer a hundred megabytes of HTML: masking looks at no more than it can show.
    line = masked(" ".join(text[: 20 * limit].split()))
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"
