"""The child's end of what it prints: its log lines one by one, so that the gateway can put them into its own.

Everything else in the process prints as it likes; the gateway takes that line by line.
"""

import ctypes
import json
import logging
import os
import sys
import traceback
from contextlib import suppress
from types import TracebackType

from router.core.log_markers import GATEWAY_LINE, LOG_RECORD

_TEXT_CHARACTERS = 4000
_EXCEPTION_CHARACTERS = 16_000  # in JSON at most six times as many bytes, mostly as many
_LINE_BUFFERED = 1  # _IOLBF
_STDERR = 2

_redirected: list[bool] = []


def redirect_output(output: int) -> None:
    """Print to `output` from now on, and close that descriptor; one line per log record and per warning."""
    for number in (1, _STDERR):
        os.dup2(output, number)
    os.close(output)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # into a pipe, it would wait for 8 KiB
    with suppress(AttributeError, ValueError, OSError):  # a C library without a symbol of that name
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _LINE_BUFFERED, ctypes.c_size_t(0))
    _redirected.append(True)
    handler = _OneLine()
    # A root logger without a handler uses this one; a version that calls basicConfig gets what it asks for.
    handler.setLevel(logging.WARNING)
    logging.lastResort = handler
    for name in ("mlflow", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [_OneLine()]
        logger.propagate = False
    logging.captureWarnings(capture=True)


def log_event(event: str, *, level: str = "warning", error: BaseException | None = None) -> None:
    """Log for the operator `event`, which holds nothing that a caller sent, with the traceback of `error`.

    Nothing happens where that is not possible: the version may have closed its standard error.
    """
    with suppress(Exception):
        exception = _traceback(type(error), error, error.__traceback__) if error is not None else ""
        if _redirected:
            _write(GATEWAY_LINE, {"level": level, "event": event, "exception": exception})
        else:
            print(event, exception, sep="\n" if exception else "", file=sys.stderr, flush=True)


def log_cause(error: BaseException) -> None:
    """Log that `error` ends this process, without its text, which may quote what a caller sent."""
    with suppress(Exception):
        cause = cause_of(error)
        if _redirected:
            _write(GATEWAY_LINE, {"level": "error", "event": f"it ends by {cause}", "cause": cause})


def cause_of(error: BaseException) -> str:
    """Where `error` was raised, such as `RuntimeError in threading, line 969`."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return type(error).__name__
    return f"{type(error).__name__} in {at.tb_frame.f_globals.get('__name__')}, line {at.tb_lineno}"


def flush() -> None:
    """Hand on what the interpreter still holds."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            line: dict[str, object] = {
                "level": record.levelname.lower(),
                "logger": record.name,
                "event": record.getMessage()[:_TEXT_CHARACTERS],
            }
            if record.exc_info and record.exc_info[0] is not None:
                line["exception"] = _traceback(*record.exc_info)
            _write(LOG_RECORD, line)


def _traceback(
    kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
) -> str:
    # Without the values of locals. The end says most.
    return "".join(traceback.format_exception(kind, error, at)).rstrip()[-_EXCEPTION_CHARACTERS:]


def _write(marker: str, line: dict[str, object]) -> None:
    os.write(_STDERR, f"{marker}{json.dumps(line, ensure_ascii=False)}\n".encode("utf-8", "replace"))
