"""Ends a writer of the state directory before each of its steps in turn: `python -m … DIRECTORY`.

A child process writes caps and lines as a gateway does, and kills itself before its first call of the system;
the next one, on the same directory, before its second, and so on, until one comes to its end. Of each, a line
of JSON says what it had been answered: the counter of the last durable cap.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from router.adapters.state.caps_file import CapsFile
from router.adapters.state.directory import WriterLock, own_directory
from router.adapters.state.journal_files import JournalFiles
from router.core.journal import digest_of
from tests.adapters.state.examples import a_line, capped

CALLS = ("open", "write", "fsync", "ftruncate", "rename", "unlink", "close", "mkdir", "pwrite", "pread")
ROUNDS = 3
write_uncounted = os.write
"""For answers, which are no step of the writer."""


def dying(calls: int) -> None:
    """From now on this process ends before its call number `calls`, or in the middle where that writes."""
    left = calls

    def step(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                if name == "write" and calls % 2:
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    for name in CALLS:
        setattr(os, name, step(getattr(os, name), name))


def live(named: Path, answers: int) -> None:
    """One gateway's life: takes the lock, then caps and lines, and says on `answers` what is durable."""
    directory = own_directory(named)
    lock, caps, journal = WriterLock(directory, "gw-1:1"), CapsFile(directory), JournalFiles(directory)
    assert lock.take()
    found = caps.read()
    counter = max((record.counter for record in found.caps.records.values()), default=0) if found else 0
    head = journal.open().end.head
    for number in range(ROUNDS):
        counter += 1
        caps.write(capped(counter=counter, share=counter % 2 or None), 0.0)
        write_uncounted(answers, f"{counter}\n".encode())
        line = a_line(float(counter), head)
        head = digest_of(line)
        journal.append(line, begins_file=number == 0, sync=True)


def lives(named: Path, live: Callable[[Path, int], None]) -> Iterator[tuple[int, int, list[int]]]:
    """Of one life after the other that ends before its next call: the number of that call, the exit code, and
    what it was answered. The last one comes to its end."""
    calls, code = 0, -signal.SIGKILL
    while code:
        calls += 1
        reader, answers = os.pipe()
        if not (pid := os.fork()):
            try:
                dying(calls)
                live(named, answers)
                os._exit(0)
            except BaseException as error:
                print(f"{calls}: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
        os.close(answers)
        with open(reader) as lines:
            answered = [int(line) for line in lines]
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        yield calls, code, answered
        assert code in (0, -signal.SIGKILL), code


def main(named: Path) -> None:
    for calls, code, durable in lives(named, live):
        found = CapsFile(own_directory(named)).read()
        kept = [record.counter for record in found.caps.records.values()] if found else []
        print(json.dumps({"calls": calls, "code": code, "durable": durable[-1:], "kept": kept}))
        assert not (found and found.unreadable), found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
