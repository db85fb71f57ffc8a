"""`python -m benchmarks [--quick] [--only P1,P9]`: measure, print the tables, write the JSON."""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from benchmarks import machine, report
from benchmarks.bars import BARS
from benchmarks.load import Loader
from benchmarks.modes import PLANS
from benchmarks.plan import Agenda, agenda
from benchmarks.processes import OUTPUT, cores
from benchmarks.session import Session
from benchmarks.throughput import Unequal


def main(arguments: list[str]) -> int:
    """Exit code: 0 when nothing broke, however slow it was; 1 otherwise."""
    options = _options(arguments)
    # Being asked to stop is an exit like any other: what was started is ended on the way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    server_core, load_core = (None if options.no_pin else cores()) or (None, None)
    client = options.client or ("wrk" if shutil.which("wrk") else "python")
    if client == "python":
        _say("load comes from a Python client; wrk (package `wrk` in Debian) reaches higher rates")
    loader = Loader(client, load_core)
    about = machine.describe(loader, server_core)
    began = time.monotonic()
    try:
        results = Session(_agenda(options), loader, server_core, _say).measure()
    except Unequal as unequal:
        _say(f"nothing was measured: {unequal}")
        return 1
    about |= {"seconds": round(time.monotonic() - began, 1), "load_average_at_end": os.getloadavg()}
    for line in ["", *report.lines(about, results)]:
        print(line)
    path = options.output or OUTPUT / f"{about['date'].replace(':', '')}-{options.plan}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.document(about, results), indent=1) + "\n", encoding="utf-8")
    print(f"\n{path}: all rounds; {about['seconds']} s")
    return 1 if results.broken else 0


def _agenda(options: argparse.Namespace) -> Agenda:
    plan = PLANS[options.plan]
    wanted = options.only or plan.bars
    needs = [bar.need for bar in BARS if wanted is None or bar.number in wanted]
    return agenda(plan, needs, options.pythons)


def _numbers(text: str) -> frozenset[str]:
    numbers, known = frozenset(text.split(",")), {bar.number for bar in BARS}
    if unknown := numbers - known:
        raise argparse.ArgumentTypeError(f"no bar {', '.join(sorted(unknown))}: {', '.join(sorted(known))}")
    return numbers


def _minors(text: str) -> list[str]:
    minors = text.split(",")
    if strange := [minor for minor in minors if re.fullmatch(r"3\.\d+", minor) is None]:
        raise argparse.ArgumentTypeError(f"not of the form 3.12: {', '.join(strange)}")
    return list(dict.fromkeys(minors))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--quick", dest="plan", action="store_const", const="quick", help="the bars P1 to P12 in short rounds"
    )
    mode.add_argument(
        "--tiny", dest="plan", action="store_const", const="tiny", help="only whether all of it works"
    )
    parser.add_argument(
        "--only", type=_numbers, help="bars, as in P1,P10,P15; what they need is measured and nothing else"
    )
    parser.add_argument(
        "--client", choices=("wrk", "python"), help="who sends the load; wrk where it is installed"
    )
    parser.add_argument(
        "--pythons",
        type=_minors,
        default=[],
        help="interpreters, as in 3.11,3.12,3.13: gateways under them take part in the same loads",
    )
    parser.add_argument("--no-pin", action="store_true", help="let servers and load use every processor")
    parser.add_argument("--output", type=Path, help="the JSON file; below .bench/ unless named")
    parser.set_defaults(plan="full")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
