"""Every canary off at once, by SIGUSR2 or by a file, whatever else is wrong; and no request is lost."""

import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.conftest import POLL_SECONDS
from tests.support.gateway import CONFIG, GatewayProcess, gateway_as_pid_1
from tests.support.load import Load
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MODELS = "  sentiment: {split: {production: 50, canary: 50}}\n"
CANARY_KEY = "user-2"
"""Bucket 418 under the salt `sentiment`."""
KEYS = 60
"""So few that each is seen several times in a second."""
REASON = "the drill is over"
OF_ITS_OWN_GROUP = ("setsid", sys.executable)
STATE_DIR = "CANARY_ROUTER_SERVER__STATE_DIR"


@pytest.fixture(scope="module")
def file(shared_registry: Registry) -> Path:
    """The one that turns every canary off; it is there when the gateway starts."""
    state = shared_registry.directory / "state"
    state.mkdir(mode=0o700)
    path = state / "canary-off"
    path.write_text("anna: a drill\n")
    return path


@pytest.fixture(scope="module")
def gateway(start_shared: Callable[..., GatewayProcess], file: Path) -> GatewayProcess:
    gateway = start_shared(MODELS, command=OF_ITS_OWN_GROUP, **{STATE_DIR: str(file.parent)})
    gateway.wait_bound(2, "canary")
    return gateway


@pytest.fixture
def config(registry: Registry, tmp_path: Path) -> Path:
    """Of a gateway that a test starts by itself."""
    path = tmp_path / "router.yaml"
    head = CONFIG.format(uri=registry.uri, poll_seconds=POLL_SECONDS, cache=tmp_path / "cache")
    path.write_text(head + MODELS)
    return path


def route(gateway: GatewayProcess) -> tuple[str, str]:
    """To whom the canary's key goes, and why."""
    answer = gateway.ask(CANARY_KEY)
    assert answer.status_code == 200
    return answer.headers["X-Route-Alias"], answer.headers["X-Route-Reason"]


def resume(gateway: GatewayProcess) -> requests.Response:
    body = {"all": True, "reason": REASON, "by": "anna"}
    return requests.post(f"{gateway.admin}/-/resume", json=body, timeout=30)


def wait_off(gateway: GatewayProcess, slack: float) -> None:
    """As promised: within a second."""
    wait_until(lambda: route(gateway) == ("production", "capped"), 1 * slack, gateway.story)


def give_back(gateway: GatewayProcess, file: Path) -> None:
    file.unlink()
    assert resume(gateway).status_code == 200
    assert route(gateway) == ("canary", "hash")


def test_a_file_holds_from_the_first_answer_on_until_it_is_gone_and_somebody_resumed(
    gateway: GatewayProcess, file: Path, slack: float
) -> None:
    assert route(gateway) == ("production", "capped")
    assert gateway.metric("canary_router_requests_total", alias="canary") == 0
    assert gateway.state()["break_glass"]["why"] == "…/canary-off is there: anna: a drill"
    refused = resume(gateway)
    assert (refused.status_code, str(file) in refused.text) == (409, True)

    file.unlink()
    wait_until(lambda: "is gone" in gateway.state()["break_glass"]["why"], 5 * slack, gateway.story)
    assert route(gateway) == ("production", "capped")

    assert resume(gateway).status_code == 200
    assert route(gateway) == ("canary", "hash")
    assert gateway.state()["break_glass"] is None
    assert [line["why"] for line in gateway.lines("break-glass is over")] == [f"anna: {REASON}"]


@pytest.mark.parametrize("to", ["its group", "every process", "every group"])
def test_the_signal_ends_no_process_and_no_request_and_turns_the_canary_off(
    gateway: GatewayProcess, file: Path, slack: float, to: str
) -> None:
    """To the gateway's process group, as from a terminal; to all of its cgroup, as `systemctl kill` does."""
    children = gateway.descendants()
    assert len(children) >= 4  # template, agent and two workers
    with Load(gateway.url, rate=150, keys=KEYS) as load:
        wait_until(lambda: len(load.seen) > 3 * KEYS, 30 * slack, gateway.story)
        if to == "every process":
            for one in (*children, psutil.Process(gateway.pid)):
                one.send_signal(signal.SIGUSR2)
        else:
            groups = {os.getpgid(gateway.pid)}
            groups |= {os.getpgid(child.pid) for child in children} if to == "every group" else set()
            assert os.getpgid(0) not in groups
            for group in groups:
                os.killpg(group, signal.SIGUSR2)
        wait_off(gateway, slack)
        off_at, so_far = time.monotonic(), len(load.seen)
        wait_until(lambda: len(load.seen) > so_far + 3 * KEYS, 30 * slack, gateway.story)
        wait_until(file.exists, 5 * slack, gateway.story)
        resumed_at = time.monotonic()
        give_back(gateway, file)
        back_at, so_far = time.monotonic(), len(load.seen)
        wait_until(lambda: len(load.seen) > so_far + 3 * KEYS, 30 * slack, gateway.story)

    assert load.failed == []
    meanwhile = [one for one in load.seen if off_at < one.sent_at and one.sent_at + one.seconds < resumed_at]
    assert {one.alias for one in meanwhile} == {"production"}
    before = {one.key for one in load.seen if one.alias == "canary" and one.sent_at < off_at}
    assert len(before) > KEYS / 4
    after = {one.key for one in load.seen if one.alias == "canary" and one.sent_at > back_at}
    assert after == before, "it has the same keys again"
    assert [one for one in children if not one.is_running()] == []
    assert {child.pid for child in gateway.descendants()} == {child.pid for child in children}


def test_with_a_broken_configuration_and_no_registry_a_command_turns_it_off(
    gateway: GatewayProcess, shared_registry: Registry, file: Path, slack: float
) -> None:
    good, hidden = gateway.config.read_text(), shared_registry.database.with_suffix(".away")
    gateway.config.write_text(good.replace("split", "spilt"))
    shared_registry.database.rename(hidden)
    try:
        done = gateway.command("off", "--reason", "errors", **{STATE_DIR: str(file.parent)})
        assert done.returncode == 0, done.stdout + done.stderr
        wait_off(gateway, slack)
        assert str(file) in done.stdout
    finally:
        gateway.config.write_text(good)
        hidden.rename(shared_registry.database)
    give_back(gateway, file)


def test_as_pid_1_a_signal_before_the_first_import_counts_and_where_it_can_not_be_kept_that_is_said(
    config: Path, slack: float
) -> None:
    """Without a handler the kernel throws it away, as it does with every signal for a process number 1."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a PID namespace takes root and unshare")
    early = threading.Thread(target=signal_when_it_is_caught, args=(config,))
    early.start()
    with gateway_as_pid_1(config.parent, config, {STATE_DIR: "/proc/canary-router"}) as gateway:
        early.join()
        gateway.wait_ready()
        gateway.wait_bound(2, "canary")
        assert route(gateway) == ("production", "capped")
        assert gateway.metric("canary_router_requests_total", alias="canary") == 0
        kept = "can not be made (No such file or directory), so this holds until the process ends"
        wait_until(lambda: kept in gateway.state()["break_glass"]["why"], 5 * slack, gateway.story)
        assert [line for line in gateway.lines("break-glass, every canary is off") if kept in line["why"]]

        [init] = psutil.Process(gateway.pid).children()
        assert resume(gateway).status_code == 200
        assert route(gateway) == ("canary", "hash")
        init.send_signal(signal.SIGTERM)
        assert gateway.process.wait(10 * slack) == 0


def signal_when_it_is_caught(config: Path) -> None:
    """SIGUSR2 to the gateway on `config` as soon as that has a handler, before it has imported anything."""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                if str(config) in child.cmdline() and catches(child.pid):
                    child.send_signal(signal.SIGUSR2)
                    return
        time.sleep(0.001)


def catches(pid: int) -> bool:
    """Whether the process has a handler of SIGUSR2."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signal.SIGUSR2 - 1) & 1)


@pytest.mark.slow  # a start for each of ten moments
def test_a_signal_to_the_group_at_any_moment_of_a_start_ends_nothing_and_counts(
    config: Path, tmp_path: Path, slack: float
) -> None:
    """The first comes 50 ms after the exec; before, the interpreter itself starts."""
    dice = random.Random(7)
    for number, moment in enumerate([0.05, *(dice.uniform(0.05, 2.5) for _ in range(9))]):
        timer = threading.Timer(moment * slack, signal_group_of, args=(config,))
        timer.start()
        state = {STATE_DIR: str(tmp_path / f"state-{number}")}
        gateway = GatewayProcess(tmp_path, config, state, OF_ITS_OWN_GROUP)
        try:
            timer.join()
            gateway.wait_ready()
            gateway.wait_bound(2, "canary")
            wait_off(gateway, slack)
            assert gateway.metric("canary_router_worker_restarts_total") == 0
            assert not gateway.lines("child restarted")
            wait_until((tmp_path / f"state-{number}" / "canary-off").exists, 5 * slack, gateway.story)
        finally:
            assert gateway.stop() == 0, f"after {moment:.3f} s"


def signal_group_of(config: Path) -> None:
    [gateway] = [
        one
        for one in psutil.Process().children()
        if one.status() != psutil.STATUS_ZOMBIE and str(config) in one.cmdline()
    ]
    assert os.getpgid(gateway.pid) != os.getpgid(0)
    os.killpg(os.getpgid(gateway.pid), signal.SIGUSR2)
