"""The last facts, as `/v1/state` shows them, and what their texts may not say."""

import json
from itertools import chain
from typing import Any

from router.control.fan_out import FanOut
from router.control.history import RecentEvents
from router.core.events import ChildRestarted, Event, LoadRefused, Polled, ReadinessChanged, WorkerReplaced
from router.core.ids import CANARY, VersionId
from router.core.scores import ScoreSpec
from tests.support.sample_events import Clock, bound, one_of_each

V8 = VersionId("m", 8)


def kept(*facts: Event, size: int = 50) -> list[dict[str, Any]]:
    """What is kept of these facts, behind the fan-out, as in a gateway."""
    log = RecentEvents(Clock(), size=size)
    recorder = FanOut(deduplicated=(log,))
    for fact in facts:
        recorder.record(fact)
    return log.events()


def test_a_fact_is_kept_as_plain_values_with_its_time() -> None:
    assert kept(bound(CANARY, 8, old=7, scores=None)) == [
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
            "elsewhere": False,
        }
    ]


def test_what_a_score_is_stands_as_values_too() -> None:
    (entry,) = kept(bound(CANARY, 8, old=7, scores=ScoreSpec(output="p", low=-1.0, high=1.0, bins=4)))

    assert entry["scores"] == [{"output": "p", "low": -1.0, "high": 1.0, "bins": 4, "upper": []}]


def test_every_fact_can_be_written_as_json() -> None:
    reported = json.loads(json.dumps(kept(*one_of_each(), size=1_000)))
    names = {entry["event"] for entry in reported}
    assert {"AliasBound", "LoadRefused", "ConfigRejected", "SplitInForce"} <= names
    assert not {"Answered", "Predicted", "Rejected", "FellBack"} & names
    assert all(entry["model"] == "m" for entry in reported if "version" in entry)


def test_the_newest_fifty_are_kept() -> None:
    """A poll that goes well every five seconds would push out all that matters, so it is no news."""
    pairs = ((Polled("m", 0.01, ""), WorkerReplaced(V8, float(i))) for i in range(60))
    entries = kept(ReadinessChanged(ready=True), *chain.from_iterable(pairs))

    assert [entry["seconds"] for entry in entries] == [float(i) for i in range(10, 60)]


def test_an_agent_that_is_replaced_at_every_poll_is_reported_once_until_the_registry_answers() -> None:
    """A registry that sends a byte a second costs one each time."""
    late, killed = (ChildRestarted("agent", reason) for reason in ("it was late", "signal 9 (SIGKILL)"))
    silent, answered = Polled("m", 10.0, "late"), Polled("m", 0.01, "")
    entries = kept(silent, late, silent, late, killed, killed, answered, killed)

    reported = [entry["reason"] for entry in entries if entry["event"] == "ChildRestarted"]
    assert reported == ["it was late", "signal 9 (SIGKILL)", "signal 9 (SIGKILL)"]


def test_texts_name_no_path_host_or_credential() -> None:
    error = (
        "No such file: '/root/.cache/canary-router/3f/m/8/MLmodel' from http://joe:pw@10.0.0.7:5000/x?token=y"
    )
    (entry,) = kept(LoadRefused(V8, (CANARY,), "fetch", error, 10.0))

    assert entry["error"] == "No such file: '…/MLmodel' from http://…"
