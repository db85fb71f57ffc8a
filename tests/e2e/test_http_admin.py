"""Starting with an admin address, a token, certificates: as an operator does."""

import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli import root
from router.errors import ConfigRefused
from tests.e2e.conftest import POLL_SECONDS, Registry
from tests.support import slowness
from tests.support.gateway import CONFIG, GatewayProcess
from tests.support.waiting import wait_until
from tests.web.test_listeners import write_certificate

TOKEN = "operators-only-0123456789"
REFUSED = "server.admin: others can reach 0.0.0.0, so its verbs take a token"


def serve(config: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router", "serve", "-c", str(config)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60 * slowness.slack(),
    )


def test_an_admin_address_that_others_reach_is_refused_at_start_without_a_token(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("server: {listen: 127.0.0.1:0, admin: 0.0.0.0:0}\nmodels: {sentiment: }\n")
    refused = serve(config)
    assert refused.returncode == 2
    assert REFUSED in refused.stderr
    assert "Traceback" not in refused.stderr
    command = ["serve", "-c", str(config), "--check"]
    checked = CliRunner().invoke(root, command)
    assert isinstance(checked.exception, ConfigRefused)
    assert REFUSED in str(checked.exception)
    environment = {"CANARY_ROUTER_SERVER__ADMIN_TOKEN": TOKEN}
    assert CliRunner().invoke(root, command, env=environment).exit_code == 0


def test_it_does_not_start_on_the_parser_that_is_not_compiled(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\nmodels: {sentiment: }\n")
    refused = serve(config, AIOHTTP_NO_EXTENSIONS="1")

    assert refused.returncode == 2
    assert "without its compiled HTTP parser" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # the certificate is self-made
def test_with_token_and_certificates_the_verbs_work_and_a_new_certificate_takes_no_restart(
    registry: Registry, tmp_path: Path, slack: float
) -> None:
    """And the token is in no log, no metric, no state and no error."""
    files = write_certificate(tmp_path, "old")
    tls = f'{{certificate_file: "{files.certificate_file}", key_file: "{files.key_file}"}}'
    server = f"server: {{listen: 127.0.0.1:0, admin: 0.0.0.0:0, tls: {tls}, admin_tls: {tls}}}"
    config = tmp_path / "router.yaml"
    text = CONFIG.format(uri=registry.uri, poll_seconds=POLL_SECONDS, cache=tmp_path / "cache")
    config.write_text(f"{server}\n{text.partition(chr(10))[2]}  sentiment: {{}}\n")
    gateway = GatewayProcess(tmp_path, config, {"CANARY_ROUTER_SERVER__ADMIN_TOKEN": TOKEN})
    try:
        gateway.session.verify, gateway.session.trust_env = False, False
        admin = gateway.admin.replace("0.0.0.0", "127.0.0.1")
        assert (gateway.url[:8], admin[:8]) == ("https://", "https://")
        wait_until(lambda: gateway.get("/readyz").status_code == 200, 60 * slack, gateway.story)
        reload = lambda **headers: gateway.session.post(f"{admin}/-/reload", headers=headers)  # noqa: E731 - short
        denied = [reload(), reload(Authorization="Bearer wrong"), reload(Authorization=f"Basic {TOKEN}")]
        assert [answer.status_code for answer in denied] == [401, 401, 401]
        assert reload(Authorization=f"Bearer {TOKEN}").status_code == 200

        before = shown(gateway.url)
        write_certificate(tmp_path, "new")
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: shown(gateway.url) != before and shown(admin) != before, 5 * slack, gateway.story)
        assert gateway.ask("user-1").status_code == 200
        (tmp_path / "tls.key").write_text("torn")
        refused = reload(Authorization=f"Bearer {TOKEN}")
        assert (refused.status_code, "server.tls" in refused.text) == (422, True)
        assert gateway.ask("user-1").status_code == 200

        everything = [gateway.log.read_text(), gateway.get("/metrics").text, gateway.get("/v1/state").text]
        everything += [answer.text for answer in (*denied, refused)]
        assert TOKEN not in "".join(everything)
        reported_at = time.monotonic()
    finally:
        assert gateway.stop() == 0
    assert time.monotonic() - reported_at < 15 * slack


def shown(url: str) -> str:
    """The certificate that a new connection to `url` sees."""
    host, port = url.removeprefix("https://").split(":")
    return ssl.get_server_certificate((host, int(port)))
