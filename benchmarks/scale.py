"""What more models, more versions and more keys cost."""

import time
from collections.abc import Callable

from benchmarks.load import Loader
from benchmarks.plan import Plan
from benchmarks.registry_layout import MODELS
from benchmarks.results import Results, Scale
from benchmarks.servers import Place, Server, gateway
from benchmarks.workloads import bodies, write_keys, write_requests

MODEL = "text"
CONNECTIONS = 16
_WARM_SECONDS = 1
_REQUESTS_PER_MODEL = 100
_REST_SECONDS = 0.5
_KEYS_PER_ROUND = 50_000
_FEW_KEYS = 1_000
_KEYS_LIMIT_SECONDS = 120.0


def measure(plan: Plan, place: Place, loader: Loader, results: Results, say: Callable[[str], None]) -> None:
    """Gateways with one model and with ten, each weighed alone; then side by side. Raises Ended."""
    more = MODELS[MODEL]
    say("  one model, alone")
    with gateway(MODEL, place) as one:
        one_mib = _weighed(one, [MODEL])
        say(f"  {plan.keys} keys")
        before, after, keys = _series(one, plan.keys, place, loader)
    say(f"  {1 + len(more)} models, alone")
    with gateway(MODEL, place, more=more) as many:
        many_mib = _weighed(many, [MODEL, *more])
        say("  one model and ten in turns")
        with gateway(MODEL, place) as one:
            slower = _slower(one, many, plan, place, loader)
    results.scale = Scale(1 + len(more), 2 * len(more), one_mib, many_mib, slower, keys, before, after)


def _weighed(server: Server, models: list[str]) -> float:
    """MiB after every version answered some requests."""
    for model in models:
        for key, body in enumerate(bodies(MODEL, 1)[:_REQUESTS_PER_MODEL]):
            server.ask(body, f"user-{key}", model=model)
    time.sleep(_REST_SECONDS)
    return server.tree.level().pss_mib


def _slower(one: Server, many: Server, plan: Plan, place: Place, loader: Loader) -> list[float]:
    """Time per request with many models over that with one, in neighbouring rounds; the first is asked."""
    requests = place.directory / "scale.requests"
    write_requests(requests, MODEL, 1)
    for server in (one, many):
        loader.closed_loop(server.port, requests, CONNECTIONS, _WARM_SECONDS)
    return [
        loader.good_round(one, requests, CONNECTIONS, plan.seconds).per_second
        / loader.good_round(many, requests, CONNECTIONS, plan.seconds).per_second
        for _ in range(plan.rounds)
    ]


def _series(server: Server, wanted: int, place: Place, loader: Loader) -> tuple[int, int, int]:
    """Series before and after requests with that many different keys, and how many they were.

    A few keys come first under the same load, so that what it brings besides keys, such as predicts of many
    requests, has its series already.
    """
    requests = place.directory / "keys.requests"
    write_keys(requests, MODEL, wanted, _FEW_KEYS)
    loader.closed_loop(server.port, requests, CONNECTIONS, _WARM_SECONDS)
    before, sent = _count(server), 0
    ends_at = time.monotonic() + _KEYS_LIMIT_SECONDS
    while sent < wanted and time.monotonic() < ends_at:
        write_keys(requests, MODEL, sent, _KEYS_PER_ROUND)
        reported = loader.closed_loop(server.port, requests, CONNECTIONS, _WARM_SECONDS)
        # A key counts once, however often the client came round to it.
        sent += min(reported.requests - reported.failed, _KEYS_PER_ROUND)
    return before, _count(server), sent


def _count(server: Server) -> int:
    return sum(bool(line) and not line.startswith(b"#") for line in server.get("/metrics").splitlines())
