"""What systemd is sent, and that nothing depends on its being there."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from router.adapters.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as systemd listens on it, and the environment that it gives."""
    place = str(tmp_path / "notify") if request.param == "path" else f"@canary-router-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(place.replace("@", "\0", 1) if place.startswith("@") else place)
        listening.settimeout(5)
        yield listening, {"NOTIFY_SOCKET": place, "OTHER": "1"}


def test_each_message_arrives_and_children_can_send_none(
    manager: tuple[socket.socket, dict[str, str]],
) -> None:
    listening, environ = manager
    ours = ServiceManager.of(environ)
    assert environ == {"OTHER": "1"}

    ours.listening("http://0.0.0.0:8080")
    ours.reloading()
    ours.reloaded()
    ours.stopping()

    messages = [
        dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines()) for _ in range(4)
    ]
    assert messages[0] == {"READY": "1", "STATUS": "listens on http://0.0.0.0:8080"}
    assert messages[1].keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert int(messages[1]["MONOTONIC_USEC"]) > 0
    assert messages[2:] == [{"READY": "1"}, {"STOPPING": "1", "STATUS": "drains"}]


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: tuple[socket.socket, dict[str, str]],
) -> None:
    ours = ServiceManager.of(manager[1])

    for _ in range(10_000):  # of which a socket holds some hundred
        ours.reloaded()


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "relative", "@", "/" + "a" * 200])
def test_where_nobody_listens_nothing_happens(address: str | None) -> None:
    ServiceManager(address).listening("http://0.0.0.0:8080")
