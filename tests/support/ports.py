"""Ports for what is started only later, or never."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host`, which may be an IPv6 address, that nobody listens at now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
