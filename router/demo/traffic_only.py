"""The demo's traffic, sent to a gateway that somebody else runs."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress

import aiohttp

from router.core.redaction import redact_uri
from router.demo.dataset import Dataset, churn_rows, sentiment_rows
from router.demo.gateway_process import training
from router.demo.shutdown import Stopped, beside, stop_on_signals, unless
from router.demo.traffic import KEYS, MOST_PER_SECOND, Answer, Traffic
from router.demo.workspace import TWO_MODELS
from router.errors import RouterError

REPORT_SECONDS = 30.0
ANSWER_SECONDS = 10.0
"""How long a gateway may take to answer at all: one that was just started may not listen yet."""
READY_SECONDS = 300.0
"""How long the gateway may take to be ready, its first downloads included."""
_ASK_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_READINESS = ("ready", "not ready", "stopping")


class NoGateway(RouterError):
    """Nobody answers there, or something else than a canary-router."""


class NotConfigured(RouterError):
    """The gateway answers, and has no registered model of such a name in its configuration."""


class NotUsable(RouterError):
    """The gateway, or the registry, can not be used."""


def send(url: str, registry_uri: str | None, seconds: float | None) -> int:
    """Send the demo's traffic to the gateway at `url` until Ctrl-C, or for `seconds`; returns the exit code.

    The gateway has to be configured for the demo's models. They are trained and registered first, where the
    registry has none of that name. 0: no request was answered badly, and some were answered; 3: no gateway
    answers.
    """
    uri = registry_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        print("which registry? name it with --registry URI, or set MLFLOW_TRACKING_URI", file=sys.stderr)
        return 2
    if not url.startswith(("http://", "https://")):
        print("--against must begin with http:// or https://", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_send(url.rstrip("/"), uri, seconds))
    except (Stopped, KeyboardInterrupt):
        return 0
    except NoGateway as error:
        print(error, file=sys.stderr)
        return 3
    except RouterError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1


async def _send(url: str, registry_uri: str, seconds: float | None) -> int:
    stop = stop_on_signals()
    datasets = {
        "sentiment": Dataset("sentiment", sentiment_rows(), {}),
        "churn_predictor": Dataset("churn_predictor", churn_rows(), {}),
    }
    # Before anything is written: the registry may be one that others depend on.
    await unless(stop, require_models(url, datasets.keys(), _say))
    _say(f"registering the demo's models in {redact_uri(registry_uri)} where they are missing")
    await unless(stop, _register(registry_uri))
    await unless(stop, _wait_until_ready(url))
    counts = Counts()
    traffic = Traffic(url, datasets, counts.add)
    _say(f"traffic to {url}: {len(KEYS)} users, at most {MOST_PER_SECOND:g} requests per second")
    flow, reports = beside(stop, traffic.flow()), beside(stop, counts.keep_reporting())
    try:
        await asyncio.wait({stop}, timeout=seconds)
        traffic.stop()
        await flow
    finally:
        for task in (flow, reports):
            task.cancel()
        await asyncio.gather(flow, reports, return_exceptions=True)
    counts.report()
    if stop.done():
        stop.result()
    return 0 if counts.are_good else 1


async def require_models(
    url: str, wanted: Collection[str], say: Callable[[str], None], seconds: float = ANSWER_SECONDS
) -> None:
    """Return once the gateway at `url` says that it is configured for `wanted`; they need not serve yet.

    Raises NotConfigured, and NoGateway after `seconds` at most.
    """
    deadline, announced = time.monotonic() + seconds, False
    while True:
        left = deadline - time.monotonic()
        try:
            missing = await asyncio.wait_for(_missing(url, wanted), min(_ASK_SECONDS, max(left, 0.1)))
            break
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = str(error) or "it does not answer in time"
            if left <= _PAUSE_SECONDS or isinstance(error, aiohttp.InvalidURL):
                raise NoGateway(f"no gateway answers at {url}: {why}; nothing was registered") from error
        if not announced:
            say(f"waiting {seconds:g} s at most for a gateway to answer at {url}")
            announced = True
        await asyncio.sleep(_PAUSE_SECONDS)
    if missing:
        raise NotConfigured(
            f"the gateway at {url} is not configured for {' and '.join(missing)}: add it under `models`;"
            " nothing was registered"
        )


async def _missing(url: str, wanted: Collection[str]) -> list[str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/v1/state") as response:
            if response.status == 200:
                state = await response.json(content_type=None)
                if not isinstance(state, dict) or not isinstance(state.get("models"), dict):
                    raise ValueError("what answers there is no canary-router")
                return [name for name in wanted if name not in state["models"]]
        # With `observe: admin` the listener for traffic has no /v1/state; its readiness names the models too.
        async with session.get(f"{url}/readyz?verbose") as response:
            first, *lines = (await response.text()).splitlines() or [""]
    if first not in _READINESS:
        raise ValueError("what answers there is no canary-router")
    return [name for name in wanted if not any(line[3:].startswith(f" {name} ") for line in lines)]


async def _register(uri: str) -> None:
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}  # the registry's credentials among it
    async with training(TWO_MODELS.training, "--at", uri, environment=environment) as process:
        if code := await process.wait():
            raise NotUsable(f"the models were not registered: code {code}")


async def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    _say(f"waiting {READY_SECONDS:g} s at most until {url} is ready: it loads what was registered")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        report_at, seen = time.monotonic() + REPORT_SECONDS, "it does not answer"
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/readyz?verbose") as response:
                    if response.status == 200:
                        return
                    seen = ", ".join((await response.text())[:1000].split("\n")).strip(", ")
            if time.monotonic() > deadline:
                raise NotUsable(
                    f"{url} was not ready within {READY_SECONDS:g} s ({seen}); does it read this registry?"
                )
            if time.monotonic() > report_at:
                _say(f"still waiting: {seen}")
                report_at += REPORT_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)


class Counts:
    """Counts answers and prints a line of them now and then."""

    def __init__(self) -> None:
        self._failed = 0
        self._refused = 0
        self._by_version: Counter[str] = Counter()
        self._problem = ""
        self._began = time.monotonic()

    def add(self, answer: Answer) -> None:
        """Count one answer, or one failure to answer."""
        if answer.status == 200:
            self._by_version[f"{answer.model}@{answer.alias} v{answer.version}"] += 1
        elif answer.is_refused:
            self._refused += 1
        else:
            self._failed += 1
            self._problem = f"the last one: {answer.status} {answer.problem}"

    @property
    def are_good(self) -> bool:
        """Whether nothing failed, and not everything was refused."""
        return not self._failed and bool(self._by_version or not self._refused)

    async def keep_reporting(self) -> None:
        """Print a line every half minute."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self.report()

    def report(self) -> None:
        """Print one line: who answered how many requests, how many were refused, how many failed."""
        by = ", ".join(f"{name} {count}" for name, count in sorted(self._by_version.items()))
        failed = f"{self._failed} failed; {self._problem}" if self._failed else "none failed"
        seconds = f"{time.monotonic() - self._began:.0f} s"
        _say(f"{seconds}, {by or 'nobody answered'}; {self._refused} refused; {failed}")


def _say(line: str) -> None:
    print(line, flush=True)
