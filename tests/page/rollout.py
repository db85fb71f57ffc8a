"""A real gateway in the middle of a rollout: a registry of its own, a port that it has again, and readers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load, Seen
from tests.support.ports import free_port
from tests.support.registry import Registry, built_registry_of, copied

POLL_SECONDS = 0.5
TEXTS = 3000
MODELS = """\
  sentiment:
    split: {{production: {production}, canary: {canary}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 0, range: [0, 1], bins: 20}}
"""


def built_rollout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the versions that `build_rollout.py` logs."""
    return built_registry_of(Path(__file__).with_name("build_rollout.py"), tmp_path_factory)


@dataclass
class Rollout:
    """The gateway may be ended and served anew, at the same address."""

    registry: Registry
    start: Callable[..., GatewayProcess]
    port: int
    gateway: GatewayProcess = field(init=False)

    def serve(self, canary: int = 50) -> None:
        """Start a gateway that gives so many percent to the canary."""
        listen = f"127.0.0.1:{self.port}"
        self.gateway = self.start(models(canary), CANARY_ROUTER_SERVER__LISTEN=listen)
        self.gateway.wait_bound(2, "canary")

    def split(self, canary: int) -> None:
        """Change the share, as an operator does."""
        path = self.gateway.config
        head, mark, _ = path.read_text().partition("models:\n")
        path.write_text(head + mark + models(canary))


def models(canary: int) -> str:
    return MODELS.format(production=100 - canary, canary=canary)


@contextmanager
def rollout(built: Path, directory: Path) -> Iterator[Rollout]:
    """`built` is only read; nothing is served yet."""
    registry = copied(built, directory)
    with gateways(directory, registry.uri, POLL_SECONDS) as start:
        yield Rollout(registry, start, free_port())


class Readers(Load):
    """Load whose requests are different texts: `text 0`, `text 1` and so on, again after 3 000."""

    _numbers = count()

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> Seen:
        sent_at = time.monotonic()
        body = {"dataframe_split": {"columns": ["text"], "data": [[f"text {next(self._numbers) % TEXTS}"]]}}
        try:
            async with session.post("/invocations", json=body, headers={"X-Request-Key": key}) as answer:
                await answer.read()
                return Seen(sent_at, time.monotonic() - sent_at, answer.status, key)
        except (aiohttp.ClientError, OSError) as error:
            return Seen(sent_at, time.monotonic() - sent_at, 0, key, reason=type(error).__name__)
