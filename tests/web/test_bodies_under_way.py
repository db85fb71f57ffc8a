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
    """Two long bodies may be under way, and hardly more."""
    monkeypatch.setattr(incoming, "MOST_HELD_BYTES", 2 * LONG)
    monkeypatch.setattr(incoming, "TIMES_THE_LONGEST", 0)


def body() -> StreamReader:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop, None)
    protocol.connection_made(asyncio.Transport())
    return StreamReader(protocol, 1 << 30, loop=loop)


async def read(bodies: BodiesUnderWay, content: StreamReader, size: int) -> "asyncio.Task[bytes | None]":
    """Of a body `size` bytes have come, and more are to come."""
    before = bodies.held
    task = asyncio.create_task(bodies.read(content, 1 << 30))
    content.feed_data(bytes(size))
    await until(lambda: task.done() or bodies.held == before + size)
    return task


async def test_a_long_body_is_refused_while_others_hold_too_much_and_a_short_one_is_not() -> None:
    bodies, contents = BodiesUnderWay(), [body() for _ in range(4)]
    first, second = [await read(bodies, content, LONG) for content in contents[:2]]
    short = await read(bodies, contents[2], SHORT_BYTES)
    refused = await read(bodies, contents[3], SHORT_BYTES + 1)

    with pytest.raises(Overloaded):
        await refused
    for content in contents[:3]:
        content.feed_eof()
    whole = await asyncio.gather(first, second, short)
    assert [len(one or b"") for one in whole] == [LONG, LONG, SHORT_BYTES]
    assert bodies.held == 0


@pytest.mark.parametrize("how", ["over its limit", "its caller left", "given up"])
async def test_what_a_body_held_is_free_however_it_ends(how: str) -> None:
    bodies, content = BodiesUnderWay(), body()
    task = asyncio.create_task(bodies.read(content, LONG))
    content.feed_data(bytes(LONG))
    await until(lambda: bodies.held == LONG)
    match how:
        case "over its limit":
            content.feed_data(b"x")
        case "its caller left":
            content.set_exception(ConnectionResetError())
        case _:
            task.cancel()
    await asyncio.wait({task})

    assert bodies.held == 0


async def test_who_is_refused_gets_503_with_retry_after_and_is_counted(client: Client, facts: Facts) -> None:
    client.send(head(length=4 * LONG) + bytes(3 * LONG))

    status, _, top = await client.answer()

    assert (status, b"Retry-After" in top) == (503, True)
    assert facts.of(Rejected) == [Rejected("sentiment", RefusalReason.OVERLOADED)]
