"""Asks several gateways at once: for documents, and for verbs with the admin token.

Each has a reply of its own: an answer, a refusal, or none. Works without importing mlflow.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.adapters.config.file import load_settings
from router.cli.client import Refused, Unreachable, base_url, checked_url, own_url, request
from router.errors import ConfigRefused
from router.promotion.ports import VERB_SECONDS
from router.settings import PeerAddress, Settings

_AT_ONCE = 16
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Answer:
    """A gateway did what it was asked."""

    gateway: str
    """Its address, as it was asked."""
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A gateway answered that it does not do what it was asked."""

    gateway: str
    status: int
    """That of HTTP, 300 or more; 404 for a path that an older gateway does not have."""
    why: str
    """Its sentence, in one line."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody answered there, or what did is no gateway, or can not be trusted."""

    gateway: str
    why: str
    """A sentence that names the address."""


Reply = Answer | Refusal | NoAnswer


class Gateways:
    """The gateways at some addresses. Those that are asked together are asked side by side."""

    def __init__(self, addresses: Sequence[str], token: Callable[[], bytes | None]) -> None:
        """`token` is called at the first verb, and returns None where there is none; it may raise
        ConfigRefused."""
        self.addresses = tuple(dict.fromkeys(address.rstrip("/") for address in addresses))
        """Each once."""
        self._token = token

    def get(self, path: str, *keys: str) -> list[Reply]:
        """What each has at `path`, in the order of the addresses; a document without these `keys` is no
        gateway's."""
        return self._each(lambda address: request(address, path, *keys))

    def post(
        self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = VERB_SECONDS
    ) -> list[Reply]:
        """What each answers to POST of `body` with the admin token. Raises ConfigRefused for an unusable
        token."""
        token = self._token()
        replies = self._each(
            lambda address: request(address, path, body=body, token=token, timeout_seconds=timeout_seconds)
        )
        return [_with_hint(reply) for reply in replies] if token is None else replies

    def _each(self, ask: Callable[[str], Mapping[str, Any]]) -> list[Reply]:
        with ThreadPoolExecutor(min(_AT_ONCE, len(self.addresses))) as pool:
            return list(pool.map(lambda address: _reply(address, ask), self.addresses))


def find_gateways(config_path: Path, urls: Sequence[str]) -> Gateways:
    """Those at `urls`; without any, all that the configuration knows. Raises ConfigRefused, or a usage error
    for what is no address.

    With `urls` a configuration is not needed: it is looked at for the token only.
    """
    hint = "gateways' addresses are read in that file; with --url http://HOST:PORT none is needed"
    return gateways_of(settings_unless_named(config_path, urls, hint), urls)


def settings_unless_named(config_path: Path, urls: Sequence[str], hint: str) -> Settings | None:
    """The configuration's; None where it is not valid and `urls` name the gateways without it.

    Raises ConfigRefused, with `hint` after its problems, where it is not valid and there are no `urls`.
    """
    try:
        return load_settings(config_path, os.environ, {}).settings
    except ConfigRefused as refused:
        if urls:
            return None
        raise ConfigRefused([*refused.problems, hint]) from None


def gateways_of(settings: Settings | None, urls: Sequence[str]) -> Gateways:
    """Those at `urls`; without any, all that `settings` know. Raises a usage error for what is no address."""
    addresses = [checked_url(url) for url in urls]  # not after half of a command is done
    if not addresses:
        assert settings is not None  # one of the two is there
        addresses = configured_addresses(settings)
    return Gateways(addresses, lambda: _admin_token(settings))


def configured_addresses(settings: Settings) -> list[str]:
    """The admin address of the gateway that `settings` configure, as seen from its machine, and its peers'.

    A name of these that can not be looked up stands for one that does not answer.
    """
    server = settings.server
    encrypted = server.admin_tls is not None
    addresses = [own_url(server.admin, encrypted=encrypted)]
    for peer in settings.fleet.addresses:
        over_tls = encrypted if peer.encrypted is None else peer.encrypted
        hosts = _looked_up(peer) if peer.looked_up else [peer.host]
        addresses += [
            base_url(host, peer.port, encrypted=over_tls)
            for host in hosts
            # One configuration may name all gateways, this one among them.
            if peer.port != server.admin[1] or not _is_here(host)
        ]
    return addresses


def _looked_up(peer: PeerAddress) -> list[str]:
    try:
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [peer.host]  # one that does not answer: those that do are asked all the same
    return [str(address[0]) for *_, address in found]


def _is_here(host: str) -> bool:
    """Whether `host` is an address of this machine, or a name of one: only to those a socket can be bound."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except (OSError, UnicodeError):
            return False
    return True


def _admin_token(settings: Settings | None) -> bytes | None:
    # Not at the top: what only asks does not wait for aiohttp's imports.
    from router.web.admin import VARIABLE, AdminToken

    value = os.environ.get(VARIABLE)
    file = settings.server.admin_token_file if settings is not None else None
    return None if value is None and file is None else AdminToken(file, value).read()


def _reply(address: str, ask: Callable[[str], Mapping[str, Any]]) -> Reply:
    try:
        return Answer(address, ask(address))
    except Refused as refused:
        return Refusal(address, refused.status, str(refused))
    except Unreachable as unreachable:
        return NoAnswer(address, str(unreachable))


def _with_hint(reply: Reply) -> Reply:
    if not isinstance(reply, Refusal) or reply.status != _UNAUTHORIZED:
        return reply
    from router.web.admin import VARIABLE

    where = f"{VARIABLE}, or server.admin_token_file of the configuration, holds it"
    return Refusal(reply.gateway, reply.status, f"{reply.why}; {where}")
