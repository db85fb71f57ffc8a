"""Single requests to an MLflow server: connections that are reset, credentials that change, many versions."""

import base64
import json
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from router.core.events import ChildRestarted
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.errors import RegistryRefused, RegistryUnavailable
from tests.adapters.conftest import Facts, OpenRegistry
from tests.conftest import Figure
from tests.support.faulty_servers import proxy_to
from tests.support.http_server import http_server
from tests.support.registry_backends import RealRegistry

pytestmark = pytest.mark.asyncio(loop_scope="package")

NAMES = {PRODUCTION: "production", CANARY: "canary"}
BOTH = {PRODUCTION: VersionId("m", 1), CANARY: VersionId("m", 2)}
PATIENCE_SECONDS = 60.0


class StubRegistry:
    """An MLflow server that knows one registered model, `m`, and what its tests have it do."""

    def __init__(self) -> None:
        self.aliases = {"production": 1, "canary": 2}
        self.highest = 2
        self.asked: list[str] = []
        """Last part of each path that was answered, with the alias where one was asked for."""
        self.authorization: str | None = None
        """What each request must carry."""
        self.resets_after: int | None = None
        """Requests that a connection answers before it is reset."""
        self.reset_everything = False
        self.moves_after_read = 0
        """So many reads of the canary are each followed by a move of both aliases."""
        self.uri = ""

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, object]]:
        name = path.rpartition("/")[2]
        self.asked.append(query.get("alias", f"{path.split('/')[-2]}/{name}"))
        if path.endswith("model-versions/search"):
            return 200, {"model_versions": [self._version(self.highest)]}
        if path.endswith("registered-models/alias"):
            return self._by_alias(query["alias"])
        aliases = [{"alias": alias, "version": str(n)} for alias, n in self.aliases.items()]
        latest = [self._version(self.highest)]
        return 200, {"registered_model": {"name": "m", "aliases": aliases, "latest_versions": latest}}

    def _by_alias(self, alias: str) -> tuple[int, dict[str, object]]:
        number = self.aliases.get(alias)
        if number is None:
            message = f"Registered model alias {alias} not found."
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        if alias == "canary" and self.moves_after_read > 0:
            self.moves_after_read -= 1
            self.aliases = {name: n + 2 for name, n in self.aliases.items()}
        return 200, {"model_version": self._version(number)}

    @staticmethod
    def _version(number: int) -> dict[str, object]:
        return {"name": "m", "version": str(number), "current_stage": "None", "status": "READY"}


def _handler(stub: StubRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        answered = 0

        def do_GET(self) -> None:
            if stub.reset_everything or self.answered == stub.resets_after:
                # Without a lingering close the kernel sends a reset, as a balancer does that forgot it.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            self.answered += 1
            url = urlsplit(self.path)
            if stub.authorization not in (None, self.headers.get("Authorization")):
                status, document = 401, {"error_code": "UNAUTHENTICATED", "message": "sign in"}
            else:
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                status, document = stub.answer(url.path, query)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def finish(self) -> None:
            if not self.wfile.closed and not self.close_connection:
                super().finish()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def running(stub: StubRegistry) -> Iterator[StubRegistry]:
    with http_server(_handler(stub)) as server:
        # A reset connection is what is tested.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        stub.uri = f"http://127.0.0.1:{server.server_address[1]}"
        yield stub


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    with running(StubRegistry()) as stub:
        yield stub


async def test_a_reset_of_a_reused_connection_costs_no_poll(
    stub: StubRegistry, open_registry: OpenRegistry, facts: Facts
) -> None:
    """Row 45. A balancer, or a server that restarts, forgets connections that the client still keeps."""
    stub.resets_after = 1
    registry = open_registry(stub.uri)

    for _ in range(20):
        assert await registry.poll("m", NAMES) == BOTH

    assert facts.events == []


async def test_where_every_connection_is_reset_a_poll_fails_at_once(
    stub: StubRegistry, open_registry: OpenRegistry, facts: Facts, slack: float
) -> None:
    """Once more, and no oftener: what follows is an outage, not a stale connection."""
    registry = open_registry(stub.uri)
    await registry.poll("m", NAMES)
    stub.reset_everything = True
    began = time.monotonic()

    with pytest.raises(RegistryUnavailable, match="reset"):
        await registry.poll("m", NAMES)

    assert time.monotonic() - began < 2 * slack
    assert facts.of(ChildRestarted) == []


def write(path: Path, text: str) -> str:
    """As a Secret's volume is renewed: beside, and moved over."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)
    return str(path)


async def test_a_token_that_was_renewed_in_its_file_holds_for_the_next_request(
    stub: StubRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    """Row 46. Also where the environment still holds the token of the start."""
    file = write(tmp_path / "token", "one\n")
    stub.authorization = "Bearer one"
    registry = open_registry(
        stub.uri, credentials={"token_file": file}, environ={"MLFLOW_TRACKING_TOKEN": "of-the-start"}
    )
    assert await registry.poll("m", NAMES) == BOTH

    stub.authorization = "Bearer two"
    with pytest.raises(RegistryRefused, match="sign in"):
        await registry.poll("m", NAMES)
    write(tmp_path / "token", "two")

    assert await registry.poll("m", NAMES) == BOTH


async def test_user_and_password_in_files_hold_for_the_next_request_too(
    stub: StubRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    files = {
        "username_file": write(tmp_path / "username", "ada"),
        "password_file": write(tmp_path / "password", "first pässword"),
    }
    stub.authorization = f"Basic {base64.b64encode('ada:first pässword'.encode()).decode()}"
    registry = open_registry(stub.uri, credentials=files)
    assert await registry.poll("m", NAMES) == BOTH

    write(tmp_path / "password", "second")
    stub.authorization = f"Basic {base64.b64encode(b'ada:second').decode()}"

    assert await registry.poll("m", NAMES) == BOTH


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (None, "registry.token_file can not be read: No such file"),
        ("", "registry.token_file holds no credential"),
        ("two words", "registry.token_file holds no credential"),
        ("first\nsecond", "registry.token_file holds no credential"),
        ("x" * 100_000, "registry.token_file holds no credential"),
    ],
    ids=["absent", "empty", "words", "lines", "long"],
)
async def test_a_file_without_a_token_is_named_and_never_quoted(
    stub: StubRegistry, open_registry: OpenRegistry, tmp_path: Path, held: str | None, said: str
) -> None:
    file = tmp_path / "token"
    if held is not None:
        file.write_text(held)
    registry = open_registry(stub.uri, credentials={"token_file": str(file)})

    with pytest.raises(RegistryUnavailable, match=said) as caught:
        await registry.poll("m", NAMES)

    assert not held or held.split()[0] not in str(caught.value)
    assert stub.asked == [], "nothing is asked without it"


async def test_downloads_read_the_token_at_each_request_too(
    server: RealRegistry, open_registry: OpenRegistry, tmp_path: Path
) -> None:
    """From the registry, from the tracking server, and of each artifact that it hands out."""
    file = write(tmp_path / "token", "one")
    with proxy_to(server.uri) as proxy:
        registry = open_registry(proxy.uri, credentials={"token_file": file})
        await registry.fetch(VersionId("seed", 1), deadline_seconds=PATIENCE_SECONDS)
        first = len(proxy.paths)
        write(tmp_path / "token", "two")
        await registry.fetch(VersionId("seed", 2), deadline_seconds=PATIENCE_SECONDS)

    assert set(proxy.authorizations[:first]) == {"Bearer one"}
    assert set(proxy.authorizations[first:]) == {"Bearer two"}
    assert any("/mlflow-artifacts/artifacts/" in path for path in proxy.paths[first:])


async def test_above_a_thousand_versions_each_alias_is_read_by_itself(
    stub: StubRegistry, open_registry: OpenRegistry
) -> None:
    """The read of the registered model reads every version: 4 s of 200 000."""
    stub.highest = 200_000
    registry = open_registry(stub.uri)

    assert await registry.poll("m", NAMES) == BOTH
    assert await registry.poll("m", NAMES) == BOTH

    each = ["canary", "production", "canary"]
    assert stub.asked == ["model-versions/search", *each, *each]


async def test_a_poll_of_two_hundred_thousand_versions_takes_half_a_second_at_most(
    real: RealRegistry, open_registry: OpenRegistry, slack: float, figure: Figure
) -> None:
    """Row 47."""
    model = real.new_model(2, production=1, canary=2)
    registry = open_registry(real.uri)
    await registry.poll("seed", NAMES)  # the agent's own start is no poll
    with closing(sqlite3.connect(real.database, timeout=30)) as connection, connection:
        connection.execute(
            "INSERT INTO model_versions (name, version, creation_time, current_stage, source, status)"
            " WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
            " SELECT ?, i, 0, 'None', 'models:/seed/1', 'READY' FROM n",
            [model],
        )
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        assert await registry.poll(model, NAMES) == {
            PRODUCTION: VersionId(model, 1),
            CANARY: VersionId(model, 2),
        }
        seconds.append(time.monotonic() - began)

    figure(f"polls of 200 000 versions: {', '.join(f'{each * 1000:.0f}' for each in seconds)} ms")
    assert max(seconds) < 0.5 * slack


async def test_up_to_a_thousand_versions_one_read_names_all_aliases(
    stub: StubRegistry, open_registry: OpenRegistry
) -> None:
    registry = open_registry(stub.uri)
    await registry.poll("m", NAMES)
    stub.highest = 1000
    await registry.poll("m", NAMES)

    stub.highest = 1001
    await registry.poll("m", NAMES)
    whole = "registered-models/get"
    assert stub.asked == ["model-versions/search", whole, whole, whole]

    await registry.poll("m", NAMES)
    assert stub.asked[4:] == ["canary", "production", "canary"]


async def test_aliases_that_move_while_they_are_read_are_read_until_two_reads_agree(
    stub: StubRegistry, open_registry: OpenRegistry
) -> None:
    """Production of before and a canary of afterwards were never named together."""
    stub.highest, stub.moves_after_read = 2_000, 2
    registry = open_registry(stub.uri)

    assert await registry.poll("m", NAMES) == {PRODUCTION: VersionId("m", 5), CANARY: VersionId("m", 6)}


async def test_aliases_that_never_rest_are_an_answer_that_is_missing(
    stub: StubRegistry, open_registry: OpenRegistry
) -> None:
    stub.highest, stub.moves_after_read = 2_000, 1_000

    with pytest.raises(RegistryUnavailable, match="moved during"):
        await open_registry(stub.uri).poll("m", NAMES)


async def test_an_alias_that_is_absent_is_absent_also_when_it_is_read_by_itself(
    stub: StubRegistry, open_registry: OpenRegistry
) -> None:
    stub.highest = 2_000
    del stub.aliases["canary"]

    assert await open_registry(stub.uri).poll("m", NAMES) == {PRODUCTION: VersionId("m", 1)}
