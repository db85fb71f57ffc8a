"""Run by itself: starts what a gateway starts, says their process ids, and waits to be killed.

`python gateway.py VERSIONS BUSY`: BUSY is empty, `at once`, `helper` for a process that a version starts, or
a file that a worker makes before it hangs.
"""

import asyncio
import json
import sys
from pathlib import Path

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import WorkerLoader
from tests.processes.conftest import Notes, ask, launch_seconds
from tests.support.saved_versions import command_query, predictions, spec_of


async def main(versions: Path, busy: str) -> None:
    template = ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())
    await template.start()
    pids = [template.pid]
    if busy != "at once":
        loader = WorkerLoader(template)
        workers = [await loader.load(spec_of(versions, "commands"), deadline_seconds=60) for _ in range(2)]
        pids += [worker.pid for worker in workers]
        if busy == "helper":
            [answer] = await ask(workers[0], command_query("fork:600"))
            pids += predictions(answer.body)
        elif busy:
            workers[0].submit([command_query(f"hang:{busy}")], lambda _places, _answers: None)
            while not Path(busy).exists():
                await asyncio.sleep(0.01)
    print(json.dumps(pids), flush=True)
    await asyncio.sleep(600)


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
