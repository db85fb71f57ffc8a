"""The life of a gateway server, where it goes wrong before anything serves."""

import errno
import gc
import socket
from pathlib import Path

import pytest

from router.app.run import GatewayServer
from tests.support.ports import free_port


async def test_where_the_second_port_is_taken_the_first_one_is_free_again(tmp_path: Path) -> None:
    """Nothing is started, and no socket is left open."""
    config = tmp_path / "router.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        traffic, admin = free_port(), taken.getsockname()[1]
        config.write_text(
            f"server: {{listen: '127.0.0.1:{traffic}', admin: '127.0.0.1:{admin}'}}\nmodels: {{m: {{}}}}\n"
        )
        server = GatewayServer(config, {})
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{admin}") as refused:
            async with server:
                raise AssertionError("it started without its port")
    assert refused.value.errno == errno.EADDRINUSE
    with socket.socket() as again:
        again.bind(("127.0.0.1", traffic))
    gc.collect()  # a socket that was left open would warn here, and warnings are errors
