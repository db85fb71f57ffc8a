"""Everything that runs while the story is told: traffic, the watch that judges it, the screen."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from router.demo.answer import Answer
from router.demo.gateway_process import GatewayFailed, read_state
from router.demo.operator import Registry
from router.demo.scene import Scene
from router.demo.screen import Screen
from router.demo.shutdown import Stop, beside
from router.demo.traffic import Traffic
from router.demo.watch import Watch
from router.demo.workspace import Workspace

REFRESH_SECONDS = 0.5
LAST_LOOKS_SECONDS = 10.0
"""How long the last answers may wait to be judged after traffic has ended."""


@asynccontextmanager
async def live(
    place: Workspace, url: str, registry: Registry, process: Process, scene: Scene, screen: Screen, stop: Stop
) -> AsyncIterator[None]:
    """Traffic flows while the block runs; when it is left, all that was sent is answered and judged."""
    watch = Watch(registry, place.config_file, scene.checker)

    def receive(answer: Answer) -> None:
        scene.tally.count(answer)
        watch.receive(answer)

    traffic = Traffic(url, scene.materials, receive)
    flow, looking = beside(stop, traffic.flow()), beside(stop, watch.keep_looking())
    others = [beside(stop, _refresh(url, scene, screen)), beside(stop, _guard(process))]
    try:
        yield
        traffic.stop()
        await flow
        watch.finish()
        await asyncio.wait({looking}, timeout=LAST_LOOKS_SECONDS)
    finally:
        for task in (flow, looking, *others):
            task.cancel()
        await asyncio.gather(flow, looking, *others, return_exceptions=True)


async def _refresh(url: str, scene: Scene, screen: Screen) -> None:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            scene.state = await read_state(session)
            screen.refresh(scene)
            await asyncio.sleep(REFRESH_SECONDS)


async def _guard(process: Process) -> None:
    """Without its gateway the demo has nothing to show."""
    raise GatewayFailed(f"the gateway ended with code {await process.wait()}")
