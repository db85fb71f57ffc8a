"""Lines of the journal in the log: at any level, as they are, and to be read back."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.adapters.log.format import configure_logging
from router.adapters.log.lines import log_journal
from router.control.journal import Journal
from router.core.ids import CANARY, VersionId
from router.core.journal import DamagedLine, line_of_log
from router.core.lever_events import CapSet
from router.core.routing import RoutingTable
from tests.core.routes import routes, some_routes


class Tables:
    def __init__(self) -> None:
        self.table = RoutingTable({"sentiment": routes({})})


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    """What is logged, as JSON, of nothing but errors."""
    stream = io.StringIO()
    configure_logging("error", "json", stream=stream)
    yield stream
    configure_logging("info", "json")


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def written(tables: Tables, *events: CapSet) -> list[bytes]:
    """What a journal shows, and has logged."""
    shown: list[bytes] = []

    def show(line: bytes) -> None:
        shown.append(line)
        log_journal(line)

    journal = Journal("gw-1:4711", show)
    journal.start(tables, {"version": "0.1.0"})
    for event in events:
        journal.record(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return shown


@given(st.text(max_size=600), st.text(max_size=600), some_routes)
def test_the_log_shows_a_line_so_that_its_digest_can_be_checked(
    log: io.StringIO, why: str, by: str, routes: object
) -> None:
    """Whatever an operator wrote: what the log would hide, escape or cut is not in the line."""
    log.seek(0)
    log.truncate()
    tables = Tables()
    tables.table = RoutingTable({"sentiment": routes})  # type: ignore[dict-item]
    event = CapSet("sentiment", CANARY, VersionId("sentiment", 8), 0.25, by, why)

    shown = asyncio.run(written(tables, event))

    logged = lines(log)
    assert [line["event"] for line in logged] == ["journal", "journal"]
    assert {line["level"] for line in logged} == {"info"}
    assert [line_of_log(line) for line in logged] == shown


async def test_a_line_of_the_log_that_was_changed_is_not_taken_for_one_of_the_journal(
    log: io.StringIO,
) -> None:
    log.seek(0)
    log.truncate()
    await written(Tables())
    (line,) = lines(log)

    with pytest.raises(DamagedLine, match="digest"):
        line_of_log({**line, "gateway": "gw-2:4711"})
    with pytest.raises(DamagedLine, match="prev"):
        line_of_log({name: value for name, value in line.items() if name != "prev"})


def test_other_lines_keep_to_the_level_of_the_configuration(log: io.StringIO) -> None:
    log.seek(0)
    log.truncate()
    logging.getLogger("router").warning("not this one")

    assert lines(log) == []
