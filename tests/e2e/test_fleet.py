"""Three gateways, the links between them, and those who are informed."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from router.adapters.http.webhooks import signature
from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS, Registry
from tests.support.gateway import GatewayProcess
from tests.support.link import Link, link_to
from tests.support.ports import free_port
from tests.support.receiver import Received, Receiver, receiving
from tests.support.waiting import wait_until

PROMISED_SECONDS = 3.0
"""In which an abort at one gateway holds at all."""
NOT_TAKEN = "a notification was not taken"
SECRET = "what-only-receiver-and-gateways-know"
SLACK_PATH = "/services/T024BE7LD/B077/hunter2hunter2"

CONFIG = """\
server: {{listen: "127.0.0.1:0", admin: "127.0.0.1:{admin}"}}
registry: {{uri: "{uri}", poll_seconds: {poll_seconds}, cache_dir: "{cache}"}}
log: {{format: json}}
fleet: {{peers: {peers}}}
notify:
  - {{url: "{receiver}/hook?token=visible-nowhere", secret_file: "{directory}/secret"}}
  - {{url_file: "{directory}/slack", format: slack, events: [cap_set]}}
models:
  sentiment: {{split: {{production: 50, canary: 50}}}}
"""


@dataclass
class Fleet:
    """Three gateways; each names all three as its peers, the others by links of its own."""

    gateways: list[GatewayProcess]
    links: dict[tuple[int, int], Link]
    """By who asks and who is asked."""
    start: Callable[[int], GatewayProcess]

    def verb(self, number: int, verb: str, **keys: Any) -> None:
        self.gateways[number].lever(verb, by="alice", **keys)

    def shares(self) -> list[float]:
        """Of each canary."""
        return [gateway.model()["split"]["canary"] for gateway in self.gateways]

    def all_at(self, share: float, seconds: float) -> float:
        """How long it took until each canary has `share`, in percent."""
        return self.reach([share] * 3, seconds)

    def reach(self, shares: list[float], seconds: float) -> float:
        """How long it took until the canaries have `shares`, in percent."""
        return wait_until(lambda: self.shares() == shares, seconds, lambda: str(self.shares()))

    def isolate(self, number: int) -> None:
        for ends, link in self.links.items():
            if number in ends:
                link.cut()

    def join(self) -> None:
        for link in self.links.values():
            link.mend()


@contextmanager
def fleet(registry: Registry, directory: Path, receiver: Receiver) -> Iterator[Fleet]:
    admins = [free_port() for _ in range(3)]
    started: list[GatewayProcess] = []
    with ExitStack() as stack:
        links = {
            (asker, asked): stack.enter_context(link_to(admins[asked]))
            for asker, asked in permutations(range(3), 2)
        }

        def start(number: int) -> GatewayProcess:
            place = directory / f"gw-{number}"
            place.mkdir(exist_ok=True)
            ports = [links[number, n].port if n != number else admins[n] for n in range(3)]
            config = place / "router.yaml"
            config.write_text(
                CONFIG.format(
                    admin=admins[number],
                    uri=registry.uri,
                    poll_seconds=POLL_SECONDS,
                    cache=directory / "cache",
                    peers=[f"127.0.0.1:{port}" for port in ports],
                    receiver=receiver.url,
                    directory=directory,
                )
            )
            started.append(GatewayProcess(place, config))
            return started[-1]

        try:
            yield Fleet([start(number) for number in range(3)], links, start)
        finally:
            for gateway in started:
                gateway.hurry()
                gateway.stop()


def is_signed(request: Received) -> bool:
    headers = request.headers
    expected = signature(
        SECRET.encode(), headers["X-MLflow-Delivery-Id"], headers["X-MLflow-Timestamp"], request.body
    )
    return headers["X-MLflow-Signature"] == expected


def test_three_gateways_agree_on_caps_and_inform_receivers(
    registry: Registry, tmp_path: Path, slack: float, figure: Figure
) -> None:
    """Row 40: what is said to one holds at all, whatever was cut meanwhile; and is known outside."""
    (tmp_path / "secret").write_text(SECRET)
    in_time = PROMISED_SECONDS * slack
    with receiving() as ops, receiving() as chat:
        (tmp_path / "slack").write_text(f"{chat.url}{SLACK_PATH}\n")
        with fleet(registry, tmp_path, ops) as three:
            for gateway in three.gateways:
                gateway.wait_ready()
                gateway.wait_bound(2, "canary")
            all_hear_each_other(three, slack)

            three.verb(0, "abort", reason="it answers nonsense")
            took = three.all_at(0, in_time)
            three.verb(2, "resume", reason="false alarm")
            three.all_at(50, in_time)
            each_informed_the_receivers(three, ops, chat, slack)

            # At once, at opposite sides of a cut: one change each, so the cap stands.
            three.verb(1, "abort", to=20)
            three.all_at(20, in_time)
            three.isolate(2)
            three.verb(0, "abort", to=0)
            three.verb(2, "resume")
            three.reach([0, 0, 50], in_time)
            three.join()
            three.all_at(0, in_time + 2)  # for a request that was under way in the cut

            # Whoever changed it more often has the last word.
            three.isolate(2)
            for verb in ("resume", "abort", "resume"):
                three.verb(2, verb)
            three.verb(0, "resume")
            three.verb(0, "abort")
            three.reach([0, 0, 50], in_time)
            three.join()
            three.all_at(50, in_time + 2)

            # What starts knows what holds before it serves.
            three.verb(0, "abort")
            three.all_at(0, in_time)
            three.gateways[1].process.kill()
            three.gateways[1].process.wait()
            again = three.gateways[1] = three.start(1)
            assert again.model()["caps"], "it could serve a canary that is off everywhere else"
            three.all_at(0, 30 * slack)

            nothing_secret_is_shown(three, ops, chat)
            a_stop_waits_for_no_receiver(three, ops, slack)
    figure(f"an abort held at all of three gateways {took:.1f} s after it was answered")


def all_hear_each_other(three: Fleet, slack: float) -> None:
    """Each lists the two others, and not itself."""
    for gateway in three.gateways:
        wait_until(
            lambda one=gateway: one.metric("canary_router_fleet_peers", state="reachable") == 2,
            10 * slack,
            gateway.story,
        )
        wait_until(lambda one=gateway: len(one.state()["fleet"]["peers"]) == 2, 10 * slack, gateway.story)
        for peer in gateway.state()["fleet"]["peers"]:
            assert peer["error"] == ""
            assert peer["last_seen_seconds"] < 10 * slack


def each_informed_the_receivers(three: Fleet, ops: Receiver, chat: Receiver, slack: float) -> None:
    """Three times, under one id for each cap; and nothing that was not wanted."""
    wait_until(lambda: Counter(ops.kinds())["cap_lifted"] == 3, 10 * slack, lambda: str(ops.kinds()))
    wait_until(lambda: len(chat.taken) == 3, 10 * slack, lambda: str(chat.requests))
    assert Counter(ops.kinds()) == {"alias_bound": 6, "cap_set": 3, "cap_lifted": 3}
    assert all(is_signed(request) for request in ops.requests)
    for kind in ("cap_set", "cap_lifted"):
        events = [one.json for one in ops.taken if one.json["type"] == f"canary_router.{kind}"]
        assert len({(event["source"], event["id"], event["time"]) for event in events}) == 1
    assert chat.taken[0].path == SLACK_PATH
    text = chat.taken[0].json["text"]
    assert text.startswith("sentiment canary v2: capped at 0 % by alice: it answers nonsense [")
    for gateway in three.gateways:
        count = gateway.metric("canary_router_notifications_total", receiver=ops.url, result="delivered")
        assert count == 4
        assert [one["error"] for one in gateway.state()["notify"]] == ["", ""]


def nothing_secret_is_shown(three: Fleet, ops: Receiver, chat: Receiver) -> None:
    """Also when receivers fail, which is what errors are about."""
    ops.status, chat.status = 500, 404
    chat.requests.clear()
    three.verb(0, "abort", all_versions=True)
    wait_until(lambda: len(chat.requests) == 3, 30, lambda: str(chat.requests))
    for gateway in three.gateways:
        wait_until(lambda one=gateway: len(one.lines(NOT_TAKEN)) == 2, 30, gateway.story)
        assert {line["why"] for line in gateway.lines(NOT_TAKEN)} == {
            "it answered 500 Internal Server Error",
            "it answered 404 Not Found",
        }
        shown = gateway.log.read_text() + json.dumps(gateway.state()) + gateway.get("/metrics").text
        for hidden in (SECRET, "hunter2", "T024BE7LD", "visible-nowhere"):
            assert hidden not in shown


def a_stop_waits_for_no_receiver(three: Fleet, ops: Receiver, slack: float) -> None:
    """What is left is counted in the log, where somebody can read it."""
    ops.silent.set()
    gateway = three.gateways[0]
    three.verb(0, "resume")
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 5 * slack
    ops.silent.clear()
