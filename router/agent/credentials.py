"""Credentials of an MLflow server that lie in files: read at each request, so that a rotated one counts at
once.

Through MLflow's own door for that, a provider of authentication that it asks by name before every request to
the registry, to the tracking server and for the artifacts that it hands out. Databricks has ways of its own.
"""

import os
from base64 import standard_b64encode
from collections.abc import Mapping
from typing import Any

from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from mlflow.tracking.request_auth.registry import _request_auth_provider_registry

_NAME = "canary-router-files"
_LONGEST_BYTES = 65_536
TOKEN, USERNAME, PASSWORD = "token_file", "username_file", "password_file"
"""The keys of the configuration under `registry`, and of the files that `use_files` takes."""


class CredentialUnreadable(Exception):
    """A file of the configuration holds no credential now; the message names its key, never what it holds."""


def use_files(files: Mapping[str, str]) -> None:
    """From now on every request of MLflow in this process carries what the `files` hold at that moment.

    `files` has an absolute path under TOKEN, or under USERNAME and PASSWORD. It stands over the environment
    and over MLflow's own file of credentials.
    """
    auth = _FileAuth(files)

    class Provider(RequestAuthProvider):  # type: ignore[misc] # MLflow is not typed
        def get_name(self) -> str:
            return _NAME

        def get_auth(self) -> _FileAuth:
            return auth

    _request_auth_provider_registry.register(Provider)
    os.environ["MLFLOW_TRACKING_AUTH"] = _NAME


class _FileAuth:
    """What the requests library calls with each request before it is sent."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def __call__(self, request: Any) -> Any:
        if TOKEN in self._files:
            credential = f"Bearer {self._read(TOKEN)}"
        else:
            pair = f"{self._read(USERNAME)}:{self._read(PASSWORD)}"
            credential = f"Basic {standard_b64encode(pair.encode()).decode()}"
        request.headers["Authorization"] = credential
        return request

    def _read(self, key: str) -> str:
        """What the file holds, without white space around it. Raises CredentialUnreadable."""
        try:
            # A named pipe that nobody writes to would block for ever.
            descriptor = os.open(self._files[key], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                raw = file.read(_LONGEST_BYTES + 1)
        except OSError as error:
            raise CredentialUnreadable(f"registry.{key} can not be read: {error.strerror}") from None
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError:
            text = ""
        whole = bool(text) and text.isprintable() and len(raw) <= _LONGEST_BYTES
        if not whole or (key == TOKEN and not (text.isascii() and " " not in text)):
            raise CredentialUnreadable(f"registry.{key} holds no credential: it must be one line of text")
        return text
