"""The demo itself: registry, gateway, traffic and screen put together. What is started here is ended here."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from router.demo.gateway_process import gateway, wait_until_ready
from router.demo.live import live
from router.demo.material import Material
from router.demo.operator import Registry, commands_to_try
from router.demo.registry_seed import ALIASES, SeedFailed, seed_beside, seeded
from router.demo.scene import Scene
from router.demo.screen import Screen, choose_screen
from router.demo.shutdown import Stop, Stopped, stop_on_signals, unless
from router.demo.story import Effect, steps, tell
from router.demo.summary import problems, summary
from router.demo.traffic import KEYS, REQUESTS_PER_SECOND
from router.demo.workspace import Workspace, free_ports, workspace
from router.errors import RouterError

INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""


def run(directory: Path, seconds: float | None) -> int:
    """Seed, serve, send and show; returns the exit code, as `router.demo.run` promises it."""
    try:
        with workspace(directory) as place:
            return asyncio.run(_show(place, seconds))
    except (Stopped, KeyboardInterrupt):
        print("stopped before it was through", file=sys.stderr)
        return INTERRUPTED
    except RouterError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1


async def _show(place: Workspace, seconds: float | None) -> int:
    stop = stop_on_signals()
    with choose_screen() as screen:
        materials = await unless(stop, _materials(place, screen.say))
        registry = Registry(place.registry_uri)
        await _start_over(registry, materials, screen.say)
        listen, admin = free_ports(8080, 8081) if seconds is None else free_ports(0, 0)
        place.write_config(listen, admin)
        url = f"http://127.0.0.1:{listen}"
        began = time.monotonic()
        async with gateway(place.config_file, place.gateway_log) as process:
            await unless(stop, wait_until_ready(process, place.gateway_log, url))
            screen.say(
                f"gateway ready at {url} after {time.monotonic() - began:.1f} s; its log: {place.gateway_log}"
            )
            screen.say(f"the live page of this rollout: {url}/")
            scene = Scene(materials)
            async with live(place, url, registry, process, scene, screen, stop):
                screen.say(f"traffic: {len(KEYS)} users, about {REQUESTS_PER_SECOND:g} requests per second")
                effects = await _through(place, url, registry, scene, screen, seconds, stop)
        screen.say()
        for line in summary(scene.checker, scene.tally, effects):
            screen.say(line)
        return 1 if problems(scene.checker, scene.tally, effects) else 0


async def _through(
    place: Workspace,
    url: str,
    registry: Registry,
    scene: Scene,
    screen: Screen,
    seconds: float | None,
    stop: Stop,
) -> Sequence[Effect]:
    if seconds is not None:
        return await unless(stop, tell(steps(place, registry, scene.checker), seconds, screen.say))
    screen.say("\nTry, in another terminal, here:\n")
    for told, command in commands_to_try(place, url):
        screen.say(f"# {told}\n{command}\n")
    screen.say(f"Prometheus: deploy/prometheus.yml scrapes 127.0.0.1:8080; this gateway is at {url}.")
    screen.say("Ctrl-C ends everything.\n")
    await stop
    return ()


async def _materials(place: Workspace, say: Callable[[str], None]) -> Mapping[str, Material]:
    """What the registry holds; it is seeded first where it does not hold it yet."""
    if (found := seeded(place)) is not None:
        say(f"registry found: {place.registry_uri}")
        return found
    say(f"training two versions of two models, once: {place.registry_uri}")
    await seed_beside(place, say)
    if (made := seeded(place)) is None:
        raise SeedFailed(f"the registry is not whole after seeding; see {place.seed_log}")
    return made


async def _start_over(
    registry: Registry, materials: Mapping[str, Material], say: Callable[[str], None]
) -> None:
    """Point the aliases where every demo starts, wherever the last one left them."""
    for model in materials:
        for alias, number in ALIASES.items():
            await registry.move(model, alias, number)
    say(
        f"{' and '.join(materials)}: "
        + ", ".join(f"@{alias} → v{number}" for alias, number in ALIASES.items())
    )
