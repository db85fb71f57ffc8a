"""Long bodies are searched for their key one at a time."""

import asyncio

import pytest

from router.core.keys import MAX_JSON_BYTES, KeyKind, KeySource
from router.errors import Overloaded
from router.web.request_key import MANY_BYTES, KeyParseLock

SOURCE = KeySource(KeyKind.JSON, "user.id")
LONG, SHORT = bytes(MANY_BYTES + 1), b"{}"


async def test_long_bodies_take_turns_and_short_ones_do_not_wait() -> None:
    turns, inside = KeyParseLock(), 0

    async def search() -> int:
        nonlocal inside
        async with turns.for_key_of(SOURCE, LONG):
            inside += 1
            together = inside
            async with turns.for_key_of(SOURCE, SHORT):
                await asyncio.sleep(0)
            inside -= 1
            return together

    assert await asyncio.gather(*(search() for _ in range(5))) == [1] * 5


@pytest.mark.parametrize(
    ("kind", "body"),
    [(KeyKind.JSON, SHORT), (KeyKind.JSON, bytes(MAX_JSON_BYTES + 1)), (KeyKind.HEADER, LONG)],
    ids=["short", "longer than is searched", "a header"],
)
async def test_who_has_nothing_to_search_waits_for_nobody(kind: KeyKind, body: bytes) -> None:
    turns = KeyParseLock()
    other = turns.for_key_of(KeySource(kind, "user"), body)
    async with turns.for_key_of(SOURCE, LONG), asyncio.timeout(1), other:
        pass


async def test_a_line_has_an_end() -> None:
    """Whoever waits holds a body; too many of them are refused, and the others have their turn."""
    turns = KeyParseLock()

    async def search() -> None:
        async with turns.for_key_of(SOURCE, LONG):
            await asyncio.sleep(0)

    reported = await asyncio.gather(*(search() for _ in range(200)), return_exceptions=True)
    refused = [one for one in reported if isinstance(one, Overloaded)]
    assert len(refused) == 200 - 128
    assert reported.count(None) == 128
    await search()
