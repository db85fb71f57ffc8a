"""Frames between gateway and children: lengths, a header as JSON, bodies. Never pickle."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import orjson
from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import asdict

_PREFIX = struct.Struct("!IQ")
_SIZES = "sizes"
MAX_HEADER_BYTES = 64 << 20
"""A longer header can only be a torn stream; a poll of ten thousand models stays far below it."""
MAX_BODY_BYTES = 1 << 34
"""All bodies of a frame together, 16 GiB; a longer claim can only be a torn stream, not worth waiting for."""


class FrameLimits(Struct, frozen=True):
    """The largest frame that is taken; one that announces more is torn, before more of it is kept."""

    header_bytes: int = MAX_HEADER_BYTES
    body_bytes: int = MAX_BODY_BYTES
    """All bodies of the frame together."""


_WIDEST = FrameLimits()


class TornFrame(ValueError):
    """The bytes are not a frame of ours."""


class Frame(Struct, frozen=True):
    """One message."""

    header: dict[str, Any]
    bodies: tuple[bytes, ...] = ()


def encode_frame(header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> list[bytes]:
    """The frame as buffers to be written one after the other, so that large bodies are not copied.

    Raises ValueError when the header has a `sizes` of its own, TypeError on what orjson can not write, such
    as text with a lone surrogate. NaN and infinities in the header arrive as None.
    """
    if _SIZES in header:
        raise ValueError(f"the header name {_SIZES!r} is taken")
    sizes = [len(body) for body in bodies]
    head = orjson.dumps({**header, _SIZES: sizes}, asdict, orjson.OPT_SERIALIZE_NUMPY)
    return [_PREFIX.pack(len(head), sum(sizes)) + head, *bodies]


class FrameDecoder:
    """Cuts a byte stream, however it was chunked, back into frames."""

    def __init__(self, limits: FrameLimits = _WIDEST) -> None:
        self.limits = limits
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take more bytes and yield every frame that is now whole. Raises TornFrame."""
        # Appended here and not in a generator: bytes fed without taking the frames are not lost.
        self._buffer += data
        return iter(self._next, None)

    def _next(self) -> Frame | None:
        if len(self._buffer) < _PREFIX.size:
            return None
        head_size, body_size = _PREFIX.unpack_from(self._buffer)
        if head_size > self.limits.header_bytes or body_size > self.limits.body_bytes:
            raise TornFrame(f"a header of {head_size} bytes and bodies of {body_size}")
        start = _PREFIX.size + head_size
        if len(self._buffer) < start + body_size:
            return None
        try:
            header = orjson.loads(memoryview(self._buffer)[_PREFIX.size : start])
        except orjson.JSONDecodeError as error:
            raise TornFrame("a header that is not JSON") from error
        bodies = []
        with memoryview(self._buffer) as view:
            for size in _take_sizes(header, body_size):
                bodies.append(view[start : start + size].tobytes())
                start += size
        del self._buffer[:start]
        return Frame(header, tuple(bodies))


class _Sized(Struct, gc=False):
    sizes: list[Annotated[int, Meta(ge=0)]]


def _take_sizes(header: Any, total: int) -> list[int]:
    try:
        sizes = convert(header, _Sized).sizes
    except ValidationError as error:
        raise TornFrame("a header that does not give the sizes of its bodies") from error
    if sum(sizes) != total:
        raise TornFrame(f"{total} bytes of bodies, of which the header knows {sum(sizes)}")
    del header[_SIZES]
    return sizes
