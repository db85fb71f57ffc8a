"""`python -m benchmarks.kept_requests`: what it costs a request that some are kept for the pre-flight.

Processor time of this process, so that other work on the machine hardly shows; the fastest of many rounds.
"""

import asyncio
from collections.abc import Callable
from time import process_time

from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.kept_requests import KeptRequests
from router.settings.preflight import PreflightSettings

REQUESTS = 200_000
"""Of one round: so many came before it as well, so that few of them are kept."""
ROUNDS = 15
BODY_BYTES = (200, 20_000)


def _of_each(work: Callable[[], None]) -> float:
    """Microseconds of a request."""
    took = []
    for _ in range(ROUNDS):
        began = process_time()
        work()
        took.append(process_time() - began)
    return min(took) / REQUESTS * 1e6


def _work(kept: KeptRequests | None, size: int) -> Callable[[], None]:
    query = Query(b"x" * size, "application/json")
    answer = Answer(PredictStatus.OK, 200, b"{}", "application/json", 1, 0.001, answer_rows=1)

    def work() -> None:
        for _ in range(REQUESTS):
            if kept is not None:
                kept.offer(query, answer)

    return work


async def main() -> None:
    """Print a line for each size of the bodies."""
    off = _of_each(_work(None, 200))
    for size in BODY_BYTES:
        kept = KeptRequests(PreflightSettings().limits)
        _work(kept, size)()
        on = _of_each(_work(kept, size))
        print(f"{size} bytes: {off:.3f} us a request with it off, {on:.3f} us on; {len(kept)} are kept")
        kept.clear()


if __name__ == "__main__":
    asyncio.run(main())
