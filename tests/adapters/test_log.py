"""Facts in, lines out: which, how often, and what must never be in one."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from router.adapters.log.format import configure_logging, loop_exception_handler
from router.adapters.log.lines import LogRecorder
from router.control.fan_out import FanOut
from router.core.events import (
    AliasAspired,
    CanaryFaulted,
    ConfigApplied,
    ConfigRejected,
    Event,
    LoadRefused,
    LoopRecovered,
    ModelRemoved,
    Polled,
    ReadinessChanged,
    Rejected,
    TickFailed,
)
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.lever_events import CapLifted, CapSet
from tests.support.sample_events import (
    answered,
    bound,
    count_scores_of,
    goodbye,
    one_of_each,
    predicted,
    split,
)

V8 = VersionId("m", 8)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(*facts: Event, level: str = "debug", line_format: str = "json") -> list[dict[str, Any]]:
    """The JSON lines that these facts make."""
    stream = io.StringIO()
    configure_logging(level, line_format, stream=stream)
    recorder = FanOut(deduplicated=(LogRecorder(),))  # as in a gateway: it leaves repetitions out
    for fact in facts:
        recorder.record(fact)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_fact_that_is_no_request_has_a_line() -> None:
    reported = [line["event"] for line in written(*one_of_each(), *goodbye())]

    assert reported == [
        "configuration in force",
        "split in force",
        "the registry names another version",
        "the registry names another version",
        "version ready",
        "alias bound",
        "environment built",
        "version ready",
        "version logged in another environment",
        "the environment of a version is not what it asks for",
        "alias bound",
        "ready",
        "canary at fault, production answered; said once per version and kind",
        "breaker open, production has the canary's share",
        "breaker reset",
        "aliases moved in the registry, by who says so",
        "share capped",
        "cap lifted",
        "not passed the gate, so held at 0",
        "passed the gate",
        "pre-flight failed, so held at 0",
        "pins changed",
        "break-glass, every canary is off",
        "break-glass is over",
        "worker ended",
        "worker not loaded",
        "workers complete again",
        "a rollback takes longer than it did",
        "the registry names another version",
        "version not loaded",
        "alias unbound",
        "version draining",
        "replaced in turn; nothing answers for this alias until then",
        "version not loaded",
        "drain cut short",
        "version gone",
        "child restarted",
        "answers cut off that clients did not take",
        "requests refused for the size of their headers",
        "shutdown cut short",
        "a loop failed and goes on",
        "a loop works again",
        "registry poll failed; what it last named stays",
        "a newer MLflow migrated the registry; it is read on",
        "the registry is out of reach; starting from what served last",
        "the record of what served last can not be used",
        "what serves could not be recorded",
        "files of a copy in the cache had changed, and were fetched anew",
        "a version writes among its files; its workers have copies of their own (writable)",
        "versions that nobody uses left the cache",
        "the cache is over its bound, and all that is in it is in use",
        "an environment had changed, and was put right",
        "environments that nobody uses were removed",
        "environments are over their bound, and all are in use",
        "caps and journal are not durable",
        "caps and journal are durable",
        "a file of the state directory can not be read",
        "the journal ended in the middle of a line",
        "a peer does not answer",
        "a peer answers again",
        "a notification was not taken",
        "notifications are taken again",
        "configuration refused; the one in force stays",
        "model removed",
        "not ready",
    ]


def test_a_cap_is_reported_with_who_set_it_on_what_and_why() -> None:
    of_version, of_all = written(
        CapSet("m", CANARY, V8, 0.01, "ann", "p95 is 2 s"), CapLifted("m", CANARY, None, "bob", "mended")
    )

    shown = {key: of_version[key] for key in ("event", "level", "model", "alias", "version", "share")}
    assert shown == {
        "event": "share capped",
        "level": "warning",
        "model": "m",
        "alias": "canary",
        "version": 8,
        "share": 0.01,
    }
    assert (of_version["by"], of_version["why"]) == ("ann", "p95 is 2 s")
    assert (of_all["event"], of_all["version"], of_all["by"]) == ("cap lifted", None, "bob")


def test_a_registry_without_a_production_version_is_warned_of() -> None:
    [line] = written(AliasAspired("m", PRODUCTION, None, None))

    assert (line["event"], line["level"]) == ("the registry names no production version", "warning")


def test_requests_write_no_lines() -> None:
    assert (
        written(
            predicted(CANARY, 8, count_scores_of(0.1)),
            answered(CANARY, 8, outcome="model_error", code=500),
            Rejected("m", "overloaded"),
        )
        == []
    )


def test_a_moved_alias_is_reported_with_both_versions() -> None:
    (line,) = written(bound(CANARY, 8, old=7))

    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "alias bound",
        "model": "m",
        "alias": "canary",
        "version": 8,
        "before": 7,
        "registry_name": "canary",
        "run_id": "run8",
        "flavor": "sklearn",
    }


def test_a_registry_that_refuses_is_not_reported_as_one_that_does_not_answer() -> None:
    """Waiting does not help: somebody has to act, also when it was silent before."""
    silent = Polled("m", 5.0, "connection refused")
    refused = Polled("m", 0.1, "PERMISSION_DENIED: ada may not read m", refused=True)
    lines = written(silent, silent, refused, refused, Polled("m", 0.1, ""))

    assert [line.get("refused", False) for line in lines] == [False, True, False]
    assert [line.get("error", "") for line in lines] == [silent.error, refused.error, ""]


def test_an_unreachable_registry_is_said_once_down_and_once_up() -> None:
    """Whatever the reasons in between; every model has its own registry answer."""
    down = [Polled("m", 5.0, reason) for reason in ("refused", "timeout", "500")] * 100
    lines = written(
        *down, Polled("m", 0.1, ""), Polled("m", 0.1, ""), Polled("n", 5.0, "unknown"), Polled("m", 5.0, "x")
    )

    assert [(line["level"], line["model"]) for line in lines] == [
        ("warning", "m"),
        ("info", "m"),
        ("warning", "n"),
        ("warning", "m"),
    ]
    assert lines[0]["error"] == "refused"


def test_a_refused_configuration_is_said_once_until_it_changes() -> None:
    first, second = ConfigRejected("3f", ("a",)), ConfigRejected("3f", ("a", "b"))
    lines = written(first, first, second, second, ConfigApplied("4a", ("models.m.split",)), first)

    assert [line.get("problems") for line in lines] == [["a"], ["a", "b"], None, ["a"]]
    assert lines[2]["changes"] == ["models.m.split"]


def test_every_try_to_load_is_a_line() -> None:
    """Back-off makes them rare."""
    fact = LoadRefused(V8, (CANARY,), "load", "ValueError", 10.0)

    assert len(written(fact, fact)) == 2


def test_a_faulty_canary_does_not_flood_the_log() -> None:
    """One line per version and kind, for ten thousand requests."""
    faults = [CanaryFaulted("m", CANARY, V8, kind) for kind in ("error", "timeout")] * 5000
    lines = written(*faults, CanaryFaulted("m", CANARY, VersionId("m", 9), "error"))

    assert [(line["version"], line["kind"]) for line in lines] == [(8, "error"), (8, "timeout"), (9, "error")]


def test_an_unchanged_split_and_an_unchanged_failure_are_not_repeated() -> None:
    failure = TickFailed("aliases", "KeyError: 'x'")

    assert len(written(split(), split(), failure, failure)) == 2
    assert len(written(split(canary=0.05), split(canary=0.25), ModelRemoved("m"), split(canary=0.25))) == 4


def test_a_loop_that_fails_again_after_it_worked_is_reported_again() -> None:
    """The same error a week later is another one."""
    failure = TickFailed("aliases", "KeyError: 'x'")
    lines = written(failure, failure, LoopRecovered("aliases"), failure, failure)

    assert [line["event"] for line in lines] == [
        "a loop failed and goes on",
        "a loop works again",
        "a loop failed and goes on",
    ]


def test_the_level_is_hot() -> None:
    stream = io.StringIO()
    recorder = LogRecorder()
    configure_logging("warning", "json", stream=stream)
    recorder.record(AliasAspired("m", PRODUCTION, None, V8))
    assert stream.getvalue() == ""
    configure_logging("info", "json", stream=stream)
    recorder.record(AliasAspired("m", PRODUCTION, V8, None))

    assert len(stream.getvalue().splitlines()) == 1


def test_configuring_again_does_not_double_the_lines() -> None:
    before = len(logging.getLogger().handlers)
    for _ in range(3):
        configure_logging("info", "json", stream=io.StringIO())

    assert len(logging.getLogger().handlers) <= before + 1


@pytest.mark.parametrize(
    ("line_format", "stream", "is_json"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("console", io.StringIO(), False),
        ("json", Terminal(), True),
    ],
    ids=["auto on a terminal", "auto elsewhere", "console elsewhere", "json on a terminal"],
)
def test_auto_is_console_on_a_terminal_and_json_elsewhere(
    line_format: str, stream: io.StringIO, is_json: bool
) -> None:
    configure_logging("info", line_format, stream=stream)
    LogRecorder().record(ReadinessChanged(ready=True))

    assert stream.getvalue().startswith("{") == is_json
    assert ("\x1b[" in stream.getvalue()) == (isinstance(stream, Terminal) and not is_json)


@pytest.mark.parametrize("line_format", ["json", "console"])
def test_control_characters_forge_no_line_and_move_no_cursor(line_format: str) -> None:
    stream = io.StringIO()
    configure_logging("info", line_format, stream=stream)
    evil = "a\nlevel=error \x1b[2J\x9b2J\r\x00\x7f\u2028\u202e\ud800"
    LogRecorder().record(Polled(evil, 1.0, evil))
    logging.getLogger("aiohttp.server").error("bad request line %s", evil)

    assert len(stream.getvalue().splitlines()) == 2
    assert all(character.isprintable() for line in stream.getvalue().splitlines() for character in line)
    stream.getvalue().encode("utf-8")


def test_lines_of_libraries_come_out_in_the_same_format() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    try:
        raise ValueError("token=abc123 broke\x1b[1m it")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "request")
    logging.getLogger("asyncio").debug("not at this level")

    (line,) = (json.loads(text) for text in stream.getvalue().splitlines())
    assert (line["event"], line["level"], line["logger"]) == (
        "Error handling request",
        "error",
        "aiohttp.server",
    )
    assert line["exception"].endswith("ValueError: token=*** broke\\x1b[1m it")
    assert line["exception"].startswith("Traceback")


def test_a_traceback_does_not_show_the_values_of_variables() -> None:
    """They hold requests; structlog's own console formatter prints them."""
    stream = io.StringIO()
    configure_logging("info", "console", stream=stream)
    payload = "the caller's " + "data"
    try:
        raise ValueError(len(payload))
    except ValueError:
        logging.getLogger("x").exception("broken")

    assert "ValueError: 17" in stream.getvalue()
    assert "the caller's data" not in stream.getvalue()


def test_credentials_do_not_reach_a_line() -> None:
    error = "GET https://joe:s3cr3t@mlflow:5000/api?token=s3cr3t&x=1 Authorization: Bearer s3cr3ts3cr3t"
    (line,) = written(Polled("m", 1.0, error))

    assert "s3cr3t" not in json.dumps(line)
    assert "mlflow:5000" in line["error"]  # who reads the log may know where the registry is


def test_a_registry_that_answers_with_megabytes_makes_a_short_line() -> None:
    (line,) = written(Polled("m", 1.0, "<html>" * 1_000_000))

    assert len(line["error"]) < 5_000
    assert "6000000 characters" in line["error"]


@pytest.mark.parametrize(
    ("code", "level", "reported"),
    [
        ("import warnings; warnings.warn('mind the gap')", "warning", "mind the gap"),
        ("raise ValueError('gone')", "critical", "ValueError: gone"),
        (
            "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t1'); t.start(); t.join()",
            "error",
            "ZeroDivisionError: division by zero",
        ),
        (
            "class Bad:\n def __del__(self): raise KeyError('k')\nBad(); import gc; gc.collect()",
            "error",
            "KeyError: 'k'",
        ),
    ],
    ids=["a warning", "a crash", "a thread's crash", "an exception in a destructor"],
)
def test_what_python_prints_by_itself_is_a_line_without_values(code: str, level: str, reported: str) -> None:
    script = (
        "from router.adapters.log.format import configure_logging, install_exception_hooks\n"
        "configure_logging('info', 'json'); install_exception_hooks()\n"
        "secret = 'the ' + 'payload'\n" + code
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert line["level"] == level
    assert reported in line["event"] + line.get("exception", "")
    assert "the payload" not in done.stderr
    assert done.stdout == ""


async def test_an_error_in_the_event_loop_is_reported_without_its_words_and_its_objects() -> None:
    """Asyncio's own handler names the callback with its arguments: bytes of a request, where they arrive."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler)

    def arrived(data: bytes) -> None:
        raise ValueError(f"can not read {data!r}")

    loop.call_soon(arrived, b"the payload")
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    (line,) = (json.loads(text) for text in stream.getvalue().splitlines())
    assert line["level"] == "error"
    assert "in arrived" in line["exception"]
    assert line["exception"].endswith("ValueError")
    assert "payload" not in stream.getvalue()


def test_what_is_no_number_in_json_is_text() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    LogRecorder().record(TickFailed("aliases", float("nan")))  # type: ignore[arg-type]  # whatever it is

    assert json.loads(stream.getvalue(), parse_constant=pytest.fail)["error"] == "nan"
