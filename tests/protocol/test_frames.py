"""Frames: however the stream was cut, what comes out is what went in, or the stream is called torn."""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from router.protocol.frames import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Frame,
    FrameDecoder,
    FrameLimits,
    TornFrame,
    encode_frame,
)

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
headers = st.dictionaries(text.filter(lambda name: name != "sizes"), values, max_size=4)
frames = st.builds(Frame, headers, st.lists(st.binary(max_size=40), max_size=4).map(tuple))


def encoded(frame: Frame) -> bytes:
    return b"".join(encode_frame(frame.header, frame.bodies))


def raw(
    head: bytes, body: bytes = b"", *, head_size: int | None = None, body_size: int | None = None
) -> bytes:
    """A frame put together by hand, with lengths that may lie."""
    sizes = (len(head) if head_size is None else head_size, len(body) if body_size is None else body_size)
    return sizes[0].to_bytes(4, "big") + sizes[1].to_bytes(8, "big") + head + body


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


@given(st.lists(frames, max_size=4), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_chunking_gives_back_the_frames(sent: list[Frame], cuts: list[int]) -> None:
    decoder = FrameDecoder()
    stream = b"".join(map(encoded, sent))

    received = [frame for chunk in chunks(stream, cuts) for frame in decoder.feed(chunk)]

    assert received == sent


@given(st.lists(frames, min_size=1, max_size=3))
def test_byte_by_byte_a_frame_is_there_with_its_last_byte_and_not_before(sent: list[Frame]) -> None:
    decoder = FrameDecoder()

    for frame in sent:
        *first, last = encoded(frame)
        assert [frame for byte in first for frame in decoder.feed(bytes([byte]))] == []
        assert list(decoder.feed(bytes([last]))) == [frame]


@given(frames, st.data())
def test_a_truncated_frame_yields_nothing(frame: Frame, data: st.DataObject) -> None:
    """A child that dies while it writes leaves half a frame: no answer, and never half of one."""
    stream = encoded(frame)
    kept = data.draw(st.integers(0, len(stream) - 1))

    assert list(FrameDecoder().feed(stream[:kept])) == []


def test_bytes_fed_without_taking_the_frames_are_not_lost() -> None:
    decoder = FrameDecoder()
    stream = encoded(Frame({"n": 1}, (b"body",)))

    decoder.feed(stream[:5])
    frames = decoder.feed(stream[5:] + encoded(Frame({"n": 2})))

    assert next(frames) == Frame({"n": 1}, (b"body",))
    assert list(decoder.feed(b"")) == [Frame({"n": 2})]


@pytest.mark.parametrize(
    "torn",
    [
        raw(b"{not json"),
        raw(b""),
        raw(b"[]"),
        raw(b"7"),
        raw(b"null"),
        raw(b"{}"),
        raw(b'{"sizes": null}'),
        raw(b'{"sizes": {"0": 1}}', b"x"),
        raw(b'{"sizes": [1]}'),
        raw(b'{"sizes": []}', b"x"),
        raw(b'{"sizes": [1, 1]}', b"x"),
        raw(b'{"sizes": [2, -1]}', b"x"),
        raw(b'{"sizes": [1.0]}', b"x"),
        raw(b'{"sizes": [true]}', b"x"),
        raw(b'{"sizes": ["1"]}', b"x"),
        raw(b'{"sizes": [1e99]}', b"x"),
        raw(b'\xff"sizes": []}'),
        raw(b"", head_size=MAX_HEADER_BYTES + 1),
        raw(b"", body_size=MAX_BODY_BYTES + 1),
        b"Traceback (most recent call last):",
    ],
)
def test_a_torn_frame_raises_after_the_whole_ones_before_it(torn: bytes) -> None:
    decoder = FrameDecoder()
    frames = decoder.feed(encoded(Frame({"n": 1}, (b"body",))) + torn)

    assert next(frames) == Frame({"n": 1}, (b"body",))
    with pytest.raises(TornFrame):
        next(frames)


@given(st.binary(max_size=120))
def test_any_bytes_are_frames_too_few_or_torn_and_nothing_else(stream: bytes) -> None:
    with suppress(TornFrame):
        list(FrameDecoder().feed(stream))


@pytest.mark.parametrize("announced", [{"head_size": 101}, {"body_size": 1001}])
def test_an_owner_sets_how_much_a_frame_may_announce(announced: dict[str, int]) -> None:
    """It is refused by its first twelve bytes, not when it is there."""
    decoder = FrameDecoder(FrameLimits(header_bytes=100, body_bytes=1000))
    good = Frame({"n": 1}, (bytes(1000),))

    assert list(decoder.feed(encoded(good))) == [good]
    with pytest.raises(TornFrame):
        list(decoder.feed(raw(b"", **announced)))  # type: ignore[arg-type]


def test_a_header_that_names_sizes_itself_is_refused() -> None:
    """It would arrive without them."""
    with pytest.raises(ValueError, match="taken"):
        encode_frame({"sizes": [1, 2]})


def test_large_bodies_are_passed_on_and_not_copied() -> None:
    body = bytes(1 << 20)

    buffers = encode_frame({"n": 1}, [body, body])

    assert [buffer is body for buffer in buffers] == [False, True, True]


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    where: tuple[float, ...]


def test_a_header_carries_our_values_and_numpy_scalars() -> None:
    header: dict[str, Any] = {
        "colour": Colour.RED,
        "point": Point(1, (0.5, 2.0)),
        "numpy": [np.float64(0.25), np.int64(7)],
        "seconds": 0.1,
    }

    (frame,) = FrameDecoder().feed(encoded(Frame(header)))

    assert frame.header == {
        "colour": "red",
        "point": {"x": 1, "where": [0.5, 2.0]},
        "numpy": [0.25, 7],
        "seconds": 0.1,
    }


class Line(Struct):
    ends: tuple[Point, Point]
    colour: Colour | None = None


def test_a_header_carries_structs_and_no_other_objects() -> None:
    line = Line((Point(1, ()), Point(2, ())), Colour.RED)

    (frame,) = FrameDecoder().feed(encoded(Frame({"lines": [line]})))

    points = [{"x": 1, "where": []}, {"x": 2, "where": []}]
    assert frame.header == {"lines": [{"ends": points, "colour": "red"}]}
    with pytest.raises(TypeError):
        encode_frame({"object": object()})


def test_what_json_can_not_say_does_not_pass_unseen() -> None:
    """NaN arrives as None, as documented; text with a lone surrogate is the sender's error, at once."""
    (frame,) = FrameDecoder().feed(encoded(Frame({"nan": float("nan"), "inf": float("inf")})))

    assert frame.header == {"nan": None, "inf": None}
    with pytest.raises(TypeError):
        encode_frame({"content_type": "text/\udcff"})
    assert issubclass(orjson.JSONEncodeError, TypeError)
