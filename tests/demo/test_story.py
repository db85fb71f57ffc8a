"""The whole demo, started as a newcomer starts it, on the real gateway."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import urllib.request
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from router.demo import story
from router.demo.gateway_process import clean_environment
from router.demo.operator import Registry, commands_to_try
from router.demo.workspace import Workspace, free_ports
from tests.support.demo_run import READY, PlayedDemo, lines_until, output_of, running_demo


def test_the_story_plays_in_twenty_seconds_and_every_answer_is_right(played: PlayedDemo) -> None:
    """Share up, promotion, rollback: each seen in answers; plain lines, because nobody looks. The
    journal, read at the end, has all of them, with who and why."""
    reported = played.printed

    assert played.exit_code == 0, reported
    assert reported.rstrip().endswith("everything was right")
    assert "\x1b" not in reported
    for step in (
        "split 5 → 25",
        "promote, @production → v2",
        "rollback after an incident, @production → v1",
    ):
        assert f"  {step}: first " in reported
    plan, _, rest = reported.partition("  split 5 → 25\n")
    assert "sentiment: canary 5 % → 25 % of the keys" in plan
    history = rest.partition("  history\n")[2]
    for sentence in ("production serves v2", "production serves v1", "moved in the registry by demo"):
        assert sentence in history
    assert "\nwhole: " in history
    for who in ("sentiment @production v2", "sentiment @production v1", "churn_predictor @canary v2"):
        assert f"  {who}: " in reported
    assert ": 0 wrong, " in reported


@pytest.mark.slow
def test_one_wrong_prediction_makes_the_exit_code_1(seeded_place: Workspace) -> None:
    """Here it is our idea of the right answer that is wrong; the demo can not know, and must say so."""
    summary = seeded_place.registry / "seeded.json"
    whole = summary.read_text()
    document = json.loads(whole)
    for dataset in document["datasets"]:
        if dataset["model"] == "sentiment":
            expected = dataset["versions"]["1"]["expected"]
            expected[:10] = [one + 1e-6 for one in expected[:10]]
    try:
        summary.write_text(json.dumps(document))
        with running_demo(seeded_place.root, until=READY, seconds=5) as (demo, _):
            reported = output_of(demo)
    finally:
        summary.write_text(whole)

    assert demo.returncode == 1, reported
    assert "WRONG: sentiment, user-" in reported
    assert "offline it says" in reported


async def test_a_port_that_is_taken_while_the_gateway_starts_is_given_up_for_another(
    seeded_place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a second demo beside this one, which saw the same ports free."""
    # The story before promoted the canary, and the gateway is waited for until each alias serves a version.
    await Registry(seeded_place.registry_uri).move("sentiment", "canary", 2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        first = iter([[taken, *free_ports(0)]])
        monkeypatch.setattr(story, "free_ports", lambda *ports: next(first, None) or free_ports(*ports))
        stop = asyncio.get_running_loop().create_future()
        async with story.serving(seeded_place, (0, 0), stop) as (process, url):
            assert process.returncode is None
            port = int(url.rpartition(":")[2])
            assert port != taken
            listening = {one.laddr.port for one in psutil.Process(process.pid).net_connections()}
            assert port in listening


def address_of_the_page(printed: list[str]) -> str:
    """Printed as soon as there is a page."""
    [line] = (line for line in printed if line.startswith("the live page of this rollout: "))
    return line.rpartition(" ")[2]


@pytest.mark.slow
def test_every_printed_command_works_as_printed_and_ctrl_c_ends_everything(
    seeded_place: Workspace, slack: float
) -> None:
    with running_demo(seeded_place.root, until=READY) as (demo, _):
        printed = lines_until(demo, "Ctrl-C ends everything")
        commands = [line for before, line in pairwise(printed) if before.startswith("# ")]
        assert len(commands) == len(commands_to_try(seeded_place, "http://127.0.0.1:1"))
        with urllib.request.urlopen(address_of_the_page(printed), timeout=10 * slack) as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
        for command in commands:
            if " ui " in command or ("curl" in command and not shutil.which("curl")):
                continue  # a server that stays, or a program that a bare machine lacks
            done = subprocess.run(
                command,
                shell=True,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=60 * slack,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        demo.send_signal(signal.SIGINT)
        reported = output_of(demo)

    assert demo.returncode == 0, reported
    assert "Traceback" not in reported
    assert reported.rstrip().endswith("everything was right")


@pytest.mark.slow
def test_a_gateway_that_ends_by_itself_fails_the_demo(seeded_place: Workspace) -> None:
    with running_demo(seeded_place.root, until="Ctrl-C ends everything") as (demo, _):
        (gateway,) = (child for child in psutil.Process(demo.pid).children() if "serve" in child.cmdline())
        gateway.kill()
        reported = output_of(demo)

    assert demo.returncode == 1, reported
    assert "the demo failed: the gateway ended with code -9" in reported
    assert "Traceback" not in reported


@pytest.mark.parametrize("moment", ["training two versions", "@production → v1"])
@pytest.mark.slow
def test_ctrl_c_before_there_is_traffic_ends_everything_too(
    seeded_place: Workspace, tmp_path: Path, moment: str
) -> None:
    """While versions are trained, which needs a new directory, and while the gateway starts."""
    directory = tmp_path / "new" if moment.startswith("training") else seeded_place.root
    with running_demo(directory, until=moment) as (demo, _):
        demo.send_signal(signal.SIGINT)
        reported = output_of(demo)

    assert demo.returncode == 130, reported
    assert "Traceback" not in reported
