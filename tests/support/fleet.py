"""Three gateways that are each other's peers, and the links between them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from tests.support.gateway import TOKEN_VARIABLE, GatewayProcess
from tests.support.link import Link, link_to
from tests.support.ports import free_port
from tests.support.waiting import wait_until

TOKEN = "by-which-the-gateways-sign"
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin: "127.0.0.1:{admin}"}}
registry: {{uri: "{uri}", poll_seconds: {poll_seconds}, cache_dir: "{cache}"}}
log: {{format: json}}
fleet: {{peers: {peers}}}
models:
  sentiment: {{split: {{production: 50, canary: 50}}{keys}}}
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
def fleet(
    registry_uri: str, directory: Path, poll_seconds: float, more: str = "", keys: str = ""
) -> Iterator[Fleet]:
    """Three that start at once; `more` is further lines of their configuration, `keys` such as `, workers: 2`
    further keys of their model."""
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
                    uri=registry_uri,
                    poll_seconds=poll_seconds,
                    cache=directory / "cache",
                    peers=[f"127.0.0.1:{port}" for port in ports],
                    keys=keys,
                )
                + more
            )
            started.append(GatewayProcess(place, config, {TOKEN_VARIABLE: TOKEN}))
            return started[-1]

        try:
            yield Fleet([start(number) for number in range(3)], links, start)
        finally:
            for gateway in started:
                gateway.hurry()
                gateway.stop()
