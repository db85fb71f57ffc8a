"""Ends a writer of evidence before each of its steps in turn: `python -m … DIRECTORY`.

As `kill_steps`, whose way of dying it has. Of each life a line of JSON says how many requests had been
observed when a write was last answered, how many are on disk after it, and what could not be read.
"""

import json
import os
import sys
from pathlib import Path

from router.adapters.state.directory import WriterLock, own_directory
from router.adapters.state.evidence_files import Append, End, EvidenceFiles, FoundEvidence, Replace, Seal
from router.analysis.run_state import RunStateData
from router.core.ids import GatewayId
from tests.adapters.state.kill_steps import lives, write_uncounted
from tests.support.evidence import FIRST, RUN, SUBJECT, a_state, observed

ROUNDS = 3
STATE = a_state()


def state_of(requests: int, horizon: int) -> RunStateData:
    """One that was folded up to `horizon`, and says in one of its fields how many requests that were."""
    state = a_state() if requests else STATE
    state.left_out, state.horizon = requests, horizon
    return state


def requests_in(found: FoundEvidence) -> tuple[int, int]:
    """That are kept, and the last cell of which something is."""
    (run,) = found.stored.runs.values() or (None,)
    if run is None:
        return 0, FIRST - 1
    parts = [(cell, part) for cell, cells in run.sealed for part in cells]
    parts += [
        (one.cell, part) for end in found.stored.ended for one in end.batches for _, part in one.runs.values()
    ]
    requests = sum(record.production.requests for _, part in parts for record in part.records)
    return run.state.left_out + requests, max([run.state.horizon, *(cell for cell, _ in parts)])


def live(named: Path, answers: int) -> None:
    """One gateway's life: takes up what is there, and says on `answers` how many requests are kept."""
    directory = own_directory(named)
    lock = WriterLock(directory, "gw-1:1")
    assert lock.take()
    files = EvidenceFiles(GatewayId(f"{os.getpid():016x}", "gw-1"))
    requests, cell = requests_in(files.open(directory))
    for number in range(ROUNDS):
        files.write(Replace(RUN, SUBJECT, state_of(requests, cell), FIRST, []))
        write_uncounted(answers, f"{requests}\n".encode())
        for _ in range(2):
            cell += 1
            files.write(Append(RUN, cell, observed(1, 0)))
            requests += 1
            write_uncounted(answers, f"{requests}\n".encode())
            if number:
                files.write(Seal(RUN, cell, {}))
    files.write(End())


def main(named: Path) -> None:
    for calls, code, answered in lives(named, live):
        found = EvidenceFiles(GatewayId("f" * 16, "judge")).open(own_directory(named))
        clean = [end.clean for end in found.stored.ended]
        life = {"calls": calls, "code": code, "answered": answered[-1:], "kept": requests_in(found)[0]}
        print(json.dumps({**life, "clean": clean, "set_aside": found.set_aside}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
