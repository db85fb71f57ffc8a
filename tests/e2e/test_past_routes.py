"""Who got a key, by the journal, is what its caller saw in the answer's headers."""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.core.journal import Entry, decode, digest_of
from router.core.journal_chain import Chains
from router.core.past_routes import Moment
from tests.conftest import Figure
from tests.support.gateway import GatewayProcess
from tests.support.load import Load, Seen
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment:\n    split: {production: 95, canary: 5}\n"
ENOUGH = 450
"""Answers of each phase."""


def watched(load: Load, slack: float) -> None:
    """Go on when callers have seen enough of what holds now."""
    seen = len(load.seen)
    wait_until(lambda: len(load.seen) >= seen + ENOUGH, 30 * slack)


def set_canary(gateway: GatewayProcess, percent: int, slack: float) -> None:
    done = gateway.command("split", "sentiment", str(percent))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: gateway.model()["split"]["canary"] == percent, 10 * slack, gateway.story)


def journal_of(directory: Path) -> list[tuple[Entry, int]]:
    chains, entries = Chains(), []
    for path in sorted(directory.glob("state/**/journal/*.jsonl")):
        for line in path.read_bytes().splitlines():
            entry, prev = decode(line)
            entries.append((entry, chains.place(prev, digest_of(line), entry)[0]))
    return entries


def judged(entries: Iterable[tuple[Entry, int]], seen: Seen, wall: float) -> bool:
    """Whether what the caller saw is possible by the journal; and where that is certain, what it says."""
    moment = Moment("sentiment", seen.sent_at + wall + seen.seconds / 2)
    for entry, chain in entries:
        moment.take(entry, chain)
    answer = moment.answer(seen.key)
    said = {one.outcome[0] if one.outcome else None for one in answer.candidates}
    assert seen.route_alias in said, (seen, answer)
    return answer.certain


@pytest.mark.slow  # each phase takes three seconds, so that the second around its changes is not all of it
def test_who_got_a_key_by_the_journal_is_what_its_caller_saw(
    start: Callable[..., GatewayProcess], registry: Registry, tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Over an edit of the share, a cap, moves of both aliases, a kill and a new start."""
    seen: list[Seen] = []
    wall = time.time() - time.monotonic()
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with Load(gateway.url, rate=150, keys=2000) as load:
        watched(load, slack)
        set_canary(gateway, 60, slack)
        watched(load, slack)
        gateway.lever("abort")
        watched(load, slack)
        gateway.lever("resume")
        watched(load, slack)
        registry.move("canary", 5)
        gateway.wait_bound(5, "canary")
        watched(load, slack)
        registry.move("production", 5)
        gateway.wait_bound(5)
        watched(load, slack)
        registry.client.delete_registered_model_alias("sentiment", "canary")
        wait_until(lambda: gateway.bound("canary") is None, 30 * slack, gateway.story)
        watched(load, slack)
        wait_until(lambda: any(e.cause == "unbound" for e, _ in journal_of(tmp_path)), 10 * slack)
        gateway.process.kill()
        gateway.process.wait()
    seen += load.seen
    registry.move("canary", 2)
    gateway = start(MODELS)
    gateway.wait_bound(2, "canary")
    with Load(gateway.url, rate=150, keys=2000) as load:
        watched(load, slack)
    seen += load.seen
    gateway.stop()

    entries = journal_of(tmp_path)
    answered = [one for one in seen if one.status == 200]
    certain = sum(judged(entries, one, wall) for one in answered)
    assert len(answered) > 8 * ENOUGH
    assert certain > len(answered) / 2
    figure(f"{len(answered)} answers, {certain} certain by the journal")

    verified = gateway.command("journal", "verify")
    assert verified.returncode == 0, verified
    one = answered[-1]
    at = datetime.fromtimestamp(one.sent_at + wall, UTC).isoformat()
    reported = gateway.command("route", "sentiment", one.key, "--at", at, "-o", "json")
    assert one.route_alias in {answer["alias"] for answer in json.loads(reported.stdout)["answers"]}
    assert one.key not in reported.stdout
