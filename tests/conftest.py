"""Fixtures that every room shares, and the rule that CI skips nothing."""

import os

import pytest


@pytest.fixture(scope="session")
def slack() -> float:
    """Factor by which bounds in seconds are widened on a slow machine."""
    return float(os.environ.get("CI_SLACK", "1"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Where `TESTS_MUST_RUN` is set, as in CI, a skip is a failure: a missing server must not hide."""
    report = yield
    if report.skipped and os.environ.get("TESTS_MUST_RUN") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although everything must run here: {report.longrepr}"
    return report
