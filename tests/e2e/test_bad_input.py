"""Input that is broken in every way we know, through a real gateway, beside a client that asks /ping."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import Figure
from tests.e2e.test_http_hostile import CONFIG
from tests.support import slowness
from tests.support.gateway import GatewayProcess
from tests.support.registry import copied

WIDE = 20_000
INVOCATIONS, INFER = "/invocations", "/v2/models/sentiment/infer"


def invocation(text: str = '"good"', more: str = "", columns: str = '"text"', cells: str = "") -> bytes:
    """A request whose text, written as JSON, is `text`; `more` stands before the first key."""
    split = f'{{"columns": [{columns}], "data": [[{text}{cells}]]}}'
    return f'{{{more}"dataframe_split": {split}}}'.encode("utf-8", "surrogatepass")


def inference(text: str = '"good"', more: str = "", shape: str = "[1]", tensors: str = "") -> bytes:
    """The same in the Open Inference Protocol; `tensors` stand behind the one of the text."""
    tensor = f'{{"name": "text", "datatype": "BYTES", "shape": {shape}, "data": [{text}]}}'
    return f'{{{more}"inputs": [{tensor}{tensors}]}}'.encode("utf-8", "surrogatepass")


def deep(levels: int, left: str = "[", right: str = "]") -> str:
    return left * levels + right * levels


DEEP_OBJECT = deep(100_000, '{"a":', "}").replace(":}", ":1}", 1)
FLOATS = ", ".join(
    f'{{"name": "c{i}", "datatype": "FP64", "shape": [1], "data": [{i}.5]}}' for i in range(WIDE)
)
Case = tuple[bytes, int]
CASES: dict[str, tuple[Case, Case]] = {
    # What it is: the bodies for /invocations and for V2, each with the status that is stated. MLflow makes
    # texts of numbers where the signature asks for texts; V2 does not.
    "good": ((invocation(), 200), (inference(), 200)),
    "nothing": ((b"", 400), (b"", 400)),
    "blanks": ((b" \n", 400), (b" \n", 400)),
    "null": ((b"null", 400), (b"null", 400)),
    "a list": ((b"[1]", 400), (b"[1]", 400)),
    "a text": ((b'"inputs"', 400), (b'"inputs"', 400)),
    "cut off": ((invocation()[:-3], 400), (inference()[:-3], 400)),
    "more behind it": ((invocation() + b"x", 400), (inference() + b"x", 400)),
    "NUL bytes": ((b"\0" * 100, 400), (b"\0" * 100, 400)),
    "deep lists": ((deep(100_000).encode(), 400), (deep(100_000).encode(), 400)),
    "a deep cell": ((invocation(deep(100_000)), 400), (inference(deep(100_000)), 400)),
    "deep objects": ((DEEP_OBJECT.encode(), 400), (DEEP_OBJECT.encode(), 400)),
    "an endless opening": ((b"[" * 900_000, 400), (b"[" * 900_000, 400)),
    "depth under a foreign key": (
        (invocation(more=f'"x": {deep(100_000)}, '), 400),
        (inference(more=f'"x": {deep(100_000)}, '), 400),
    ),
    "an endless integer": ((invocation("9" * 500_000), 400), (inference("9" * 500_000), 400)),
    "an endless fraction": ((invocation("0." + "9" * 500_000), 200), (inference("0." + "9" * 500_000), 400)),
    "1e999999": ((invocation("1e999999"), 200), (inference("1e999999"), 400)),
    "an endless shape": ((invocation("1" * 400), 200), (inference(shape=f"[{'9' * 4000}]"), 400)),
    "a negative shape": ((invocation("-1"), 200), (inference(shape="[-1]"), 400)),
    "NaN for a text": ((invocation("NaN"), 200), (inference("NaN"), 400)),
    "invalid UTF-8": ((invocation('"\udcff"'), 400), (inference('"\udcff"'), 400)),
    "overlong UTF-8": ((b'{"inputs": ["\xc0\xaf"]}', 400), (b'{"inputs": ["\xc0\xaf"]}', 400)),
    "a byte order mark": ((b"\xef\xbb\xbf" + invocation(), 200), (b"\xef\xbb\xbf" + inference(), 200)),
    "UTF-16": ((invocation().decode().encode("utf-16"), 200), (inference().decode().encode("utf-16"), 200)),
    "UTF-32": ((invocation().decode().encode("utf-32"), 200), (inference().decode().encode("utf-32"), 200)),
    "half of UTF-16": (
        (invocation().decode().encode("utf-16")[:-1], 400),
        (inference().decode().encode("utf-16")[:-1], 400),
    ),
    "a key twice": (
        (invocation(more='"dataframe_split": {"columns": ["other"], "data": [[1]]}, '), 200),
        (inference(more='"inputs": [], '), 200),
    ),
    "a lone surrogate": ((invocation(r'"\ud800"'), 400), (inference(r'"\ud800"'), 400)),
    "a lone surrogate in a foreign key": (
        (invocation(more=r'"\udfff": "\ud800", '), 200),
        (inference(more=r'"\udfff": "\ud800", '), 200),
    ),
    "20 000 columns": (
        (
            invocation(
                columns=", ".join(['"text"', *(f'"c{i}"' for i in range(WIDE))]), cells=", 0.5" * WIDE
            ),
            200,
        ),
        (inference(tensors=f", {FLOATS}"), 200),
    ),
    "20 000 equal columns": (
        (invocation(columns=", ".join(['"text"'] * WIDE), cells=', "a"' * (WIDE - 1)), 400),
        (
            inference(
                tensors=', {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}' * 10_000
            ),
            400,
        ),
    ),
    "20 000 keys": (
        (invocation(more="".join(f'"k{i}": {i}, ' for i in range(WIDE))), 200),
        (inference(more="".join(f'"k{i}": {i}, ' for i in range(WIDE))), 200),
    ),
    "no column": (
        (b'{"dataframe_split": {"columns": [{}], "data": [[1]]}}', 400),
        (b'{"inputs": {}}', 400),
    ),
    "an endless text": (
        (invocation(json.dumps("x" * 900_000)), 200),
        (inference(json.dumps("x" * 900_000)), 200),
    ),
}


@pytest.fixture(scope="module")
def gateway(built_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Production has a signature, the canary has none; nobody answers for it."""
    directory = tmp_path_factory.mktemp("bad-input")
    registry = copied(built_registry, directory)
    registry.move("production", 11)
    registry.move("canary", 12)
    config = directory / "router.yaml"
    models = "{split: {production: 50, canary: 50}, fallback: none, direct_access: true}"
    settings = CONFIG.format(registry=directory, cache=directory / "cache")
    settings = settings.replace("{split: {production: 100, canary: 0}}", models)
    config.write_text(settings.replace("body_limit_mib: 1", "body_limit_mib: 8"))
    gateway = GatewayProcess(directory, config)
    try:
        gateway.wait_ready().wait_bound(12, "canary")
        yield gateway
    finally:
        gateway.stop()


class Pinging:
    """A client that asks /ping again and again to the block's end."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.statuses: set[int] = set()
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "Pinging":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30 * slowness.slack())

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(0.01):
                started = time.monotonic()
                self.statuses.add(session.get(self._url + "/ping", timeout=30 * slowness.slack()).status_code)
                self.seconds.append(time.monotonic() - started)


def asked(gateway: GatewayProcess, path: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "X-Request-Key": "user-1"}
    answer = gateway.session.post(
        gateway.url + path, data=body, headers=headers, timeout=20 * slowness.slack()
    )
    return answer.status_code, answer.json()


def test_bad_input_is_refused_as_stated_and_nobody_waits_for_it(
    gateway: GatewayProcess, slack: float, figure: Figure
) -> None:
    """Never a 5xx; /ping answers under a second all the time."""
    wrong = []
    with Pinging(gateway.url) as pinging:
        for name, cases in CASES.items():
            for path, (body, stated) in zip((INVOCATIONS, INFER), cases, strict=True):
                status, reported = asked(gateway, path, body)
                shown = "predictions" in reported or "outputs" in reported
                explained = "error" in reported or reported.get("error_code")
                if status != stated or not (shown if status == 200 else explained):
                    wrong.append((name, path, status, stated, str(reported)[:300]))
                assert len(json.dumps(reported)) < 2000 or status == 200, name
    assert not wrong
    assert pinging.statuses == {200}
    slowest = max(pinging.seconds)
    figure(f"{2 * len(CASES)} bad requests, slowest of {len(pinging.seconds)} /ping: {slowest:.3f} s")
    assert slowest < 1.0 * slack
    assert gateway.lines("worker ended") == []


def test_a_version_without_a_signature_survives_the_same(gateway: GatewayProcess, slack: float) -> None:
    """What its own code then raises is its own fault, and a 500. Nothing ends its worker."""
    pids = gateway.worker_pids(12)
    with Pinging(gateway.url) as pinging:
        for name, cases in CASES.items():
            for path, (body, _) in zip((INVOCATIONS, INFER), cases, strict=True):
                direct = path.replace("/invocations", "/models/sentiment/aliases/canary/invocations")
                direct = direct.replace("/infer", "/versions/12/infer")
                status, _reported = asked(gateway, direct, body)
                assert status in (200, 400, 500), (name, path, status)
    assert max(pinging.seconds) < 1.0 * slack
    assert gateway.worker_pids(12) == pids
