"""How slow this machine is: the factor by which tests widen their bounds in seconds.

`CI_SLACK` gives it. Where it is not given it is measured once, before the first test, and `CI_SLACK` is set
for the processes that are started from then on. `CI_SLACK_AT_LEAST` is a lower bound of what is measured: two
seconds show nothing of what else will run on the machine before the last test.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

GIVEN, AT_LEAST = "CI_SLACK", "CI_SLACK_AT_LEAST"
LEAST, MOST = 1.0, 20.0
SECONDS = 2.0
"""How long one measurement takes, in all its processes at the same time."""
PATIENCE_SECONDS = 60.0
"""A machine that needs longer than this for two seconds' work is as slow as any can be."""
REFERENCE_SECONDS: Mapping[str, float] = {"compute": 0.011, "start": 0.012, "round_trips": 0.006}
"""What each part of the work takes on a quiet laptop of 2023 with Python 3.11."""
COMPUTE_STEPS = 200_000
ROUND_TRIPS = 200
_PARTS = 10
"""In so many parts the computing is cut, where what is measured beside it takes a millisecond or two."""
_PYTHON = (sys.executable, "-I", "-S")
_ECHO = "import os\nwhile part := os.read(0, 1): os.write(1, part)"


def slack() -> float:
    """The factor in force, 1.0 where none was given or measured."""
    return float(os.environ.get(GIVEN, LEAST))


def factor(seconds: Sequence[Mapping[str, float]], at_least: float = LEAST) -> float:
    """From 1 to 20: how much longer than on the reference the slowest part of the work took.

    `seconds` has one mapping for each process that measured, of the parts in REFERENCE_SECONDS. A machine may
    compute fast and start processes slowly, and most tests wait for what is slow.
    """
    slowest = max(
        fmean(one[part] for one in seconds) / reference for part, reference in REFERENCE_SECONDS.items()
    )
    return round(min(max(slowest, at_least, LEAST), MOST), 1)


def measure(processes: int) -> list[dict[str, float]]:
    """Mean seconds of each part of the work, by each of `processes` that do it beside each other."""
    command = [*_PYTHON, __file__]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    try:
        return [json.loads(one.communicate(timeout=PATIENCE_SECONDS)[0]) for one in started]
    except subprocess.TimeoutExpired:
        return [{part: MOST * seconds for part, seconds in REFERENCE_SECONDS.items()}]
    finally:
        for one in started:
            one.kill()
            one.communicate()


def settle(processes: int) -> str:
    """Make sure that there is a factor, for us and what we start; returns a line that says which it is."""
    if GIVEN in os.environ:
        return f"slowness {slack():g} ({GIVEN})"
    at_least = float(os.environ.get(AT_LEAST, LEAST))
    found = factor(measure(processes), at_least)
    os.environ[GIVEN] = f"{found:g}"
    return f"slowness {found:g} (measured" + (f", at least {at_least:g})" if at_least > LEAST else ")")


def reference_seconds(work: Callable[[], object], tries: int = 20) -> float:
    """Processor time that `work` takes in this thread, as it would be on the machine of REFERENCE_SECONDS.

    The least of several tries, over the least that the reference's computing takes between them: a factor
    that was measured before the first test says little of a machine whose speed changes.
    """
    taken, reference = float("inf"), float("inf")
    for _ in range(tries):
        taken = min(taken, _time(work, time.thread_time))
        reference = min(reference, _time(lambda: _compute(COMPUTE_STEPS // _PARTS), time.thread_time))
    return taken / (_PARTS * reference) * REFERENCE_SECONDS["compute"]


def _compute(steps: int = COMPUTE_STEPS) -> None:
    sum(number * number % 7 for number in range(steps))


def _start() -> None:
    subprocess.run([*_PYTHON, "-c", "pass"], check=True)


def _time(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began


def _work(seconds: float) -> dict[str, float]:
    """The mean of each part, over as many rounds as begin within `seconds`."""
    with subprocess.Popen(
        [*_PYTHON, "-c", _ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        there, back = echo.stdin.fileno(), echo.stdout.fileno()

        def round_trips() -> None:
            for _ in range(ROUND_TRIPS):
                os.write(there, b".")
                os.read(back, 1)

        round_trips()  # which waits until it has started
        parts = {"compute": _compute, "start": _start, "round_trips": round_trips}
        ends = time.monotonic() + seconds
        rounds = [{part: _time(work) for part, work in parts.items()}]
        while time.monotonic() < ends:
            rounds.append({part: _time(work) for part, work in parts.items()})
    return {part: fmean(one[part] for one in rounds) for part in parts}


if __name__ == "__main__":
    print(json.dumps(_work(SECONDS)))
