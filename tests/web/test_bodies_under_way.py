"""What bodies hold that have not come to their end."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from router.core.events import Rejected
from router.core.outcomes import RefusalReason
from router.errors import Overloaded
from router.web import incoming
from router.web.incoming import SHORT_BYTES, BodiesUnderWay
from tests.support.fakes import Facts
from tests.support.waiting import until
from tests.web.test_direct_path import Client, client, head

__all__ = ["client"]
LONG = 4 * SHORT_BYTES


@pytest.fixture(autouse=True)
def most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two long bodies may be under way, and no more."""
    monkeypatch.setattr(incoming, "MOST_HELD_BYTES", 2 * (LONG - SHORT_BYTES))
    monkeypatch.setattr(incoming, "TIMES_THE_LONGEST", 0)


def body() -> StreamReader:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop, None)
    protocol.connection_made(asyncio.Transport())
    return StreamReader(protocol, 1 << 30, loop=loop)


async def read(bodies: BodiesUnderWay, content: StreamReader, size: int) -> "asyncio.Task[bytes | None]":
    """Of a body `size` bytes have come and are read, and more are to come."""
    task = asyncio.create_task(bodies.read(content, 1 << 30))
    content.feed_data(bytes(size))
    await until(lambda: content.total_bytes == size and not content._buffer)
    return task


async def test_beyond_the_bound_the_long_body_that_began_first_ends_and_others_go_on() -> None:
    bodies, contents = BodiesUnderWay(), [body() for _ in range(4)]
    first, short, second = [
        await read(bodies, content, size)
        for content, size in zip(contents, (LONG, SHORT_BYTES, LONG), strict=False)
    ]
    assert bodies.held == 2 * (LONG - SHORT_BYTES)
    third = await read(bodies, contents[3], LONG)

    with pytest.raises(Overloaded):
        await first
    for content in contents[1:]:
        content.feed_eof()
    whole = await asyncio.gather(short, second, third)
    assert [len(one or b"") for one in whole] == [SHORT_BYTES, LONG, LONG]
    assert bodies.held == 0


async def test_one_that_is_longer_than_all_may_hold_ends_itself() -> None:
    bodies, content = BodiesUnderWay(), body()
    task = await read(bodies, content, 3 * LONG)

    with pytest.raises(Overloaded):
        await task
    assert bodies.held == 0


@pytest.mark.parametrize("how", ["over its limit", "its caller left", "given up", "its time is over"])
async def test_what_a_body_held_is_free_however_it_ends(how: str) -> None:
    bodies, content = BodiesUnderWay(), body()
    task = asyncio.create_task(asyncio.wait_for(bodies.read(content, LONG), 0.05 if "time" in how else 60))
    content.feed_data(bytes(LONG))
    await until(lambda: bodies.held == LONG - SHORT_BYTES)
    match how:
        case "over its limit":
            content.feed_data(b"x")
        case "its caller left":
            content.set_exception(ConnectionResetError())
        case "given up":
            task.cancel()
    await asyncio.wait({task})

    assert bodies.held == 0
    assert how != "its time is over" or isinstance(task.exception(), TimeoutError)


async def test_who_is_refused_gets_503_with_retry_after_and_is_counted(client: Client, facts: Facts) -> None:
    client.send(head(length=4 * LONG) + bytes(3 * LONG))

    status, _, top = await client.answer()

    assert (status, b"Retry-After" in top) == (503, True)
    assert facts.of(Rejected) == [Rejected("sentiment", RefusalReason.OVERLOADED)]
