"""The last facts, as `/v1/state` shows them, and what their texts may not say."""

import json
import time

import pytest

from router.control.recent_events import RecentEvents
from router.control.redaction import without_places
from router.core.events import ChildRestarted, LoadRefused, Polled, ReadinessChanged, WorkerReplaced
from router.core.ids import CANARY, VersionId
from router.core.scores import ScoreSpec
from tests.adapters.story import Clock, bound, one_of_each

V8 = VersionId("m", 8)


def test_a_fact_is_kept_as_plain_values_with_its_time() -> None:
    clock = Clock()
    log = RecentEvents(clock)
    log.record(bound(CANARY, 8, old=7, scores=None))

    assert log.events() == [
        {
            "timestamp": 1_000_000.0,
            "event": "AliasBound",
            "model": "m",
            "alias": "canary",
            "old": 7,
            "new": 8,
            "run_id": "run8",
            "flavor": "sklearn",
            "scores": [],
            "registry_name": "canary",
        }
    ]


def test_what_a_score_is_stands_as_values_too() -> None:
    log = RecentEvents(Clock())
    log.record(bound(CANARY, 8, old=7, scores=ScoreSpec(output="p", low=-1.0, high=1.0, bins=4)))

    assert log.events()[0]["scores"] == [{"output": "p", "low": -1.0, "high": 1.0, "bins": 4, "upper": []}]


def test_every_fact_can_be_written_as_json() -> None:
    log = RecentEvents(Clock())
    for event in one_of_each():
        log.record(event)

    told = json.loads(json.dumps(log.events()))
    names = {entry["event"] for entry in told}
    assert {"AliasBound", "LoadRefused", "ConfigRejected", "SplitInForce"} <= names
    assert not {"Routed", "Answered", "Predicted", "Rejected", "FellBack"} & names
    assert all(entry["model"] == "m" for entry in told if "version" in entry)


def test_the_newest_fifty_are_kept() -> None:
    """A poll that goes well every five seconds would push out all that matters, so it is no news."""
    log = RecentEvents(Clock())
    log.record(ReadinessChanged(ready=True))
    for i in range(60):
        log.record(Polled("m", 0.01, ""))
        log.record(WorkerReplaced(V8, float(i)))

    assert [entry["seconds"] for entry in log.events()] == [float(i) for i in range(10, 60)]


def test_an_agent_that_is_replaced_at_every_poll_is_told_once_until_the_registry_answers() -> None:
    """A registry that sends a byte a second costs one each time."""
    log = RecentEvents(Clock())
    late, killed = (ChildRestarted("agent", reason) for reason in ("it was late", "signal 9 (SIGKILL)"))
    for event in (Polled("m", 10.0, "late"), late, Polled("m", 10.0, "late"), late, killed, killed):
        log.record(event)
    log.record(Polled("m", 0.01, ""))
    log.record(killed)

    told = [entry["reason"] for entry in log.events() if entry["event"] == "ChildRestarted"]
    assert told == ["it was late", "signal 9 (SIGKILL)", "signal 9 (SIGKILL)"]


def test_texts_name_no_path_host_or_credential() -> None:
    log = RecentEvents(Clock())
    error = (
        "No such file: '/root/.cache/canary-router/3f/m/8/MLmodel' from http://joe:pw@10.0.0.7:5000/x?token=y"
    )
    log.record(LoadRefused(V8, (CANARY,), "fetch", error, 10.0))

    assert log.events()[0]["error"] == "No such file: '…/MLmodel' from http://…"


REDACTED = {
    "connection": (
        "HTTPConnectionPool(host='mlflow.internal', port=5000): Max retries exceeded: /api/2.0/mlflow/get",
        "HTTPConnectionPool(host=…, port=5000): Max retries exceeded: …/get",
    ),
    "resolution": ("Failed to resolve 'mlflow.internal' (-2)", "Failed to resolve … (-2)"),
    "host and port": ("cannot connect to db.example.org:5432", "cannot connect to …"),
    "addresses": ("10.1.2.3:5000 and [::1]:80", "… and …"),
    "store": ("sqlite:////var/lib/mlflow.db is locked", "sqlite://… is locked"),
    "password with an at sign": ("postgresql://u:p@ss@db/mlflow", "postgresql://…"),
    "signed url": ("X-Amz-Signature=abc&x=1", "X-Amz-Signature=***&x=1"),
    "header": ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
    "home": ("~/models/m.pkl, ../x/y.py", "…/m.pkl, …/y.py"),
    "config problem": (
        "/etc/canary-router/router.yaml:19 models.m.split.canray: unknown key",
        "…/router.yaml:19 models.m.split.canray: unknown key",
    ),
    "version": ("models:/sentiment/7 has no MLmodel [12]", "models:/sentiment/7 has no MLmodel [12]"),
}


@pytest.mark.parametrize(("text", "expected"), REDACTED.values(), ids=REDACTED.keys())
def test_places_and_credentials_are_taken_out(text: str, expected: str) -> None:
    assert without_places(text) == expected


@pytest.mark.parametrize(
    "piece", ["a.-", "token", "://a", "a://b:", "/a", "[::", "a.b", "a-token..", "x@", "'host="]
)
def test_a_hostile_text_does_not_take_long(piece: str, slack: float) -> None:
    """Whoever writes an error message must not stop the event loop with it."""
    text = piece * (1_000_000 // len(piece))
    started = time.thread_time()  # of this thread alone: others take processors, too
    shown = without_places(text)

    assert time.thread_time() - started < 0.1 * slack
    assert len(shown) <= 1000
