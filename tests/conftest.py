"""Fixtures that every room shares, and the rule that CI skips nothing."""

import os
from collections.abc import Callable

import pytest

FIGURES: pytest.StashKey[list[str]] = pytest.StashKey()
Figure = Callable[[str], None]


@pytest.fixture(scope="session")
def slack() -> float:
    """Factor by which bounds in seconds are widened on a slow machine."""
    return float(os.environ.get("CI_SLACK", "1"))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes a measured figure of this test; all are shown at the end of the run."""

    def note(measured: str) -> None:
        request.config.stash.setdefault(FIGURES, []).append(f"{request.node.name}: {measured}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Where `TESTS_MUST_RUN` is set, as in CI, a skip is a failure: a missing server must not hide."""
    report = yield
    if report.skipped and os.environ.get("TESTS_MUST_RUN") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although everything must run here: {report.longrepr}"
    return report
