"""The token that opens the admin verbs: in a file, or in the environment, and never shown."""

import os
from collections.abc import Mapping

from router.errors import ConfigRefused
from router.settings import ServerSettings

VARIABLE = "CANARY_ROUTER_SERVER__ADMIN_TOKEN"
SHORTEST, LONGEST = 16, 4096
"""Bytes of a token: what is shorter can be guessed, what is longer is another file."""


class AdminToken:
    """Reads the token anew each time it is asked for, so that a rotated file counts at once."""

    def __init__(self, file: str | None, value: str | None) -> None:
        """`value` stands over `file`. Raises ConfigRefused when there is no usable token now."""
        self._file = file
        self._value = value
        self.read()

    def read(self) -> bytes:
        """The token as it is now; blocks for a small file. Raises ConfigRefused, never with the token."""
        if self._value is not None:
            return _checked(self._value.encode("utf-8", "surrogateescape"), VARIABLE)
        assert self._file is not None  # one of the two is there
        try:
            with open(self._file, "rb", opener=_open_at_once) as file:
                raw = file.read(LONGEST + 1)
        except OSError as error:
            raise ConfigRefused([f"server.admin_token_file: can not be read: {error.strerror}"]) from None
        return _checked(raw, "server.admin_token_file")


def admin_token(server: ServerSettings, environ: Mapping[str, str]) -> AdminToken | None:
    """The token that is configured; None without one, which only a loopback address may be.

    Raises ConfigRefused when the token is unusable, or missing where others can reach the admin address.
    """
    value = environ.get(VARIABLE)
    if value is not None or server.admin_token_file is not None:
        return AdminToken(server.admin_token_file, value)
    if not server.admin_is_local:
        sentence = (
            f"server.admin: others can reach {server.admin[0]}, so its verbs take a token: put one in a file"
            f" and name it in server.admin_token_file, set {VARIABLE}, or choose a loopback address"
        )
        raise ConfigRefused([sentence])
    return None


def _checked(raw: bytes, origin: str) -> bytes:
    token = raw.strip()
    if not SHORTEST <= len(token) <= LONGEST or len(token.split()) != 1:
        raise ConfigRefused(
            [f"{origin}: must hold one token of {SHORTEST} to {LONGEST} bytes without spaces"]
        )
    return token


def _open_at_once(path: str, flags: int) -> int:
    # Opening a named pipe would otherwise wait until somebody writes into it.
    return os.open(path, flags | os.O_NONBLOCK)
