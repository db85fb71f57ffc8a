"""The frames about threads for linear algebra: what is sent is read, and nothing else."""

from typing import Any

import pytest

from router.protocol.cpu_threads import (
    MOST_THREADS,
    CpuThreads,
    cpu_threads_header,
    cpu_threads_of,
    most_threads_header,
    most_threads_of,
)
from router.protocol.messages import WireRefused

CHOSEN = CpuThreads(4, computes=True, why="its predicts took 5 ms with 4 threads")


def test_what_is_sent_is_read() -> None:
    assert cpu_threads_of(cpu_threads_header(CHOSEN)) == CHOSEN
    assert most_threads_of(most_threads_header(8)) == 8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("threads", value) for value in (0, -1, True, 1.0, "2", None, MOST_THREADS + 1)),
        *(("computes", value) for value in (1, None, "yes")),
        *(("why", value) for value in (None, 7, "x" * 201, "two\nlines", "\x1b[31m")),
    ],
)
def test_anything_else_is_refused(field: str, value: Any) -> None:
    with pytest.raises(WireRefused):
        cpu_threads_of({**cpu_threads_header(CHOSEN), field: value})


@pytest.mark.parametrize("field", ["threads", "computes", "why"])
def test_a_frame_without_one_of_its_fields_is_refused(field: str) -> None:
    header = cpu_threads_header(CHOSEN)
    del header[field]
    with pytest.raises(WireRefused):
        cpu_threads_of(header)
