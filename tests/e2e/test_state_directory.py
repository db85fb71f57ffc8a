"""What outlives a gateway, with real ones: one that is killed, its successor, and two at once."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.analysis.run_file import decode_file
from router.analysis.statistics.records import CELL_SECONDS
from router.core.ids import CANARY, PRODUCTION
from router.core.journal import decode, line_of_log
from tests.support.gateway import GatewayProcess
from tests.support.journals import entries_of
from tests.support.slowness import slack
from tests.support.waiting import wait_until

MODEL = "  sentiment: {split: {production: 80, canary: 20}}\n"


def share(gateway: GatewayProcess) -> float:
    """The canary's in force, in percent."""
    percent: float = gateway.model()["split"]["canary"]
    return percent


def test_caps_and_journal_go_on_over_kills_and_gateways_that_follow_each_other(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    """The third one starts before the second one has ended, as in a rolling update, and is not refused."""
    killed = start(MODEL, CANARY_ROUTER_LOG__LEVEL="error")
    killed.wait_bound(2, "canary")
    state = killed.state()["state_dir"]
    assert (state["durable"], state["reason"], state["held_by"]) == (True, "", None)
    assert killed.metric("canary_router_state_durable") == 1
    assert killed.metric("canary_router_state_write_errors_total") == 0
    assert killed.lever("abort", version=2, reason="p95 is 2 s")["durable"]
    wait_until(lambda: killed.lines("journal")[-1]["cause"] == "capped", 10 * slack())
    killed.process.kill()
    killed.process.wait()
    shown = [line_of_log(line) for line in killed.lines("journal")]

    old = start(MODEL)
    assert [line_of_log(line) for line in old.lines("journal")][: len(shown)] == shown, "one log for both"
    assert old.model()["caps"][0]["reason"] == "p95 is 2 s"
    new = start(MODEL)
    for gateway in (old, new):
        gateway.wait_bound(2, "canary")
        assert share(gateway) == 0, "set before"
        assert gateway.ask("user-2").headers["X-Route-Reason"] == "capped"
    waiting = new.state()["state_dir"]
    assert not waiting["durable"]
    assert waiting["held_by"].endswith(f":{old.pid}")
    assert waiting["reason"].endswith(f"pid {old.pid}")

    old.lever("resume")
    wait_until(lambda: share(new) == 20, 10 * slack())
    assert new.lever("abort", all_versions=True)["durable"]
    wait_until(lambda: share(old) == 0, 10 * slack())
    assert old.stop() == 0
    wait_until(lambda: new.state()["state_dir"]["durable"], 10 * slack())
    assert new.state()["state_dir"]["held_by"] is None
    assert share(new) == 0
    assert new.stop() == 0

    (directory,) = (tmp_path / "state" / "canary-router").iterdir()
    found = entries_of(directory)
    causes = [(int(one.gateway.rpartition(":")[2]), one.cause) for one in found]
    pids = [killed.pid, old.pid, new.pid]
    assert [pid for place, (pid, _) in enumerate(causes) if place == 0 or causes[place - 1][0] != pid] == pids
    assert [one for one in found if one.gateway.endswith(f":{killed.pid}")] == [
        decode(line)[0] for line in shown
    ], "the log has every line, at any level"
    assert causes[0] == (killed.pid, "start")
    assert [cause for pid, cause in causes if pid == killed.pid][-1] == "capped"
    of_old = [cause for pid, cause in causes if pid == old.pid]
    assert (of_old[0], of_old[-1]) == ("start", "stop")
    assert of_old.count("cap_lifted") == of_old.count("capped") == 1
    assert next(cause for pid, cause in causes if pid == new.pid) == "lock_taken"
    taken = found[causes.index((new.pid, "lock_taken"))]
    assert taken.table["sentiment"].bound[PRODUCTION].number == 1
    assert taken.table["sentiment"].capped == {CANARY: 0}
    assert causes[-1] == (new.pid, "stop")


def requests_judged(gateway: GatewayProcess) -> int:
    """Of both arms, in the cells that are sealed."""
    faults = compared(gateway)["checks"][0]
    return int(faults["production"]["requests"] + faults["canary"]["requests"])


def compared(gateway: GatewayProcess) -> dict[str, Any]:
    entry: dict[str, Any] = gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]
    return entry


def requests_kept(tmp_path: Path) -> int:
    """The same on disk, with those of cells that are not sealed."""
    kept = 0
    for path in tmp_path.rglob("evidence/*"):
        if len(path.name) == 32:
            found = decode_file(path.read_bytes())
            parts = [part for _, parts in found.sealed for part in parts]
            parts += [part for _, part in found.unsealed]
            records = [record for part in parts for record in part.records]
            kept += sum(record.production.requests + record.canary.requests for record in records)
            total = found.state.faults.total
            kept += total.production_requests + total.canary_requests
    return kept


def ask_all(gateway: GatewayProcess, begin: int) -> None:
    """50 requests by as many keys."""
    for number in range(begin, begin + 50):
        assert gateway.ask(f"user-{number}").status_code == 200


def test_a_gateway_that_is_killed_leaves_its_evidence_to_the_next_one(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    """Those of the running cell are on disk within about a second, and none is counted twice."""
    killed = start(MODEL)
    killed.wait_bound(2, "canary")
    ask_all(killed, 0)
    wait_until(lambda: requests_judged(killed) == 50, 30 * slack(), killed.story)
    since = compared(killed)["since_timestamp"]
    ask_all(killed, 50)
    wait_until(lambda: requests_kept(tmp_path) == 100, 10 * slack(), killed.story)
    killed.process.kill()
    killed.process.wait()

    after = start(MODEL)
    after.wait_bound(2, "canary")
    began = time.time()
    wait_until(lambda: requests_judged(after) == 100, 30 * slack(), after.story)
    # What comes in the cell in which it began does not count: that may be the last one of the former process,
    # which is sealed at once, though it is not over.
    wait_until(lambda: compared(after)["horizon_timestamp"] > began + CELL_SECONDS, 30 * slack(), after.story)
    assert compared(after)["since_timestamp"] == since
    ask_all(after, 100)
    wait_until(lambda: requests_judged(after) == 150, 30 * slack(), after.story)
    assert after.stop() == 0

    last = start(MODEL)
    last.wait_bound(2, "canary")
    wait_until(lambda: compared(last)["checks"], 30 * slack(), last.story)
    assert requests_judged(last) == 150
    assert compared(last)["since_timestamp"] == since
    assert last.model()["split"]["canary"] == 20, "it ended once without a clean stop"


@pytest.mark.slow
def test_a_canary_that_takes_its_gateway_down_three_times_is_broken_off(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    for asked in range(1, 4):
        began = time.time()
        gateway = start(MODEL)
        gateway.wait_bound(2, "canary")
        assert share(gateway) == 20
        # What comes in the cell in which it began may not count: the former one may have ended in it.
        wait_until(lambda: time.time() > began + CELL_SECONDS, 10 * slack())  # noqa: B023
        assert gateway.ask("user-2").headers["X-Route-Alias"] == "canary"
        wait_until(lambda: requests_kept(tmp_path) == asked, 20 * slack())  # noqa: B023
        gateway.process.kill()
        gateway.process.wait()

    fourth = start(MODEL)
    fourth.wait_bound(2, "canary")
    assert fourth.ask("user-2").headers["X-Route-Reason"] == "breaker_open"
    broken = fourth.model()["versions"]["2"]["breaker"]
    assert broken["why"].startswith("its gateway ended 3 times in 10 minutes")
    assert fourth.lines("breaker open, production has the canary's share")


def test_where_nothing_can_be_written_it_serves_and_says_so(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    gateway = start(MODEL, CANARY_ROUTER_SERVER__STATE_DIR="/proc/canary-router")

    assert gateway.ask("user-1").status_code == 200
    state = gateway.state()["state_dir"]
    assert not state["durable"]
    assert state["reason"] == "the state directory can not be used: No such file or directory"
    assert "/proc" not in json.dumps(state)
    assert state["journal"]["lines"] == len(gateway.lines("journal"))
    assert gateway.metric("canary_router_state_durable") == 0
    assert gateway.metric("canary_router_state_write_errors_total") > 0
    (line,) = gateway.lines("caps and journal are not durable")
    assert line["reason"] == state["reason"]
