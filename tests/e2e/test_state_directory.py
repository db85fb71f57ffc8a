"""What outlives a gateway, with real ones: one that is killed, its successor, and two at once."""

import json
from collections.abc import Callable
from pathlib import Path

from router.adapters.state.journal_files import journal_files
from router.core.ids import CANARY, PRODUCTION
from router.core.journal import Entry, decode, digest_of, line_of_log
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

MODEL = "  sentiment: {split: {production: 80, canary: 20}}\n"


def entries(state_home: Path) -> list[Entry]:
    """All lines of the one journal that is there, whose chain is whole."""
    (directory,) = (state_home / "canary-router").iterdir()
    found, before = [], None
    for path in journal_files(directory):
        for line in path.read_bytes().splitlines():
            entry, prev = decode(line)
            assert before in (None, prev)
            found.append(entry)
            before = digest_of(line)
    return found


def test_the_journal_goes_on_over_kills_and_gateways_that_follow_each_other(
    start: Callable[..., GatewayProcess], tmp_path: Path, slack: float
) -> None:
    """The second one starts before the first one has ended, as in a rolling update, and is not refused."""
    killed = start(MODEL, CANARY_ROUTER_LOG__LEVEL="error")
    killed.wait_bound(2, "canary")
    state = killed.state()["state_dir"]
    assert (state["durable"], state["reason"], state["held_by"]) == (True, "", None)
    assert killed.metric("canary_router_state_durable") == 1
    assert killed.metric("canary_router_state_write_errors_total") == 0
    wait_until(
        lambda: any(
            "canary" in one.table["sentiment"].bound for one in entries(tmp_path / "state") if one.table
        ),
        10 * slack,
    )
    head = killed.state()["state_dir"]["journal"]["head"]
    shown = [line_of_log(line) for line in killed.lines("journal")]
    assert digest_of(shown[-1]) == head, "the log has every line, at any level"
    killed.process.kill()
    killed.process.wait()

    old = start(MODEL)
    new = start(MODEL)

    waiting = new.state()["state_dir"]
    assert not waiting["durable"]
    assert waiting["held_by"].endswith(f":{old.pid}")
    assert waiting["reason"].endswith(f"pid {old.pid}")
    assert new.ask("user-1").status_code == 200
    assert old.stop() == 0
    wait_until(lambda: new.state()["state_dir"]["durable"], 10 * slack)
    assert new.state()["state_dir"]["held_by"] is None
    new.wait_bound(2, "canary")
    assert new.stop() == 0

    found = entries(tmp_path / "state")
    causes = [(int(one.gateway.rpartition(":")[2]), one.cause) for one in found]
    pids = [killed.pid, old.pid, new.pid]
    assert [pid for place, (pid, _) in enumerate(causes) if place == 0 or causes[place - 1][0] != pid] == pids
    assert causes[0] == (killed.pid, "start")
    assert (killed.pid, "stop") not in causes
    assert [cause for pid, cause in causes if pid == old.pid][:1] == ["start"]
    assert [cause for pid, cause in causes if pid == old.pid][-1] == "stop"
    assert (new.pid, "start") not in causes, "it was only in its log: the directory was another one's"
    taken = found[causes.index((new.pid, "lock_taken"))]
    assert taken.table["sentiment"].bound[PRODUCTION].number == 1
    assert CANARY in found[-2].table["sentiment"].bound or len(found) > 3
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
