"""How a log line is written: console or JSON, escaped, without credentials."""

import asyncio
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from router.adapters.log.writer import STDERR, LineHandler
from router.core.redaction import redact_credentials

LONGEST_TEXT = 4000
"""Characters of one value; a registry can answer with 100 MB of HTML."""
LONGEST_TRACEBACK = 20_000
_CONTROL = (*range(0x20), *range(0x7F, 0xA0))
_DISGUISING = (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SURROGATES = range(0xD800, 0xE000)
# Control characters move cursors and forge lines, bidirectional marks disguise them, surrogates can not be
# written.
UNPRINTABLE = {code: f"\\x{code:02x}" for code in _CONTROL} | {
    code: f"\\u{code:04x}" for code in (*_DISGUISING, *_SURROGATES)
}
UNPRINTABLE_IN_LINES = {code: text for code, text in UNPRINTABLE.items() if code not in (0x09, 0x0A)}

_log = logging.getLogger(__name__)
_installed: list[logging.Handler] = []
"""The handler on the root logger that is ours; logging itself belongs to the process."""


def configure_logging(level: str, line_format: str, *, stream: TextIO | None = None) -> None:
    """Send every line of the process, aiohttp's and asyncio's too, to `stream` (default stderr).

    `level` is debug, info, warning or error; `line_format` is console, json, or auto: console on a terminal.
    Can be called again at any time. Nobody who logs waits for standard error: a thread writes to it.
    """
    out: TextIO | None = sys.stderr if stream is None else stream
    on_terminal = out is not None and out.isatty()  # None: closed
    console = line_format == "console" or (line_format == "auto" and on_terminal)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=on_terminal,
            exception_formatter=structlog.dev.plain_traceback,
            sort_keys=False,
            pad_event_to=0,
        )
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    def describe_dropped(lines: int) -> str:
        line: Any = {"event": "log lines dropped", "lines": lines}
        for processor in (*before, _redacted):
            line = processor(None, "warning", line)
        return str(renderer(None, "warning", line))

    # What somebody put in the place of standard error is theirs, and may have no descriptor.
    handler: logging.Handler = logging.StreamHandler(out)
    if out is sys.__stderr__:
        handler = LineHandler(STDERR)
        STDERR.describe_dropped = describe_dropped
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # without the values of variables: they hold requests
                _redacted,
                renderer,
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    for former in _installed:
        root.removeHandler(former)
    _installed[:] = [handler]
    root.addHandler(handler)
    root.setLevel(level.upper())


def install_exception_hooks() -> None:
    """Have what Python prints by itself written as lines: warnings, and exceptions that nobody catches.

    For the life of the process. Tracebacks go without the values of local variables.
    """
    logging.captureWarnings(capture=True)

    def crashed(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, at)
        else:
            _log.critical("the gateway ends by an error", exc_info=(kind, error, at))

    def thread_crashed(crash: threading.ExceptHookArgs) -> None:
        if crash.exc_value is not None:
            name = crash.thread.name if crash.thread is not None else "unnamed"
            _log.error(
                "thread %s ended", name, exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback)
            )

    def ignored(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_value is not None:
            exception = (unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)
            _log.error("an exception that nobody can catch", exc_info=exception)

    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_crashed, ignored


def loop_exception_handler(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: logs what happened and where, without messages and objects.

    The loop's own handler names the objects with their arguments, which can be the bytes of a request; an
    exception's message may quote them.
    """
    # "Exception in callback" goes on with the callback and its arguments.
    message = re.sub(
        r"(?s)\bcallback .*", "callback", str(context.get("message", "an error in the event loop"))
    )
    error = context.get("exception")
    frames = traceback.format_tb(error.__traceback__) if isinstance(error, BaseException) else []
    structlog.stdlib.get_logger(__name__).error(
        message, exception="".join([*frames, type(error).__name__]) if error is not None else None
    )


def _redacted(logger: WrappedLogger, name: str, line: EventDict) -> EventDict:
    """The one place where a line loses credentials, control characters and what is too long."""
    shown = {key: line.pop(key) for key in ("timestamp", "level", "event")}
    exception = line.pop("exception", None)
    shown = {key: _redacted_value(value) for key, value in (*shown.items(), *line.items())}
    if exception is not None:
        shown["exception"] = redact_credentials(exception[-LONGEST_TRACEBACK:]).translate(
            UNPRINTABLE_IN_LINES
        )
    return shown


def _redacted_value(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no word for it
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): _redacted_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_redacted_value(item) for item in value]
    text = str(value)
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return redact_credentials(cut).translate(UNPRINTABLE)
