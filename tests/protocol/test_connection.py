"""Frames and calls over a real socket pair: the gateway's end and the child's."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator

import pytest

from router.errors import ChildLost, ChildTimeout
from router.protocol.channel import Channel
from router.protocol.connection import ChildConnection
from router.protocol.frames import Frame, TornFrame

Pair = tuple[ChildConnection, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A connection and the child's blocking socket."""
    ours, theirs = socket.socketpair()
    connection = ChildConnection()
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
    yield connection, theirs
    theirs.close()
    connection.abort()
    await connection.lost


async def test_a_call_gets_the_answer_with_its_number_whatever_comes_between(pair: Pair) -> None:
    connection, theirs = pair
    seen: list[Frame] = []
    connection.on_frame = seen.append

    def answer() -> None:
        channel = Channel(theirs)
        first, second = channel.receive(), channel.receive()
        assert first is not None
        assert second is not None
        channel.send({"op": "news"})
        channel.send({"id": second.header["id"], "said": "two"}, [b"body"])
        channel.send({"id": first.header["id"], "said": "one"})

    thread = threading.Thread(target=answer)
    thread.start()
    one, two = await asyncio.gather(
        connection.call({"op": "ask"}, timeout_seconds=10), connection.call({"op": "ask"}, timeout_seconds=10)
    )
    thread.join()

    assert (one.header["said"], two.header["said"], two.bodies) == ("one", "two", (b"body",))
    assert [frame.header["op"] for frame in seen] == ["news"]


async def test_a_call_without_an_answer_is_given_up_and_its_late_answer_is_a_frame_like_others(
    pair: Pair,
) -> None:
    connection, theirs = pair
    seen: list[Frame] = []
    connection.on_frame = seen.append

    with pytest.raises(ChildTimeout):
        await connection.call({"op": "ask"}, timeout_seconds=0.01)
    Channel(theirs).send({"id": 1})
    await asyncio.sleep(0.05)

    assert [frame.header["id"] for frame in seen] == [1]


@pytest.mark.parametrize("unread", [b"", b"never read"], ids=["end of file", "reset"])
async def test_calls_fail_when_the_other_side_is_gone(pair: Pair, unread: bytes) -> None:
    connection, theirs = pair
    losses: list[int] = []
    connection.on_lost = lambda: losses.append(1)
    call = asyncio.create_task(connection.call({"op": "ask"}, [unread], timeout_seconds=10))
    await asyncio.sleep(0.01)
    if not unread:
        Channel(theirs).receive()

    theirs.close()

    with pytest.raises(ChildLost):
        await call
    with pytest.raises(ChildLost):
        await connection.call({"op": "ask"}, timeout_seconds=10)
    connection.send({"op": "dropped"})
    assert losses == [1]


async def test_what_was_sent_before_the_end_is_handed_out_before_it(pair: Pair) -> None:
    connection, theirs = pair
    seen: list[str] = []
    connection.on_frame = lambda frame: seen.append(frame.header["op"])
    connection.on_lost = lambda: seen.append("lost")
    connection.send({"op": "unread"})  # makes the end a reset
    await asyncio.sleep(0.01)

    channel = Channel(theirs)
    for _ in range(3):
        channel.send({"op": "answer"})
    theirs.close()
    await connection.lost

    assert seen == ["answer", "answer", "answer", "lost"]


async def test_bytes_that_are_no_frame_close_the_socket(pair: Pair) -> None:
    connection, theirs = pair

    theirs.sendall(struct.pack("!IQ", 1 << 31, 0))

    await connection.lost
    assert theirs.recv(1) == b""


async def test_large_frames_pass_in_both_directions_at_once(pair: Pair) -> None:
    connection, theirs = pair
    bodies = [bytes([n]) * 5_000_000 for n in range(3)]

    def echo() -> None:
        channel = Channel(theirs)
        frame = channel.receive()
        assert frame is not None
        channel.send(frame.header, frame.bodies)

    thread = threading.Thread(target=echo)
    thread.start()
    frame = await connection.call({"op": "echo"}, bodies, timeout_seconds=30)
    thread.join()

    assert frame.bodies == tuple(bodies)


def test_a_channel_ends_with_none_at_the_end_of_file_and_at_a_reset() -> None:
    for unread in (b"", b"x"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.send(unread) if unread else None
            Channel(theirs).send({"op": "last"})
            channel = Channel(ours)
            theirs.close()
            frame = channel.receive()
            assert frame is not None
            assert frame.header == {"op": "last"}
            assert channel.receive() is None


def test_a_channel_says_when_nobody_reads_any_more() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(ConnectionError):
            Channel(ours).send({"op": "answer"})


def test_a_channel_refuses_what_is_no_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!IQ", 1 << 31, 0))
        with pytest.raises(TornFrame):
            Channel(ours).receive()


def test_a_channel_sends_more_bodies_than_one_system_call_takes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bodies = [b"x"] * 3000
        sender = threading.Thread(target=Channel(theirs).send, args=({"op": "many"}, bodies))
        sender.start()
        frame = Channel(ours).receive()
        sender.join()
        assert frame is not None
        assert frame.bodies == tuple(bodies)
