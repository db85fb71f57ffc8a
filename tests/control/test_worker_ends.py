"""Counts of how workers ended."""

from router.control.history import MOST_CAUSES, OTHER, WorkerExitCounts
from router.core.events import ModelRemoved, ReadinessChanged, VersionGone, WorkerEnded
from router.core.ids import VersionId

V7, V8, ELSE = VersionId("m", 7), VersionId("m", 8), VersionId("other", 7)


def ends() -> WorkerExitCounts:
    ends = WorkerExitCounts(lambda: 1_000.0)
    for reason, detail in (
        ("exit", "exit code 3"),
        ("signal", "signal 11 (SIGSEGV)"),
        ("exit", "exit code 3"),
        ("out_of_memory", "signal 9 (SIGKILL); the kernel was out of memory"),
        ("invalid", "signal 9 (SIGKILL); it sent an answer out of turn"),
        ("predict_timeout", "signal 9 (SIGKILL)"),
        ("memory", "it grew by 90 MiB after it was READY, from /srv/models/x"),
    ):
        ends.record(WorkerEnded(V7, reason, detail))
    return ends


def test_ends_are_counted_by_cause_and_the_last_one_is_reported() -> None:
    reported = ends().of(V7)

    assert reported["counts"] == {
        "exit code 3": 2,
        "signal 11 (SIGSEGV)": 1,
        "out_of_memory": 1,
        "invalid": 1,
        "predict_timeout": 1,
        "memory": 1,
    }
    assert reported["last"] == {
        "cause": "memory",
        "detail": "it grew by 90 MiB after it was READY, from …/x",
        "timestamp": 1_000.0,
    }


def test_a_version_whose_workers_live_has_none() -> None:
    assert ends().of(V8) == {"counts": {}, "last": None}


def test_what_is_gone_is_forgotten() -> None:
    counted = ends()
    counted.record(WorkerEnded(ELSE, "exit", "exit code 1"))
    counted.record(VersionGone(V7))
    assert counted.of(V7)["counts"] == {}
    assert counted.of(ELSE)["counts"] == {"exit code 1": 1}
    counted.record(ModelRemoved("other"))
    assert counted.of(ELSE)["last"] is None


def test_causes_are_bounded() -> None:
    counted = WorkerExitCounts(lambda: 0.0)
    counted.record(ReadinessChanged(ready=True))
    for code in range(256):
        counted.record(WorkerEnded(V7, "exit", f"exit code {code}"))
    counts = counted.of(V7)["counts"]

    assert len(counts) == MOST_CAUSES + 1
    assert sum(counts.values()) == 256
    assert counts[OTHER] == 256 - MOST_CAUSES
