"""What outlives a gateway, with real ones: one that is killed, its successor, and two at once."""

import json
from collections.abc import Callable
from pathlib import Path

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
