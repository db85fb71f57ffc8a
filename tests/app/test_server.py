"""The life of a gateway server, where it goes wrong before anything serves."""

import errno
import gc
import socket
from pathlib import Path

import pytest

from router.app import run
from router.app.run import GatewayServer
from router.settings import Settings
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


@pytest.mark.parametrize("builder", ["uv", "a_package_that_nobody_has"])
def test_the_start_says_which_models_have_environments_of_their_own_and_what_is_missing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    monkeypatch.setattr(run, "_BUILDER", builder)
    own, shared = {"environment": "own"}, {"environment": "shared"}
    with caplog.at_level("INFO"):
        run._log_own_environments(Settings.model_validate({"models": {"plain": shared}}))
        run._log_own_environments(Settings.model_validate({"models": {"b": own, "a": own, "plain": shared}}))

    said, *missing = [record.getMessage() for record in caplog.records]
    assert said == "versions of a, b run in Python environments of their own"
    assert [line.partition(",")[0] for line in missing] == [f"{builder} is not installed"] * (builder != "uv")
