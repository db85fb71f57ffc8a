"""What a client sent is in no log line, also when something breaks over it."""

import asyncio
import logging

import pytest
from aiohttp import web
from aiohttp.http_exceptions import TransferEncodingError

from router.web.apps import traffic_app
from router.web.safe_traceback import safe_traceback
from tests.support.waiting import until
from tests.web.conftest import Site, listening_on_a_port

SECRET = "what a client sent"


async def broken(request: web.Request) -> web.Response:
    raise ValueError(f"this is no number: {SECRET}")


async def torn(request: web.Request) -> web.Response:
    """Answers without having read the body, which then turns out to be malformed."""
    request.content.set_exception(TransferEncodingError(f"Bad chunk: {SECRET}"))
    return web.Response(text="not read")


@pytest.mark.parametrize(
    ("handler", "body", "reported"),
    [
        (broken, b"12345", "ValueError < test_unquoted.py"),
        (torn, b"1", "a connection failed: TransferEncodingError < "),
    ],
    ids=["a handler", "the library"],
)
async def test_a_failure_is_logged_with_its_place_and_without_its_words(
    site: Site, caplog: pytest.LogCaptureFixture, handler: object, body: bytes, reported: str
) -> None:
    app = traffic_app(site.gateway, observable=False)
    app.router.add_post("/broken", handler)
    with caplog.at_level(logging.DEBUG):
        async with listening_on_a_port(app) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" + body)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
            await until(lambda: reported in caplog.text)
            writer.close()

    assert reported in caplog.text
    assert SECRET not in caplog.text


def test_what_was_not_raised_has_no_place() -> None:
    assert safe_traceback(KeyError(SECRET)) == "KeyError"
    assert safe_traceback(None) == "no exception"
