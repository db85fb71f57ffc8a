"""`python -m benchmarks.shadow`: what shadows cost production's callers while processors are idle.

One gateway, a canary without a share, and requests on schedule; `shadow` is turned off and on by turns, hot.
Windows beside each other are compared: what else the machine does hits both alike.
"""

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import percentile
from benchmarks.load import build_registry
from benchmarks.servers import GATEWAY, HOST, Place, Server, gateway_by
from benchmarks.workloads import WORKLOADS, bodies

WORKLOAD = "text"
_ON = "split: {production: 100, canary: 0}, shadow: {canary: 10}"
_OFF = "split: {production: 100, canary: 0}"
_IN_FORCE_SECONDS = 30.0
_KNOWN_SECONDS = 3.0
"""After which it is known how idle the processors are."""


def _turn(server: Server, config: Path, *, on: bool) -> None:
    """Turn shadows on or off, and wait until that is in force."""
    text = config.read_text().replace(_ON, _OFF)
    config.write_text(text.replace(_OFF, _ON) if on else text)
    ends_at = time.monotonic() + _IN_FORCE_SECONDS
    while bool(_shadows(server)) is not on:
        if time.monotonic() > ends_at:
            raise SystemExit("the configuration was not followed")
        time.sleep(0.2)
    time.sleep(_KNOWN_SECONDS)


def _shadows(server: Server) -> dict[str, dict[str, Any]]:
    [model] = json.loads(server.get("/v1/state"))["models"].values()
    shown: dict[str, dict[str, Any]] = model["shadow"] or {}
    return shown


def _window(server: Server, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each answer, from when its request was due."""
    asked = bodies(WORKLOAD, 1)
    took: list[float] = []
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due_at = began + number / rate
        time.sleep(max(0.0, due_at - time.perf_counter()))
        headers = {"Content-Type": "application/json", "X-Request-Key": f"user-{number}"}
        connection.request("POST", "/invocations", asked[number % len(asked)], headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a request was answered with {answer.status}")
        took.append((time.perf_counter() - due_at) * 1e3)
    connection.close()
    return took


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description="What shadows cost production's callers.")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--rounds", type=int, default=8, help="of one window off and one on")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one window")
    arguments = parser.parse_args()
    model = WORKLOADS[WORKLOAD].model
    windows: dict[bool, list[list[float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="canary-router-shadow-") as directory:
        place = Place(Path(directory), None)
        build_registry(place.directory, {model: (model, 2)})
        with gateway_by(["canary-router"], GATEWAY, [model], place, share=0) as server:
            config = place.directory / f"router-{server.port}.yaml"
            _window(server, arguments.rate, 3.0)
            compared = dropped = 0
            for turn in range(arguments.rounds):
                for state in (False, True) if turn % 2 == 0 else (True, False):
                    _turn(server, config, on=state)
                    windows[state].append(_window(server, arguments.rate, arguments.seconds))
                    if state:
                        counts = _shadows(server)["canary"]
                        compared += counts["compared"]
                        dropped += sum(counts["dropped"].values())
    print(f"{arguments.rate:g} a second, {arguments.rounds} windows of {arguments.seconds:g} s each, medians")
    print(f"{compared} shadows were compared, {dropped} dropped")
    for name, share in (("p50", 50.0), ("p99", 99.0)):
        off = [percentile(one, share) for one in windows[False]]
        on = [percentile(one, share) for one in windows[True]]
        ratio = median(with_it / without for with_it, without in zip(on, off, strict=True))
        print(f"{name}: {median(off):.2f} ms off, {median(on):.2f} ms on, {ratio:.3f} times")


if __name__ == "__main__":
    main()
