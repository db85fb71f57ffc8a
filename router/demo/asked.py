"""Asks the gateway that somebody else runs which models it serves, before anything is written anywhere."""

import asyncio
import time
from collections.abc import Callable, Collection

import aiohttp

from router.errors import RouterError

ANSWER_SECONDS = 10.0
"""How long a gateway may take to answer at all: one that was just started may not listen yet."""
_ASK_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_READINESS = ("ready", "not ready", "stopping")


class NoGateway(RouterError):
    """Nobody answers there, or something that is no canary-router."""


class NotConfigured(RouterError):
    """The gateway answers, and has no registered model of such a name in its configuration."""


async def require_models(
    url: str, wanted: Collection[str], say: Callable[[str], None], seconds: float = ANSWER_SECONDS
) -> None:
    """Return once the gateway at `url` says that it is configured for `wanted`; they need not serve yet.

    Raises NotConfigured, and NoGateway after `seconds` at most.
    """
    deadline, told = time.monotonic() + seconds, False
    while True:
        left = deadline - time.monotonic()
        try:
            missing = await asyncio.wait_for(_missing(url, wanted), min(_ASK_SECONDS, max(left, 0.1)))
            break
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = str(error) or "it does not answer in time"
            if left <= _PAUSE_SECONDS or isinstance(error, aiohttp.InvalidURL):
                raise NoGateway(f"no gateway answers at {url}: {why}; nothing was registered") from error
        if not told:
            say(f"waiting {seconds:g} s at most for a gateway to answer at {url}")
            told = True
        await asyncio.sleep(_PAUSE_SECONDS)
    if missing:
        names = " and ".join(missing)
        raise NotConfigured(
            f"the gateway at {url} is not configured for {names}: add it under `models`;"
            " nothing was registered"
        )


async def _missing(url: str, wanted: Collection[str]) -> list[str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url.rstrip('/')}/v1/state") as response:
            if response.status == 200:
                state = await response.json(content_type=None)
                if not isinstance(state, dict) or not isinstance(state.get("models"), dict):
                    raise ValueError("what answers there is no canary-router")
                return [name for name in wanted if name not in state["models"]]
        # With `observe: admin` the listener for traffic has no /v1/state; its readiness names the models too.
        async with session.get(f"{url.rstrip('/')}/readyz?verbose") as response:
            first, *lines = (await response.text()).splitlines() or [""]
    if first not in _READINESS:
        raise ValueError("what answers there is no canary-router")
    return [name for name in wanted if not any(line[3:].startswith(f" {name} ") for line in lines)]
