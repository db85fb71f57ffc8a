"""A child's pipe: lines out, nobody waits, nothing grows."""

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from msgspec.structs import replace

from router.core.ids import VersionId
from router.processes.child import ChildPython
from router.processes.forkserver import ForkServerSupervisor
from router.processes.output import LONGEST_LINE_BYTES, Output
from router.processes.worker_client import Worker
from tests.processes.conftest import Notes, ask, launch_seconds, running
from tests.support.saved_versions import command_query, spec_of, text_query
from tests.support.waiting import until


class Listening:
    """An sink, and one for everybody, that keeps what it hears; `deaf` leaves out what is not our own.

    Of that it takes a thousand lines.
    """

    def __init__(self, *, deaf: bool = False) -> None:
        self.lines: list[bytes] = []
        self.left_out = 0
        self.deaf = deaf
        self.ended = False
        self.deaths: list[tuple[str, list[str]]] = []
        self.sinks: list[tuple[str, VersionId | None]] = []
        self.before_requests: list[bytes] | None = None

    def sink_for(self, role: str, version: VersionId | None) -> "Listening":
        self.sinks.append((role, version))
        return self

    def write(self, line: bytes) -> bool:
        if self.deaf and (not line.startswith(b"\x1f") or len(self.lines) == 1000):
            self.left_out += 1
            return False
        self.lines.append(line)
        return True

    def skipped(self, lines: int) -> None:
        self.left_out += lines

    def died(self, how: str, lines: Sequence[str]) -> None:
        self.deaths.append((how, list(lines)))

    def requests_started(self) -> None:
        self.before_requests = list(self.lines)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
async def pipe() -> AsyncIterator[Callable[[Listening], Output]]:
    made: list[Output] = []

    def make(sink: Listening) -> Output:
        made.append(Output(sink))
        return made[-1]

    yield make
    for output in made:
        output.close()


def write_all(fd: int, data: bytes) -> None:
    """From a thread, as a child would: waits where the pipe is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def print_on(fd: int, data: bytes, enough: threading.Event) -> None:
    """As fast as the pipe takes it."""
    while not enough.is_set():
        os.write(fd, data)


async def test_lines_come_whole_however_they_were_written(pipe: Callable[[Listening], Output]) -> None:
    sink = Listening()
    output = pipe(sink)
    for part in (b"on", b"e\ntw", b"o\n\nthree\nfour, unfinished"):
        os.write(output.theirs, part)
        await asyncio.sleep(0.02)
    assert sink.lines == [b"one", b"two", b"", b"three"]

    output.close()

    assert sink.lines[-1] == b"four, unfinished"
    assert sink.ended


async def test_a_line_without_an_end_does_not_grow(pipe: Callable[[Listening], Output]) -> None:
    sink = Listening()
    output = pipe(sink)

    await asyncio.to_thread(write_all, output.theirs, b"x" * (8 << 20) + b"\nnext\n")

    await until(lambda: len(sink.lines) == 2, 5)
    assert [len(line) for line in sink.lines] == [LONGEST_LINE_BYTES, 4]


async def test_what_is_left_out_is_counted_to_the_line(pipe: Callable[[Listening], Output]) -> None:
    sink = Listening(deaf=True)
    output = pipe(sink)

    await asyncio.to_thread(write_all, output.theirs, b"noise\n" * 100_000 + b"rest")
    output.close()

    assert sink.left_out == 100_001
    assert sink.lines == []


async def test_what_we_say_ourselves_is_found_among_noise(pipe: Callable[[Listening], Output]) -> None:
    sink = Listening(deaf=True)
    output = pipe(sink)

    os.write(output.theirs, b"noise\n" * 50 + b"\x1f{}\n" + b"noise\n" * 7 + b"\x1f[]\nnoise\n")
    output.close()

    assert sink.lines == [b"\x1f{}", b"\x1f[]"]
    assert sink.left_out == 58


async def test_a_megabyte_is_printed_without_waiting_for_us(pipe: Callable[[Listening], Output]) -> None:
    """The loop does not turn here at all."""
    output = pipe(Listening())
    os.set_blocking(output.theirs, False)

    written = 0
    with suppress(BlockingIOError):
        while written < 1 << 20:
            written += os.write(output.theirs, b"x" * 4096)

    assert written == 1 << 20


async def test_endless_printing_leaves_the_loop_to_others(
    pipe: Callable[[Listening], Output], figure: Callable[[str], None]
) -> None:
    """A child prints as fast as it can, in the shortest of lines, and in our own form: the worst there is."""
    for name, line in (("short lines", b"\n"), ("forged lines", b"\x1f\n"), ("no lines", b"x")):
        sink = Listening(deaf=True)
        output = pipe(sink)
        enough = threading.Event()
        printing = asyncio.create_task(
            asyncio.to_thread(print_on, output.theirs, line * (65_536 // len(line)), enough)
        )
        began, used = time.monotonic(), time.thread_time()
        while time.monotonic() - began < 0.5:
            await asyncio.sleep(0.01)
        busy = (time.thread_time() - used) / (time.monotonic() - began)
        enough.set()
        await until(printing.done, 5)
        figure(f"a child that prints {name} without end takes {busy:.1%} of a processor here")
        assert busy < 0.5
        output.close()


async def test_the_pipe_closes_with_the_child_though_others_hold_it(
    pipe: Callable[[Listening], Output],
) -> None:
    """What a version started may outlive it, and would keep a descriptor of ours for ever."""
    sink = Listening()
    before = psutil.Process().num_fds()
    output = pipe(sink)
    kept = os.dup(output.theirs)
    os.write(kept, b"last words")

    output.close()

    assert (sink.lines, sink.ended) == ([b"last words"], True)
    assert psutil.Process().num_fds() == before + 1
    os.close(kept)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def heard_template() -> AsyncIterator[tuple[ForkServerSupervisor, Listening]]:
    """A template for tests that leave it alive, and who hears it and all its children."""
    listener = Listening()
    template = ForkServerSupervisor(Notes(), outputs=listener, launch_seconds=launch_seconds())
    async with running(template):
        yield template, listener


@pytest.fixture
def heard(heard_template: tuple[ForkServerSupervisor, Listening]) -> tuple[ForkServerSupervisor, Listening]:
    """As if it had heard nothing so far but that there is a template."""
    template, listener = heard_template
    vars(listener).update(vars(Listening()), sinks=listener.sinks[:1])
    return template, listener


@pytest.mark.asyncio(loop_scope="module")
async def test_a_real_worker_is_heard_by_name_and_its_requests_apart(
    heard: tuple[ForkServerSupervisor, Listening], versions: Path, slack: float
) -> None:
    template, listener = heard
    worker = await Worker.start(template, spec_of(versions, "commands"), deadline_seconds=60 * slack)
    assert listener.before_requests is not None
    await ask(worker, command_query("write:"))
    await until(lambda: listener.lines.count(b"raw noise") == 1001, 10 * slack)
    await worker.close()
    await until(lambda: listener.ended, 10 * slack)

    assert listener.sinks == [("template", None), ("worker", VersionId("commands", 1))]
    assert b"noise" not in listener.before_requests
    assert listener.lines.count(b"noise") == 1000


@pytest.mark.asyncio(loop_scope="module")
async def test_the_last_words_of_a_worker_come_before_its_end(
    heard: tuple[ForkServerSupervisor, Listening], versions: Path, slack: float
) -> None:
    template, listener = heard
    worker = await Worker.start(template, spec_of(versions, "commands"), deadline_seconds=60 * slack)
    worker.submit([command_query("write:"), command_query("die:3")], lambda _places, _answers: None)
    ended = await asyncio.wait_for(asyncio.shield(worker.exited), 30 * slack)
    assert ended.code == 3
    assert b"raw noise" in listener.lines
    await worker.close()


async def test_of_a_child_that_dies_before_it_is_ready_the_last_lines_and_the_exception_are_reported(
    versions: Path, slack: float, tmp_path: Path
) -> None:
    """As where a library of the gateway's own environment can not be imported."""
    listener, notes = Listening(), Notes()
    (tmp_path / "bad_at_import.py").write_text("print('line\\n' * 50)\nraise OSError('a secret')\n")
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/bad_at_import.py\n")
    program.chmod(0o755)
    template = ForkServerSupervisor(
        notes, interpreter=ChildPython(str(program)), outputs=listener, launch_seconds=launch_seconds()
    )
    await template.start()
    try:
        await until(lambda: notes.events, 10 * slack)
    finally:
        await template.close()

    how, lines = listener.deaths[0]
    [event, *_] = notes.events
    assert how == event.reason == "exit code 1; OSError in bad_at_import, line 2"  # type: ignore[union-attr]
    assert lines[-1] == "OSError: a secret"
    assert len(lines) == 20


async def test_without_a_place_for_temporary_files_one_line_names_tmpdir(
    versions: Path, slack: float, tmp_path: Path
) -> None:
    listener, notes = Listening(), Notes()
    program = tmp_path / "python"
    nowhere = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/none']"
    (tmp_path / "sitecustomize.py").write_text(nowhere)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    template = ForkServerSupervisor(
        notes, interpreter=ChildPython(str(program)), outputs=listener, launch_seconds=launch_seconds()
    )
    await template.start()
    try:
        await until(lambda: listener.deaths, launch_seconds())
    finally:
        await template.close()

    _, lines = listener.deaths[0]
    assert [line for line in lines if "set TMPDIR" in line] == lines[-1:]
    assert not any(line.startswith("Traceback") for line in lines)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_ends_a_worker_after_ready_is_named_without_its_text(
    heard: tuple[ForkServerSupervisor, Listening], versions: Path, slack: float
) -> None:
    """A thread that answers has lost what it sends with; what it prints may hold what callers sent."""
    template, listener = heard
    spec = replace(spec_of(versions, "breaks_answering"), threads=2)
    worker = await Worker.start(template, spec, deadline_seconds=60 * slack)
    worker.submit([text_query("x")], lambda _places, _answers: None)
    ended = await asyncio.wait_for(asyncio.shield(worker.exited), 30 * slack)
    await worker.close()

    assert re.fullmatch(r"exit code 1; TypeError in [\w.]+, line \d+", str(ended))
    assert listener.deaths == []
