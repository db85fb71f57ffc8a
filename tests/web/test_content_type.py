"""The media type of a request, whatever its Content-Type is."""

import time
from typing import cast

import pytest
from aiohttp import StreamReader
from aiohttp.helpers import parse_content_type
from multidict import CIMultiDict, CIMultiDictProxy

from router.serving.caller import Caller
from router.web.incoming import IncomingRequest

LONGEST = 65_000
"""Characters of a header that the default of `header_limit_kib` lets in."""


def media_type(*sent: str) -> str:
    headers = CIMultiDictProxy(CIMultiDict(("Content-Type", each) for each in sent))
    # No body is read here.
    return IncomingRequest(headers, cast(StreamReader, None), "an-id", Caller()).content_type


@pytest.mark.parametrize(
    "sent",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;;;",
        "application/octet-stream;x",
        "text/csv",
        "application/json,application/json",
        "a/b/c",
        "json",
        ";",
        "",
    ],
)
def test_it_is_what_the_library_finds(sent: str) -> None:
    assert media_type(sent) == parse_content_type(sent)[0]


def test_nothing_sent_may_be_json() -> None:
    assert media_type() == "application/octet-stream"


@pytest.mark.parametrize("repeated", [";", ";a", "(", ' "', "\\", "=", ",", "/"])
def test_the_longest_header_is_read_at_once(repeated: str, slack: float) -> None:
    """The library needs twenty seconds for semicolons, in which no other request would be served."""
    sent = "application/json" + repeated * (LONGEST // len(repeated))
    began_at = time.process_time()
    media_type(sent)
    assert time.process_time() - began_at < 0.01 * slack
