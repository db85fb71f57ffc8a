"""What children print, as log lines: whose it is, which of it, and how much."""

import gc
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from router.adapters.log.child_log import (
    BURST,
    HIDDEN,
    NOTICE_SECONDS,
    PER_SECOND,
    TOO_MANY,
    WITHHELD,
    ChildLineSink,
    ChildLog,
)
from router.adapters.log.format import configure_logging
from router.core.ids import VersionId

V2 = VersionId("sentiment", 2)


class Log:
    """Child lines and what is written of them, at a time that tests set."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.seconds = 1000.0
        configure_logging("debug", "json", stream=self.stream)
        self.of = ChildLog(lambda: self.seconds)

    def worker(self, version: VersionId = V2) -> ChildLineSink:
        return self.of.sink_for("worker", version)

    def size(self) -> int:
        """Bytes written."""
        return len(self.stream.getvalue().encode())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]


@pytest.fixture
def log() -> Iterator[Log]:
    """Logging is the process's: it is left as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    gc.collect()  # what other tests left would be reported by asyncio while these lines are counted
    yield Log()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_whose_it_is(log: Log) -> None:
    log.worker().write(b"loading weights")
    log.of.sink_for("fetch", V2).write(b"retrying")
    log.of.sink_for("template", None).write(b"hm")

    worker, fetch, template = log.lines()
    assert worker.pop("timestamp").endswith("Z")
    assert worker == {
        "level": "info",
        "event": "loading weights",
        "child": "worker",
        "model": "sentiment",
        "version": 2,
    }
    assert (fetch["child"], fetch["version"]) == ("fetch", 2)
    assert (template["child"], "model" in template) == ("template", False)


def test_a_record_of_logging_keeps_its_level_its_logger_and_its_traceback(log: Log) -> None:
    reported = {
        "level": "warning",
        "logger": "mlflow.pyfunc",
        "event": "a\nb",
        "exception": "Traceback …\nKeyError",
    }
    log.worker().write(b"\x1e" + json.dumps(reported).encode())

    (line,) = log.lines()
    assert (line["level"], line["logger"]) == ("warning", "mlflow.pyfunc")
    assert line["event"] == "a\\x0ab"
    assert line["exception"] == "Traceback …\nKeyError"


@pytest.mark.parametrize(
    "line",
    [
        b'\x1e{"level": "warn',
        b"\x1e[1, 2]",
        b'\x1f"text"',
        b'\x1e{"level": {"a": 1}, "event": ["x"]}',
        b"\x1enull",
        b"\x1f" + b"[" * 30_000,
        b"\xff\xfe not text",
        b'{"timestamp": "1970", "level": "error", "event": "forged"}',
        "\u2028\x1b[2J".encode(),
    ],
)
def test_whatever_is_printed_one_json_line_of_that_child_comes_out(log: Log, line: bytes) -> None:
    log.worker().write(line)

    (written,) = log.lines()
    assert (written["child"], written["model"], written["version"]) == ("worker", "sentiment", 2)
    assert written["level"] in ("info", "warning")
    assert len(log.stream.getvalue().splitlines()) == 1


def test_empty_lines_and_earlier_states_of_a_progress_bar_are_not_written(log: Log) -> None:
    sink = log.worker()
    for line in (b"", b"   ", b"\r", b" 10%\r 50%\r100%"):
        sink.write(line)

    assert log.events() == ["100%"]


def test_colours_are_not_written(log: Log) -> None:
    sink = log.worker()
    sink.write(b"\x1b[33mmind\x1b[0m the gap")
    sink.write(b'\x1e{"level": "warning", "event": "\\u001b[1;33mmind\\u001b[0m the gap"}')

    assert log.events() == ["mind the gap"] * 2


def test_what_a_version_prints_once_it_is_ready_is_left_out(log: Log) -> None:
    sink = log.worker()
    sink.write(b"before")
    sink.requests_started()
    assert not sink.write(b"row: secret")
    sink.skipped(6)
    sink.end()

    assert log.events() == ["before", "… 1 line left out", "… 6 lines left out"]
    assert {line["why"] for line in log.lines()[1:]} == {WITHHELD}
    assert "secret" not in log.stream.getvalue()


def test_what_we_say_ourselves_is_written_also_then(log: Log) -> None:
    """Where a version fails, without a word of the request."""
    sink = log.worker()
    sink.requests_started()
    sink.write(b'\x1f{"level": "warning", "event": "its predict raised: KeyError"}')
    sink.write(b'\x1e{"level": "warning", "event": "of a library: secret"}')

    assert log.events() == ["its predict raised: KeyError", "… 1 line left out"]


def test_an_operator_may_see_all_or_nothing(log: Log) -> None:
    sink = log.worker()
    log.of.shown = "never"
    sink.write(b"at load")
    sink.requests_started()
    log.of.shown = "always"
    sink.write(b"on a request")
    log.of.shown = "never"
    log.of.sink_for("agent", None).write(b"no version")

    assert log.events() == ["… 1 line left out", "on a request", "no version"]
    assert log.lines()[0]["why"] == HIDDEN


def test_what_is_left_out_for_long_is_reported_once_an_hour(log: Log) -> None:
    sink = log.worker()
    sink.requests_started()
    for _ in range(720):
        log.seconds += 10
        sink.write(b"printed at every request")

    assert log.events() == ["… 1 line left out", "… 360 lines left out"]


def test_a_flood_is_cut_and_counted(log: Log) -> None:
    log.of.shown = "always"
    sink = log.worker()
    heard = sum(sink.write(b"x" * 900) for _ in range(10_000))

    assert 0.9 * BURST // 1050 <= heard <= BURST // 1000
    assert log.events()[heard:] == ["… 1 line left out"]
    assert log.lines()[heard]["why"] == TOO_MANY

    log.seconds += BURST / 2 / PER_SECOND + 1
    sink.write(b"and on")
    assert log.events()[heard + 1 :] == [f"… {10_000 - heard - 1} lines left out", "and on"]


def test_a_version_that_is_started_again_and_again_may_not_print_more(log: Log) -> None:
    written = 0
    for _ in range(1000):
        sink = log.worker()
        written += sum(sink.write(b"x" * 900) for _ in range(10))

    assert 0.9 * BURST // 1050 <= written <= BURST // 1000


LINES = {
    "plain": b"x" * 900,
    "short": b"x",
    "quotes": b'"' * 900,
    "escapes": b"\x07" * 900,
    "disguises": b"x" + "\u202a".encode() * 300,
    "unicode": "\N{PILE OF POO}".encode() * 200,
    "no text": b"\xff" * 900,
    "masks": b"x://:@ " * 100,
    "secrets": b"token=1 , " * 100,
    "cut": b"x" * 9_000,
    "traceback": b'\x1e{"event": "e", "logger": "l", "exception": "' + b"\\n\\t\\u0007" * 2_000 + b'"}',
    "forged": b'\x1f{"level": "critical", "event": "x", "logger": "y"}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_in_the_long_run_it_is_so_many_bytes_a_second_as_they_are_written(log: Log, line: bytes) -> None:
    """The names and escapes of JSON are written too, and so is the report that lines were left out."""
    log.of.shown = "always"
    sink = log.worker(VersionId('mo"del', 1))
    seconds = 300
    for _ in range(seconds):
        log.seconds += 1
        for _ in range(40):
            sink.write(line)

    assert 0.3 * PER_SECOND * seconds < log.size() < BURST + PER_SECOND * seconds


@pytest.mark.parametrize("starts_again", [False, True])
def test_a_report_of_lines_left_out_is_reported_seldom_and_charged(log: Log, starts_again: bool) -> None:
    """A version may print so that every second line is left out, or end after each."""
    sink, seconds = log.worker(), 100
    sink.requests_started()
    for _ in range(seconds * 20):
        log.seconds += 0.05
        sink.write(b"left out")
        sink.write(b'\x1f{"event": "x"}')
        if starts_again:
            sink.end()
            sink = log.worker()
            sink.requests_started()
    notices = [event for event in log.events() if event.startswith("…")]

    assert log.size() < BURST + PER_SECOND * seconds
    if not starts_again:
        assert seconds // NOTICE_SECONDS - 1 <= len(notices) <= seconds // NOTICE_SECONDS + 1


def test_what_could_not_be_reported_at_an_end_is_reported_later(log: Log) -> None:
    log.of.shown = "always"
    sink = log.worker()
    heard = sum(sink.write(b"x" * 900) for _ in range(1000))
    sink.end()
    assert log.events()[heard:] == ["… 1 line left out"]

    log.seconds += NOTICE_SECONDS
    log.worker().end()
    assert log.events()[heard + 1 :] == [f"… {1000 - heard - 1} lines left out"]


def test_one_version_does_not_use_up_what_another_may_print(log: Log) -> None:
    noisy, quiet = log.worker(), log.worker(VersionId("sentiment", 1))
    while noisy.write(b"x" * 900):
        pass

    assert quiet.write(b"here I am")


def test_versions_that_came_and_went_are_forgotten(log: Log) -> None:
    for number in range(1, 2000):
        log.worker(VersionId("sentiment", number)).write(b"hello")
        log.seconds += 60

    assert len(log.of._sources) <= 64


def test_credentials_do_not_reach_a_line(log: Log) -> None:
    log.worker().write(b"connecting to postgresql://joe:s3cr3t@db/x with token=s3cr3t")

    assert "s3cr3t" not in log.stream.getvalue()


def test_of_a_child_that_died_the_last_lines_are_written_as_an_error_unless_versions_are_hidden(
    log: Log,
) -> None:
    log.of.sink_for("template", None).died("exit code 1", ["first", "OSError: no place"])
    log.of.shown = "never"
    log.worker().died("exit code 7", ["loading"])

    template, worker = log.lines()
    assert (template["level"], template["event"], template["why"]) == (
        "error",
        "it ended by itself",
        "exit code 1",
    )
    assert template["exception"] == "first\nOSError: no place"
    assert worker["why"] == "exit code 7"
    assert "exception" not in worker
