"""Row 23 of the promises: bodies made to cost time or memory, and what those beside them notice."""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.conftest import Figure
from tests.faults.liveness_client import Peak, Pulse
from tests.support.gateway import GatewayProcess
from tests.support.raw_http import RawResponse, exchange, post

MODELS = "  sentiment: {split: {production: 100, canary: 0}}\n"
KEYED = "  sentiment: {split: {production: 100, canary: 0}, key: {json: user.id}}\n"
MIB = 1 << 20
MOST_GROWTH_MIB = 300
ANSWER_SECONDS, PING_SECONDS = 10.0, 1.0
JSON = {"Content-Type": "application/json"}
GOOD = b'{"dataframe_split": {"columns": ["text"], "data": [["good"]]}}'
COLLIDING = [str(number * ((1 << 61) - 1)) for number in range(1, 20_001)]
"""Integers that Python hashes to 0, all of them; its texts are hashed with a secret."""


def columns(names: list[str]) -> bytes:
    """One row with columns `names`, which are written as they are."""
    row = ",".join("1" for _ in names)
    return f'{{"dataframe_split": {{"columns": [{",".join(names)}], "data": [[{row}]]}}}}'.encode()


def quoted(names: list[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def one_object(names: list[str]) -> str:
    return "{" + ",".join(f'"{name}": 1' for name in names) + "}"


BODIES: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "60 MiB of text": (
        lambda: b'{"dataframe_split": {"columns": ["text"], "data": [["%s"]]}}' % (b"a" * 60 * MIB),
        {200},
    ),
    "gzip bomb": (lambda: gzip.compress(bytes(200 * MIB)), {400}),
    "100 000 keys in one record": (
        lambda: f'{{"dataframe_records": [{one_object([f"k{n}" for n in range(100_000)])}]}}'.encode(),
        {200},
    ),
    "100 000 keys at the top": (lambda: one_object([f"k{n}" for n in range(100_000)]).encode(), {400}),
    "one key 100 000 times": (
        lambda: f'{{"dataframe_records": [{one_object(["a"] * 100_000)}]}}'.encode(),
        {200},
    ),
    "20 000 columns": (lambda: columns(quoted([f"c{n}" for n in range(20_000)])), {200}),
    "20 000 colliding columns": (lambda: columns(COLLIDING), {200}),
    "20 000 colliding keys": (
        lambda: f'{{"dataframe_records": [{one_object(COLLIDING)}]}}'.encode(),
        {200},
    ),
    "20 000 colliding indexes": (
        lambda: json.dumps(
            {
                "dataframe_split": {
                    "columns": ["a"],
                    "data": [[1]] * 20_000,
                    "index": list(map(int, COLLIDING)),
                }
            }
        ).encode(),
        {200},
    ),
    "100 000 names": (
        lambda: json.dumps({"inputs": {f"k{n}": [1] for n in range(100_000)}}).encode(),
        {200},
    ),
    "a number of 8 million digits": (lambda: b'{"instances": [%s]}' % (b"9" * 8_000_000), {400}),
    "100 000 brackets": (lambda: b"[" * 100_000, {400}),
    "a million rows too many": (lambda: b'{"instances": [%s1]}' % (b"1," * 1_100_000), {413}),
}


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess]) -> GatewayProcess:
    return start(MODELS)


@pytest.fixture(scope="module")
def shared(start_shared: Callable[..., GatewayProcess]) -> GatewayProcess:
    """One whose keys are in a cookie, for the tests that change nothing in it."""
    return start_shared("  sentiment: {split: {production: 100, canary: 0}, key: {cookie: user}}\n")


def ask(gateway: GatewayProcess, body: bytes | Iterator[bytes], headers: dict[str, str] = JSON) -> int:
    """The status of the answer; 0 when the connection was closed while the body was sent."""
    try:
        return requests.post(f"{gateway.url}/invocations", data=body, headers=headers, timeout=60).status_code
    except requests.ConnectionError:
        return 0


def port_of(gateway: GatewayProcess) -> int:
    return int(gateway.url.rpartition(":")[2])


@pytest.mark.slow
def test_bodies_made_to_cost_are_answered_in_time_and_hold_up_nobody(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    """Within 10 s each; the gateway grows by less than 300 MiB; `/ping` beside them takes less than 1 s."""
    for name, (make, expected) in BODIES.items():
        body, peak = make(), Peak(gateway.pid)
        with Pulse(port_of(gateway)) as pulse:
            began_at = time.monotonic()
            status = ask(gateway, body)
            took = time.monotonic() - began_at
            good = ask(gateway, GOOD)
        grown = peak.growth() >> 20
        figure(f"{name}: {status} in {took:.2f} s, +{grown} MiB, /ping {pulse.slowest * 1e3:.0f} ms")
        assert status in expected, name
        assert took <= ANSWER_SECONDS * slack, name
        assert (good, pulse.statuses) == (200, {200}), name
        assert pulse.slowest < PING_SECONDS * slack, name
        assert grown < MOST_GROWTH_MIB, name


def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not(
    shared: GatewayProcess, slack: float
) -> None:
    """100 MiB, declared or in chunks: 413, and not kept."""
    peak = Peak(shared.pid)
    declared = exchange(port_of(shared), post(b"Content-Length: %d\r\n" % (100 * MIB)), until=b"request_id")
    with Pulse(port_of(shared)) as pulse:
        began_at = time.monotonic()
        chunked = ask(shared, (bytes(MIB) for _ in range(100)))
        took = time.monotonic() - began_at
    assert declared.statuses == [413]
    assert chunked == 413
    assert took <= ANSWER_SECONDS * slack
    assert pulse.slowest < PING_SECONDS * slack
    assert peak.growth() >> 20 < MOST_GROWTH_MIB


HEADERS: dict[str, dict[str, str]] = {
    "a long key": {"X-Request-Key": "k" * 8000},
    "many headers": {f"X-H{n}": "v" * 1000 for n in range(90)},
    "many cookies": {"Cookie": "; ".join(f"c{n}=1" for n in range(1000))},
    "torn cookies": {"Cookie": '="' * 4000},
    "many parameters": {"Content-Type": "application/json;" + "a=b;" * 1900},
}
"""As large as the parser lets them in."""


def test_headers_made_to_cost_are_read_at_once(shared: GatewayProcess, slack: float) -> None:
    """The key is read from a cookie, so that all of them are needed; a thousand query parameters beside."""
    query = "&".join(f"q{n}=1" for n in range(1000))
    for name, headers in HEADERS.items():
        took = []
        for _ in range(5):
            began_at = time.monotonic()
            answer = requests.post(
                f"{shared.url}/invocations?{query}", data=GOOD, headers=JSON | headers, timeout=10
            )
            took.append(time.monotonic() - began_at)
            assert answer.status_code in (200, 400, 415, 431), name
        assert min(took) < 0.1 * slack, name


@pytest.mark.slow
def test_bodies_made_to_hide_their_key_leave_the_loop_to_others(
    start: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Forty clients at once with JSON that takes long to search: they take turns, `/ping` stays quick."""
    gateway = start(KEYED)
    torn = {
        "lists": b'{"a":[%s]}' % b",".join([b"[]"] * 340_000),
        "objects": b'{"dataframe_records":[%s]}' % b",".join([b'{"a":1}'] * 128_000),
        "a quarter": b'{"a":[%s]}' % b",".join([b"[]"] * 85_000),
    }
    for name, body in torn.items():
        assert len(body) < MIB
        with Pulse(port_of(gateway)) as pulse, ThreadPoolExecutor(40) as clients:
            statuses = list(clients.map(lambda _, b=body: ask(gateway, b), range(80)))
        times = sorted(sign.seconds for sign in pulse.signs)
        figure(
            f"{name}: /ping p95 {times[int(len(times) * 0.95)] * 1e3:.0f} ms, worst {times[-1] * 1e3:.0f} ms"
        )
        assert set(statuses) <= {400, 413, 503}
        assert pulse.statuses == {200}
        assert pulse.slowest < PING_SECONDS * slack


MARK = b"never-to-be-seen"
TORN_CHUNKS = {
    "size": b"%s\r\n" % MARK,
    "extension": b"5;%s\nx\r\n" % MARK,
    "longer than declared": b"5\r\n%s\r\n" % MARK,
    "negative": b"-5%s\r\n" % MARK,
    "trailer": b"0\r\n%s(\x00: a\r\n\r\n" % MARK,
}


def test_torn_bodies_are_quoted_nowhere(start: Callable[..., GatewayProcess]) -> None:
    """At once or after their headers, read by a version or by nobody: at level debug no byte of them."""
    gateway = start(
        MODELS, CANARY_ROUTER_LOG__LEVEL="debug", CANARY_ROUTER_SERVER__BODY_TIMEOUT_SECONDS="0.2"
    )
    for torn in TORN_CHUNKS.values():
        for path in (b"/invocations", b"/models/nobody/invocations", b"/livez"):
            head = post(b"Transfer-Encoding: chunked\r\n", b"", path)
            reported = [exchange(port_of(gateway), head + torn), *in_parts(port_of(gateway), head, torn)]
            assert MARK not in b"".join(one.raw for one in reported)
            assert {status for one in reported for status in one.statuses} <= {400, 404, 405, 408}
    assert MARK.decode() not in gateway.log.read_text()


def in_parts(port: int, head: bytes, torn: bytes) -> Iterator[RawResponse]:
    """The body in a packet of its own, and cut off; nothing more is sent after it."""
    for parts in ((head, torn), (head, torn[:-3])):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.01)  # else the kernel sends both at once
            connection.shutdown(socket.SHUT_WR)
            yield RawResponse(connection.recv(65536), closed=True)
