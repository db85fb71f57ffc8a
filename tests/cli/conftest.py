"""Gateways that answer in one way, and the configuration of an operator who asks them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.servers import Reply, Request, serving

TOKEN = "operators-only-0123456789"
VARIABLE = "CANARY_ROUTER_SERVER__ADMIN_TOKEN"


@dataclass(frozen=True)
class Gateway:
    """Answers every request in one way, and remembers what it was sent."""

    url: str
    seen: list[Request]


Serve = Callable[..., Gateway]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(document: Any, status: int = 200, **headers: str) -> Gateway:
            seen: list[Request] = []

            def answer(request: Request) -> Reply:
                seen.append(request)
                return Reply(document, status, headers)

            return Gateway(stack.enter_context(serving(answer)), seen)

        yield start


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names a token in a file."""
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    path = tmp_path / "router.yaml"
    path.write_text(
        f"server: {{admin: 0.0.0.0:18081, admin_token_file: '{tmp_path}/token'}}\nmodels: {{sentiment: }}\n"
    )
    return path


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"
