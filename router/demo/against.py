"""The demo's traffic, sent to a gateway that somebody else runs."""

import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import suppress

import aiohttp

from router.core.redaction import redact_uri
from router.demo.answer import Answer
from router.demo.asked import NoGateway, require_models
from router.demo.material import Material
from router.demo.rows import churn_rows, sentiment_rows
from router.demo.stopping import Stopped, beside, stop_on_signals, unless
from router.demo.traffic import KEYS, REQUESTS_PER_SECOND, Traffic
from router.errors import RouterError

TELL_SECONDS = 30.0
READY_SECONDS = 300.0
"""How long the gateway may take to be ready, its first downloads included."""


class NotUsable(RouterError):
    """The gateway, or the registry, can not be used."""


def send(url: str, registry_uri: str | None, seconds: float | None) -> int:
    """As `router.demo.send` promises."""
    uri = registry_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        print("which registry? say --registry URI, or set MLFLOW_TRACKING_URI", file=sys.stderr)
        return 2
    if not url.startswith(("http://", "https://")):
        print("--against must begin with http:// or https://", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_send(url, uri, seconds))
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
    materials = {
        "sentiment": Material("sentiment", sentiment_rows(), {}),
        "churn_predictor": Material("churn_predictor", churn_rows(), {}),
    }
    # Before anything is written: the registry may be one that others depend on.
    await unless(stop, require_models(url, materials.keys(), _say))
    _say(f"registering the demo's models in {redact_uri(registry_uri)} where they are missing")
    await unless(stop, _register(registry_uri))
    await unless(stop, _wait_until_ready(url))
    told = Told()
    traffic = Traffic(url, materials, told.count)
    _say(f"traffic to {url}: {len(KEYS)} users, about {REQUESTS_PER_SECOND:g} requests per second")
    flow, telling = beside(stop, traffic.flow()), beside(stop, told.keep_telling())
    try:
        await asyncio.wait({stop}, timeout=seconds)
        traffic.stop()
        await flow
    finally:
        for task in (flow, telling):
            task.cancel()
        await asyncio.gather(flow, telling, return_exceptions=True)
    told.tell()
    if stop.done():
        stop.result()
    return 1 if told.failed else 0


class Told:
    """Counts answers, and says so now and then."""

    def __init__(self) -> None:
        self.failed = 0
        self._by_version: Counter[str] = Counter()
        self._problem = ""
        self._began = time.monotonic()

    def count(self, answer: Answer) -> None:
        """One answer, or none."""
        if answer.status == 200:
            self._by_version[f"{answer.model}@{answer.alias} v{answer.version}"] += 1
        else:
            self.failed += 1
            self._problem = f"the last one: {answer.status} {answer.problem}"

    async def keep_telling(self) -> None:
        """A line every half minute."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            self.tell()

    def tell(self) -> None:
        """One line: how many requests, who answered, how many failed."""
        by = ", ".join(f"{name} {count}" for name, count in sorted(self._by_version.items()))
        failed = f"{self.failed} failed; {self._problem}" if self.failed else "none failed"
        _say(f"{time.monotonic() - self._began:.0f} s, {by or 'nobody answered'}; {failed}")


async def _register(uri: str) -> None:
    # A process of its own: MLflow and scikit-learn take 300 MB that traffic has no use for.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router.demo.registered", uri, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        if code := await process.wait():
            raise NotUsable(f"the models were not registered: code {code}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    _say(f"waiting {READY_SECONDS:g} s at most until {url} is ready: it loads what was registered")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        tell_at, seen = time.monotonic() + TELL_SECONDS, "it does not answer"
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url.rstrip('/')}/readyz?verbose") as response:
                    if response.status == 200:
                        return
                    seen = ", ".join((await response.text())[:1000].split("\n")).strip(", ")
            if time.monotonic() > deadline:
                raise NotUsable(
                    f"{url} was not ready within {READY_SECONDS:g} s ({seen}); does it read this registry?"
                )
            if time.monotonic() > tell_at:
                _say(f"still waiting: {seen}")
                tell_at += TELL_SECONDS
            await asyncio.sleep(0.5)


def _say(line: str) -> None:
    print(line, flush=True)
