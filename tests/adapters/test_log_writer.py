"""Lines go out in order where somebody reads, and are dropped, counted and described where nobody does."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from router.adapters.log.writer import LineHandler, LineWriter
from tests.support.waiting import wait_until

PIPE_BYTES = 65_536


class Pipe:
    """A pipe whose reader reads only when it is asked to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._partial = b""

    def stuff(self) -> None:
        """Fill it with one line: what is written now waits."""
        os.write(self.writer, b"x" * (PIPE_BYTES - 1) + b"\n")

    def line(self) -> str:
        """The next line; waits for it."""
        while b"\n" not in self._partial:
            self._partial += os.read(self.reader, PIPE_BYTES)
        line, _, self._partial = self._partial.partition(b"\n")
        return line.decode()

    def lines_up_to(self, last: str) -> list[str]:
        """Every line from here on, the last one `last`."""
        lines = [self.line()]
        while lines[-1] != last:
            lines.append(self.line())
        return lines

    def close(self) -> None:
        for descriptor in (self.reader, self.writer):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def writer(pipe: Pipe) -> Iterator[LineWriter]:
    """Room for 1000 lines of 100 bytes."""
    writer = LineWriter(pipe.writer, most_lines=1000, most_bytes=100_000)
    yield writer
    writer.close()
    os.close(
        pipe.reader
    )  # its thread may wait for a reader, and must not write to what gets this number next
    if writer._thread is not None:
        writer._thread.join()


def fill(writer: LineWriter, *, lines: int = 10_000, length: int = 80) -> None:
    """Far more than the pipe and the writer take, while nobody reads."""
    for number in range(lines):
        writer.write(f"{number:0{length}}")


def test_lines_are_written_in_the_order_in_which_they_came(pipe: Pipe, writer: LineWriter) -> None:
    for number in range(5_000):
        writer.write(f"line {number}")
        if number % 500 == 499:
            assert [pipe.line() for _ in range(500)] == [f"line {n}" for n in range(number - 499, number + 1)]

    assert writer.dropped == 0


def test_nobody_waits_where_nobody_reads_and_what_waits_is_bounded(pipe: Pipe, writer: LineWriter) -> None:
    fill(writer, lines=20_000)

    kept = 20_000 - writer.dropped
    assert PIPE_BYTES // 81 - 100 < kept < PIPE_BYTES // 81 + 1_000 + 100


def test_what_waits_is_bounded_in_bytes_too(pipe: Pipe, writer: LineWriter) -> None:
    fill(writer, lines=500, length=2_000)

    assert (500 - writer.dropped) * 2_001 < PIPE_BYTES + 100_000 + 10_000


def test_a_gap_is_one_line_in_its_place_that_says_how_many_are_missing(
    pipe: Pipe, writer: LineWriter
) -> None:
    writer.describe_dropped = lambda lines: f"missing {lines}"
    pipe.stuff()
    fill(writer)
    dropped = writer.dropped
    pipe.line()
    before = [pipe.line() for _ in range(10_000 - dropped)]
    gap = pipe.line()
    writer.write("later")

    assert [int(line) for line in before] == list(range(10_000 - dropped))
    assert gap == f"missing {dropped}"
    assert pipe.line() == "later"
    assert writer.dropped == dropped


def test_a_reader_that_comes_back_slowly_sees_few_gaps_and_no_line_is_unaccounted_for(
    pipe: Pipe, writer: LineWriter
) -> None:
    """A line for a line would be gap after gap."""
    writer.describe_dropped = lambda lines: f"missing {lines}"
    seen: list[str] = []
    for number in range(20_000):
        writer.write(f"{number:080}")
        if number % 2:
            seen.append(pipe.line())
    reading = threading.Thread(target=lambda: seen.extend(pipe.lines_up_to("end")), daemon=True)
    reading.start()
    assert writer.flush()
    writer.write("end")
    reading.join()

    gaps = [int(line.split()[1]) for line in seen if line.startswith("missing")]
    numbers = [int(line) for line in seen if line.isdigit()]
    assert numbers == sorted(numbers)
    assert len(numbers) + sum(gaps) == 20_000
    assert sum(gaps) == writer.dropped > 0
    assert len(gaps) <= 20_000 // 500


def test_a_flush_waits_for_a_reader_that_reads(pipe: Pipe, writer: LineWriter) -> None:
    fill(writer, lines=900)
    writer.write("end")
    seen: list[str] = []
    reading = threading.Thread(target=lambda: seen.extend(pipe.lines_up_to("end")), daemon=True)
    reading.start()

    assert writer.flush()
    reading.join()
    assert len(seen) == 901


def test_a_flush_gives_up_where_nobody_reads(pipe: Pipe, writer: LineWriter, slack: float) -> None:
    fill(writer)
    began = time.monotonic()

    assert not writer.flush()
    assert time.monotonic() - began < 1.0 * slack
    again = time.monotonic()
    assert not writer.flush()  # it is known to be stuck
    assert time.monotonic() - again < 0.2 * slack


def test_a_full_disk_loses_lines_and_the_first_one_that_fits_says_how_many(
    pipe: Pipe, writer: LineWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    write = os.write

    def fails(descriptor: int, text: bytes) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, text)

    monkeypatch.setattr("router.adapters.log.writer.os.write", fails)
    writer.describe_dropped = lambda lines: f"missing {lines}"
    writer.write("before")
    assert pipe.line() == "before"
    full.set()
    for number in range(3):
        writer.write(f"lost {number}")
        assert writer.flush()
    full.clear()
    writer.write("after")

    assert [pipe.line(), pipe.line()] == ["missing 3", "after"]
    assert writer.dropped == 3


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(
    pipe: Pipe, writer: LineWriter
) -> None:
    os.set_blocking(pipe.writer, False)
    fill(writer, lines=900)
    writer.write("end")

    assert len(pipe.lines_up_to("end")) == 901
    assert writer.dropped == 0


def test_a_destructor_that_logs_while_a_line_is_written_does_not_lock_the_writer(
    pipe: Pipe, writer: LineWriter
) -> None:
    with writer._lock:  # as when garbage is collected in there
        writer.write("from a destructor")

    assert pipe.line() == "from a destructor"


def test_lines_of_many_threads_come_whole_and_in_each_ones_order(pipe: Pipe, writer: LineWriter) -> None:
    def work(name: int) -> None:
        for number in range(100):
            writer.write(f"{name} {number} {'x' * 50}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    lines = [pipe.line().split() for _ in range(500)]
    for thread in threads:
        thread.join()

    assert all(line[2] == "x" * 50 for line in lines)
    for name in range(5):
        assert [int(line[1]) for line in lines if line[0] == str(name)] == list(range(100))


def test_a_closed_writer_writes_what_waits_and_ends_its_thread(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer)
    writer.write("the only one")
    thread = writer._thread
    assert thread is not None
    writer.close()
    thread.join()

    assert pipe.line() == "the only one"


def test_a_value_that_has_no_text_is_a_line_without_it_and_prints_nothing(
    pipe: Pipe, writer: LineWriter, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python's own handler prints the values, and blocks while it does."""

    class Unprintable:
        def __str__(self) -> str:
            raise ValueError("the payload")

    logger = logging.Logger("some.library")
    logger.addHandler(LineHandler(writer))
    logger.warning("a value: %s", Unprintable())

    assert pipe.line() == "a log line can not be formatted: ValueError"
    assert capfd.readouterr().err == ""


PRELUDE = """\
import logging, sys
from router.adapters.log.format import configure_logging, install_exception_hooks
configure_logging('info', 'json'); install_exception_hooks()
log = logging.getLogger('x')
"""


def run(code: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PRELUDE + code], **options)


def test_the_last_lines_and_a_crash_are_written_before_the_process_ends() -> None:
    process = run(
        "for n in range(3000): log.info('line %d', n)\nraise ValueError('gone')", stderr=subprocess.PIPE
    )
    lines = [json.loads(line) for line in process.communicate(timeout=60)[1].splitlines()]

    assert [line["event"] for line in lines[:-1]] == [f"line {n}" for n in range(3000)]
    assert lines[-1]["exception"].endswith("ValueError: gone")
    assert process.returncode == 1


def test_a_gap_is_a_line_of_the_log(pipe: Pipe) -> None:
    pipe.stuff()
    process = run(
        "for n in range(12_000): log.info('x' * 20)\nprint(flush=True)\nsys.stdin.read(1)\n",
        stderr=pipe.writer,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    pipe.line()
    count = 0
    while (line := json.loads(pipe.line()))["event"] != "log lines dropped":
        count += 1
    process.communicate(b"\n", timeout=60)

    assert line.pop("timestamp")
    assert line == {"event": "log lines dropped", "level": "warning", "lines": 12_000 - count}


def test_a_process_ends_where_nobody_reads_its_log(pipe: Pipe, slack: float) -> None:
    pipe.stuff()
    process = run("for n in range(3000): log.info('x' * 200)\n1 / 0", stderr=pipe.writer)
    try:
        wait_until(lambda: process.poll() is not None, 10 * slack)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1


def test_a_process_without_a_standard_error_logs_into_nothing() -> None:
    """Its number is soon that of another file, which nobody wants a log in."""
    code = PRELUDE + (
        "import socket\na, b = socket.socketpair()\nlog.error('nobody reads this')\n"
        "from router.adapters.log.writer import STDERR\nassert STDERR.flush()\n"
        "a.setblocking(False); b.setblocking(False)\n"
        "for end in (a, b):\n"
        "    try: end.recv(1)\n"
        "    except BlockingIOError: continue\n"
        "    raise SystemExit('a line in a socket')\n"
    )
    done = subprocess.run(["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], timeout=60)

    assert done.returncode == 0
