"""One gateway, one Prometheus and one browser for all situations, side by side as an operator has them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import NOBODY, Prometheus, hurried, running_prometheus
from tests.page.conftest import window  # noqa: F401 - a fixture, found by name
from tests.stories.situation import MODELS, Readers, Stage
from tests.support.browser import Browser
from tests.support.gateway import gateways
from tests.support.registry import built_registry_of, copied

POLL_SECONDS = 0.5


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Stage]:
    """Production serves, and the registry names no canary yet."""
    served = tmp_path_factory.mktemp("stage")
    built = built_registry_of(Path(__file__).with_name("build_stories.py"), tmp_path_factory)
    registry = copied(built, served)
    with gateways(served, registry.uri, POLL_SECONDS) as start:
        gateway = start(MODELS, wait=False).wait_ready(60 * slack)
        yield Stage(gateway, registry, slack)


@pytest.fixture(scope="module")
def prometheus(stage: Stage, tmp_path_factory: pytest.TempPathFactory, slack: float) -> Iterator[Prometheus]:
    """Scrapes every second, with the shipped configuration and rules otherwise as they are."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing; install the Debian package `prometheus`")
    directory = tmp_path_factory.mktemp("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(hurried(stage.gateway.url.removeprefix("http://"), NOBODY))
    with running_prometheus(config, directory / "data", slack) as running:
        yield running


@pytest.fixture(scope="module")
def page(stage: Stage, window: Browser) -> Iterator[Browser]:  # noqa: F811 - the fixture, by its name
    """The live page, opened once and never loaded again; meanwhile production gets warm."""
    with Readers(stage.gateway.url, rate=100.0):
        window.open(stage.gateway.url)
        window.wait(lambda: window.texts(".model .banner"))
        window.wait(lambda: stage.gateway.metric("canary_router_requests_total", outcome="ok") > 250, 30)
    window.run("window.opened = true")
    yield window
    assert window.run("return window.opened"), "the document was loaded again"
    assert window.log() == []
    window.tidy()
