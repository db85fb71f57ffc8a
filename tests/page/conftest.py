"""One browser for all tests of the live page, and a gateway that says what a test wants."""

import os
from collections.abc import Iterator

import pytest

from tests.page.canned import Canned, canned_gateway
from tests.support.browser import Browser, chromium, missing

collect_ignore = [] if "PAGE_PICTURES" in os.environ else ["test_pictures.py"]


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    """A real Chromium, started once."""
    if lacking := missing():
        pytest.skip(f"{' and '.join(lacking)}: install the Debian packages `chromium` and `chromium-driver`")
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """A window in which nothing may have gone wrong when a test leaves it."""
    yield window
    window.tidy()


@pytest.fixture(scope="session")
def server() -> Iterator[Canned]:
    """Answers with documents."""
    with canned_gateway() as canned:
        yield canned


@pytest.fixture
def gateway(server: Canned) -> Canned:
    """All is well in it until a test says otherwise."""
    server.reset()
    return server
