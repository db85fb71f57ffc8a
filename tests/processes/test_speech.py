"""The child's end: what it logs and warns becomes one line each, and what it prints stays what it is."""

import json
import os
import subprocess
import sys
import threading
from typing import Any

PREPARE = """\
import os, sys
from router.processes.child_logging import flush, log_event, redirect_output
redirect_output(int(sys.argv[1]))
"""


def said(code: str) -> list[dict[str, Any] | str]:
    """What a process prints that runs `code`: records as objects, everything else as text."""
    read_end, write_end = os.pipe()
    parts: list[bytes] = []

    def read() -> None:
        while data := os.read(read_end, 65_536):
            parts.append(data)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        arguments = [sys.executable, "-c", PREPARE + code, str(write_end)]
        subprocess.run(arguments, pass_fds=[write_end], timeout=60, check=True)
    finally:
        os.close(write_end)
        reading.join(10)
        os.close(read_end)
    lines = b"".join(parts).decode().removesuffix("\n").split("\n")
    return [json.loads(line[1:]) if line[:1] in ("\x1e", "\x1f") else line for line in lines if line]


def test_a_record_is_one_line_however_many_it_has() -> None:
    (record,) = said("import logging; logging.getLogger('theirs').warning('a\\nb %s', 'c')")

    assert record == {"level": "warning", "logger": "theirs", "event": "a\nb c"}


def test_a_traceback_is_part_of_its_record_and_shows_no_values() -> None:
    (record,) = said(
        "import logging\n"
        "secret = 'the ' + 'payload'\n"
        "try: 1 / (len(secret) - len(secret))\n"
        "except ZeroDivisionError: logging.getLogger('theirs').exception('broken')\n"
    )

    assert isinstance(record, dict)
    assert record["exception"].startswith("Traceback (most recent call last):\n")
    assert record["exception"].endswith("ZeroDivisionError: division by zero")
    assert "the payload" not in str(record)


def test_a_warning_is_a_record() -> None:
    (record,) = said("import warnings; warnings.warn('mind the gap')")

    assert isinstance(record, dict)
    assert (record["level"], record["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: mind the gap" in record["event"]


def test_a_version_that_sets_logging_up_gets_what_it_asked_for() -> None:
    reported = said(
        "import logging\n"
        "logging.basicConfig(level=logging.INFO, format='%(levelname)s!%(message)s')\n"
        "logging.info('mine')\n"
    )

    assert reported == ["INFO!mine"]


def test_prints_of_python_of_c_and_of_programs_come_in_their_order() -> None:
    """A pipe makes both languages hold lines back; a crash would lose them."""
    reported = said(
        "import ctypes\n"
        "print('python')\n"
        "ctypes.CDLL(None).puts(b'c')\n"
        "os.system('echo program')\n"
        "sys.stderr.write('error\\n')\n"
        "os._exit(0)\n"
    )

    assert reported == ["python", "c", "program", "error"]


def test_half_a_line_is_there_when_the_interpreter_is_asked_for_it() -> None:
    assert said("print('half', end=''); flush(); os._exit(0)") == ["half"]


def test_nothing_is_raised_where_nothing_can_be_said() -> None:
    assert said("os.close(2); os.close(1); sys.stdout = sys.stderr = None; log_event('gone'); flush()") == []
