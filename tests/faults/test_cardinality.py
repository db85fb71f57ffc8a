"""Row 25 of the promises: what clients invent makes no series, and is written nowhere."""

import random
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.support.faulty_registry import CANARY_KEY, body_of
from tests.support.gateway import GatewayProcess
from tests.support.raw_http import get
from tests.support.registry import Registry
from tests.support.slowness import slack
from tests.support.waiting import wait_until

MOST_SERIES, MOST_WITH_RETIRED = 452, 900
"""Of one model with two aliases, as `docs/operating.md` says."""
SWAPS, KEYS_BETWEEN = 50, 2000
GOOD_VERSIONS, TOUCHY, NAN = (1, 2, 5), 7, 13
"""Versions that answer, one that raises at the text `bad`, and one that answers NaN."""
AT_ONCE = 500
PEAK = "canary_router_worker_peak_memory_bytes{"
"""Of each version, once its workers were looked at, which is every some seconds."""
MARK = "never-to-be-seen"
"""Part of every key, path, name and method that these clients invent."""
MODELS = "  sentiment: {split: {production: 50, canary: 50}, max_rows: 5}\n"
ODD_METHODS = ("PATCH", "PROPFIND", "MKCOL", "SEARCH", "OPTIONS", "DELETE", "PUT", "REPORT")
BODY = body_of("good")


def posted(path: str, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Key: {key}\r\n"
        f"Cookie: {MARK}=1\r\nX-Request-Id: {key}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def asked(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-Request-Key: {MARK}\r\n\r\n".encode()


def pipelined(gateway: GatewayProcess, requests: Iterator[bytes]) -> dict[int, int]:
    """How often each status was heard; many requests at a time on one connection."""
    heard: dict[int, int] = {}
    port = int(gateway.url.rpartition(":")[2])
    while some := list(islice(requests, AT_ONCE)):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"".join([*some, get(headers=b"Connection: close\r\n")]))
            answers = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        statuses = [int(part[1:4]) for part in answers.split(b"HTTP/1.1")[1:]]
        assert len(statuses) == len(some) + 1
        for status in statuses[:-1]:
            heard[status] = heard.get(status, 0) + 1
    return heard


def series(gateway: GatewayProcess) -> set[str]:
    """Every series that there is, without its value."""
    lines = gateway.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def reported_anywhere(gateway: GatewayProcess, text: str) -> list[str]:
    """Where `text` stands: metrics in both formats, state, page, log."""
    openmetrics = gateway.session.get(
        f"{gateway.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=10
    )
    places = {
        "metrics": gateway.get("/metrics").text,
        "openmetrics": openmetrics.text,
        "state": gateway.get("/v1/state").text,
        "readiness": gateway.get("/readyz?verbose").text,
        "log": gateway.log.read_text(),
    }
    return [place for place, content in places.items() if text in content]


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess]) -> GatewayProcess:
    gateway = start(MODELS, CANARY_ROUTER_LOG__LEVEL="debug")
    gateway.wait_bound(2, "canary")
    return gateway


def every_kind_of_answer(gateway: GatewayProcess) -> None:
    """One request of each outcome that needs no broken version, for both aliases."""
    for key in ("user-1", CANARY_KEY):
        for body, status in ((BODY, 200), (b"{", 400), (body_of("good", rows=6), 413)):
            headers = {"X-Request-Key": key, "Content-Type": "application/json"}
            answer = gateway.session.post(
                f"{gateway.url}/invocations", data=body, headers=headers, timeout=10
            )
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("keys", "others"),
    [(2000, 500), pytest.param(100_000, 10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
    ids=["2 000 keys", "100 000 keys"],
)
def test_keys_paths_names_and_methods_of_clients_make_no_series_and_are_reported_nowhere(
    gateway: GatewayProcess, keys: int, others: int, figure: Figure
) -> None:
    """100 000 keys, 10 000 paths, 10 000 model names and as many methods: not one series more."""
    every_kind_of_answer(gateway)
    pipelined(gateway, iter([posted(f"/models/{MARK}/invocations", MARK)]))
    wait_until(lambda: sum(one.startswith(PEAK) for one in series(gateway)) == 2, 60 * slack())
    before = series(gateway)

    sent = (posted("/invocations", f"{MARK}-{n}") for n in range(keys))
    assert pipelined(gateway, sent) == {200: keys}
    kinds: tuple[Callable[[int], bytes], ...] = (
        lambda n: asked(f"/{MARK}/{n}"),
        lambda n: asked(f"/v1/route?key={MARK}-{n}&model={MARK}-{n}"),
        lambda n: posted(f"/models/{MARK}-{n}/invocations", MARK),
        lambda n: posted(f"/models/sentiment/aliases/{MARK}-{n}/invocations", MARK),
    )
    for kind in kinds:
        assert pipelined(gateway, map(kind, range(others))) == {404: others}
    odd = (asked("/invocations", ODD_METHODS[n % len(ODD_METHODS)]) for n in range(others))
    assert pipelined(gateway, odd) == {405: others}

    after = series(gateway)
    of_model = [one for one in after if 'model="sentiment"' in one]
    figure(f"{len(of_model)} series of the model, {len(after)} in all, after {keys} keys")
    assert after == before
    assert len(of_model) <= MOST_SERIES
    assert reported_anywhere(gateway, MARK) == []
    assert gateway.metric("canary_router_requests_in_flight") == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_moves_and_100_000_keys_leave_no_more_series_than_are_allowed(
    gateway: GatewayProcess, registry: Registry, figure: Figure
) -> None:
    """Row 25, while aliases move: both of them, with faults, to versions that retire and come back."""
    dice, most, named = random.Random(25), 0, {"production": 1, "canary": 2}
    for turn in range(SWAPS):
        alias = ("production", "canary")[turn % 2]
        versions = GOOD_VERSIONS if alias == "production" else (*GOOD_VERSIONS, TOUCHY, NAN)
        named[alias] = dice.choice([version for version in versions if version not in named.values()])
        registry.move(alias, named[alias])
        gateway.wait_bound(named[alias], alias)
        keys = range(turn * KEYS_BETWEEN, (turn + 1) * KEYS_BETWEEN)
        heard = pipelined(gateway, (posted("/invocations", f"{MARK}-{n}") for n in keys))
        assert heard == {200: KEYS_BETWEEN}
        assert gateway.ask(CANARY_KEY, "bad").status_code == 200
        every_kind_of_answer(gateway)
        most = max(most, sum('model="sentiment"' in one for one in series(gateway)))
    figure(f"at most {most} series of the model in {SWAPS} moves and {SWAPS * KEYS_BETWEEN} keys")
    assert most <= MOST_WITH_RETIRED
    assert gateway.metric("canary_router_canary_faults_total") > 0
    assert reported_anywhere(gateway, MARK) == []
    assert gateway.metric("canary_router_metrics_errors_total") == 0


def test_every_code_the_gateway_answers_with_has_a_series_of_its_own(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path
) -> None:
    """400, 413 and 415 for both aliases, 500 and 504 of a version: none of them is `__other__`."""
    registry.move("production", 6)  # sleeps as long as the text says, and raises when it says none
    gateway = start("  sentiment: {split: {production: 50, canary: 50}, max_rows: 5, timeout_seconds: 1}\n")
    gateway.wait_bound(2, "canary")
    sent = [
        (body_of("0"), "application/json", 200),
        (b"{", "application/json", 400),
        (body_of("0", rows=6), "application/json", 413),
        (b"x", "application/x-wonders", 415),
        (body_of("good"), "application/json", 500),
        (body_of("1.5"), "application/json", 504),
    ]
    for key, alias in (("user-1", "production"), (CANARY_KEY, "canary")):
        for body, content_type, status in sent[: 6 if alias == "production" else 4]:
            answer = gateway.session.post(
                f"{gateway.url}/invocations",
                data=body,
                headers={"X-Request-Key": key, "Content-Type": content_type},
                timeout=10,
            )
            assert answer.status_code == status
            counted = {"alias": alias, "code": str(status)}
            assert gateway.metric("canary_router_requests_total", **counted) == 1, counted
    assert gateway.metric("canary_router_requests_total", code="__other__") == 0
