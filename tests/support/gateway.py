"""A gateway in a process of its own, as an operator runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.slowness import slack
from tests.support.waiting import wait_until

NO_BALANCER = {"CANARY_ROUTER_SERVER__MIN_DRAIN_SECONDS": "0"}
"""In a gateway's environment: nobody sends to it after SIGTERM, so that it need not wait for that."""
TOKEN_VARIABLE = "CANARY_ROUTER_SERVER__ADMIN_TOKEN"
"""In a gateway's environment: its admin token, which verbs then send."""
ANNOUNCED = re.compile(r"on (https?://\S+) \(admin (https?://[^\s)]+)\)")

CONFIG = """\
server: {{listen: 127.0.0.1:0, admin: 127.0.0.1:0}}
registry: {{uri: "{uri}", poll_seconds: {poll_seconds}, cache_dir: "{cache}"}}
log: {{format: json}}
models:
"""


class GatewayProcess:
    """`python -m router serve` with free ports; its log is at `log`."""

    def __init__(
        self,
        directory: Path,
        config: Path,
        environment: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable,),
    ) -> None:
        self.config = config
        self.log = directory / "gateway.log"
        self._token = (environment or {}).get(TOKEN_VARIABLE)
        self._state_home = {"XDG_STATE_HOME": str(directory / "state")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-m", "router", "serve", "-c", str(config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self._state_home, **NO_BALANCER, **(environment or {})},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = ANNOUNCED.search(line)
        assert found, f"no announcement: {line!r}; {self.log.read_text()[-3000:]}"
        self.url, self.admin = found.groups()
        self.session = requests.Session()

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=10 * slack())

    def state(self) -> dict[str, Any]:
        reported: dict[str, Any] = self.get("/v1/state").json()
        return reported

    def model(self, name: str = "sentiment") -> dict[str, Any]:
        reported: dict[str, Any] = self.state()["models"][name]
        return reported

    def bound(self, alias: str = "production", name: str = "sentiment") -> int | None:
        version: int | None = self.model(name)["aliases"][alias]["bound"]
        return version

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` that carry `labels`."""
        return _sum_of(self.get("/metrics").text, name, labels)

    def from_now(self) -> "CountersFromNow":
        """What its counters count from now on, for tests that share a gateway."""
        return CountersFromNow(self)

    def ask(self, key: str, text: str = "good", model: str = "sentiment") -> requests.Response:
        body = {"dataframe_split": {"columns": ["text"], "data": [[text]]}}
        url = f"{self.url}/models/{model}/invocations"
        return self.session.post(url, json=body, headers={"X-Request-Key": key}, timeout=30 * slack())

    def lever(self, verb: str, **keys: Any) -> dict[str, Any]:
        """What the admin listener answers to a verb about `sentiment` when it is done."""
        body = {"model": "sentiment", "by": "ann", "reason": "asked for by a test", **keys}
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        answer = requests.post(f"{self.admin}/-/{verb}", json=body, headers=headers, timeout=30 * slack())
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this gateway's configuration and state, in the directory of the former."""
        return subprocess.run(
            [sys.executable, "-m", "router", *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            cwd=self.config.parent,
            env={**os.environ, **self._state_home, **environment},
            timeout=120 * slack(),
        )

    def wait_ready(self, seconds: float | None = None) -> "GatewayProcess":
        """Within `seconds`, by default 60 that are widened by `slack`."""
        wait_until(lambda: self.get("/readyz").status_code == 200, seconds or 60 * slack(), self.story)
        return self

    def wait_bound(
        self,
        version: int,
        alias: str = "production",
        seconds: float | None = None,
        name: str = "sentiment",
    ) -> None:
        """Within `seconds`, by default 30 that are widened by `slack`."""
        wait_until(lambda: self.bound(alias, name) == version, seconds or 30 * slack(), self.story)

    def wait_compared(self, alias: str = "canary", name: str = "sentiment") -> None:
        """Until the two versions are compared: what comes before is no evidence."""

        def is_compared() -> bool:
            return self.get("/v1/compare").json()["models"][name][alias]["horizon_timestamp"] is not None

        wait_until(is_compared, 30 * slack(), self.story)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def descendants_named(self, name: str) -> list[psutil.Process]:
        """Those of this name, as an operator finds them; one that ends while it is asked is left out."""
        found = []
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                found += [process] if process.name() == name else []
        return found

    def worker_pids(self, version: int, name: str = "sentiment") -> list[int]:
        pids: list[int] = self.model(name)["versions"][str(version)]["workers"]
        return pids

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines that say `event`."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def loads(self) -> list[dict[str, Any]]:
        """Every version that became ready, as the log says: `version`, and `seconds` by phase."""
        return self.lines("version ready")

    def hurry(self) -> None:
        """A first signal; the one of `stop`, which follows when it was heard, cuts the drain short."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(OSError):
                wait_until(lambda: self.get("/readyz").status_code != 200, 5 * slack())

    def stop(self, seconds: float | None = None) -> int:
        """Within `seconds`, by default 30 that are widened by `slack`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds or 30 * slack())
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.session.close()

    def story(self) -> str:
        return self.log.read_text()[-5000:]


class CountersFromNow:
    """A gateway's counters without what they had counted when this was made."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._before = gateway.get("/metrics").text

    def metric(self, name: str, **labels: str) -> float:
        """By how much the samples of `name` that carry `labels` have grown, all together."""
        return self._gateway.metric(name, **labels) - _sum_of(self._before, name, labels)


def _sum_of(exposition: str, name: str, labels: Mapping[str, str]) -> float:
    total = 0.0
    for line in exposition.splitlines():
        if re.match(rf"{name}[{{ ]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


@contextmanager
def gateways(
    directory: Path, registry_uri: str, poll_seconds: float
) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways on the configuration `directory/router.yaml`, and ends them."""
    started: list[GatewayProcess] = []

    def start(
        models: str,
        *,
        uri: str | None = None,
        wait: bool = True,
        cache: Path = directory / "cache",
        command: Sequence[str] = (sys.executable,),
        **environment: str,
    ) -> GatewayProcess:
        path = directory / "router.yaml"
        path.write_text(
            CONFIG.format(uri=uri or registry_uri, poll_seconds=poll_seconds, cache=cache) + models
        )
        gateway = GatewayProcess(directory, path, environment, command)
        started.append(gateway)
        return gateway.wait_ready() if wait else gateway

    try:
        yield start
    finally:
        for gateway in started:
            gateway.hurry()
            gateway.stop()


@contextmanager
def gateway_as_pid_1(
    directory: Path, config: Path, environment: dict[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """One in a PID namespace of its own, as in a container without an init.

    Its `pid` is that of `unshare` outside, whose only child it is. Takes root and the program `unshare`.
    """
    command = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable)
    gateway = GatewayProcess(directory, config, environment, command)
    try:
        yield gateway
    finally:
        for child in psutil.Process(gateway.pid).children() if gateway.process.poll() is None else []:
            child.kill()
        gateway.stop()
