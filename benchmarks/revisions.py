"""What a change did to speed: gateways of two checkouts or more take turns under one load.

`python -m benchmarks.revisions --load text,1,64 --rounds 8 ../before .`: the others are held against the
first. All run side by side in this environment, each with the code of its own directory; one that is idle
takes next to nothing. Neighbouring rounds are compared: what else the machine does hits all alike.
With `--silent` each takes part once more, counting nothing (as in P13).
"""

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.figures import Round, ratios
from benchmarks.load import Loader, build_registry
from benchmarks.plan import Load
from benchmarks.processes import Ended, cores
from benchmarks.servers import GATEWAY, Place, Server, gateway_by
from benchmarks.workloads import WORKLOADS, write_requests

_SERVE, _SILENT = "router", "benchmarks.silent_gateway"
_WARM_SECONDS = 2


class Revision:
    """One checkout's gateway, and what its rounds took."""

    def __init__(self, name: str, server: Server) -> None:
        self.name, self.server = name, server
        self.rounds: list[Round] = []
        self.microseconds: list[dict[str, float]] = []
        """Processor time per request in each round, by process."""

    def measure(self, loader: Loader, requests: Path, load: Load, seconds: int) -> None:
        """One more round."""
        before = self.server.tree.processor_seconds()
        try:
            one = loader.good_round(self.server, requests, load.connections, seconds)
        except Ended as ended:
            raise SystemExit(f"{self.name}: {ended}") from None
        after = self.server.tree.processor_seconds()
        self.rounds.append(one)
        self.microseconds.append(
            {role: 1e6 * (used - before.get(role, 0.0)) / one.requests for role, used in after.items()}
        )

    def line(self, base: "Revision") -> str:
        """Medians of its rounds, and of its ratios to `base` round by round."""
        ratio = median(ratios(self.rounds, base.rounds, "per_second"))
        roles = [
            f"{role} {median(each.get(role, 0.0) for each in self.microseconds):.1f}"
            for role in ("gateway", "worker")
        ]
        rate = median(one.per_second for one in self.rounds)
        tail = median(one.p99_ms for one in self.rounds)
        return f"{self.name:28} {rate:8.0f} {ratio:7.3f}× {tail:9.2f}  {' + '.join(roles)}"


def main() -> None:
    """Read the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description="Compare checkouts of this repository under one load.")
    parser.add_argument("checkouts", nargs="+", type=Path, help="directories; the first is the base")
    parser.add_argument("--load", default="text,1,64", help="workload, rows and connections, as in text,1,64")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3, help="of one round")
    parser.add_argument("--silent", action="store_true", help="each once more, counting nothing")
    arguments = parser.parse_args()
    workload, rows, connections = arguments.load.split(",")
    load = Load(workload, int(rows), int(connections))
    server_core, client_core = cores() or (None, None)
    loader = Loader("wrk" if shutil.which("wrk") else "python", client_core)
    model = WORKLOADS[workload].model
    with ExitStack() as stack:
        place = Place(
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canary-router-revisions-"))),
            server_core,
        )
        build_registry(place.directory, {model: (model, 2)})
        requests = place.directory / "requests"
        write_requests(requests, load.workload, load.rows)
        revisions = []
        for checkout in arguments.checkouts:
            for module, suffix in ((_SERVE, ""), (_SILENT, " (silent)"))[: 1 + arguments.silent]:
                # -P: else the modules of the working directory, this checkout's, would come first.
                command = [sys.executable, "-P", "-m", module]
                started = gateway_by(
                    command, GATEWAY, [model], place, PYTHONPATH=str(checkout.resolve(strict=True))
                )
                revisions.append(Revision(f"{checkout}{suffix}", stack.enter_context(started)))
        for revision in revisions:
            loader.closed_loop(revision.server.port, requests, load.connections, _WARM_SECONDS)
        for turn in range(arguments.rounds):
            for revision in revisions if turn % 2 == 0 else reversed(revisions):
                revision.measure(loader, requests, load, arguments.seconds)
    print(f"{load}, {arguments.rounds} rounds of {arguments.seconds} s, medians")
    print(f"{'checkout':28} {'per s':>8} {'ratio':>8} {'p99 ms':>9}  µs a request")
    for revision in revisions:
        print(revision.line(revisions[0]))


if __name__ == "__main__":
    main()
