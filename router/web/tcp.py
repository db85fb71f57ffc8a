"""What the kernel knows of a client's TCP connection, and asyncio does not say."""

import fcntl
import socket
import struct
import sys
import termios

_ACKNOWLEDGED_AT = 120
"""Place of `tcpi_bytes_acked` in Linux's `struct tcp_info`, 8 bytes long."""
_ESTABLISHED = 1  # the kernel's number of the state in which both sides are open
_AT_ONCE = struct.pack("ii", 1, 0)


def has_unacknowledged(accepted: socket.socket) -> bool:
    """Whether the client has not acknowledged all that was sent to it."""
    (count,) = struct.unpack("i", fcntl.ioctl(accepted.fileno(), termios.TIOCOUTQ, bytes(4)))
    return bool(count)


def acknowledged_bytes(accepted: socket.socket) -> int | None:
    """What the client has acknowledged since it connected; None where the system does not say."""
    if sys.platform != "linux":
        return None
    info = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
    if len(info) < _ACKNOWLEDGED_AT + 8:
        return None
    return int.from_bytes(info[_ACKNOWLEDGED_AT:], sys.byteorder)


def is_open(accepted: socket.socket) -> bool:
    """False when the client closed its side, or reset the connection; known on Linux only."""
    if sys.platform != "linux":
        return True
    return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def reset_at_close(accepted: socket.socket) -> None:
    """Have its end be a reset, and what the client has not acknowledged by then thrown away."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
